// Secrets in config: which fields hold them, and their removal from whatever is shown (dumps, logs, status). A secret
// is never part of a fault either: a message names the field's path, not its value.
//
// Thread rule: pure functions.
// Use:  redact(*message);  std::string text = to_json(*message);
#pragma once

#include <span>
#include <string_view>

namespace google::protobuf {
class FieldDescriptor;
class Message;
}  // namespace google::protobuf

namespace outrigger::config {

inline constexpr std::string_view kRedacted = "[redacted]";

// (full name of the message type, field name). A field that is itself a message: all text and bytes inside it, but not
// the name of the file or variable where a DataSource has them.
struct SensitiveField {
  std::string_view message;
  std::string_view field;
};
std::span<const SensitiveField> sensitive_fields();
bool is_sensitive(const google::protobuf::FieldDescriptor& field);

// Replaces every secret in `message` by kRedacted, at any depth and inside nested Anys. What cannot be told to be free
// of secrets is dropped: fields that our schemas do not have, and the content of Anys of unknown type, that do not
// parse or lie deeper than 32 Anys. The result is for showing, not for reading back.
void redact(google::protobuf::Message& message);

// Whether redact() would change the message: true as well for what cannot be told to be free of secrets.
bool may_hold_secrets(std::string_view type_url, std::string_view bytes);

}  // namespace outrigger::config
