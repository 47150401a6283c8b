#include "outrigger/metadata.h"

#include <algorithm>

#include "base/metadata_json.h"

namespace outrigger {

const MetadataValue* find_field(const MetadataValue::Struct& fields, std::string_view key) {
  const auto at = std::lower_bound(fields.begin(), fields.end(), key,
                                   [](const MetadataField& field, std::string_view k) { return field.key < k; });
  return at == fields.end() || at->key != key ? nullptr : &at->value;
}

const MetadataValue* MetadataValue::find(std::string_view key) const {
  const Struct* of_keys = fields();
  return of_keys == nullptr ? nullptr : find_field(*of_keys, key);
}

bool MetadataValue::operator==(const MetadataValue& other) const { return of == other.of; }

const MetadataValue* Metadata::find(std::string_view name) const { return find_field(namespaces, name); }

std::string to_json(const MetadataValue& value) {
  std::string out;
  write_json(value, out);
  return out;
}

std::string to_json(const MetadataValue::Struct& fields) {
  std::string out;
  write_json(fields, out);
  return out;
}

}  // namespace outrigger
