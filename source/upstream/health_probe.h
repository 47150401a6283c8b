// HealthProbe: the connection of one host's checks, and one check at a time on it: HTTP/1, HTTP/2, gRPC
// (grpc.health.v1.Health/Check) or plain bytes. It reports each check's end once; what comes later is nobody's.
//
//   connecting --connected--> checking --on_probe_end--> idle --check()--> checking ...
//   A connection that serves one check only, or that the peer takes no more from, closes after it; the next check makes
//   another. One that ends while idle is no failure.
//
// Thread rule: its loop's thread. It belongs to itself, from connect() to the turn after its connection is closed.
// Use:  probe = HealthProbe::connect(loop, target, owner);   ...   probe->check();   ...   probe->abandon();
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "base/list.h"
#include "event/loop.h"
#include "http/codec.h"
#include "net/connection.h"
#include "outrigger/arena.h"
#include "stats/stats.h"
#include "upstream/cluster.h"

namespace outrigger::upstream {

struct ProbeResult {
  enum class Kind : uint8_t {
    kHealthy,
    kUnhealthy,  // the host says so
    kRetriable,  // the host says so, with a status that is to be borne with
    kNetwork,    // it says nothing that could be understood
  };
  Kind kind = Kind::kNetwork;
  std::string_view why = {};  // for the log; valid for the call
};

class HealthProbe;
class ProbeOwner {
 public:
  // A check's end. May call anything here, abandon() included.
  virtual void on_probe_end(HealthProbe& probe, const ProbeResult& result) = 0;
  // The connection is gone, or takes no more checks: the probe must not be used again.
  virtual void on_probe_gone(HealthProbe& probe) = 0;

 protected:
  ~ProbeOwner() = default;
};

struct ProbeTag;
class HealthProbe final : public net::ConnectionHandler,
                          public http::CodecCallbacks,
                          public http::StreamSink,
                          public event::Deferred,
                          public ListNode<ProbeTag> {
 public:
  // Connects to `address` and makes the first check, whose end is never told from inside this call. `uncounted`: where
  // codecs count what nobody reads.
  static HealthProbe* connect(event::Loop& loop, std::shared_ptr<const Cluster> cluster, std::shared_ptr<Host> host,
                              const net::Address& address, stats::Shard& uncounted, ProbeOwner& owner);
  // Another check may be made here.
  bool ready() const { return connected_ && !checking_ && !stream_open_; }
  void check();
  // The owner has no more use for it: what is under way is dropped.
  void abandon();
  // Its connection closes in this turn, however much was still to be said.
  void cut();

 private:
  HealthProbe(std::shared_ptr<const Cluster> cluster, std::shared_ptr<Host> host, stats::Shard& uncounted,
              ProbeOwner& owner);
  ~HealthProbe() override = default;
  const config::HealthCheckSpec& spec() const { return *cluster_->spec().health_check; }

  void on_connected(net::Connection&) override;
  void on_read(net::Connection&, Block* block, const char* data, size_t size) override;
  void on_eof(net::Connection&) override;
  void on_write_watermark(net::Connection&, bool above) override;
  void on_close(net::Connection&, const Error* error) override;

  http::StreamSink& on_new_stream(http::CodecStream&) override;
  void on_stream_end(bool reusable) override;
  void on_capacity_change() override;

  Arena& arena() override { return *arena_; }
  void on_1xx(HeaderMap&) override {}
  void on_headers(HeaderMap& headers, bool end_stream) override;
  void on_data(Buffer& data, bool end_stream) override;
  void on_trailers(HeaderMap& trailers) override;
  void on_bad_request(uint16_t, std::string_view) override {}
  void on_reset(http::ResetReason reason, std::string_view details) override;
  void on_write_watermark(bool) override {}

  net::TlsSessionPtr tls_session() const;
  void make_codec();
  void send_request();
  void send_bytes();
  void match_bytes();
  void answered(const HeaderMap& with_status);
  ProbeResult judge_http();
  ProbeResult judge_grpc(const HeaderMap& with_status);
  void end(const ProbeResult& result);
  void fail(std::string_view why);
  void give_up();

  std::shared_ptr<const Cluster> cluster_;
  std::shared_ptr<Host> host_;
  stats::Shard& uncounted_;
  ProbeOwner* owner_;  // nullptr: abandoned, or told that it is gone
  net::Connection* connection_ = nullptr;
  std::unique_ptr<http::Codec> codec_;
  std::optional<Arena> arena_;  // of the check under way
  std::string received_;        // kGrpc, kTcp: in this check
  std::string why_;
  uint16_t status_ = 0;
  bool connected_ = false;
  bool checking_ = true;
  bool stream_open_ = false;
};

}  // namespace outrigger::upstream
