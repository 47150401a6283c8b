// Translator: envoy.* messages into Specs, every fault with its field path. What a field means is Envoy's
// documentation; what we do not honour is a fault (README, table of honoured fields).
//
// Thread rule: builder thread (or any single thread that owns its Translator, as the control plane's validation).
// Use:  Translator translator(filter_types, states, stats, {});
//       Faults faults;  auto spec = translator.resource(any_bytes, type_url, FieldPath("resources[0]"), faults);
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "config/route_pieces.h"
#include "config/spec.h"

namespace google::protobuf {
class Any;
class Message;
}  // namespace google::protobuf

namespace outrigger::config {

struct TranslateOptions {
  UnknownFields unknown_fields = UnknownFields::kError;
  bool api_listeners = false;  // accept Listener.api_listener (control plane: for gRPC clients)
  // The files that resources name are the proxy's and not here (control plane): only that they are named is checked.
  bool files_elsewhere = false;
  // The last accepted version of the route table of that name: what comes over the wire keeps what it can of it.
  std::function<TableBase(std::string_view name)> table_base = {};
};

// One resource as translation leaves it. `spec` is empty if there was any error; `name` is known whenever it could be
// read.
struct TranslatedResource {
  ResourceType type = ResourceType::kListener;
  std::string name;
  std::optional<Spec> spec;
  std::string bytes;  // deterministic serialisation of the message (dumps, persistence, content hash)
  Faults faults;
  std::string path;  // of resource_file(): where it stands, "resources[3]", and its line
  int line = 0;
};

struct TranslatedBootstrap {
  std::optional<BootstrapSpec> spec;          // empty: errors
  std::vector<TranslatedResource> resources;  // static secrets, listeners and clusters, for dumps
  std::string bytes;
  Faults faults;  // all of them, those of the resources too
};

class Translator {
 public:
  Translator(std::span<const FilterType> filters, StateRegistry& states, stats::Registry& stats,
             TranslateOptions options);
  ~Translator();

  // A bootstrap file's text (YAML or JSON). `file` is for messages.
  TranslatedBootstrap bootstrap(std::string_view text, std::string_view file);

  // One resource as discovery delivers it: a serialised google.protobuf.Any; `path` is where it stands in the response.
  TranslatedResource resource(const google::protobuf::Any& any, const FieldPath& path);
  TranslatedResource resource(std::string_view type_url, std::string_view message_bytes, const FieldPath& path);

  // A file of resources in Envoy's format (a DiscoveryResponse in YAML or JSON), a bare list of them, or one resource
  // with "@type" at its top: all of them, each with its own faults; what concerns the whole file (syntax, unknown keys
  // at the top) goes to `file_faults`.
  std::vector<TranslatedResource> resource_file(std::string_view text, std::string_view file, Faults& file_faults);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace outrigger::config
