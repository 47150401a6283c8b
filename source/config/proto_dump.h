// Messages as bytes for comparison and as JSON for people.
//
// Thread rule: pure functions.
// Use:  if (deterministic_bytes(a) == deterministic_bytes(b)) ...;   std::string text = to_json(listener);
#pragma once

#include <string>

namespace google::protobuf {
class Message;
}

namespace outrigger::config {

// The same bytes for equal messages, map order notwithstanding (Anys inside are compared by their own bytes).
std::string deterministic_bytes(const google::protobuf::Message& message);

// Pretty JSON, proto field names, maps in key order. Anys of known types are expanded; others show their value in
// base64. Secrets (API keys) are shown as "[redacted]", so the text must not be read back.
std::string to_json(const google::protobuf::Message& message);

}  // namespace outrigger::config
