// Connections that the kernel sends here: iptables REDIRECT and TPROXY, in network namespaces of the test's own. What
// the client wanted to reach is where its bytes go.
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <tuple>

#include "support/process.h"
#include "support/temp_dir.h"

namespace outrigger::test {
namespace {

std::string ns(const std::string& name) { return "or" + std::to_string(getpid()) + name; }

void run(const std::vector<std::string>& argv) {
  Process program(argv);
  EXPECT_EQ(program.wait_exit(), 0) << argv.back() << ": " << program.output();
}

std::vector<std::string> in(const std::string& space, std::vector<std::string> argv) {
  argv.insert(argv.begin(), {"ip", "netns", "exec", space});
  return argv;
}

// A client at 10.9.0.1, the sidecar's pod at 10.9.0.2 with a route to 10.9.1.1 and .2, where two servers are.
class Redirect : public testing::Test {
 protected:
  void SetUp() override {
    for (const std::string& space : {client_, pod_, servers_}) {
      run({"ip", "netns", "add", space});
      run(in(space, {"ip", "link", "set", "lo", "up"}));
    }
    wire(client_, "10.9.0.1/24", pod_, "10.9.0.2/24");
    wire(pod_, "10.9.1.3/24", servers_, "10.9.1.1/24");
    run(in(servers_, {"ip", "address", "add", "10.9.1.2/24", "dev", "b1"}));
    run(in(client_, {"ip", "route", "add", "default", "via", "10.9.0.2"}));
    run(in(servers_, {"ip", "route", "add", "default", "via", "10.9.1.3"}));
    run(in(pod_, {"sysctl", "-qw", "net.ipv4.ip_forward=1"}));
    for (const char* ip : {"10.9.1.1", "10.9.1.2"}) {
      const std::string dir = dir_ / ip;
      std::filesystem::create_directory(dir);
      write_file(dir + "/who", ip);
      web_.push_back(std::make_unique<Process>(
          in(servers_, {"python3", "-u", "-m", "http.server", "8000", "--bind", ip, "--directory", dir})));
      ASSERT_TRUE(web_.back()->wait_for_output("Serving").has_value()) << web_.back()->output();
    }
  }
  void TearDown() override {
    proxy_.reset();
    web_.clear();
    for (const std::string& space : {client_, pod_, servers_}) run({"ip", "netns", "delete", space});
  }
  void wire(const std::string& a, const std::string& a_address, const std::string& b, const std::string& b_address) {
    const std::string number = std::to_string(wires_++);
    run({"ip", "link", "add", "a" + number, "netns", a, "type", "veth", "peer", "name", "b" + number, "netns", b});
    for (const auto& [space, end, address] :
         {std::tuple(a, "a" + number, a_address), std::tuple(b, "b" + number, b_address)}) {
      run(in(space, {"ip", "address", "add", address, "dev", end}));
      run(in(space, {"ip", "link", "set", end, "up"}));
    }
  }
  void start(const std::string& listener, const std::string& network_filter) {
    write_file(dir_ / "proxy.yaml", R"(
admin: {address: {socket_address: {address: 127.0.0.1, port_value: 9901}}}
static_resources:
  listeners:
  - name: main
    )" + listener + R"(
    listener_filters:
    - {name: dst, typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.listener.original_dst.v3.OriginalDst}}
    filter_chains: [{filters: [{name: f, typed_config: )" +
                                        network_filter + R"(}]}]
  clusters: [{name: original, type: ORIGINAL_DST, lb_policy: CLUSTER_PROVIDED}]
)");
    proxy_ = std::make_unique<Process>(in(pod_, {program_path("outrigger"), "-c", dir_ / "proxy.yaml"}));
    ASSERT_TRUE(proxy_->wait_for_output("live with config").has_value()) << proxy_->output();
  }
  // What the client gets from a server that it asks by its own address.
  std::string ask(const std::string& ip, int exit_code = 0) {
    Process curl(in(client_, {"curl", "-sS", "--max-time", "10", "http://" + ip + "/who"}));
    EXPECT_EQ(curl.wait_exit(), exit_code) << curl.output() << proxy_->output();
    return curl.output();
  }
  std::string stat(const std::string& name) {
    Process curl(in(pod_, {"curl", "-sS", "http://127.0.0.1:9901/stats"}));
    curl.wait_exit();
    const size_t at = curl.output().find(name + ": ");
    return at == std::string::npos ? "" : curl.output().substr(at, curl.output().find('\n', at) - at);
  }

  const std::string client_ = ns("c"), pod_ = ns("p"), servers_ = ns("s");
  TempDir dir_;
  std::vector<std::unique_ptr<Process>> web_;
  std::unique_ptr<Process> proxy_;
  int wires_ = 0;
};

const std::string kTcp =
    R"({"@type": type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy, stat_prefix: t, cluster: original})";
const std::string kHttp =
    R"({"@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager, stat_prefix: h, route_config: {virtual_hosts: [{name: all, domains: ["*"], routes: [{match: {prefix: /}, route: {cluster: original}}]}]}, http_filters: [{name: router, typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}]})";
const std::string kAddress = "address: {socket_address: {address: 0.0.0.0, port_value: 15001}}";

TEST_F(Redirect, RedirectedConnectionsGoWhereTheyWereGoing) {
  run(in(pod_, {"iptables", "-t", "nat", "-A", "PREROUTING", "-p", "tcp", "--dport", "8000", "-j", "REDIRECT",
                "--to-ports", "15001"}));
  for (const std::string& filter : {kTcp, kHttp}) {
    start(kAddress, filter);
    EXPECT_EQ(ask("10.9.1.1:8000"), "10.9.1.1");
    EXPECT_EQ(ask("10.9.1.2:8000"), "10.9.1.2");
    EXPECT_EQ(stat("listener.main.original_dst_restored"), "listener.main.original_dst_restored: 2");
    // One that was made to the listener itself has no other destination, and must not go round in a circle.
    if (&filter == &kTcp) ask("10.9.0.2:15001", 52);
    EXPECT_NE(stat("cluster.original.upstream_cx_none_healthy"), "");
    proxy_.reset();
  }
}

TEST_F(Redirect, TproxyTakesWhatIsForOthers) {
  run(in(pod_, {"iptables", "-t", "mangle", "-A", "PREROUTING", "-i", "b0", "-p", "tcp", "--dport", "8000", "-j",
                "TPROXY", "--on-port", "15001", "--tproxy-mark", "1"}));
  run(in(pod_, {"ip", "rule", "add", "fwmark", "1", "lookup", "100"}));
  run(in(pod_, {"ip", "route", "add", "local", "0.0.0.0/0", "dev", "lo", "table", "100"}));
  for (const std::string& filter : {kTcp, kHttp}) {
    start(kAddress + "\n    transparent: true", filter);
    EXPECT_EQ(ask("10.9.1.1:8000"), "10.9.1.1");
    EXPECT_EQ(ask("10.9.1.2:8000"), "10.9.1.2");
    EXPECT_EQ(stat("listener.main.original_dst_restored"), "listener.main.original_dst_restored: 2");
    proxy_.reset();
  }
}

}  // namespace
}  // namespace outrigger::test
