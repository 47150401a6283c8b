#include "proxy/intake.h"

#include <linux/netfilter_ipv4.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "base/check.h"
#include "net/proxy_protocol.h"

namespace outrigger::proxy {
namespace {

using config::ListenerFilterSpec;

constexpr size_t kReadBytes = 4 * 1024;
constexpr int kIp6OriginalDst = 80;  // IP6T_SO_ORIGINAL_DST; its header does not go with <netinet/in.h>

}  // namespace

Intake::Intake(event::Loop& loop, stats::Shard& shard, std::shared_ptr<const ListenerPart> part, Accepted accepted,
               std::function<void(Intake&)> on_end)
    : loop_(loop),
      shard_(shard),
      part_(std::move(part)),
      accepted_(std::move(accepted)),
      on_end_(std::move(on_end)),
      timeout_([](void* self) { static_cast<Intake*>(self)->on_timeout(); }, this) {
  shard_.inc(part_->stats->pre_cx_active);
}

Intake::~Intake() { CHECK(accepted_.fd < 0 && !poll_made_); }

void Intake::begin() {
  if (part_->spec.listener_filters_timeout_ms != 0)
    loop_.timers().arm(timeout_, part_->spec.listener_filters_timeout_ms);
  run();
}

ConnectionFacts Intake::facts() const {
  return {.local = accepted_.local,
          .remote = accepted_.remote,
          .direct_remote = accepted_.direct_remote,
          .server_name = hello_.server_name,
          .transport_protocol = is_tls_ ? "tls" : "raw_buffer",
          .application_protocols = protocols_};
}

void Intake::run() {
  const auto& filters = part_->spec.listener_filters;
  while (filter_ < filters.size()) {
    switch (step(filters[filter_])) {
      case Step::kNext:
        ++filter_;
        break;
      case Step::kMore:
        if (!read_some()) return;
        break;
      case Step::kRefuse:
        return end(false);
    }
  }
  end(true);
}

// True if there is something new. Otherwise it waits for more, or has ended.
bool Intake::read_some() {
  char buffer[kReadBytes];
  const ssize_t size = recv(accepted_.fd, buffer, sizeof(buffer), 0);
  if (size > 0) {
    bytes_.append(buffer, static_cast<size_t>(size));
    return true;
  }
  if (size < 0 && errno == EINTR) return read_some();
  if (size < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
    wait();
  } else {
    end(false);
  }
  return false;
}

void Intake::wait() {
  if (polling_) return;
  if (!poll_made_) {
    CHECK(uv_poll_init(loop_.uv(), &poll_, accepted_.fd) == 0);
    poll_.data = this;
    poll_made_ = true;
  }
  const auto on_ready = [](uv_poll_t* poll, int, int) {
    auto* self = static_cast<Intake*>(poll->data);
    event::Turn turn(self->loop_);
    if (self->read_some()) self->run();
  };
  CHECK(uv_poll_start(&poll_, UV_READABLE | UV_DISCONNECT, on_ready) == 0);
  polling_ = true;
}

Intake::Step Intake::step(const ListenerFilterSpec& filter) {
  switch (filter.kind) {
    case ListenerFilterSpec::Kind::kTlsInspector:
      return read_hello(filter);
    case ListenerFilterSpec::Kind::kProxyProtocol:
      return read_proxy_header(filter);
    case ListenerFilterSpec::Kind::kOriginalDst:
      restore_destination();
  }
  return Step::kNext;
}

Intake::Step Intake::read_hello(const ListenerFilterSpec& filter) {
  const ListenerStats& stats = *part_->stats;
  switch (net::read_client_hello(bytes_, hello_)) {
    case net::HelloState::kMore:
      return Step::kMore;
    case net::HelloState::kNotTls:
      shard_.add(stats.tls_not_found);
      return Step::kNext;
    case net::HelloState::kBad:
      shard_.add(stats.tls_bad_hello);
      return filter.close_on_bad_hello ? Step::kRefuse : Step::kNext;
    case net::HelloState::kDone:
      break;
  }
  is_tls_ = true;
  shard_.add(stats.tls_found);
  shard_.add(hello_.server_name.empty() ? stats.sni_not_found : stats.sni_found);
  shard_.add(hello_.protocols.empty() ? stats.alpn_not_found : stats.alpn_found);
  protocols_.assign(hello_.protocols.begin(), hello_.protocols.end());
  return Step::kNext;
}

Intake::Step Intake::read_proxy_header(const ListenerFilterSpec& filter) {
  const ListenerStats& stats = *part_->stats;
  net::ProxyHeader header;
  switch (net::read_proxy_header(bytes_, header)) {
    case net::ProxyState::kMore:
      return Step::kMore;
    case net::ProxyState::kNone:
      shard_.add(filter.header_required ? stats.proxy_not_found_disallowed : stats.proxy_not_found_allowed);
      return filter.header_required ? Step::kRefuse : Step::kNext;
    case net::ProxyState::kBad:
      shard_.add(stats.proxy_error);
      return Step::kRefuse;
    case net::ProxyState::kDone:
      break;
  }
  if (!(header.version == 1 ? filter.takes_v1 : filter.takes_v2)) {
    shard_.add(stats.proxy_disallowed);
    return Step::kRefuse;
  }
  shard_.add(header.version == 1 ? stats.proxy_v1_found : stats.proxy_v2_found);
  bytes_.erase(0, header.size);
  if (header.remote.valid()) {
    accepted_.remote = header.remote;
    accepted_.local = header.local;
  }
  return Step::kNext;
}

// Where the client wanted to go, if the kernel sent it here: by iptables REDIRECT, which it can be asked for, or by
// TPROXY, where the socket's own address is it. A connection that was made to the listener itself is no such.
void Intake::restore_destination() {
  if (!accepted_.local.is_ip()) return;
  if (part_->spec.transparent) {
    accepted_.redirected = std::none_of(part_->sockets.begin(), part_->sockets.end(), [&](const auto& set) {
      return set->address().port() == accepted_.local.port();
    });
    if (accepted_.redirected) shard_.add(part_->stats->original_dst_restored);
    return;
  }
  sockaddr_storage storage{};
  socklen_t size = sizeof(storage);
  const bool v6 = accepted_.local.is_v6();
  if (getsockopt(accepted_.fd, v6 ? static_cast<int>(IPPROTO_IPV6) : static_cast<int>(IPPROTO_IP),
                 v6 ? kIp6OriginalDst : SO_ORIGINAL_DST, &storage, &size) != 0)
    return;
  const net::Address wanted = net::Address::from_sockaddr(reinterpret_cast<sockaddr*>(&storage), size);
  if (!wanted.is_ip() || wanted == accepted_.local) return;
  accepted_.local = wanted;
  accepted_.redirected = true;
  shard_.add(part_->stats->original_dst_restored);
}

void Intake::on_timeout() {
  shard_.add(part_->stats->pre_cx_timeout);
  end(part_->spec.continue_on_listener_filters_timeout);
}

void Intake::end(bool taken) {
  timeout_.disarm();
  shard_.dec(part_->stats->pre_cx_active);
  if (polling_) uv_poll_stop(&poll_);
  polling_ = false;
  accepted_.first.append(std::string_view(bytes_));
  if (!taken) ::close(std::exchange(accepted_.fd, -1));
  unlink();
  std::exchange(on_end_, nullptr)(*this);
  if (!poll_made_) return loop_.defer_delete(std::unique_ptr<event::Deferred>(this));
  uv_close(reinterpret_cast<uv_handle_t*>(&poll_), [](uv_handle_t* handle) {
    auto* self = static_cast<Intake*>(handle->data);
    event::Turn turn(self->loop_);
    self->poll_made_ = false;
    self->loop_.defer_delete(std::unique_ptr<event::Deferred>(self));
  });
}

}  // namespace outrigger::proxy
