// The main job: a control plane drives the proxy, live, in both forms of the protocol. The programs are real; the
// services are demo upstreams or scripted.
#include <signal.h>

#include "support/fake_upstream.h"
#include "support/http_client.h"
#include "support/process.h"
#include "support/resources.h"

namespace outrigger::test {
namespace {

FakeUpstream::Handler answers(std::string body) {
  return [body = std::move(body)](Exchange& exchange) { exchange.respond(200, body); };
}

std::string route_to(std::string_view cluster) {
  return "- match: {prefix: /}\n  route: {cluster: " + std::string(cluster) + "}\n";
}

// A control plane on a directory with one listener, one route table and two clusters, and a proxy that it drives.
class ControlPlane : public testing::TestWithParam<const char*> {
 protected:
  ControlPlane() {
    write_file(config_ / "listener.yaml", resource_file({listener_resource("main", "table")}));
    write_routes(route_to("blue"));
    write_file(config_ / "clusters.yaml", resource_file({eds_cluster_resource("blue"), eds_cluster_resource("green")}));
    write_endpoints({blue_.port()}, {green_.port()});
  }

  void start() {
    control_ = std::make_unique<ControlProcess>(config_.path());
    ASSERT_TRUE(control_->started()) << control_->output();
    proxy_ = std::make_unique<ProxyProcess>(ads_bootstrap(control_->port(), GetParam()),
                                            std::vector<std::string>{"--concurrency", "2", "--drain-time", "5"});
    ASSERT_TRUE(proxy_->started()) << proxy_->output();
    port_ = proxy_->listener_port("main");
    ASSERT_NE(port_, 0) << proxy_->output() << control_->output();
    ASSERT_TRUE(proxy_->wait_ready());
  }

  void write_routes(const std::string& routes, const std::string& more = {}) {
    write_file(config_ / "routes.yaml", resource_file({routes_resource("table", routes, more)}));
  }
  void write_endpoints(const std::vector<uint16_t>& blue, const std::vector<uint16_t>& green) {
    write_file(config_ / "endpoints.yaml",
               resource_file({endpoints_resource("blue", blue), endpoints_resource("green", green)}));
  }
  // On a connection that must not drop; true once the answer is as wanted.
  bool becomes(HttpClient& client, std::string_view target, std::string_view body) {
    return wait_until([&] {
      const HttpMessage answer = client.get(target);
      EXPECT_EQ(answer.error, "") << "the connection dropped";
      return !answer.ok() || answer.body == body;
    });
  }

  TempDir config_;
  FakeUpstream blue_{answers("blue")};
  FakeUpstream green_{answers("green")};
  std::unique_ptr<ControlProcess> control_;
  std::unique_ptr<ProxyProcess> proxy_;
  uint16_t port_ = 0;
};

INSTANTIATE_TEST_SUITE_P(Form, ControlPlane, testing::Values("GRPC", "DELTA_GRPC"),
                         [](const auto& info) { return std::string(info.param); });

TEST_P(ControlPlane, ARouteChangesOnAnOpenConnection) {
  ASSERT_NO_FATAL_FAILURE(start());
  HttpClient client(port_);
  EXPECT_EQ(client.get("/").body, "blue");
  write_routes(route_to("green"));
  EXPECT_TRUE(becomes(client, "/", "green"));
  write_routes("- match: {prefix: /}\n  direct_response: {status: 200, body: {inline_string: ours}}\n");
  EXPECT_TRUE(becomes(client, "/", "ours"));
}

TEST_P(ControlPlane, EndpointsComeAndGo) {
  ASSERT_NO_FATAL_FAILURE(start());
  HttpClient client(port_);
  EXPECT_EQ(client.get("/").body, "blue");
  write_endpoints({green_.port()}, {});
  EXPECT_TRUE(becomes(client, "/", "green"));
  write_endpoints({}, {});
  EXPECT_TRUE(becomes(client, "/", "no healthy upstream"));
}

TEST_P(ControlPlane, ABadFileIsRefusedByItsPathWhileTheLastGoodStateServes) {
  ASSERT_NO_FATAL_FAILURE(start());
  HttpClient client(port_);
  write_routes("- match: {prefix: /}\n  route: {cluster: green, no_such_field: 1}\n");
  EXPECT_TRUE(control_->process().wait_for_output("routes\\.yaml[^\\n]*no_such_field").has_value())
      << control_->output();
  EXPECT_EQ(client.get("/").body, "blue");
  write_routes("- match: {prefix: /\n");  // not even YAML
  write_routes(route_to("green"));
  EXPECT_TRUE(becomes(client, "/", "green"));
}

TEST_P(ControlPlane, SigtermEndsTheControlPlaneWith0AndTheProxyServesOn) {
  ASSERT_NO_FATAL_FAILURE(start());
  control_->process().signal(SIGTERM);
  EXPECT_EQ(control_->process().wait_exit(), 0) << control_->output();
  EXPECT_EQ(http_get(port_, "/").body, "blue");
}

TEST_P(ControlPlane, TheProxyServesOnWhenTheControlPlaneIsKilledAndFollowsTheNextOne) {
  ASSERT_NO_FATAL_FAILURE(start());
  HttpClient client(port_);
  EXPECT_EQ(client.get("/").body, "blue");
  const uint16_t control_port = control_->port();
  control_->process().signal(SIGKILL);
  ASSERT_TRUE(control_->process().wait_exit().has_value());
  for (int i = 0; i < 20; ++i) EXPECT_EQ(client.get("/").body, "blue");
  EXPECT_EQ(http_get(port_, "/").body, "blue");
  write_routes(route_to("green"));
  control_ = std::make_unique<ControlProcess>(config_.path(), control_port);
  ASSERT_TRUE(control_->started()) << control_->output();
  EXPECT_TRUE(becomes(client, "/", "green"));
}

TEST_P(ControlPlane, AfterARestartOnlyWhatChangedComesAgain) {
  write_file(config_ / "extra.yaml", resource_file({listener_resource("extra", "table")}));
  ASSERT_NO_FATAL_FAILURE(start());
  ASSERT_NE(proxy_->listener_port("extra"), 0) << proxy_->output();
  const auto taken = [&](const std::string& kind) { return proxy_->stat(kind + ".update_success").value_or(0); };
  const std::string cds = "cluster_manager.cds", eds = "eds", lds = "listener_manager.lds", rds = "rds";
  ASSERT_TRUE(wait_until([&] { return std::min({taken(cds), taken(eds), taken(lds), taken(rds)}) > 0; }));
  const uint64_t clusters = taken(cds), endpoints = taken(eds), listeners = taken(lds), routes = taken(rds);
  const uint16_t control_port = control_->port();
  control_->process().signal(SIGKILL);
  ASSERT_TRUE(control_->process().wait_exit().has_value());
  // A change and a removal while nobody is told.
  write_routes(route_to("green"));
  write_file(config_ / "extra.yaml", resource_file({}));
  control_ = std::make_unique<ControlProcess>(config_.path(), control_port);
  ASSERT_TRUE(control_->started()) << control_->output();
  HttpClient client(port_);
  EXPECT_TRUE(becomes(client, "/", "green"));
  EXPECT_TRUE(wait_until([&] { return proxy_->admin("/listeners").find("extra") == std::string::npos; }));
  EXPECT_TRUE(wait_until([&] { return taken(rds) > routes && taken(lds) > listeners; }));
  EXPECT_EQ(taken(rds), routes + 1);
  EXPECT_EQ(taken(lds), listeners + 1);
  EXPECT_EQ(taken(cds), clusters);
  EXPECT_EQ(taken(eds), endpoints);
}

TEST_P(ControlPlane, ABadResourceIsRefusedAndTheGoodOneBesideItTaken) {
  ASSERT_NO_FATAL_FAILURE(start());
  // A listener that the control plane cannot find fault with: its port is taken by a service on this machine.
  std::string taken = listener_resource("taken", "table");
  const std::string any_port = "port_value: 0";
  taken.replace(taken.find(any_port), any_port.size(), "port_value: " + std::to_string(blue_.port()));
  write_file(config_ / "more.yaml", resource_file({taken, listener_resource("good", "table")}));
  EXPECT_NE(proxy_->listener_port("good"), 0) << proxy_->output();
  EXPECT_TRUE(control_->process().wait_for_output("NACK of Listener [^\\n]*taken").has_value()) << control_->output();
  HttpClient client(port_);
  EXPECT_EQ(client.get("/").body, "blue");
  write_file(config_ / "more.yaml", resource_file({listener_resource("taken", "table")}));
  EXPECT_NE(proxy_->listener_port("taken"), 0) << proxy_->output();
  EXPECT_TRUE(wait_until([&] { return proxy_->stat("listener_manager.lds.update_success").value_or(0) >= 2; }));
}

TEST_P(ControlPlane, KilledInMidPushNothingBreaks) {
  ASSERT_NO_FATAL_FAILURE(start());
  LoadProcess load(port_);
  const uint16_t control_port = control_->port();
  for (int round = 0; round < 5; ++round) {
    for (int i = 0; i < 10; ++i) {
      write_routes(route_to(i % 2 == 0 ? "green" : "blue"));
      write_file(config_ / "clusters.yaml",
                 resource_file({eds_cluster_resource("blue"), eds_cluster_resource("green"),
                                eds_cluster_resource("extra" + std::to_string(round * 10 + i))}));
    }
    control_->process().signal(SIGKILL);
    ASSERT_TRUE(control_->process().wait_exit().has_value());
    control_ = std::make_unique<ControlProcess>(config_.path(), control_port);
    ASSERT_TRUE(control_->started()) << control_->output();
  }
  HttpClient client(port_);
  write_routes("- match: {prefix: /}\n  direct_response: {status: 200, body: {inline_string: end}}\n");
  EXPECT_TRUE(becomes(client, "/", "end"));
  const LoadProcess::Report report = load.stop();
  EXPECT_GT(report.requests, 0u);
  EXPECT_EQ(report.failed, 0u) << report.text;
}

TEST_P(ControlPlane, AThousandChangesOfEveryKindUnderLoadFailNoRequest) {
  ASSERT_NO_FATAL_FAILURE(start());
  LoadProcess load(port_);
  HttpClient client(port_);
  const std::string limiter =
      "- name: envoy.filters.http.local_ratelimit\n"
      "  typed_config:\n"
      "    \"@type\": type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit\n"
      "    stat_prefix: test\n"
      "    token_bucket: {max_tokens: 1000000, tokens_per_fill: 1000000, fill_interval: 1s}\n"
      "    filter_enabled: {default_value: {numerator: 100}}\n"
      "    filter_enforced: {default_value: {numerator: 100}}\n";
  for (int i = 0; i < 1000; ++i) {
    const bool odd = i / 5 % 2 == 1;
    const std::string number = std::to_string(i);
    switch (i % 5) {
      case 0:  // routes, with a mark by which the change can be seen
        write_routes(route_to(odd ? "green" : "blue"),
                     "response_headers_to_add:\n- header: {key: x-change, value: \"" + number + "\"}\n");
        break;
      case 1:  // filters
        write_file(config_ / "listener.yaml",
                   resource_file({listener_resource("main", "table", "", odd ? limiter : std::string())}));
        break;
      case 2:  // the listener's own fields, and a listener that comes and goes
        write_file(config_ / "extra_listener.yaml",
                   resource_file(odd ? std::vector<std::string>{listener_resource("extra", "table")}
                                     : std::vector<std::string>{}));
        break;
      case 3:  // endpoints
        write_endpoints(
            odd ? std::vector<uint16_t>{blue_.port(), green_.port()} : std::vector<uint16_t>{blue_.port()},
            odd ? std::vector<uint16_t>{green_.port()} : std::vector<uint16_t>{green_.port(), blue_.port()});
        break;
      default:  // clusters
        write_file(config_ / "extra_cluster.yaml",
                   resource_file(odd ? std::vector<std::string>{eds_cluster_resource("extra" + number),
                                                                endpoints_resource("extra" + number, {blue_.port()})}
                                     : std::vector<std::string>{}));
    }
    if (i % 20 != 0) continue;
    // Some are waited for, so that they are really published and not only overtaken. A changed filter chain may drain
    // the connection; it then says so, and the next request takes a new one.
    ASSERT_TRUE(wait_until([&] {
      const HttpMessage answer = client.get("/");
      EXPECT_EQ(answer.error, "") << "after change " << i;
      if (!answer.ok() || answer.header("connection") == "close") client = HttpClient(port_);
      return answer.header("x-change") == number;
    })) << "change "
        << i << " is not live\n"
        << control_->output() << proxy_->output();
  }
  const LoadProcess::Report report = load.stop();
  EXPECT_GT(report.requests, 100u);
  EXPECT_EQ(report.failed, 0u) << report.text << proxy_->output();
}

// ---- the control plane is away when the proxy starts ----

class LastKnownGood : public ControlPlane {
 protected:
  void start_proxy() {
    proxy_.reset();
    proxy_ = std::make_unique<ProxyProcess>(
        ads_bootstrap(control_port_, GetParam()),
        std::vector<std::string>{"--concurrency", "2", "--drain-time", "5", "--state-dir", state_.path().string()});
    ASSERT_TRUE(proxy_->started()) << proxy_->output();
  }
  void start_control() {
    control_ = std::make_unique<ControlProcess>(config_.path(), control_port_);
    ASSERT_TRUE(control_->started()) << control_->output();
    control_port_ = control_->port();
  }
  void kill_control() {
    control_->process().signal(SIGKILL);
    ASSERT_TRUE(control_->process().wait_exit().has_value());
  }
  // A proxy has served and remembered, its control plane is gone, and so is it.
  void remember() {
    ASSERT_NO_FATAL_FAILURE(start_control());
    ASSERT_NO_FATAL_FAILURE(start_proxy());
    EXPECT_EQ(http_get(proxy_->listener_port("main"), "/").body, "blue");
    ASSERT_TRUE(proxy_->wait_ready());
    EXPECT_EQ(proxy_->admin("/ready"), "LIVE\n");
    ASSERT_NO_FATAL_FAILURE(kill_control());
    EXPECT_EQ(proxy_->stop(), 0) << proxy_->output();
    ASSERT_NE(read_file(file()), "");
  }
  std::string file() const { return state_ / "last_known_good"; }

  TempDir state_;
  uint16_t control_port_ = 0;
};

INSTANTIATE_TEST_SUITE_P(Form, LastKnownGood, testing::Values("GRPC", "DELTA_GRPC"),
                         [](const auto& info) { return std::string(info.param); });

TEST_P(LastKnownGood, WhatWasRemovedMeanwhileGoesWhenTheControlPlaneIsBack) {
  write_file(config_ / "extra.yaml",
             resource_file({listener_resource("extra", "table"), eds_cluster_resource("extra")}));
  write_file(config_ / "extra_endpoints.yaml", resource_file({endpoints_resource("extra", {blue_.port()})}));
  ASSERT_NO_FATAL_FAILURE(remember());
  write_file(config_ / "extra.yaml", resource_file({}));
  ASSERT_NO_FATAL_FAILURE(start_proxy());
  EXPECT_NE(proxy_->listener_port("extra"), 0) << proxy_->output();
  ASSERT_NO_FATAL_FAILURE(start_control());
  EXPECT_TRUE(wait_until([&] {
    return proxy_->admin("/listeners").find("extra") == std::string::npos &&
           proxy_->admin("/clusters").find("extra") == std::string::npos && proxy_->admin("/ready") == "LIVE\n";
  })) << proxy_->admin("/ready")
      << proxy_->output();
  EXPECT_EQ(http_get(proxy_->listener_port("main"), "/").body, "blue");
}

TEST_P(LastKnownGood, AProxyStartsWithoutItsControlPlaneAndMovesOnWhenThatIsBack) {
  ASSERT_NO_FATAL_FAILURE(remember());
  ASSERT_NO_FATAL_FAILURE(start_proxy());
  const uint16_t port = proxy_->listener_port("main");
  ASSERT_NE(port, 0) << proxy_->output();
  HttpClient client(port);
  EXPECT_EQ(client.get("/").body, "blue");
  ASSERT_TRUE(proxy_->wait_ready());
  EXPECT_TRUE(proxy_->admin("/ready").starts_with("LIVE\nstale: ")) << proxy_->admin("/ready");
  EXPECT_NE(proxy_->admin("/server_info").find("\"stale\": true"), std::string::npos) << proxy_->admin("/server_info");
  EXPECT_EQ(proxy_->stat("state_dir.stale"), 1u);

  // Back with another configuration: blue is gone, and nothing of it lives on.
  write_routes(route_to("green"));
  write_file(config_ / "clusters.yaml", resource_file({eds_cluster_resource("green")}));
  write_file(config_ / "endpoints.yaml", resource_file({endpoints_resource("green", {green_.port()})}));
  ASSERT_NO_FATAL_FAILURE(start_control());
  EXPECT_TRUE(wait_until([&] { return client.get("/").body == "green"; }, Milliseconds(40'000))) << proxy_->output();
  EXPECT_TRUE(wait_until([&] { return proxy_->admin("/ready") == "LIVE\n"; }));
  EXPECT_TRUE(wait_until([&] { return proxy_->admin("/clusters").find("blue") == std::string::npos; }));
  EXPECT_EQ(proxy_->stat("state_dir.stale"), 0u);

  // That is what is remembered from now on.
  ASSERT_NO_FATAL_FAILURE(kill_control());
  EXPECT_EQ(proxy_->stop(), 0);
  ASSERT_NO_FATAL_FAILURE(start_proxy());
  EXPECT_EQ(http_get(proxy_->listener_port("main"), "/").body, "green") << proxy_->output();
}

TEST_P(LastKnownGood, ATornFileIsRefusedAndTheProxyStartsAsWithoutIt) {
  ASSERT_NO_FATAL_FAILURE(remember());
  const std::string whole = read_file(file());
  write_file(file(), whole.substr(0, whole.size() / 2));
  ASSERT_NO_FATAL_FAILURE(start_proxy());
  EXPECT_TRUE(proxy_->process().wait_for_output("not remembered: [^\n]*last_known_good: is torn").has_value())
      << proxy_->output();
  EXPECT_TRUE(proxy_->admin("/ready").starts_with("PRE_INITIALIZING")) << proxy_->admin("/ready");
  ASSERT_NO_FATAL_FAILURE(start_control());
  EXPECT_EQ(http_get(proxy_->listener_port("main", Milliseconds(40'000)), "/").body, "blue") << proxy_->output();
}

}  // namespace
}  // namespace outrigger::test
