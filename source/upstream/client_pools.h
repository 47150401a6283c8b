// ClientPools: the pools whose connections tell their hosts, by a header of the PROXY protocol, who the client is, and
// which therefore serve that client's connection alone. They drain when it ends.
//
// Thread rule: the worker's thread.
// Use:  ClientPools mine(remote, local);  cluster.pool(host, http2_client, &mine).acquire(client);
#pragma once

#include <cstdint>

#include "base/list.h"
#include "config/spec.h"
#include "net/address.h"

namespace outrigger::net {
class Connection;
}

namespace outrigger::upstream {

class HostPool;
struct ClientPoolTag;

class ClientPools {
 public:
  ClientPools(const net::Address& remote, const net::Address& local);
  ~ClientPools();
  ClientPools(const ClientPools&) = delete;
  ClientPools& operator=(const ClientPools&) = delete;

  const net::Address& remote() const { return remote_; }
  const net::Address& local() const { return local_; }
  uint64_t id() const { return id_; }  // not used again in this process
  void add(HostPool& pool);

 private:
  const net::Address remote_, local_;
  const uint64_t id_;
  List<HostPool, ClientPoolTag> pools_;
};

// Appends the header of the PROXY protocol for a client, in a version other than kNone.
void write_client_header(config::ProxyHeaderVersion version, const net::Address& remote, const net::Address& local,
                         Buffer& to);
// Puts the header for a client before all that a new connection sends. Without addresses, or with addresses that the
// version has no form for, it says that the client is not known.
void tell_client(net::Connection& connection, config::ProxyHeaderVersion version, const net::Address& remote,
                 const net::Address& local);

}  // namespace outrigger::upstream
