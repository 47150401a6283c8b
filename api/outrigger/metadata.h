// Metadata: free-form values by namespace ("envoy.lb") and key, as the configuration attaches them to endpoints,
// clusters, routes, virtual hosts and listeners (envoy.config.core.v3.Metadata.filter_metadata).
//
// Thread rule: a value; immutable once it is part of a config.
// Use:  if (const MetadataValue* v = metadata.find("envoy.lb"); v != nullptr) v = v->find("version");
//       if (v != nullptr && v->text() != nullptr) use(*v->text());
#pragma once

#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace outrigger {

struct MetadataField;

// A google.protobuf.Value; numbers are finite and no -0, so equal values have equal JSON.
struct MetadataValue {
  using List = std::vector<MetadataValue>;
  using Struct = std::vector<MetadataField>;                                 // sorted by key, none twice
  std::variant<std::monostate, bool, double, std::string, List, Struct> of;  // monostate: null

  bool null() const { return std::holds_alternative<std::monostate>(of); }
  const std::string* text() const { return std::get_if<std::string>(&of); }  // nullptr: it is none
  const List* list() const { return std::get_if<List>(&of); }                // likewise
  const Struct* fields() const { return std::get_if<Struct>(&of); }          // likewise
  const MetadataValue* find(std::string_view key) const;                     // nullptr: no struct, or no such field
  bool operator==(const MetadataValue& other) const;
};

struct MetadataField {
  std::string key;
  MetadataValue value;
  bool operator==(const MetadataField& other) const { return key == other.key && value == other.value; }
};

struct Metadata {
  MetadataValue::Struct namespaces;                        // each a struct
  const MetadataValue* find(std::string_view name) const;  // nullptr: there is none
  bool operator==(const Metadata& other) const { return namespaces == other.namespaces; }
};

// The field of that key; nullptr: there is none.
const MetadataValue* find_field(const MetadataValue::Struct& fields, std::string_view key);

std::string to_json(const MetadataValue& value);
std::string to_json(const MetadataValue::Struct& fields);

}  // namespace outrigger
