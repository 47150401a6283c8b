// A message of gRPC as bytes, and back. The services take and give bytes, so that every message lives on one thread, in
// one function.
//
// Thread rule: pure functions.
// Use:  TRY(const std::string bytes, bytes_of(incoming));   outgoing = buffer_of(message.SerializeAsString());
#pragma once

#include <memory>
#include <string>

#include "outrigger/result.h"

namespace grpc {
class ByteBuffer;
}

namespace outrigger::control {

Result<std::string> bytes_of(const grpc::ByteBuffer& buffer);
grpc::ByteBuffer buffer_of(const std::string& bytes);
// `bytes`, then those of `more`, which are not copied.
grpc::ByteBuffer buffer_of(const std::string& bytes, std::shared_ptr<const std::string> more);

}  // namespace outrigger::control
