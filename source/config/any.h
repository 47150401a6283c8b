// google.protobuf.Any: opening one with faults that say what was expected, and closing one.
//
// Thread rule: pure functions.
// Use:  envoy::extensions::filters::http::router::v3::Router router;
//       if (!unpack_to(filter.typed_config(), router, path.field("typed_config"), faults)) return;
#pragma once

#include <memory>
#include <string_view>

#include "config/faults.h"

namespace google::protobuf {
class Any;
class Descriptor;
class Message;
}  // namespace google::protobuf

namespace outrigger::config {

// "envoy.config.cluster.v3.Cluster" of "type.googleapis.com/envoy.config.cluster.v3.Cluster" or of the bare name.
std::string_view type_name(std::string_view type_url);
std::string_view type_name(const google::protobuf::Any& any);

// The linked message type of that name; nullptr: unknown.
const google::protobuf::Descriptor* find_type(std::string_view type_name);

// Faults: empty Any, another type ("expected type X, got Y"), bytes that do not parse.
bool unpack_to(const google::protobuf::Any& any, google::protobuf::Message& out, const FieldPath& path, Faults& faults);

// The message of whatever type the Any has; nullptr with a fault if it is empty, unknown or does not parse.
std::unique_ptr<google::protobuf::Message> unpack(const google::protobuf::Any& any, const FieldPath& path,
                                                  Faults& faults);

// "type.googleapis.com/" + the type's name; deterministic bytes.
void pack(const google::protobuf::Message& message, google::protobuf::Any& out);

}  // namespace outrigger::config
