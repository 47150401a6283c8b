// ChainConnection: an accepted connection that is bound to a filter chain by identity (DownstreamConnection, TcpProxy,
// RefusedConnection).
// ActiveChain is what a worker's connections of one chain share: the chain as the adopted snapshot has it. When a chain
// changes identity or goes, its ActiveChain drains.
//
// Thread rule: the worker's thread.
// Use:  chain.connections.for_each([](ChainConnection& connection) { connection.drain(0); });
#pragma once

#include <cstdint>
#include <string>

#include "base/list.h"
#include "proxy/worker_state.h"

namespace outrigger::proxy {

struct ChainConnectionTag;
class ChainConnection : public ListNode<ChainConnectionTag> {
 public:
  // Ends it when what is under way is done; an idle one after `delay_ms`.
  virtual void drain(uint64_t delay_ms) = 0;
  virtual void close_now() = 0;

 protected:
  ~ChainConnection() = default;
};

struct ActiveChain {
  LinkedChain linked;
  // While draining: the snapshot that `linked` belongs to. Otherwise nullptr: it belongs to the worker's adopted one.
  PinnedSnapshot* kept = nullptr;
  uint32_t buffer_limit = 1024 * 1024;
  std::string default_host;  // for HTTP/1.0; codecs keep a view of it
  bool draining = false;
  bool departed = false;  // to be erased when empty
  uint64_t count = 0;     // connections, and intakes that may become one
  uint32_t refused = 0;   // of them, those that only wait for their end
  List<ChainConnection, ChainConnectionTag> connections;
};

}  // namespace outrigger::proxy
