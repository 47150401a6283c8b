#include "config/source_scope.h"

#include "base/hash.h"

namespace outrigger::config {

std::string scope_of(const ConfigSourceSpec& source) {
  if (source.kind == ConfigSourceSpec::Kind::kFile) return source.path;
  if (source.kind != ConfigSourceSpec::Kind::kGrpc) return {};
  std::string names, rest;
  const auto add = [&](std::string_view text) { rest.append(std::to_string(text.size())).append(":").append(text); };
  const auto add_data = [&](const DataSpec& data) {
    add(data.file);
    if (data.file.empty()) add(data.bytes.text());
  };
  for (const GrpcServiceSpec& service : source.services) {
    if (!names.empty()) names += ',';
    names += service.target_uri.empty() ? service.cluster : service.target_uri;
    for (const std::string* text : {&service.cluster, &service.target_uri, &service.authority}) add(*text);
    if (service.tls) {
      for (const auto* data : {&service.tls->trusted_ca, &service.tls->certificate_chain, &service.tls->private_key})
        add_data(*data);
      add(service.tls->server_name);
      for (const SanMatch& san : service.tls->san_matches)
        add(std::to_string(static_cast<int>(san.type)) + std::to_string(static_cast<int>(san.kind)) +
            (san.ignore_case ? "i" : "") + ":" + san.value);
    }
    for (const auto& [key, value] : service.initial_metadata) {
      add(key);
      add(value);
    }
    add("");
  }
  add(source.delta ? "delta" : "");
  add(source.set_node_on_first_message_only ? "node once" : "");
  return names + "#" + content_hash_hex(rest);
}

}  // namespace outrigger::config
