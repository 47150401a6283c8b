// HeaderMutations: one level's compiled header additions and removals, applied in Envoy's order: removals; then all
// values are evaluated on the headers as they are; then overwrites; then additions.
//
// Constant values and names are added as views into the table, so the table must outlive the headers.
//
// Added values never carry CR, LF or NUL (each becomes a space, RFC 9110 section 5.5). A value that comes out empty is
// not added unless keep_empty_value says so.
//
// Thread rule: immutable; any worker.
// Use:  mutations.apply(request_headers, FormatContext{.request = &request_headers, .info = &info});
#pragma once

#include <string>
#include <vector>

#include "config/spec.h"
#include "route/formatter.h"

namespace outrigger::route {

class HeaderMutations {
 public:
  explicit HeaderMutations(const config::HeaderMutationSpec& spec);

  void apply(HeaderMap& headers, const FormatContext& context) const;
  bool empty() const { return adds_.empty() && removes_.empty(); }

 private:
  struct Add {
    std::string name;
    HeaderId id;
    config::HeaderAddSpec::Action action;
    bool keep_empty_value;
    bool constant;
    std::string value;    // if constant, sanitised
    Formatter formatter;  // if not
  };
  struct Remove {
    std::string name;
    HeaderId id;
  };
  static std::string_view evaluate(const Add& add, Arena& arena, const FormatContext& context);

  std::vector<Add> adds_;
  std::vector<Remove> removes_;
};

// `text` with every CR, LF and NUL replaced by a space; copied into the arena only if there is one. An empty view with
// data() == nullptr when the arena is full.
std::string_view sanitize_header_value(std::string_view text, Arena& arena);

}  // namespace outrigger::route
