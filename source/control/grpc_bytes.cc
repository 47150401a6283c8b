#include "control/grpc_bytes.h"

#include <grpcpp/support/byte_buffer.h>

#include <utility>
#include <vector>

namespace outrigger::control {

Result<std::string> bytes_of(const grpc::ByteBuffer& buffer) {
  std::vector<grpc::Slice> slices;
  if (!buffer.Dump(&slices).ok()) return fail(Errc::kProtocol, "the discovery request cannot be decompressed");
  std::string bytes;
  for (const grpc::Slice& slice : slices) bytes.append(reinterpret_cast<const char*>(slice.begin()), slice.size());
  return bytes;
}

grpc::ByteBuffer buffer_of(const std::string& bytes) {
  const grpc::Slice slice(bytes);
  return grpc::ByteBuffer(&slice, 1);
}

grpc::ByteBuffer buffer_of(const std::string& bytes, std::shared_ptr<const std::string> more) {
  using Shared = std::shared_ptr<const std::string>;
  auto* held = new Shared(std::move(more));
  const grpc::Slice slices[] = {grpc::Slice(bytes), grpc::Slice(
                                                        const_cast<char*>((*held)->data()), (*held)->size(),
                                                        [](void* last) { delete static_cast<Shared*>(last); }, held)};
  return grpc::ByteBuffer(slices, 2);
}

}  // namespace outrigger::control
