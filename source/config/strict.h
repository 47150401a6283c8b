// Refuses what we would otherwise ignore: in a message that came over the wire, fields that our schemas do not have,
// enum numbers without a name and Anys of unknown type, at any depth and inside nested Anys.
//
// Thread rule: pure function.
// Use:  check_strict(cluster, FieldPath("resources[0]"), faults, UnknownFields::kError);
#pragma once

#include <cstddef>

#include "config/faults.h"

namespace google::protobuf {
class Message;
}

namespace outrigger::config {

// kError: every finding is an error. kWarn: a warning. Anys that do not parse are errors in both. The Any of a message
// whose own `is_optional` is true (an HTTP filter, a FilterConfig) may be of unknown type. Returns how many unknown
// fields, values and types there were, for the counter.
size_t check_strict(const google::protobuf::Message& message, const FieldPath& path, Faults& faults,
                    UnknownFields mode);

}  // namespace outrigger::config
