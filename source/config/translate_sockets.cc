// Socket options, keepalive and connection limits.
#include <fmt/format.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <algorithm>
#include <limits>

#include "config/translation.h"
#include "envoy/config/cluster/v3/cluster.pb.h"
#include "envoy/config/listener/v3/listener.pb.h"
#include "envoy/extensions/filters/network/connection_limit/v3/connection_limit.pb.h"

namespace outrigger::config {
namespace core = envoy::config::core::v3;
namespace limit = envoy::extensions::filters::network::connection_limit::v3;

namespace {

// What may be set: options with an int that work at any time, and that can neither break a promise of ours
// (SO_REUSEPORT, IP_TRANSPARENT) nor need a privilege.
struct Known {
  int level, name;
  std::string_view text;
  bool listeners_only = false;
  int least = std::numeric_limits<int>::min(), most = std::numeric_limits<int>::max();  // for anybody
};
constexpr Known kKnown[] = {
    {SOL_SOCKET, SO_KEEPALIVE, "SO_KEEPALIVE"},
    {SOL_SOCKET, SO_PRIORITY, "SO_PRIORITY", false, 0, 6},
    {IPPROTO_TCP, TCP_KEEPIDLE, "TCP_KEEPIDLE"},
    {IPPROTO_TCP, TCP_KEEPINTVL, "TCP_KEEPINTVL"},
    {IPPROTO_TCP, TCP_KEEPCNT, "TCP_KEEPCNT"},
    {IPPROTO_TCP, TCP_USER_TIMEOUT, "TCP_USER_TIMEOUT"},
    {IPPROTO_TCP, TCP_NOTSENT_LOWAT, "TCP_NOTSENT_LOWAT"},
    {IPPROTO_IP, IP_TOS, "IP_TOS"},
    {IPPROTO_IPV6, IPV6_TCLASS, "IPV6_TCLASS"},
    {IPPROTO_TCP, TCP_DEFER_ACCEPT, "TCP_DEFER_ACCEPT", true},
    {IPPROTO_TCP, TCP_FASTOPEN, "TCP_FASTOPEN", true},
};

std::string names(bool listener) {
  std::string out;
  for (const Known& known : kKnown) {
    if (known.listeners_only && !listener) continue;
    out += fmt::format("{}{} ({}, {})", out.empty() ? "" : ", ", known.text, known.level, known.name);
  }
  return out;
}

SocketOption::Family family_of(const core::SocketOption& from, const Known& known) {
  if (from.ip_version() == core::SocketOption::SOCKET_IP_VERSION_IPV4 || known.level == IPPROTO_IP)
    return SocketOption::Family::kV4;
  if (from.ip_version() == core::SocketOption::SOCKET_IP_VERSION_IPV6 || known.level == IPPROTO_IPV6)
    return SocketOption::Family::kV6;
  return SocketOption::Family::kAny;
}

// `where`: the field's path below its resource.
template <class Options>
void socket_options(const Options& options, bool listener, const std::string& where, const FieldPath& path,
                    std::vector<SocketOption>& to, Translation& t) {
  size_t index = 0;
  each(options, path, [&](const core::SocketOption& from, const FieldPath& at) {
    const std::string field = fmt::format("{}[{}]", where, index++);
    const auto known = std::find_if(std::begin(kKnown), std::end(kKnown), [&](const Known& one) {
      return one.level == from.level() && one.name == from.name() && (listener || !one.listeners_only);
    });
    if (known == std::end(kKnown))
      return t.fault(at, fmt::format("level {}, name {} is not supported; these are: {}", from.level(), from.name(),
                                     names(listener)));
    if (from.value_case() != core::SocketOption::kIntValue) return t.fault(at.field("int_value"), "is required");
    if (from.int_value() < std::numeric_limits<int>::min() || from.int_value() > std::numeric_limits<int>::max())
      return t.fault(at.field("int_value"), "is no int of the system's (32 bits)");
    if (from.int_value() < known->least || from.int_value() > known->most)
      return t.fault(at.field("int_value"), fmt::format("is {}, must be from {} to {}: more needs a privilege",
                                                        from.int_value(), known->least, known->most));
    const SocketOption made{.level = known->level,
                            .name = known->name,
                            .value = static_cast<int>(from.int_value()),
                            .family = family_of(from, *known),
                            .field = field};
    const bool twice = std::any_of(to.begin(), to.end(), [&](const SocketOption& other) {
      return other.level == made.level && other.name == made.name &&
             (other.family == made.family || other.family == SocketOption::Family::kAny ||
              made.family == SocketOption::Family::kAny);
    });
    if (twice) t.fault(at, fmt::format("sets {}, which is set already", known->text));
    to.push_back(made);
  });
}

void keepalive(const core::TcpKeepalive& from, const std::string& where, const FieldPath& path,
               std::vector<SocketOption>& to, Translation& t) {
  const auto add = [&](int level, int name, int value, std::string_view field) {
    to.push_back({.level = level,
                  .name = name,
                  .value = value,
                  .family = SocketOption::Family::kAny,
                  .field = field.empty() ? where : fmt::format("{}.{}", where, field)});
  };
  // What Linux takes.
  const auto number = [&](bool given, uint32_t value, std::string_view field, int name, uint32_t most) {
    if (!given) return;
    if (value == 0 || value > most)
      return t.fault(path.field(field), fmt::format("is {}, must be from 1 to {}", value, most));
    add(IPPROTO_TCP, name, static_cast<int>(value), field);
  };
  add(SOL_SOCKET, SO_KEEPALIVE, 1, {});
  number(from.has_keepalive_probes(), from.keepalive_probes().value(), "keepalive_probes", TCP_KEEPCNT, 127);
  number(from.has_keepalive_time(), from.keepalive_time().value(), "keepalive_time", TCP_KEEPIDLE, 32'767);
  number(from.has_keepalive_interval(), from.keepalive_interval().value(), "keepalive_interval", TCP_KEEPINTVL, 32'767);
}

}  // namespace

std::vector<SocketOption> listener_socket_options(const envoy::config::listener::v3::Listener& from,
                                                  const FieldPath& path, Translation& t) {
  std::vector<SocketOption> options;
  if (from.has_tcp_keepalive())
    keepalive(from.tcp_keepalive(), "tcp_keepalive", path.field("tcp_keepalive"), options, t);
  if (from.has_tcp_fast_open_queue_length()) {
    const uint32_t length = from.tcp_fast_open_queue_length().value();
    if (length > std::numeric_limits<int>::max())
      t.fault(path.field("tcp_fast_open_queue_length"), "must be at most 2147483647");
    options.push_back({.level = IPPROTO_TCP,
                       .name = TCP_FASTOPEN,
                       .value = static_cast<int>(length),
                       .family = SocketOption::Family::kAny,
                       .field = "tcp_fast_open_queue_length"});
  }
  socket_options(from.socket_options(), true, "socket_options", path.field("socket_options"), options, t);
  return options;
}

std::vector<SocketOption> upstream_socket_options(const envoy::config::cluster::v3::Cluster& from,
                                                  const FieldPath& path, Translation& t) {
  std::vector<SocketOption> options;
  const FieldPath connections = path.field("upstream_connection_options");
  const FieldPath alive = connections.field("tcp_keepalive");
  if (from.upstream_connection_options().has_tcp_keepalive())
    keepalive(from.upstream_connection_options().tcp_keepalive(), "upstream_connection_options.tcp_keepalive", alive,
              options, t);
  socket_options(from.upstream_bind_config().socket_options(), false, "upstream_bind_config.socket_options",
                 path.field("upstream_bind_config").field("socket_options"), options, t);
  return options;
}

ConnectionLimitSpec connection_limit_spec(const limit::ConnectionLimit& from, const FieldPath& path, Translation& t) {
  ConnectionLimitSpec spec;
  spec.stat_prefix = from.stat_prefix();
  if (spec.stat_prefix.empty()) t.fault(path.field("stat_prefix"), "must not be empty");
  spec.max_connections = from.max_connections().value();
  if (!from.has_max_connections())
    t.fault(path.field("max_connections"), "is required");
  else if (spec.max_connections == 0)
    t.fault(path.field("max_connections"), "must be at least 1");
  if (from.has_delay()) spec.delay_ms = duration_ms(from.delay(), path.field("delay"), t);
  return spec;
}

}  // namespace outrigger::config
