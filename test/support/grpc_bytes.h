// What grpc's byte buffers hold, as text, for tests that speak without generated services.
//
// Use:  const std::string answer = text_of(buffer);   call.Write(bytes_of("hello"), tag);
#pragma once

#include <grpcpp/support/byte_buffer.h>

#include <string>
#include <vector>

namespace outrigger::test {

inline std::string text_of(const grpc::ByteBuffer& buffer) {
  std::vector<grpc::Slice> slices;
  std::string text;
  if (!buffer.Dump(&slices).ok()) return "not readable";
  for (const grpc::Slice& slice : slices) text.append(reinterpret_cast<const char*>(slice.begin()), slice.size());
  return text;
}

inline grpc::ByteBuffer bytes_of(const std::string& text) {
  const grpc::Slice slice(text);
  return grpc::ByteBuffer(&slice, 1);
}

}  // namespace outrigger::test
