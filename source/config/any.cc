#include "config/any.h"

#include <fmt/format.h>
#include <google/protobuf/any.pb.h>
#include <google/protobuf/descriptor.h>
#include <google/protobuf/message.h>

#include <string>

#include "config/proto_dump.h"

namespace outrigger::config {

namespace {
constexpr std::string_view kUrlPrefix = "type.googleapis.com/";
}

std::string_view type_name(std::string_view type_url) {
  const size_t slash = type_url.rfind('/');
  return slash == std::string_view::npos ? type_url : type_url.substr(slash + 1);
}

std::string_view type_name(const google::protobuf::Any& any) { return type_name(any.type_url()); }

const google::protobuf::Descriptor* find_type(std::string_view type_name) {
  return google::protobuf::DescriptorPool::generated_pool()->FindMessageTypeByName(std::string(type_name));
}

bool unpack_to(const google::protobuf::Any& any, google::protobuf::Message& out, const FieldPath& path,
               Faults& faults) {
  const std::string& expected = out.GetDescriptor()->full_name();
  if (any.type_url().empty()) {
    faults.add(path, fmt::format("a message of type {} is expected, nothing is given", expected));
    return false;
  }
  if (type_name(any) != expected) {
    faults.add(path, fmt::format("expected type {}, got {}", expected, type_name(any)));
    return false;
  }
  if (!out.ParseFromString(any.value())) {
    faults.add(path, fmt::format("the bytes are not a valid {}", expected));
    return false;
  }
  return true;
}

std::unique_ptr<google::protobuf::Message> unpack(const google::protobuf::Any& any, const FieldPath& path,
                                                  Faults& faults) {
  if (any.type_url().empty()) {
    faults.add(path, "a typed message is expected, nothing is given");
    return nullptr;
  }
  const google::protobuf::Descriptor* type = find_type(type_name(any));
  if (type == nullptr) {
    faults.add(path, fmt::format("type {} is not supported", type_name(any)));
    return nullptr;
  }
  std::unique_ptr<google::protobuf::Message> message(
      google::protobuf::MessageFactory::generated_factory()->GetPrototype(type)->New());
  if (!unpack_to(any, *message, path, faults)) return nullptr;
  return message;
}

void pack(const google::protobuf::Message& message, google::protobuf::Any& out) {
  out.set_type_url(std::string(kUrlPrefix) + message.GetDescriptor()->full_name());
  out.set_value(deterministic_bytes(message));
}

}  // namespace outrigger::config
