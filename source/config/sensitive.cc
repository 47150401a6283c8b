#include "config/sensitive.h"

#include <google/protobuf/any.pb.h>
#include <google/protobuf/descriptor.h>
#include <google/protobuf/message.h>

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "config/any.h"
#include "config/proto_dump.h"

namespace outrigger::config {
namespace {

using google::protobuf::Any;
using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;

// Headers and call credentials sent to a control plane are how tokens get there.
constexpr SensitiveField kFields[] = {
    {"envoy.extensions.filters.http.api_key_auth.v3.Credential", "key"},
    {"envoy.config.core.v3.GrpcService", "initial_metadata"},
    {"envoy.config.core.v3.GrpcService.GoogleGrpc", "call_credentials"},
    {"envoy.config.core.v3.GrpcService.GoogleGrpc.SslCredentials", "private_key"},
    {"envoy.extensions.transport_sockets.tls.v3.TlsCertificate", "private_key"},
    {"envoy.extensions.transport_sockets.tls.v3.TlsSessionTicketKeys", "keys"},
};
constexpr int kMaxAnyDepth = 32;

void redact_message(Message& message, bool all, int any_depth);

// Where a secret is, which is none.
bool names_a_place(const FieldDescriptor& field) {
  return field.containing_type()->full_name() == "envoy.config.core.v3.DataSource" &&
         (field.name() == "filename" || field.name() == "environment_variable");
}

void redact_any(Any& any, bool all, int any_depth) {
  if (any.value().empty()) return;
  Faults ignored;
  const std::unique_ptr<Message> inner =
      any_depth < kMaxAnyDepth ? unpack(any, FieldPath(), ignored) : std::unique_ptr<Message>();
  if (inner == nullptr) {
    any.clear_value();
    return;
  }
  redact_message(*inner, all, any_depth + 1);
  any.set_value(deterministic_bytes(*inner));
}

void redact_field(Message& message, const FieldDescriptor& field, bool all, int any_depth) {
  const Reflection& reflection = *message.GetReflection();
  if (field.cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE) {
    if (!field.is_repeated()) return redact_message(*reflection.MutableMessage(&message, &field), all, any_depth);
    for (int i = 0; i < reflection.FieldSize(message, &field); ++i)
      redact_message(*reflection.MutableRepeatedMessage(&message, &field, i), all, any_depth);
    return;
  }
  if (!all || field.cpp_type() != FieldDescriptor::CPPTYPE_STRING || names_a_place(field)) return;
  if (!field.is_repeated()) return reflection.SetString(&message, &field, std::string(kRedacted));
  for (int i = 0; i < reflection.FieldSize(message, &field); ++i)
    reflection.SetRepeatedString(&message, &field, i, std::string(kRedacted));
}

void redact_message(Message& message, bool all, int any_depth) {
  if (auto* any = dynamic_cast<Any*>(&message); any != nullptr) return redact_any(*any, all, any_depth);
  const Reflection& reflection = *message.GetReflection();
  reflection.MutableUnknownFields(&message)->Clear();
  std::vector<const FieldDescriptor*> set;
  reflection.ListFields(message, &set);
  for (const FieldDescriptor* field : set) redact_field(message, *field, all || is_sensitive(*field), any_depth);
}

}  // namespace

std::span<const SensitiveField> sensitive_fields() { return kFields; }

bool is_sensitive(const FieldDescriptor& field) {
  return std::any_of(std::begin(kFields), std::end(kFields), [&](const SensitiveField& secret) {
    return secret.field == field.name() && secret.message == field.containing_type()->full_name();
  });
}

void redact(Message& message) { redact_message(message, false, 0); }

bool may_hold_secrets(std::string_view type_url, std::string_view bytes) {
  if (bytes.empty()) return false;
  Any any;
  any.set_type_url(std::string(type_url));
  any.set_value(std::string(bytes));
  Faults ignored;
  const std::unique_ptr<Message> message = unpack(any, FieldPath(), ignored);
  if (message == nullptr) return true;
  const std::string before = deterministic_bytes(*message);
  redact(*message);
  return deterministic_bytes(*message) != before;
}

}  // namespace outrigger::config
