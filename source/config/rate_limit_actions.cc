#include "config/rate_limit_actions.h"

#include <arpa/inet.h>

#include <algorithm>
#include <charconv>
#include <cstring>

namespace outrigger::config {
namespace {

using Kind = RateLimitActionSpec::Kind;

std::string_view default_key(Kind kind) {
  switch (kind) {
    case Kind::kSourceCluster:
      return "source_cluster";
    case Kind::kDestinationCluster:
      return "destination_cluster";
    case Kind::kRequestHeaders:
      return "";
    case Kind::kRemoteAddress:
      return "remote_address";
    case Kind::kGenericKey:
      return "generic_key";
    case Kind::kHeaderValueMatch:
      return "header_match";
    case Kind::kQueryParameterValueMatch:
      return "query_match";
    case Kind::kQueryParameters:
      return "";
    case Kind::kMaskedRemoteAddress:
      return "masked_remote_address";
  }
  return "";
}

// The address of "ip:port" or "[ip]:port"; empty if it is not an IP address (a Unix socket).
std::string_view ip_of(std::string_view address) {
  if (address.starts_with('[')) {
    const size_t close = address.find(']');
    return close == std::string_view::npos ? std::string_view() : address.substr(1, close - 1);
  }
  if (address.empty() || address.front() < '0' || address.front() > '9') return {};
  return address.substr(0, address.rfind(':'));
}

// "ip/length" with the bits after `length` cleared, in the arena; empty if `ip` is no address or the arena is full.
std::string_view masked(std::string_view ip, uint8_t v4_prefix, uint8_t v6_prefix, Arena& arena) {
  char text[INET6_ADDRSTRLEN + 5];
  if (ip.empty() || ip.size() >= INET6_ADDRSTRLEN) return {};
  std::memcpy(text, ip.data(), ip.size());
  text[ip.size()] = '\0';
  const bool v6 = ip.find(':') != std::string_view::npos;
  const int family = v6 ? AF_INET6 : AF_INET;
  const size_t bytes = v6 ? 16 : 4;
  const size_t length = v6 ? v6_prefix : v4_prefix;
  unsigned char binary[16];
  if (inet_pton(family, text, binary) != 1) return {};
  for (size_t i = 0; i < bytes; ++i) {
    const size_t kept = length > i * 8 ? std::min<size_t>(8, length - i * 8) : 0;
    binary[i] &= static_cast<unsigned char>(0xff00u >> kept);
  }
  if (inet_ntop(family, binary, text, INET6_ADDRSTRLEN) == nullptr) return {};
  char* end = text + std::strlen(text);
  *end++ = '/';
  end = std::to_chars(end, text + sizeof(text), length).ptr;
  return arena.copy({text, static_cast<size_t>(end - text)});
}

}  // namespace

RateLimitPolicy::RateLimitPolicy(const RateLimitSpec& spec) : stage_(spec.stage), disable_key_(spec.disable_key) {
  actions_.reserve(spec.actions.size());
  for (const RateLimitActionSpec& action : spec.actions) {
    actions_.push_back(
        {.kind = action.kind,
         .skip_if_absent = action.skip_if_absent,
         .expect_match = action.expect_match,
         .v4_prefix = static_cast<uint8_t>(std::min(action.v4_prefix, 32u)),
         .v6_prefix = static_cast<uint8_t>(std::min(action.v6_prefix, 128u)),
         .key = action.descriptor_key.empty() ? std::string(default_key(action.kind)) : action.descriptor_key,
         .value = action.descriptor_value,
         .name = action.kind == Kind::kRequestHeaders && action.name == "host" ? ":authority" : action.name,
         .headers = compile(action.headers),
         .query_parameters = compile(action.query_parameters)});
  }
}

bool RateLimitPolicy::descriptor(const HeaderMap& headers, const StreamInfo& info, std::string_view local_cluster,
                                 Arena& arena, Descriptor& out) const {
  auto* entries = static_cast<DescriptorEntry*>(
      arena.try_allocate(sizeof(DescriptorEntry) * actions_.size(), alignof(DescriptorEntry)));
  if (entries == nullptr) return false;
  size_t count = 0;
  for (const Action& action : actions_) {
    DescriptorEntry entry{action.key, action.value};
    switch (apply(action, headers, info, local_cluster, arena, entry)) {
      case Outcome::kEntry:
        new (&entries[count++]) DescriptorEntry(entry);
        break;
      case Outcome::kSkip:
        break;
      case Outcome::kNoDescriptor:
        return false;
    }
  }
  out.entries = {entries, count};
  return count > 0;
}

RateLimitPolicy::Outcome RateLimitPolicy::apply(const Action& action, const HeaderMap& headers, const StreamInfo& info,
                                                std::string_view local_cluster, Arena& arena, DescriptorEntry& entry) {
  const auto entry_if = [](bool condition) { return condition ? Outcome::kEntry : Outcome::kNoDescriptor; };
  switch (action.kind) {
    case Kind::kSourceCluster:
      entry.value = local_cluster;
      return Outcome::kEntry;
    case Kind::kDestinationCluster:
      entry.value = info.cluster;
      return Outcome::kEntry;
    case Kind::kRequestHeaders: {
      const Header* header = headers.find(action.name);
      if (header == nullptr) return action.skip_if_absent ? Outcome::kSkip : Outcome::kNoDescriptor;
      entry.value = header->value;
      return Outcome::kEntry;
    }
    case Kind::kRemoteAddress:
      entry.value = ip_of(info.downstream_remote_address);
      return entry_if(!entry.value.empty());
    case Kind::kMaskedRemoteAddress:
      entry.value = masked(ip_of(info.downstream_remote_address), action.v4_prefix, action.v6_prefix, arena);
      return entry_if(!entry.value.empty());
    case Kind::kGenericKey:
      return Outcome::kEntry;
    case Kind::kHeaderValueMatch:
      return entry_if(match_all(action.headers, headers) == action.expect_match);
    case Kind::kQueryParameterValueMatch: {
      const std::string_view path = headers.get(HeaderId::kPath);
      const bool all = std::all_of(action.query_parameters.begin(), action.query_parameters.end(),
                                   [&](const QueryMatcher& m) { return m.match_decoded(path, arena); });
      return entry_if(all == action.expect_match);
    }
    case Kind::kQueryParameters: {
      const auto value = decoded_query_parameter(headers.get(HeaderId::kPath), action.name, arena);
      if (!value) return action.skip_if_absent ? Outcome::kSkip : Outcome::kNoDescriptor;
      entry.value = *value;
      return Outcome::kEntry;
    }
  }
  return Outcome::kNoDescriptor;
}

std::vector<RateLimitPolicy> compile(const std::vector<RateLimitSpec>& specs) { return {specs.begin(), specs.end()}; }

}  // namespace outrigger::config
