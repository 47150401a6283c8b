// Formatter: evaluates a parsed substitution format ("%REQ(:METHOD)% %RESPONSE_CODE%") into a TextOut. Header mutations
// and access logs share it. No heap allocation.
//
// Thread rule: a Formatter is immutable, any worker; a TextOut belongs to its caller.
// Use:  char line[4096];  TextOut out(line, sizeof(line));
//       formatter.format(FormatContext{.request = &headers, .info = &info}, Formatter::Missing::kDash, out);
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "config/format.h"
#include "outrigger/arena.h"
#include "outrigger/header_map.h"
#include "outrigger/stream_info.h"

namespace outrigger::route {

// Where text goes: a caller's array of fixed size (what does not fit is dropped and truncated() becomes true), or an
// arena (it grows there; truncated() when the arena is full).
class TextOut {
 public:
  TextOut(char* data, size_t capacity) : data_(data), capacity_(capacity) {}
  explicit TextOut(Arena& arena) : arena_(&arena) {}

  void append(std::string_view text);
  void append(char c) { append(std::string_view(&c, 1)); }
  void append_number(uint64_t value);
  std::string_view view() const { return {data_, size_}; }
  char* data() { return data_; }
  size_t size() const { return size_; }
  void resize_down(size_t size) { size_ = size < size_ ? size : size_; }
  bool truncated() const { return truncated_; }

 private:
  bool grow(size_t want);

  char* data_ = nullptr;
  size_t size_ = 0;
  size_t capacity_ = 0;
  Arena* arena_ = nullptr;
  bool truncated_ = false;
};

// What a format may speak of. Anything may be nullptr: its values are then missing.
struct FormatContext {
  const HeaderMap* request = nullptr;
  const HeaderMap* response = nullptr;
  const HeaderMap* response_trailers = nullptr;
  const StreamInfo* info = nullptr;
  // Of what the configuration says; StreamInfo has the dynamic one.
  const Metadata* cluster_metadata = nullptr;
  const Metadata* route_metadata = nullptr;
  const Metadata* virtual_host_metadata = nullptr;
  const Metadata* listener_metadata = nullptr;
  const Metadata* upstream_metadata = nullptr;  // of the host's endpoint
};

class Formatter {
 public:
  enum class Missing : uint8_t { kDash, kEmpty };  // what an absent value becomes: "-" (access logs), "" (headers)

  Formatter() = default;
  explicit Formatter(std::vector<config::FormatOperator> operators);
  // CHECKs that the text parses (translation has done so already).
  static Formatter compile(std::string_view format);

  void format(const FormatContext& context, Missing missing, TextOut& out) const;
  // Appends one value as it is (no "-"): false, and nothing appended, if it is missing.
  static bool append_value(const config::FormatOperator& op, const FormatContext& context, TextOut& out);

  // The value that an operator with a path names; nullptr: missing.
  static const MetadataValue* metadata_value(const config::FormatOperator& op, const FormatContext& context);

  const std::vector<config::FormatOperator>& operators() const { return operators_; }
  // The whole text if it is constant: no operator but text.
  bool constant() const;
  std::string_view constant_text() const;

 private:
  std::vector<config::FormatOperator> operators_;
};

}  // namespace outrigger::route
