// SocketSet, Acceptor: listening sockets that live outside snapshots. A SocketSet holds one SO_REUSEPORT socket per
// worker for one address, all made and bound before any listens: one verdict for the bind, port 0 shared. It survives
// every config change that keeps its address; closing a socket would reset the connections in its accept queue.
// An Acceptor is one worker's listening on its socket of the set.
//
// An address on which anybody listens already is refused, although SO_REUSEPORT would let two processes of one user
// share it silently. Options of
// configuration are set on the sockets as they are, since they cannot be made anew: one that is no longer asked for
// gets back the value that it had before. IPv6 sockets take IPv6 only (Envoy's ipv4_compat is not honoured).
//
// Thread rule: SocketSet::create and close on the main or builder thread; an Acceptor on its worker's loop.
// Use:  TRY(auto set, SocketSet::create(address, workers, backlog));  Acceptor a(loop, set, i, on_accept);
#pragma once

#include <sys/types.h>
#include <uv.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "base/socket_option.h"
#include "event/loop.h"
#include "net/address.h"
#include "outrigger/result.h"

namespace outrigger::net {

class SocketSet {
 public:
  // `backlog` 0: the system's maximum (net.core.somaxconn). Unix sockets: one socket shared by dup; `mode` is applied
  // to the path when not 0, and a stale socket file nobody listens on is replaced. `transparent`: IP_TRANSPARENT, for
  // what TPROXY sends here (needs CAP_NET_ADMIN).
  static Result<std::shared_ptr<SocketSet>> create(const Address& address, uint32_t workers, uint32_t backlog,
                                                   uint32_t mode = 0, bool transparent = false,
                                                   const std::vector<SocketOption>& options = {});
  // Makes `options` those that are set; if one fails, all are as before. The accepted sockets of later connections
  // inherit them. Not from two threads at a time.
  Result<void> set_options(const std::vector<SocketOption>& options);
  // Closes; a Unix socket's file is removed if it is still ours.
  ~SocketSet();
  SocketSet(const SocketSet&) = delete;
  SocketSet& operator=(const SocketSet&) = delete;

  const Address& address() const { return address_; }  // with the real port
  int fd(uint32_t worker) const { return fds_[worker]; }
  uint32_t size() const { return static_cast<uint32_t>(fds_.size()); }

 private:
  SocketSet() = default;
  Result<void> open_ip(uint32_t workers, bool transparent);
  Result<void> open_unix(uint32_t workers, uint32_t mode);
  Result<void> put(const SocketOption& option);
  Address address_;
  std::vector<int> fds_;
  std::vector<SocketOption> options_;    // set now
  std::vector<SocketOption> originals_;  // what they replace
  dev_t device_ = 0;                     // of the Unix socket's file
  ino_t inode_ = 0;
};

class Acceptor {
 public:
  // Accepts on a duplicate of the worker's descriptor; the callback owns the accepted one (non-blocking,
  // close-on-exec). At most `accepts_per_turn` a turn, so that a storm of connections does not starve the established
  // ones. Out of descriptors or memory: pauses 100 ms and counts, never spins. The callback may destroy the Acceptor.
  using OnAccept = std::function<void(int fd, const Address& local, const Address& remote)>;
  static constexpr uint32_t kAcceptsPerTurn = 16;
  static constexpr uint64_t kPauseMs = 100;
  Acceptor(event::Loop& loop, std::shared_ptr<SocketSet> set, uint32_t worker, OnAccept on_accept,
           uint32_t accepts_per_turn = kAcceptsPerTurn);
  // Stops accepting; what waits in the accept queue stays there for the next Acceptor of the set.
  ~Acceptor();
  Acceptor(const Acceptor&) = delete;
  Acceptor& operator=(const Acceptor&) = delete;

  // Accepts what waits in the queue now (at most 4,096): before the end, so that nobody there is reset.
  void accept_rest();

  uint64_t accept_failures() const { return failures_; }

 private:
  struct Handle;
  Handle* handle_;  // frees itself in the close callback
  uint64_t failures_ = 0;
};

}  // namespace outrigger::net
