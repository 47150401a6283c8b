#include "control/discovery_wire.h"

#include <fmt/format.h>

#include <climits>
#include <utility>

#include "envoy/service/discovery/v3/discovery.pb.h"

namespace outrigger::control {
namespace {

namespace discovery = envoy::service::discovery::v3;

// The leaves of a node's metadata, as many as we care to keep.
class MetadataReader {
 public:
  std::vector<NodeMetadata> read(const google::protobuf::Struct& metadata) {
    add(metadata, 0);
    return std::move(out_);
  }

 private:
  static constexpr size_t kMaxValues = 512, kMaxBytes = 64 * 1024;
  static constexpr int kMaxDepth = 16;

  void add(const google::protobuf::Struct& from, int depth) {
    for (const auto& [key, value] : from.fields()) {
      path_.push_back(key);
      add(value, depth + 1);
      path_.pop_back();
    }
  }
  void add(const google::protobuf::Value& value, int depth) {
    using Value = google::protobuf::Value;
    if (depth > kMaxDepth) return;
    if (value.kind_case() == Value::kStructValue) return add(value.struct_value(), depth);
    if (value.kind_case() == Value::kListValue) {
      for (const Value& one : value.list_value().values()) add(one, depth + 1);
      return;
    }
    std::string text;
    if (value.kind_case() == Value::kStringValue) text = value.string_value();
    if (value.kind_case() == Value::kBoolValue) text = value.bool_value() ? "true" : "false";
    if (value.kind_case() == Value::kNumberValue) text = fmt::format("{}", value.number_value());
    bytes_ += text.size();
    for (const std::string& key : path_) bytes_ += key.size();
    if (out_.size() < kMaxValues && bytes_ <= kMaxBytes) out_.push_back({path_, std::move(text)});
  }

  std::vector<NodeMetadata> out_;
  std::vector<std::string> path_;
  size_t bytes_ = 0;
};

// What both kinds of request have.
template <class Message>
Result<DecodedRequest> decode(std::string_view bytes, Message& message) {
  if (bytes.size() > INT_MAX || !message.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) {
    return fail(Errc::kProtocol, "the discovery request does not parse", Origin::kDownstream);
  }
  if (message.type_url().empty()) {
    return fail(Errc::kProtocol, "the discovery request has no type_url", Origin::kDownstream);
  }
  DecodedRequest out;
  out.request.type_url = message.type_url();
  out.request.nonce = message.response_nonce();
  if (message.has_error_detail()) out.request.error = message.error_detail().message();
  out.has_node = message.has_node();
  out.node_id = message.node().id();
  out.node_cluster = message.node().cluster();
  out.user_agent = message.node().user_agent_name();
  if (message.node().has_metadata()) out.metadata = MetadataReader().read(message.node().metadata());
  return out;
}

template <class Message>
void fill(Message& message, const DiscoveryReply& reply, const std::string& identifier) {
  message.set_type_url(reply.type_url);
  message.set_nonce(reply.nonce);
  message.mutable_control_plane()->set_identifier(identifier);
}

}  // namespace

Result<DecodedRequest> decode_request(std::string_view bytes, bool incremental) {
  if (!incremental) {
    discovery::DiscoveryRequest message;
    TRY(DecodedRequest out, decode(bytes, message));
    out.request.version = message.version_info();
    out.request.subscribe.assign(message.resource_names().begin(), message.resource_names().end());
    return out;
  }
  discovery::DeltaDiscoveryRequest message;
  TRY(DecodedRequest out, decode(bytes, message));
  out.request.subscribe.assign(message.resource_names_subscribe().begin(), message.resource_names_subscribe().end());
  out.request.unsubscribe.assign(message.resource_names_unsubscribe().begin(),
                                 message.resource_names_unsubscribe().end());
  for (const auto& [name, version] : message.initial_resource_versions()) out.request.known.emplace_back(name, version);
  return out;
}

std::string encode_envelope(const DiscoveryReply& reply, const std::string& identifier, bool incremental) {
  if (!incremental) {
    discovery::DiscoveryResponse message;
    fill(message, reply, identifier);
    message.set_version_info(reply.version);
    return message.SerializeAsString();
  }
  discovery::DeltaDiscoveryResponse message;
  fill(message, reply, identifier);
  message.set_system_version_info(reply.version);
  for (const std::string& name : reply.removed) message.add_removed_resources(name);
  return message.SerializeAsString();
}

// A message's serialisation is that of its parts, one after the other.
std::string encode_resources(const std::vector<ResourcePtr>& resources, bool incremental) {
  std::string out;
  for (const ResourcePtr& resource : resources) {
    if (!incremental) {
      discovery::DiscoveryResponse message;
      google::protobuf::Any& any = *message.add_resources();
      any.set_type_url(resource->type_url);
      any.set_value(resource->bytes);
      message.AppendToString(&out);
      continue;
    }
    discovery::DeltaDiscoveryResponse message;
    discovery::Resource& one = *message.add_resources();
    one.set_name(resource->name);
    one.set_version(resource->version);
    one.mutable_resource()->set_type_url(resource->type_url);
    one.mutable_resource()->set_value(resource->bytes);
    message.AppendToString(&out);
  }
  return out;
}

std::shared_ptr<const std::string> EncodedSets::get(const std::shared_ptr<const TypeSet>& set, bool incremental) {
  std::lock_guard lock(mutex_);
  std::erase_if(texts_, [](const auto& entry) { return entry.second.of.expired(); });
  Text& text = texts_[{set.get(), incremental}];
  if (text.text == nullptr)
    text = {set, std::make_shared<const std::string>(encode_resources(set->resources, incremental))};
  return text.text;
}

}  // namespace outrigger::control
