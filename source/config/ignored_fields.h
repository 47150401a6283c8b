// FieldRule: what becomes of every field of the xDS messages that we have: honoured, accepted without effect, or
// refused when set. Nothing is dropped in silence: a set field without a rule is a fault, and a test walks all messages
// and demands a rule for each field. source/docs/xds_fields.md is printed from these rules (xds_fields_document).
//
// The messages of HTTP filters are not listed here: each filter answers for its own (source/filters/*/README.md).
//
// Thread rule: constant data.
// Use:  check_field_use(listener, path, faults);
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "config/faults.h"

namespace google::protobuf {
class FieldDescriptor;
class Message;
}  // namespace google::protobuf

namespace outrigger::config {

enum class FieldUse : uint8_t { kHonoured, kIgnored, kRefused };

struct FieldRule {
  std::string_view message;  // full name
  std::string_view field;
  FieldUse use = FieldUse::kHonoured;
  std::string_view note;  // kIgnored: why that is harmless; kRefused: what to do; kHonoured: limits, or empty
};

// All rules, by message.
std::span<const FieldRule> field_rules();
// The rule of a field of a generated message, or nullptr.
const FieldRule* find_field_rule(const google::protobuf::FieldDescriptor& field);

// A fault for every set field below `message` that is refused or has no rule. Does not look into Anys.
void check_field_use(const google::protobuf::Message& message, const FieldPath& path, Faults& faults);

// The text of source/docs/xds_fields.md.
std::string xds_fields_document();

}  // namespace outrigger::config
