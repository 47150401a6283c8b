#include "upstream/client_pools.h"

#include <atomic>

#include "net/connection.h"
#include "net/proxy_protocol.h"
#include "upstream/conn_pool.h"
#include "upstream/worker_clusters.h"

namespace outrigger::upstream {
namespace {

uint64_t next_id() {
  static std::atomic<uint64_t> last{0};
  return last.fetch_add(1, std::memory_order_relaxed) + 1;
}

}  // namespace

ClientPools::ClientPools(const net::Address& remote, const net::Address& local)
    : remote_(remote), local_(local), id_(next_id()) {}

ClientPools::~ClientPools() {
  while (HostPool* const pool = pools_.pop_front()) pool->leave_client();
}

void ClientPools::add(HostPool& pool) { pools_.push_back(pool); }

void write_client_header(config::ProxyHeaderVersion version, const net::Address& remote, const net::Address& local,
                         Buffer& to) {
  net::write_proxy_header(version == config::ProxyHeaderVersion::kV1 ? 1 : 2, remote, local, to);
}

void tell_client(net::Connection& connection, config::ProxyHeaderVersion version, const net::Address& remote,
                 const net::Address& local) {
  Buffer header;
  write_client_header(version, remote, local, header);
  connection.precede(std::move(header));
}

}  // namespace outrigger::upstream
