#include "net/connect_race.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "base/check.h"
#include "net/socket_options.h"

namespace outrigger::net {

std::vector<Address> attempt_order(std::span<const Address> addresses, const AttemptOrder& order) {
  std::vector<Address> ordered;
  if (addresses.empty()) return ordered;
  using First = AttemptOrder::First;
  const bool v6_first = order.first == First::kAsGiven ? addresses[0].is_v6() : order.first == First::kV6;
  std::vector<Address> first, other;
  for (const Address& address : addresses) (address.is_v6() == v6_first ? first : other).push_back(address);
  auto a = first.begin();
  auto b = other.begin();
  while ((a != first.end() || b != other.end()) && ordered.size() < kMaxAttempts) {
    for (uint32_t i = 0; i < order.first_count && a != first.end(); ++i) ordered.push_back(*a++);
    if (b != other.end()) ordered.push_back(*b++);
  }
  if (ordered.size() > kMaxAttempts) ordered.resize(kMaxAttempts);
  return ordered;
}

int open_socket(const Address& address, std::span<const SocketOption> options) {
  const int fd = socket(address.get()->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) return -errno;
  for (const SocketOption& option : options) {
    const int rc = concerns(option, address) ? set_socket_option(fd, option) : 0;
    if (rc == 0) continue;
    ::close(fd);
    return rc;
  }
  return fd;
}

// Frees itself in libuv's close callback, which may come after the race has gone.
struct ConnectRace::Attempt {
  ConnectRace* race;
  int fd;
  Address address;
  uv_poll_t poll;
};

ConnectRace::ConnectRace(event::Loop& loop, std::span<const Address> addresses, std::span<const SocketOption> options,
                         Done done, void* self)
    : loop_(loop),
      addresses_(addresses.begin(), addresses.begin() + static_cast<long>(std::min(addresses.size(), kMaxAttempts))),
      options_(options.begin(), options.end()),
      delay_([](void* race) { static_cast<ConnectRace*>(race)->on_delay(); }, this),
      done_(done),
      self_(self) {
  CHECK(!addresses_.empty());
}

ConnectRace::~ConnectRace() {
  settle();
  if (fd_ >= 0) ::close(fd_);
}

int ConnectRace::start() {
  const int status = advance(-EINVAL);
  if (status != kPending) settle();
  return status;
}

int ConnectRace::take() { return std::exchange(fd_, -1); }

// Begins with the next address that does not fail at once. kPending: there are attempts under way. Else the race is
// over: 0, or the last error.
int ConnectRace::advance(int error) {
  while (next_ < addresses_.size()) {
    last_ = addresses_[next_++];
    error = connect(last_);
    if (error == 0) return 0;
    if (error != -EINPROGRESS) continue;
    if (next_ < addresses_.size()) loop_.timers().arm(delay_, kAttemptDelayMs);
    return kPending;
  }
  return attempts_.empty() ? error : kPending;
}

// 0: connected already; -EINPROGRESS: on_ready will come.
int ConnectRace::connect(const Address& address) {
  const int fd = open_socket(address, options_);
  if (fd < 0) return fd;
  const int on = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
  const int rc = ::connect(fd, address.get(), address.size()) == 0 ? 0 : -errno;
  if (rc == 0) {
    fd_ = fd;
    return 0;
  }
  if (rc != -EINPROGRESS) {
    ::close(fd);
    return rc;
  }
  auto* const attempt = new Attempt{this, fd, address, {}};
  CHECK(uv_poll_init(loop_.uv(), &attempt->poll, fd) == 0);
  attempt->poll.data = attempt;
  const auto on_ready = [](uv_poll_t* poll, int status, int) {
    auto& ready = *static_cast<Attempt*>(poll->data);
    event::Turn turn(ready.race->loop_);
    ready.race->on_ready(ready, status);
  };
  CHECK(uv_poll_start(&attempt->poll, UV_WRITABLE, on_ready) == 0);
  attempts_.push_back(attempt);
  return rc;
}

void ConnectRace::on_ready(Attempt& attempt, int status) {
  // (libuv says EBADF of any error.)
  int error = 0;
  socklen_t size = sizeof(error);
  if (getsockopt(attempt.fd, SOL_SOCKET, SO_ERROR, &error, &size) != 0) error = errno;
  if (error == 0) error = -status;
  last_ = attempt.address;
  if (error == 0) fd_ = std::exchange(attempt.fd, -1);
  drop(attempt);
  delay_.disarm();
  const int now = error == 0 ? 0 : advance(-error);
  if (now != kPending) finish(now);
}

void ConnectRace::on_delay() {
  const int now = advance(0);
  if (now != kPending) finish(now);
}

void ConnectRace::drop(Attempt& attempt) {
  std::erase(attempts_, &attempt);
  uv_close(reinterpret_cast<uv_handle_t*>(&attempt.poll),
           [](uv_handle_t* handle) { delete static_cast<Attempt*>(handle->data); });
  if (attempt.fd >= 0) ::close(attempt.fd);
}

void ConnectRace::settle() {
  delay_.disarm();
  while (!attempts_.empty()) drop(*attempts_.back());
}

// The last that is done here.
void ConnectRace::finish(int status) {
  settle();
  done_(self_, status);
}

}  // namespace outrigger::net
