// Reads YAML or JSON into any protobuf message, by reflection, so that ALL faults are found in one pass, each with
// file, line and field path. Lenient as Envoy is: one value where a list is due, `{seconds: 300}` or `300s` for a
// Duration, numbers for strings, "true" for true, camelCase or snake_case names, enum names or numbers, null for
// absent; anchors and merge keys work. Strict about meaning: unknown fields, duplicate keys, two members of one oneof,
// values out of range and wrong kinds of nodes are faults.
//
// Plain scalars of a google.protobuf.Struct follow YAML 1.2 (true/false, numbers, else text); bool fields take YAML
// 1.1's yes/no/on/off as well.
//
// Thread rule: pure functions.
// Use:  envoy::config::bootstrap::v3::Bootstrap bootstrap;  Faults faults;
//       if (!read_yaml(text, "bootstrap.yaml", bootstrap, faults)) std::cerr << faults.str();
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "config/faults.h"
#include "config/proto_dump.h"
#include "config/yaml_document.h"

namespace google::protobuf {
class Message;
}

namespace outrigger::config {

// Most faults that one call reports; what follows is only counted, in a last fault.
constexpr size_t kMaxReadFaults = 1000;

// False if there was any error; `out` then holds what could be read. kWarn makes unknown fields and unknown Any types
// warnings (such an Any keeps its type_url and loses its content).
bool read_yaml(std::string_view text, std::string_view file, google::protobuf::Message& out, Faults& faults,
               UnknownFields mode = UnknownFields::kError);

// The same from a document that the caller keeps, for YamlDocument::locate().
bool read_message(const YamlDocument& document, google::protobuf::Message& out, Faults& faults,
                  UnknownFields mode = UnknownFields::kError);

// One element of a resource file.
struct ReadResource {
  std::string type_url;  // "type.googleapis.com/envoy.config.cluster.v3.Cluster"; empty if there is none to be read
  std::string bytes;     // the message, serialised deterministically; with errors: what could be read of it
  std::string path;      // "resources[3]"; in a bare list "[3]"; of a single resource ""
  int line = 0;
  Faults faults;  // paths begin with `path`
};

// A file in Envoy's format, a DiscoveryResponse, or a bare list of resources, or a single one with "@type" at the top:
// the resources one by one, so that a bad one does not take the others along. Faults of the file's top level go to
// `file_faults`; `version_info` is the file's, if it has one.
std::vector<ReadResource> read_resources(const YamlDocument& document, std::string& version_info, Faults& file_faults,
                                         UnknownFields mode = UnknownFields::kError);

}  // namespace outrigger::config
