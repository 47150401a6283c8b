#include "net/listener.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <string>
#include <utility>

#include "base/check.h"
#include "base/log.h"
#include "event/timer.h"
#include "net/socket_options.h"
#include "net/system_error.h"

namespace outrigger::net {
namespace {

constexpr int kSystemMaximum = 65535;  // the kernel cuts it to net.core.somaxconn

tl::unexpected<Error> failed(const char* what, const Address& address) {
  return tl::unexpected<Error>(system_error(-errno, std::string(what) + " " + address.str()));
}

int open_socket(int family) { return socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0); }

bool set_option(int fd, int level, int option) {
  const int on = 1;
  return setsockopt(fd, level, option, &on, sizeof(on)) == 0;
}

// Closes the descriptor unless it is kept.
struct Guard {
  int fd;
  ~Guard() {
    if (fd >= 0) ::close(fd);
  }
  int keep() { return std::exchange(fd, -1); }
};

// Refuses what somebody listens on: without SO_REUSEPORT the kernel tells.
Result<void> probe(const Address& address) {
  Guard guard{open_socket(address.get()->sa_family)};
  if (guard.fd < 0) return failed("opening a socket for", address);
  if (!set_option(guard.fd, SOL_SOCKET, SO_REUSEADDR)) return failed("setting options for", address);
  if (address.is_v6() && !set_option(guard.fd, IPPROTO_IPV6, IPV6_V6ONLY))
    return failed("setting options for", address);
  if (bind(guard.fd, address.get(), address.size()) != 0) return failed("binding", address);
  return {};
}

Result<int> bind_shared(Address& address, bool transparent) {
  Guard guard{open_socket(address.get()->sa_family)};
  if (guard.fd < 0) return failed("opening a socket for", address);
  bool ok = set_option(guard.fd, SOL_SOCKET, SO_REUSEADDR) && set_option(guard.fd, SOL_SOCKET, SO_REUSEPORT) &&
            set_option(guard.fd, IPPROTO_TCP, TCP_NODELAY);  // accepted sockets inherit it
  if (address.is_v6()) ok = ok && set_option(guard.fd, IPPROTO_IPV6, IPV6_V6ONLY);
  if (!ok) return failed("setting options for", address);
  if (transparent && !(address.is_v6() ? set_option(guard.fd, IPPROTO_IPV6, IPV6_TRANSPARENT)
                                       : set_option(guard.fd, IPPROTO_IP, IP_TRANSPARENT)))
    return failed("asking for IP_TRANSPARENT (CAP_NET_ADMIN) on", address);
  if (bind(guard.fd, address.get(), address.size()) != 0) return failed("binding", address);
  if (address.port() == 0) {
    sockaddr_storage storage;
    socklen_t size = sizeof(storage);
    if (getsockname(guard.fd, reinterpret_cast<sockaddr*>(&storage), &size) != 0)
      return failed("asking for the port of", address);
    address = Address::from_sockaddr(reinterpret_cast<sockaddr*>(&storage), size);
  }
  return guard.keep();
}

// Removes a socket file that nobody listens on. False: somebody does, or it is no socket.
bool remove_stale(const Address& address) {
  struct stat st;
  const std::string path = address.str();
  if (lstat(path.c_str(), &st) != 0 || !S_ISSOCK(st.st_mode)) return false;
  Guard guard{open_socket(AF_UNIX)};
  if (guard.fd < 0) return false;
  if (connect(guard.fd, address.get(), address.size()) == 0 || errno != ECONNREFUSED) return false;
  return unlink(path.c_str()) == 0;
}

bool has_path(const Address& address) { return address.is_unix() && address.str().front() != '@'; }

}  // namespace

Result<std::shared_ptr<SocketSet>> SocketSet::create(const Address& address, uint32_t workers, uint32_t backlog,
                                                     uint32_t mode, bool transparent,
                                                     const std::vector<SocketOption>& options) {
  CHECK(workers > 0);
  if (!address.valid() || (address.is_unix() && address.str().empty()))
    return fail(Errc::kInvalidArgument, "no address to listen on");
  std::shared_ptr<SocketSet> set(new SocketSet);
  set->address_ = address;
  auto opened = address.is_unix() ? set->open_unix(workers, mode) : set->open_ip(workers, transparent);
  if (!opened) return tl::unexpected(std::move(opened.error()));
  TRY_VOID(set->set_options(options));
  const int length = backlog == 0 ? kSystemMaximum : static_cast<int>(std::min<uint32_t>(backlog, kSystemMaximum));
  for (const int fd : set->fds_)
    if (listen(fd, length) != 0) return failed("listening on", set->address_);
  return set;
}

Result<void> SocketSet::open_ip(uint32_t workers, bool transparent) {
  if (address_.port() != 0) TRY_VOID(probe(address_));
  for (uint32_t i = 0; i < workers; ++i) {
    TRY(const int fd, bind_shared(address_, transparent));  // the first resolves port 0 for the others
    fds_.push_back(fd);
  }
  return {};
}

Result<void> SocketSet::open_unix(uint32_t workers, uint32_t mode) {
  Guard guard{open_socket(AF_UNIX)};
  if (guard.fd < 0) return failed("opening a socket for", address_);
  int rc = bind(guard.fd, address_.get(), address_.size());
  if (rc != 0 && errno == EADDRINUSE) {
    if (has_path(address_) && remove_stale(address_)) rc = bind(guard.fd, address_.get(), address_.size());
    if (rc != 0) errno = EADDRINUSE;
  }
  if (rc != 0) return failed("binding", address_);
  fds_.push_back(guard.keep());
  if (has_path(address_)) {
    const std::string path = address_.str();
    struct stat st;
    if (lstat(path.c_str(), &st) == 0) {
      device_ = st.st_dev;
      inode_ = st.st_ino;
    }
    if (mode != 0 && chmod(path.c_str(), static_cast<mode_t>(mode)) != 0)
      return failed("setting the mode of", address_);
  }
  for (uint32_t i = 1; i < workers; ++i) {
    const int fd = fcntl(fds_[0], F_DUPFD_CLOEXEC, 0);
    if (fd < 0) return failed("duplicating the socket of", address_);
    fds_.push_back(fd);
  }
  return {};
}

Result<void> SocketSet::put(const SocketOption& option) {
  for (const int fd : fds_) {
    if (const int rc = set_socket_option(fd, option); rc < 0)
      return tl::unexpected(system_error(rc, option.field + ": setting it for " + address_.str()));
  }
  return {};
}

Result<void> SocketSet::set_options(const std::vector<SocketOption>& options) {
  if (options == options_) return {};
  // First back to what was there before anybody asked, then forth.
  const auto reset = [&] {
    for (size_t i = originals_.size(); i > 0; --i) (void)put(originals_[i - 1]);
    originals_.clear();
  };
  const auto set_all = [&](const std::vector<SocketOption>& wanted) -> Result<void> {
    reset();
    for (const SocketOption& option : wanted) {
      if (!concerns(option, address_)) continue;
      SocketOption original = option;
      if (const int rc = socket_option_value(fds_[0], option, original.value); rc < 0)
        return tl::unexpected(system_error(rc, option.field + ": reading it of " + address_.str()));
      originals_.push_back(original);
      TRY_VOID(put(option));
    }
    return {};
  };
  auto done = set_all(options);
  if (done) {
    options_ = options;
  } else {
    (void)set_all(options_);
  }
  return done;
}

SocketSet::~SocketSet() {
  for (const int fd : fds_) ::close(fd);
  if (inode_ == 0) return;
  struct stat st;
  const std::string path = address_.str();
  if (lstat(path.c_str(), &st) == 0 && st.st_dev == device_ && st.st_ino == inode_) unlink(path.c_str());
}

// ---- Acceptor

struct Acceptor::Handle {
  Handle(event::Loop& loop, std::shared_ptr<SocketSet> set, OnAccept on_accept)
      : loop(loop), set(std::move(set)), on_accept(std::move(on_accept)), local(this->set->address()) {}

  event::Loop& loop;
  std::shared_ptr<SocketSet> set;
  OnAccept on_accept;
  Address local;
  Acceptor* owner = nullptr;  // nullptr: closing
  int fd = -1;
  int accepts_per_turn = 0;
  bool any_address = false;  // bound to 0.0.0.0 or ::, so that each connection's own address must be asked for
  uv_poll_t poll;
  event::Timeout pause{[](void* self) { static_cast<Handle*>(self)->start(); }, this};

  void start() {
    const auto on_ready = [](uv_poll_t* poll, int, int) {
      auto* const self = static_cast<Handle*>(poll->data);
      self->accept_some(self->accepts_per_turn);
    };
    CHECK(uv_poll_start(&poll, UV_READABLE, on_ready) == 0);
  }

  void accept_some(int limit) {
    event::Turn turn(loop);
    for (int i = 0; i < limit && owner != nullptr; ++i) {
      sockaddr_storage storage;
      socklen_t size = sizeof(storage);
      auto* sa = reinterpret_cast<sockaddr*>(&storage);
      const int accepted = accept4(fd, sa, &size, SOCK_NONBLOCK | SOCK_CLOEXEC);
      if (accepted < 0) {
        if (errno == EAGAIN) return;
        if (!go_on_after(errno)) return;
        continue;
      }
      const Address remote = Address::from_sockaddr(sa, size);
      if (any_address) {
        size = sizeof(storage);
        if (getsockname(accepted, sa, &size) == 0) local = Address::from_sockaddr(sa, size);
      }
      on_accept(accepted, local, remote);
    }
  }

  // The connection went away before it was accepted, or the network had an error that accept4 passes on (see
  // accept(2)): on to the next. Anything else is ours: pause.
  bool go_on_after(int error) {
    if (error == EINTR || error == ECONNABORTED || error == EPROTO) return true;
    ++owner->failures_;
    OUTRIGGER_LOG(kWarning, "net", "accepting on {}: {}; pausing {} ms", set->address().str(), uv_strerror(-error),
                  kPauseMs);
    uv_poll_stop(&poll);
    loop.timers().arm(pause, kPauseMs);
    return false;
  }
};

Acceptor::Acceptor(event::Loop& loop, std::shared_ptr<SocketSet> set, uint32_t worker, OnAccept on_accept,
                   uint32_t accepts_per_turn)
    : handle_(new Handle(loop, std::move(set), std::move(on_accept))) {
  handle_->owner = this;
  handle_->accepts_per_turn = static_cast<int>(std::min<uint32_t>(accepts_per_turn, INT32_MAX));
  // A duplicate: one loop may watch the same socket for two Acceptors, the old and the new, and libuv knows
  // descriptors.
  handle_->fd = fcntl(handle_->set->fd(worker), F_DUPFD_CLOEXEC, 0);
  CHECK(handle_->fd >= 0);
  const Address any = *Address::parse(handle_->local.is_v6() ? "::" : "0.0.0.0", handle_->local.port());
  handle_->any_address = handle_->local == any;
  CHECK(uv_poll_init(loop.uv(), &handle_->poll, handle_->fd) == 0);
  handle_->poll.data = handle_;
  handle_->start();
}

void Acceptor::accept_rest() { handle_->accept_some(4096); }

Acceptor::~Acceptor() {
  handle_->owner = nullptr;
  handle_->pause.disarm();
  uv_close(reinterpret_cast<uv_handle_t*>(&handle_->poll), [](uv_handle_t* h) {
    auto* handle = static_cast<Handle*>(h->data);
    event::Turn turn(handle->loop);
    ::close(handle->fd);
    delete handle;
  });
}

}  // namespace outrigger::net
