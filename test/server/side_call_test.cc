// Calls that filters make (GrpcCall), to a stock gRPC server, by the data plane of one worker: a test filter asks for
// each request, and what the service says decides.
#include <grpcpp/generic/async_generic_service.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <atomic>
#include <mutex>

#include "base/grpc.h"
#include "proxy/data_plane.h"
#include "proxy/specs.h"
#include "proxy/tls_specs.h"
#include "support/fake_upstream.h"
#include "support/grpc_bytes.h"
#include "support/grpc_reactor.h"
#include "support/http_client.h"
#include "support/socket.h"

namespace outrigger::proxy {
namespace {

using test::bytes_of;
using test::http_get;
using test::text_of;
using test::wait_until;

// /test/Echo sends every message back; /test/Large one of a megabyte; /test/Refuse a status; /test/Never nothing.
class Service final : public grpc::CallbackGenericService {
 public:
  Service() {
    grpc::ServerBuilder builder;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port_);
    builder.RegisterCallbackGenericService(this);
    server_ = builder.BuildAndStart();
  }
  ~Service() override { server_->Shutdown(std::chrono::system_clock::now()); }
  uint16_t port() const { return static_cast<uint16_t>(port_); }
  int cancelled() const { return cancelled_; }
  std::string metadata(const std::string& name) {
    std::lock_guard lock(mutex_);
    return metadata_[name];
  }

 private:
  class Call final : public test::ReactorInTurn {
   public:
    Call(Service& owner, const std::string& method) : owner_(owner), method_(method) {
      begin([this] {
        if (method_ == "/test/Refuse") {
          Finish({grpc::StatusCode::PERMISSION_DENIED, "not you, 100%"});
        } else {
          StartRead(&message_);
        }
      });
    }

   private:
    void on_read(bool ok) override {
      if (!ok) return method_ == "/test/Never" ? void() : Finish(grpc::Status::OK);
      if (method_ == "/test/Never") return StartRead(&message_);
      answer_ =
          method_ == "/test/Large" ? bytes_of(std::string(1 << 20, 'x')) : bytes_of("<" + text_of(message_) + ">");
      StartWrite(&answer_);
    }
    void on_written(bool ok) override { ok ? StartRead(&message_) : Finish(grpc::Status::CANCELLED); }
    void on_cancel() override {
      ++owner_.cancelled_;
      if (method_ == "/test/Never") Finish(grpc::Status::CANCELLED);
    }

    Service& owner_;
    const std::string method_;
    grpc::ByteBuffer message_, answer_;
  };
  grpc::ServerGenericBidiReactor* CreateReactor(grpc::GenericCallbackServerContext* context) override {
    {
      std::lock_guard lock(mutex_);
      for (const auto& [name, value] : context->client_metadata())
        metadata_[std::string(name.data(), name.size())] = std::string(value.data(), value.size());
    }
    return new Call(*this, context->method());
  }

  std::unique_ptr<grpc::Server> server_;
  int port_ = 0;
  std::atomic<int> cancelled_ = 0;
  std::mutex mutex_;
  std::map<std::string, std::string> metadata_;
};

// Asks the service of the request's path; says what it got, or refuses with what it was told. "x-messages" are sent one
// by one, the last of them when all before it were answered.
class AskingFilter final : public Filter, public GrpcCallHandler {
 public:
  AskingFilter(StreamHandle& stream, const std::string& cluster) : stream_(stream), cluster_(cluster) {}
  Verdict on_request_headers(HeaderMap& headers, bool) override {
    const Header* const messages = headers.find("x-messages");
    left_ = messages == nullptr ? 1 : std::stoi(std::string(messages->value));
    const Header* const size = headers.find("x-size");
    const std::string_view path = headers.get(HeaderId::kPath);
    call_ = stream_.begin_call(cluster_, *this,
                               {.path = path,
                                .timeout_ms = headers.find("x-patient") != nullptr ? 0u : 300u,
                                .max_message_bytes = 64 * 1024,
                                .metadata = {{"x-asked-by", "me"}}});
    send(size == nullptr ? 1 : std::stoul(std::string(size->value)));
    return Verdict::kPause;
  }
  void on_message(Buffer& message) override {
    said_ += message.to_string().substr(0, 100);
    if (left_ > 0) send(1);
  }
  void on_end(uint32_t status, std::string_view message) override {
    call_ = nullptr;
    if (status == kGrpcOk) {
      stream_.request_headers().add("x-said", said_);
      return stream_.resume_request(*this);
    }
    const std::string why = std::to_string(status) + " " + std::string(message);
    stream_.reply({.status = 403, .body = why, .details = "asked"});
  }

 private:
  void send(size_t size) {
    --left_;
    call_->send(Buffer(std::string(size, static_cast<char>('a' + left_))), left_ == 0);
  }
  StreamHandle& stream_;
  const std::string& cluster_;
  GrpcCall* call_ = nullptr;
  int left_ = 1;
  std::string said_;
};

class AskingConfig final : public FilterConfig {
 public:
  explicit AskingConfig(std::string cluster) : cluster_(std::move(cluster)) {}
  Filter* create(StreamHandle& stream) const override { return stream.arena().make<AskingFilter>(stream, cluster_); }
  void references(References& to) const override { to.cluster(cluster_); }

 private:
  const std::string cluster_;
};

class SideCalls : public ::testing::Test {
 protected:
  void SetUp() override {
    config::ClusterSpec asked = static_cluster("service", service.port());
    asked.codec = config::ClusterSpec::Codec::kHttp2;
    serve(std::move(asked));
  }
  void serve(config::ClusterSpec asked) {
    config::ListenerSpec front = listener("main", "t");
    config::HttpFilterSpec filter;
    filter.name = "asking";
    filter.config.part = std::make_shared<AskingConfig>("service");
    front.filter_chains[0].hcm.filters.push_back(std::move(filter));
    config::RouteTableSpec routes = all_to("up");
    for (config::Spec spec : {config::Spec(std::move(asked)), config::Spec(static_cluster("up", upstream.port())),
                              config::Spec(std::move(routes)), config::Spec(std::move(front))})
      plane.accept(std::move(spec));
    plane.publish();
  }

  Service service;
  test::FakeUpstream upstream{[](test::Exchange& e) { e.respond(200, e.request.header("x-said").value_or("")); }};
  DataPlane plane;
};

TEST_F(SideCalls, UnaryStreamingAndLargeMessages) {
  EXPECT_EQ(http_get(plane.port(), "/test/Echo").body, "<a>");
  EXPECT_EQ(http_get(plane.port(), "/test/Echo", {{"x-messages", "4"}}).body, "<d><c><b><a>");
  EXPECT_EQ(http_get(plane.port(), "/test/Echo", {{"x-size", "0"}}).body, "<>");
  EXPECT_EQ(http_get(plane.port(), "/test/Echo", {{"x-size", "60000"}}).body, "<" + std::string(99, 'a'));
  EXPECT_EQ(service.metadata("x-asked-by"), "me");
  EXPECT_EQ(plane.stat("cluster.service.upstream_cx_total"), 1u);
  EXPECT_EQ(plane.stat("cluster.service.upstream_rq_completed"), 4u);
  EXPECT_EQ(plane.stat("cluster.service.upstream_rq_active"), 0u);
}

TEST_F(SideCalls, WhatTheServiceRefusesAndWhatIsTooLarge) {
  EXPECT_EQ(http_get(plane.port(), "/test/Refuse").body, "7 not you, 100%25");
  EXPECT_EQ(http_get(plane.port(), "/test/Large").body, "8 a message is too large");
  EXPECT_EQ(http_get(plane.port(), "/test/Echo").body, "<a>") << "the connection is as good as before";
  EXPECT_EQ(plane.stat("cluster.service.upstream_cx_total"), 1u);
}

TEST_F(SideCalls, DeadlinesAreKeptAndCancelTheCall) {
  // The service knows the deadline too and may be the first.
  EXPECT_EQ(http_get(plane.port(), "/test/Never").body.substr(0, 2), "4 ");
  EXPECT_TRUE(wait_until([&] { return service.cancelled() == 1; }));
  test::ListenSocket silent;
  config::ClusterSpec asked = static_cluster("service", silent.port());
  asked.codec = config::ClusterSpec::Codec::kHttp2;
  plane.update(std::move(asked));
  const uint64_t before = plane.stat("cluster.service.upstream_rq_timeout");
  EXPECT_EQ(http_get(plane.port(), "/test/Never").body, "4 the deadline is over");
  EXPECT_EQ(plane.stat("cluster.service.upstream_rq_timeout"), before + 1);
}

TEST_F(SideCalls, TheEndOfTheRequestCancelsTheCall) {
  {
    test::Socket client = test::Socket::connect(plane.port());
    client.send("GET /test/Never HTTP/1.1\r\nhost: h\r\nx-patient: 1\r\n\r\n");
    EXPECT_TRUE(wait_until([&] { return plane.stat("cluster.service.upstream_rq_active") == 1; }));
    EXPECT_TRUE(wait_until([&] { return service.metadata("x-asked-by") == "me"; }));
  }
  EXPECT_TRUE(wait_until([&] { return service.cancelled() == 1; }));
  EXPECT_TRUE(wait_until([&] { return plane.stat("cluster.service.upstream_rq_active") == 0; }));
}

TEST_F(SideCalls, ServicesThatCannotBeAsked) {
  const auto said = [&](config::ClusterSpec spec) {
    plane.update(std::move(spec));
    return http_get(plane.port(), "/test/Echo").body;
  };
  EXPECT_EQ(said(static_cluster("service", service.port())), "14 the cluster speaks HTTP/1, and gRPC needs HTTP/2");
  config::ClusterSpec dead = static_cluster("service", test::refused_port());
  dead.codec = config::ClusterSpec::Codec::kHttp2;
  EXPECT_EQ(said(dead), "14 the host cannot be reached");
  config::ClusterSpec none = dead;
  none.endpoints.endpoints.clear();
  EXPECT_EQ(said(none), "14 the cluster has no healthy host");
  config::ClusterSpec full = static_cluster("service", service.port());
  full.codec = config::ClusterSpec::Codec::kHttp2;
  full.max_requests = 0;
  EXPECT_EQ(said(full), "14 the cluster is at its max_requests");
}

// Which of the two a host speaks is known when a connection of the pool is there; other requests may have made it.
TEST_F(SideCalls, AHostWhoseConnectionsSpeakHttp1) {
  test::CertificateAuthority ca;
  plane.accept(all_to("up", "up"));
  config::ListenerSpec hop = listener("hop", "up");
  hop.filter_chains[0].tls = server_tls({ca.issue("server", {"DNS:hop.example"})}, {"http/1.1"});
  plane.update(std::move(hop));
  config::ClusterSpec asked = static_cluster("service", plane.port("hop"));
  asked.codec = config::ClusterSpec::Codec::kByAlpn;
  asked.tls = client_tls(ca.pem());
  plane.accept(std::move(asked));
  plane.accept(all_to("service", "service"));
  plane.update(listener("plain", "service"));
  EXPECT_EQ(http_get(plane.port(), "/test/Echo").body, "14 the host does not speak HTTP/2");
  EXPECT_EQ(http_get(plane.port("plain"), "/").status(), 200);
  EXPECT_EQ(http_get(plane.port(), "/test/Echo").body, "14 the host does not speak HTTP/2");
}

// A call that is under way when the worker ends.
TEST_F(SideCalls, TheWorkerEndsThem) {
  test::Socket client = test::Socket::connect(plane.port());
  client.send("GET /test/Never HTTP/1.1\r\nhost: h\r\nx-patient: 1\r\n\r\n");
  EXPECT_TRUE(wait_until([&] { return plane.stat("cluster.service.upstream_rq_active") == 1; }));
}

}  // namespace
}  // namespace outrigger::proxy
