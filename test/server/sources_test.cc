// Config from files and addresses from DNS.
#include <filesystem>

#include "running_server.h"
#include "server/cpu_count.h"
#include "server/dns_refresher.h"
#include "server/json.h"
#include "support/dns_server.h"
#include "support/fake_upstream.h"
#include "support/temp_dir.h"

namespace outrigger::server {
namespace {

using test::HttpClient;
using test::TempDir;
using test::wait_until;
using test::write_file;

// ---- files ----

class FileConfig : public testing::Test {
 protected:
  static constexpr const char* kListener = "type.googleapis.com/envoy.config.listener.v3.Listener";
  static constexpr const char* kCluster = "type.googleapis.com/envoy.config.cluster.v3.Cluster";
  static constexpr const char* kRoutes = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration";
  static constexpr const char* kEndpoints = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment";

  static std::string typed(const std::string& type, const std::string& flow_map) {
    return "{\"@type\": " + type + ", " + flow_map.substr(1);
  }
  // Renamed into place, as config managers do.
  void put(const std::string& name, const std::string& resources) {
    write_file(dir_ / (name + ".new"), "resources:\n" + resources);
    std::filesystem::rename(dir_ / (name + ".new"), dir_ / name);
  }
  void put_routes(const std::string& body) {
    put("rds.yaml",
        "- {\"@type\": " + std::string(kRoutes) +
            ", name: table, virtual_hosts: [{name: all, domains: [\"*\"], routes: [{match: {path: /direct}, "
            "direct_response: {status: 200, body: {inline_string: \"" +
            body + "\"}}}, {match: {prefix: /}, route: {cluster: up}}]}]}\n");
  }
  void put_listeners(const std::vector<std::string>& names) {
    std::string text = names.empty() ? "[]\n" : "";
    for (const std::string& name : names)
      text += "- " +
              typed(kListener, listener_yaml(name,
                                             "rds: {route_config_name: table, config_source: {"
                                             "path_config_source: {path: \"" +
                                                 (dir_ / "rds.yaml") + "\"}}}")) +
              "\n";
    put("lds.yaml", text);
  }
  void put_endpoints(uint16_t port) {
    put("eds.yaml", "- {\"@type\": " + std::string(kEndpoints) +
                        ", cluster_name: up, endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: "
                        "{address: 127.0.0.1, port_value: " +
                        std::to_string(port) + "}}}}]}]}\n");
  }
  std::string config() const {
    return "dynamic_resources:\n  lds_config: {path_config_source: {path: \"" + (dir_ / "lds.yaml") +
           "\"}}\n  cds_config: {path_config_source: {path: \"" + (dir_ / "cds.yaml") + "\"}}\n";
  }
  void SetUp() override {
    put("cds.yaml", "- {\"@type\": " + std::string(kCluster) +
                        ", name: up, type: EDS, eds_cluster_config: {eds_config: {path_config_source: {path: \"" +
                        (dir_ / "eds.yaml") + "\"}}}}\n");
    put_endpoints(blue_.port());
    put_routes("one");
    put_listeners({"main"});
  }

  TempDir dir_;
  test::FakeUpstream blue_{[](test::Exchange& e) { e.respond(200, "blue"); }};
  test::FakeUpstream green_{[](test::Exchange& e) { e.respond(200, "green"); }};
};

TEST_F(FileConfig, EveryKindOfResourceIsReadAndFollowed) {
  RunningServer proxy(config());
  HttpClient client(proxy.port("main"));
  ASSERT_TRUE(proxy.live());
  EXPECT_EQ(client.get("/direct").body, "one");
  EXPECT_EQ(client.get("/").body, "blue");
  put_routes("two");
  EXPECT_TRUE(wait_until([&] { return client.get("/direct").body == "two"; }));
  put_endpoints(green_.port());
  EXPECT_TRUE(wait_until([&] { return client.get("/").body == "green"; }));
  put_listeners({"main", "second"});
  EXPECT_EQ(test::http_get(proxy.port("second"), "/direct").body, "two");
  put_listeners({"second"});
  EXPECT_TRUE(wait_until([&] { return proxy->listener_port("main") == 0; }));
  EXPECT_EQ(test::http_get(proxy.port("second"), "/direct").body, "two");
}

TEST_F(FileConfig, TheTimeToLiveOfAChangeIsCounted) {
  RunningServer proxy(config());
  ASSERT_TRUE(proxy.live());
  const auto counted = [&] {
    const std::string page = proxy.admin("/metrics").body;
    const std::string name = "\nenvoy_server_time_to_live_ms_count ";
    const size_t at = page.find(name);
    return at == std::string::npos ? 0 : std::stoi(page.substr(at + name.size()));
  };
  const int before = counted();
  EXPECT_GT(before, 0);
  put_endpoints(green_.port());
  EXPECT_TRUE(wait_until([&] { return counted() == before + 1; }));
}

TEST_F(FileConfig, ABrokenFileChangesNothing) {
  RunningServer proxy(config());
  HttpClient client(proxy.port("main"));
  ASSERT_TRUE(proxy.live());
  const auto rejected = [&] { return proxy->stats().value("file_source.update_rejected"); };
  write_file(dir_ / "lds.yaml", "resources: [}");
  EXPECT_TRUE(wait_until([&] { return rejected() == 1; }));
  put("lds.yaml", "- {\"@type\": " + std::string(kListener) + ", name: main, colour: blue}\n");
  EXPECT_TRUE(wait_until([&] { return rejected() == 2; }));
  EXPECT_TRUE(wait_until([&] {
    const std::string dump = proxy.admin("/config_dump").body;
    return dump.find("colour") != std::string::npos && dump.find("error_state") != std::string::npos;
  }));
  std::filesystem::remove(dir_ / "cds.yaml");
  EXPECT_TRUE(wait_until([&] { return rejected() == 3; }));
  put("rds.yaml", "- {\"@type\": " + std::string(kCluster) + ", name: c, type: STATIC}\n");  // not a route table
  EXPECT_TRUE(wait_until([&] { return rejected() == 4; }));
  EXPECT_EQ(client.get("/direct").body, "one");
  EXPECT_EQ(client.get("/").body, "blue");
  put_routes("two");
  EXPECT_TRUE(wait_until([&] { return client.get("/direct").body == "two"; }));
}

TEST_F(FileConfig, FilesThatComeLaterAreWaitedFor) {
  std::filesystem::remove(dir_ / "rds.yaml");
  RunningServer proxy(config());
  EXPECT_TRUE(wait_until(
      [&] { return proxy.admin("/config_dump").body.find("route table table: unknown") != std::string::npos; }));
  EXPECT_EQ(proxy->listener_port("main"), 0);
  EXPECT_EQ(proxy.admin("/ready").body, "PRE_INITIALIZING\n");
  put_routes("at last");
  EXPECT_EQ(test::http_get(proxy.port("main"), "/direct").body, "at last");
  EXPECT_TRUE(proxy.live());
}

// ---- DNS ----

class Dns : public testing::Test {
 protected:
  struct Told {
    std::string cluster;
    std::vector<std::string> addresses;
    bool operator==(const Told&) const = default;
  };
  Dns() {
    thread_ = std::thread([this] {
      net::ResolverOptions options{.servers = {*net::Address::parse("127.0.0.1", server_.port())}, .timeout_ms = 200};
      DnsRefresher refresher(
          loop_, registry_,
          [this](const std::string& cluster, std::vector<config::EndpointSpec> endpoints) {
            Told told{.cluster = cluster, .addresses = {}};
            for (const auto& e : endpoints) {
              std::string address = e.address.host + ":" + std::to_string(e.address.port);
              if (e.addresses) {
                for (const auto& more : e.addresses->more) address += " " + more.host;
                address += " of " + e.addresses->name + " " + e.hostname.text();
              }
              told.addresses.push_back(std::move(address));
            }
            std::lock_guard lock(mutex_);
            told_.push_back(std::move(told));
          },
          options);
      refresher_ = &refresher;
      loop_.run();
    });
  }
  ~Dns() override {
    loop_.stop();
    thread_.join();
  }
  void want(std::vector<DnsTarget> targets) {
    loop_.post([this, targets = std::move(targets)] { refresher_->want(targets); });
  }
  static DnsTarget target(const std::string& cluster, const std::vector<std::string>& names) {
    DnsTarget target{
        .cluster = cluster, .endpoints = {}, .family = config::ClusterSpec::DnsFamily::kV4Only, .refresh_ms = 20};
    for (const std::string& name : names)
      target.endpoints.push_back({.address = {.kind = config::AddressSpec::Kind::kHostname, .host = name, .port = 80}});
    return target;
  }
  bool last_told(const Told& wanted) {
    return wait_until([&] {
      std::lock_guard lock(mutex_);
      return !told_.empty() && told_.back() == wanted;
    });
  }
  size_t told_count() {
    std::lock_guard lock(mutex_);
    return told_.size();
  }

  test::DnsServer server_;
  stats::Registry registry_{1};
  event::Loop loop_;
  std::mutex mutex_;
  std::vector<Told> told_;
  DnsRefresher* refresher_ = nullptr;
  std::thread thread_;
};

TEST_F(Dns, NamesAreResolvedAndFollowed) {
  server_.set("a.test", {"10.0.0.2", "10.0.0.1"});
  server_.set("b.test", {"10.0.0.3"});
  DnsTarget both = target("c", {"a.test", "b.test"});
  both.endpoints.push_back({.address = {.host = "10.0.0.9", .port = 81}});
  want({both});
  EXPECT_TRUE(last_told({"c", {"10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80", "10.0.0.9:81"}}));
  server_.set("a.test", {"10.0.0.7"});
  EXPECT_TRUE(last_told({"c", {"10.0.0.3:80", "10.0.0.7:80", "10.0.0.9:81"}}));
  // The same answers are not told again.
  const size_t queries = server_.queries(), told = told_count();
  EXPECT_TRUE(wait_until([&] { return server_.queries() > queries + 6; }));
  EXPECT_EQ(told_count(), told);
}

TEST_F(Dns, AFailureKeepsTheLastAddressesAndWarmsTheCluster) {
  want({target("c", {"none.test"})});
  EXPECT_TRUE(last_told({"c", {}}));
  server_.set("none.test", {"10.0.0.1"});
  EXPECT_TRUE(last_told({"c", {"10.0.0.1:80"}}));
  server_.remove("none.test");
  const uint64_t failures = registry_.value("dns.resolve_failure");
  EXPECT_TRUE(wait_until([&] { return registry_.value("dns.resolve_failure") > failures + 1; }));
  EXPECT_TRUE(last_told({"c", {"10.0.0.1:80"}}));
}

TEST_F(Dns, ALogicalHostHasAllAddressesOfItsName) {
  server_.set("a.test", {"10.0.0.2", "10.0.0.1"});
  DnsTarget one = target("c", {"a.test"});
  one.logical = true;
  want({one});
  EXPECT_TRUE(last_told({"c", {"10.0.0.2:80 10.0.0.1 of a.test:80 a.test"}}));
  server_.set("a.test", {"10.0.0.1", "10.0.0.2"});
  EXPECT_TRUE(last_told({"c", {"10.0.0.1:80 10.0.0.2 of a.test:80 a.test"}})) << "the order counts";
  server_.set("a.test", {});
  const uint64_t failures = registry_.value("dns.resolve_failure");
  EXPECT_TRUE(wait_until([&] { return registry_.value("dns.resolve_failure") > failures + 1; }));
  EXPECT_TRUE(last_told({"c", {"10.0.0.1:80 10.0.0.2 of a.test:80 a.test"}})) << "it keeps what it had";
  // Of both families in one order, whichever answer comes first.
  server_.set("both.test", {"127.0.0.1", "::1"});
  one = target("d", {"both.test"});
  one.logical = true;
  one.family = config::ClusterSpec::DnsFamily::kAll;
  want({one});
  EXPECT_TRUE(last_told({"d", {"::1:80 127.0.0.1 of both.test:80 both.test"}}));
}

TEST_F(Dns, TargetsComeAndGo) {
  server_.set("a.test", {"10.0.0.1"});
  server_.set("b.test", {"10.0.0.2"});
  want({target("a", {"a.test"})});
  EXPECT_TRUE(last_told({"a", {"10.0.0.1:80"}}));
  want({target("a", {"a.test"}), target("b", {"b.test"})});
  EXPECT_TRUE(last_told({"b", {"10.0.0.2:80"}}));
  want({});
  want({target("a", {"a.test"})});  // told anew
  EXPECT_TRUE(last_told({"a", {"10.0.0.1:80"}}));
}

// ---- small things ----

TEST(CpuCount, QuotasOfBothCgroupVersionsRoundUp) {
  TempDir dir;
  std::filesystem::create_directories(dir / "a/b");
  write_file(dir / "a/cpu.max", "max 100000\n");
  write_file(dir / "a/b/cpu.max", "250000 100000\n");
  EXPECT_EQ(cgroup_cpus("0::/a/b\n", dir.path().string()), 3u);
  write_file(dir / "a/cpu.max", "100000 100000\n");  // the parent's is tighter
  EXPECT_EQ(cgroup_cpus("0::/a/b\n", dir.path().string()), 1u);
  write_file(dir / "cpu.max", "50000 100000\n");  // a path that leads nowhere: the mount's root
  EXPECT_EQ(cgroup_cpus("0::/../elsewhere\n", dir.path().string()), 1u);
  std::filesystem::create_directories(dir / "cpu/x");
  write_file(dir / "cpu/x/cpu.cfs_quota_us", "150000\n");
  write_file(dir / "cpu/x/cpu.cfs_period_us", "100000\n");
  EXPECT_EQ(cgroup_cpus("5:memory:/x\n4:cpu,cpuacct:/x\n", dir.path().string()), 2u);
  write_file(dir / "cpu/x/cpu.cfs_quota_us", "-1\n");
  EXPECT_EQ(cgroup_cpus("4:cpu,cpuacct:/x\n", dir.path().string()), 0u);
  EXPECT_EQ(cgroup_cpus("", dir.path().string()), 0u);
  EXPECT_GE(cpu_count(), 1u);
}

TEST(JsonWriter, EscapesAndNests) {
  JsonWriter json;
  json.open('{').key("a\"").string("b\\\n\x01\xff\xc3\xa9").key("n").number(int64_t{-1}).key("e").open('[').close(']');
  json.key("l").open('[').boolean(true).real(0.5).close(']').close('}');
  EXPECT_EQ(
      json.take(),
      "{\n \"a\\\"\": \"b\\\\\\n\\u0001\\ufffd\xc3\xa9\",\n \"n\": -1,\n \"e\": [],\n \"l\": [\n  true,\n  0.5\n ]\n}");
}

}  // namespace
}  // namespace outrigger::server
