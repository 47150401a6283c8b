#include "net/resolver.h"

#include <ares.h>
#include <netinet/in.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>
#include <uv.h>

#include <algorithm>
#include <cstring>
#include <string_view>
#include <unordered_map>
#include <utility>

#include "base/check.h"
#include "event/timer.h"

namespace outrigger::net {
namespace {

Error ares_error(int status, const std::string& name) {
  Error error;
  error.retryable = true;
  switch (status) {
    case ARES_ENOTFOUND:
    case ARES_ENODATA:
      error.code = Errc::kNotFound;
      error.retryable = false;
      break;
    case ARES_ETIMEOUT:
      error.code = Errc::kTimeout;
      break;
    case ARES_ECONNREFUSED:
    case ARES_ESERVFAIL:
    case ARES_EREFUSED:
      error.code = Errc::kUnavailable;
      break;
    case ARES_EBADNAME:
    case ARES_EBADSTR:
      error.code = Errc::kInvalidArgument;
      error.retryable = false;
      break;
    default:
      error.code = Errc::kIo;
  }
  error.detail = "resolving \"" + name + "\": " + ares_strerror(status);
  return error;
}

Resolved collect(const ares_addrinfo* info) {
  Resolved out;
  int64_t ttl_s = -1;
  const auto shorten = [&ttl_s](int ttl) {
    if (ttl >= 0 && (ttl_s < 0 || ttl < ttl_s)) ttl_s = ttl;
  };
  for (const ares_addrinfo_cname* alias = info->cnames; alias != nullptr; alias = alias->next) shorten(alias->ttl);
  for (const ares_addrinfo_node* node = info->nodes; node != nullptr; node = node->ai_next) {
    const Address address = Address::from_sockaddr(node->ai_addr, node->ai_addrlen);
    if (!address.valid()) continue;
    shorten(node->ai_ttl);
    if (std::find(out.addresses.begin(), out.addresses.end(), address) == out.addresses.end())
      out.addresses.push_back(address);
  }
  out.ttl_ms = ttl_s > 0 ? static_cast<uint64_t>(ttl_s) * 1000 : 0;
  return out;
}

// "localhost" and names under it are loopback whatever any file or server says (RFC 6761 section 6.3).
bool is_localhost(std::string_view name) {
  constexpr std::string_view kLocalhost = "localhost";
  if (name.ends_with('.')) name.remove_suffix(1);
  if (name.size() < kLocalhost.size()) return false;
  const std::string_view last = name.substr(name.size() - kLocalhost.size());
  if (strncasecmp(last.data(), kLocalhost.data(), last.size()) != 0) return false;
  return name.size() == last.size() || name[name.size() - last.size() - 1] == '.';
}

// Many containers have no IPv6, and ::1 would lead nowhere.
bool has_v6_loopback() {
  const int fd = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return false;
  const Address loopback = *Address::parse("::1", 0);
  const bool has = bind(fd, loopback.get(), loopback.size()) == 0;
  ::close(fd);
  return has;
}

}  // namespace

struct Resolver::Impl {
  // One resolve(): one query, or two in turn.
  struct Request {
    Impl* impl;
    std::string name;
    Callback callback;
    int family;       // AF_*, of the query under way
    int next_family;  // AF_UNSPEC: no second one
  };
  // libuv's watch on one of c-ares's sockets; frees itself in its close callback.
  struct Watch {
    Impl* impl;
    ares_socket_t fd;
    uv_poll_t poll;
  };

  Impl(event::Loop& loop, const ResolverOptions& options);
  ~Impl();
  void start(Request* request);
  void answer(Callback callback, Result<Resolved> result);
  void watch(ares_socket_t fd, bool readable, bool writable);
  void process(ares_socket_t readable, ares_socket_t writable);
  void arm_timer();
  static void on_result(void* request, int status, int timeouts, ares_addrinfo* info);

  event::Loop& loop;
  ares_channel channel = nullptr;
  std::unordered_map<ares_socket_t, Watch*> watches;
  event::Timeout timer{[](void* self) { static_cast<Impl*>(self)->process(ARES_SOCKET_BAD, ARES_SOCKET_BAD); }, this};
  std::shared_ptr<char> alive = std::make_shared<char>();  // answers under way hold it weakly
  bool closing = false;
};

Resolver::Impl::Impl(event::Loop& loop, const ResolverOptions& options) : loop(loop) {
  static const int library = ares_library_init(ARES_LIB_INIT_ALL);
  CHECK(library == ARES_SUCCESS);
  ares_options o{};
  o.timeout = static_cast<int>(options.timeout_ms);
  o.tries = static_cast<int>(options.tries);
  char lookups[] = "fb";  // files, then DNS, whatever nsswitch.conf says (a container often has none)
  o.lookups = lookups;
  o.sock_state_cb = [](void* self, ares_socket_t fd, int readable, int writable) {
    static_cast<Impl*>(self)->watch(fd, readable != 0, writable != 0);
  };
  o.sock_state_cb_data = this;
  const int mask = ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES | ARES_OPT_LOOKUPS | ARES_OPT_SOCK_STATE_CB;
  CHECK(ares_init_options(&channel, &o, mask) == ARES_SUCCESS);
  if (options.servers.empty()) return;
  std::vector<ares_addr_port_node> servers(options.servers.size());
  for (size_t i = 0; i < servers.size(); ++i) {
    const Address& address = options.servers[i];
    CHECK(address.is_ip());
    servers[i].next = i + 1 < servers.size() ? &servers[i + 1] : nullptr;
    servers[i].family = address.get()->sa_family;
    servers[i].udp_port = servers[i].tcp_port = address.port();
    if (address.is_v6()) {
      std::memcpy(&servers[i].addr.addr6, &reinterpret_cast<const sockaddr_in6*>(address.get())->sin6_addr, 16);
    } else {
      std::memcpy(&servers[i].addr.addr4, &reinterpret_cast<const sockaddr_in*>(address.get())->sin_addr, 4);
    }
  }
  CHECK(ares_set_servers_ports(channel, servers.data()) == ARES_SUCCESS);
}

Resolver::Impl::~Impl() {
  closing = true;
  ares_destroy(channel);  // calls on_result for what is pending, and watch for its sockets
  while (!watches.empty()) watch(watches.begin()->first, false, false);
}

void Resolver::Impl::start(Request* request) {
  ares_addrinfo_hints hints{};
  hints.ai_family = request->family;
  hints.ai_socktype = SOCK_STREAM;
  // Of both families the preferred address is first (RFC 6724), not that of the answer that came first.
  hints.ai_flags = request->family == AF_UNSPEC ? 0 : ARES_AI_NOSORT;
  ares_getaddrinfo(channel, request->name.c_str(), nullptr, &hints, on_result, request);
  arm_timer();
}

void Resolver::Impl::on_result(void* data, int status, int, ares_addrinfo* info) {
  std::unique_ptr<Request> request(static_cast<Request*>(data));
  Impl& impl = *request->impl;
  Resolved resolved;
  if (status == ARES_SUCCESS) resolved = collect(info);
  if (info != nullptr) ares_freeaddrinfo(info);
  if (impl.closing || status == ARES_EDESTRUCTION) return;
  if (resolved.addresses.empty() && request->next_family != AF_UNSPEC) {
    request->family = std::exchange(request->next_family, AF_UNSPEC);
    impl.start(request.release());
    return;
  }
  Callback callback = std::move(request->callback);
  if (!resolved.addresses.empty()) {
    impl.answer(std::move(callback), std::move(resolved));
  } else {
    const int error = status == ARES_SUCCESS ? ARES_ENODATA : status;
    impl.answer(std::move(callback), tl::unexpected(ares_error(error, request->name)));
  }
}

// Never from inside c-ares or resolve().
void Resolver::Impl::answer(Callback callback, Result<Resolved> result) {
  loop.post([alive = std::weak_ptr<char>(alive), callback = std::move(callback), result = std::move(result)]() mutable {
    if (!alive.expired()) callback(std::move(result));
  });
}

void Resolver::Impl::watch(ares_socket_t fd, bool readable, bool writable) {
  Watch*& watch = watches[fd];
  if (!readable && !writable) {
    if (watch != nullptr) {
      uv_close(reinterpret_cast<uv_handle_t*>(&watch->poll),
               [](uv_handle_t* handle) { delete static_cast<Watch*>(handle->data); });
    }
    watches.erase(fd);
    return;
  }
  if (watch == nullptr) {
    watch = new Watch{this, fd, {}};
    CHECK(uv_poll_init(loop.uv(), &watch->poll, fd) == 0);
    watch->poll.data = watch;
  }
  const auto on_ready = [](uv_poll_t* poll, int status, int events) {
    auto* watch = static_cast<Watch*>(poll->data);
    event::Turn turn(watch->impl->loop);
    if (status < 0) events = UV_READABLE | UV_WRITABLE;  // c-ares finds the error itself
    watch->impl->process(events & UV_READABLE ? watch->fd : ARES_SOCKET_BAD,
                         events & UV_WRITABLE ? watch->fd : ARES_SOCKET_BAD);
  };
  CHECK(uv_poll_start(&watch->poll, (readable ? UV_READABLE : 0) | (writable ? UV_WRITABLE : 0), on_ready) == 0);
}

void Resolver::Impl::process(ares_socket_t readable, ares_socket_t writable) {
  ares_process_fd(channel, readable, writable);
  arm_timer();
}

void Resolver::Impl::arm_timer() {
  timeval left{};
  if (ares_timeout(channel, nullptr, &left) == nullptr) {
    timer.disarm();
  } else {
    const auto us = static_cast<uint64_t>(left.tv_sec) * 1'000'000 + static_cast<uint64_t>(left.tv_usec);
    loop.timers().arm(timer, us / 1000 + 1);
  }
}

Resolver::Resolver(event::Loop& loop, const ResolverOptions& options) : impl_(std::make_unique<Impl>(loop, options)) {}
Resolver::~Resolver() = default;

void Resolver::resolve(const std::string& name, Family family, Callback callback) {
  int first = AF_UNSPEC, second = AF_UNSPEC;
  switch (family) {
    case Family::kAuto:
      first = AF_INET6;
      second = AF_INET;
      break;
    case Family::kV4Preferred:
      first = AF_INET;
      second = AF_INET6;
      break;
    case Family::kV4Only:
      first = AF_INET;
      break;
    case Family::kV6Only:
      first = AF_INET6;
      break;
    case Family::kAll:
      break;
  }
  if (auto literal = Address::parse(name, 0); literal) {
    const int its = literal->get()->sa_family;
    if (first == AF_UNSPEC || its == first || its == second) {
      impl_->answer(std::move(callback), Resolved{{*literal}, 0});
    } else {
      impl_->answer(std::move(callback), tl::unexpected(ares_error(ARES_ENODATA, name)));
    }
    return;
  }
  if (is_localhost(name)) {
    // Not left to c-ares 1.18, which leaks a few bytes when it answers for localhost itself.
    const Address four = *Address::parse("127.0.0.1", 0), six = *Address::parse("::1", 0);
    const bool has_six = has_v6_loopback();
    Resolved answer;
    if (has_six && first != AF_INET) answer.addresses.push_back(six);
    if (first == AF_INET || family == Family::kAll || (answer.addresses.empty() && second == AF_INET))
      answer.addresses.push_back(four);
    if (answer.addresses.empty()) {
      impl_->answer(std::move(callback), tl::unexpected(ares_error(ARES_ENODATA, name)));
    } else {
      impl_->answer(std::move(callback), std::move(answer));
    }
    return;
  }
  if (name.empty() || name.find('\0') != std::string::npos) {
    impl_->answer(std::move(callback), tl::unexpected(ares_error(ARES_EBADNAME, name)));
    return;
  }
  impl_->start(new Impl::Request{impl_.get(), name, std::move(callback), first, second});
}

}  // namespace outrigger::net
