// TcpProxy: a connection of a chain with envoy.filters.network.tcp_proxy: its bytes go to a host of a cluster and back,
// with half-close both ways. The client is not read before the host is connected.
//
//   connecting --refused, attempts left--> connecting (another host) --connected--> open --both FINs--> ended
//   Where there is a connection that was made ahead (upstream/tcp_pool.h), it is taken.
//   Anything else that ends one side ends the other when what is written to it has been sent.
//
// Thread rule: the worker's thread. It frees itself after the last of its two connections is gone.
// Use:  new TcpProxy(worker, active_chain, std::move(accepted), on_gone);
#pragma once

#include <functional>
#include <string>

#include "event/timer.h"
#include "net/connection.h"
#include "outrigger/stream_info.h"
#include "proxy/chain_connection.h"
#include "proxy/intake.h"

namespace outrigger::proxy {

class TcpProxy final : public ChainConnection, public upstream::HostUser, public event::Deferred {
 public:
  TcpProxy(WorkerState& worker, ActiveChain& chain, Accepted accepted, std::function<void()> on_gone);
  ~TcpProxy() override;

  // What is under way has no end of its own: it goes on until the worker cuts it.
  void drain(uint64_t) override {}
  void close_now() override;

 private:
  struct Side final : net::ConnectionHandler {
    Side(TcpProxy& owner, Side& other) : owner(owner), other(other) {}
    // A client's: its TLS handshake is done.
    void on_connected(net::Connection&) override {
      this == &owner.host_ ? owner.on_upstream_connected() : owner.on_client_handshake();
    }
    void on_read(net::Connection&, Block* block, const char* data, size_t size) override;
    void on_eof(net::Connection&) override;
    void on_write_watermark(net::Connection&, bool above) override;
    void on_close(net::Connection&, const Error* error) override { owner.on_side_closed(*this, error); }
    TcpProxy& owner;
    Side& other;
    net::Connection* connection = nullptr;
    bool at_eof = false;  // its peer has sent FIN
  };

  const HttpChain& part() const { return *chain_.linked.chain; }
  const config::TcpProxySpec& spec() const { return *part().spec.tcp; }
  void connect();
  bool take_target(upstream::TcpPool::Spare& spare);
  void connect_host();
  void use(upstream::TcpPool::Spare spare);
  void name_cluster(upstream::WorkerCluster* cluster);
  void fail(ResponseFlag flag, std::string_view details);
  void on_client_handshake();
  void keep_tls_info();
  void on_upstream_connected();
  void begin();
  void on_side_closed(Side& side, const Error* error);
  void on_upstream_gone(const Error* error);
  void leave_host();
  void on_host_failed(const upstream::Host& host) override;
  void progress();
  void on_idle();
  void on_age();
  void end_both();
  void finish();

  WorkerState& worker_;
  ActiveChain& chain_;
  Side client_{*this, host_}, host_{*this, client_};
  upstream::WorkerCluster* cluster_ = nullptr;                // held; an aggregate's member
  upstream::TcpPool* pool_ = nullptr;                         // nullptr: nothing is made ahead
  std::shared_ptr<upstream::Host> target_;                    // counted
  std::shared_ptr<const upstream::HostAddresses> addresses_;  // of target_'s entry
  upstream::MetadataHold target_metadata_;                    // of the last one
  upstream::WorkerCluster* named_ = nullptr;                  // held: the cluster that the config names
  std::shared_ptr<const upstream::TlsContext> client_tls_, host_tls_;
  event::Timeout idle_, age_;
  StreamInfo info_;
  TlsInfo tls_info_;  // of the client's connection, once it is gone
  std::function<void()> on_gone_;
  const bool original_;  // the client's connection was redirected here: its local address is where it wanted to go
  std::string remote_text_, direct_text_, local_text_, upstream_text_, upstream_local_text_, upstream_remote_text_,
      cluster_name_;
  int64_t connect_started_ns_ = 0;
  uint32_t attempts_ = 0;
  bool connected_ = false;
  bool ending_ = false;
};

}  // namespace outrigger::proxy
