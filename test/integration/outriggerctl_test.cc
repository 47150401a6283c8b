// outriggerctl as people and scripts use it: on files and on a running proxy.
#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <set>

#include "support/certificates.h"
#include "support/fake_upstream.h"
#include "support/process.h"
#include "support/resources.h"

namespace outrigger::test {
namespace {

using Json = nlohmann::json;
namespace fs = std::filesystem;

const std::string kQuickstart = OUTRIGGER_SOURCE_DIR "/source/docs/guide/examples/quickstart";

struct Answer {
  int code;
  std::string text;
  Json json() const { return Json::parse(text, nullptr, false); }
};

Answer ctl(std::vector<std::string> arguments, std::vector<std::string> environment = {}) {
  arguments.insert(arguments.begin(), program_path("outriggerctl"));
  Process process(arguments, std::move(environment));
  const int code = process.wait_exit().value_or(-1);
  return {code, process.output()};
}

bool has(const Answer& answer, std::string_view text) { return answer.text.find(text) != std::string::npos; }

// A proxy's whole config: two routes, a key, one upstream.
std::string bootstrap(uint16_t upstream, const std::string& key = "tell-nobody") {
  return R"(node: {id: me, cluster: us}
static_resources:
  listeners:
  - name: main
    address: {socket_address: {address: 127.0.0.1, port_value: 0}}
    filter_chains:
    - filters:
      - name: hcm
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: main
          route_config:
            name: table
            virtual_hosts:
            - name: shop
              domains: [shop.example]
              routes:
              - {name: canary, match: {prefix: /, headers: [{name: x-canary, present_match: true}]}, direct_response: {status: 204}}
              - {name: cart, match: {prefix: /cart}, route: {cluster: back}}
          http_filters:
          - name: keys
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.api_key_auth.v3.ApiKeyAuth
              credentials: [{key: )" +
         key + R"(, client: alice}]
              key_sources: [{header: x-api-key}]
          - name: router
            typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}
  clusters:
  - name: back
    type: STATIC
    load_assignment:
      cluster_name: back
      endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: )" +
         std::to_string(upstream) + "}}}}]}]\n";
}

class Ctl : public testing::Test {
 protected:
  std::string file(const std::string& name, const std::string& text) {
    write_file(dir_ / name, text);
    return dir_ / name;
  }
  TempDir dir_;
};

TEST_F(Ctl, ValidateTellsAllFaultsWithFileLineAndPath) {
  const std::string bad = file("bad.yaml",
                               "resources:\n"
                               "- \"@type\": type.googleapis.com/envoy.config.cluster.v3.Cluster\n"
                               "  name: a\n"
                               "  colour: blue\n"
                               "- \"@type\": type.googleapis.com/envoy.config.cluster.v3.Cluster\n"
                               "  name: b\n"
                               "  type: NO_SUCH\n");
  const Answer people = ctl({"validate", bad, dir_ / "none.yaml"});
  EXPECT_EQ(people.code, 1);
  EXPECT_TRUE(has(people, bad + ":4: ")) << people.text;
  EXPECT_TRUE(has(people, "colour")) << people.text;
  EXPECT_TRUE(has(people, "NO_SUCH")) << people.text;
  EXPECT_TRUE(has(people, "none.yaml: cannot be read")) << people.text;
  EXPECT_EQ(people.text.find('\033'), std::string::npos) << "no colours, this is no terminal";
  EXPECT_NE(ctl({"validate", "--color", "always", bad}).text.find("\033[31m"), std::string::npos);
  const Json told = ctl({"validate", "-o", "json", bad}).json();
  EXPECT_EQ(told["good"], false);
  ASSERT_EQ(told["faults"].size(), 2u) << told;
  EXPECT_EQ(told["faults"][0]["line"], 4);
  // However they were found, faults are told from top to bottom.
  const Answer bootstrap =
      ctl({"validate", file("bootstrap.yaml",
                            "static_resources:\n"
                            "  clusters:\n"
                            "  - name: a\n"
                            "    connect_timeout: 1s\n"
                            "    load_assignment: {cluster_name: a, endpoints: [{lb_endpoints: [{\n"
                            "      endpoint: {address: {socket_address: {address: 127.0.0.1,\n"
                            "        port_value: 99999}}}}]}]}\n"
                            "  - name: b\n"
                            "    colour: blue\n")});
  EXPECT_TRUE(has(bootstrap, "2 faults in 1 file\n")) << bootstrap.text;
  EXPECT_LT(bootstrap.text.find("99999"), bootstrap.text.find("colour")) << bootstrap.text;

  const Answer good = ctl({"validate", kQuickstart + "/bootstrap.yaml", kQuickstart + "/config"});
  EXPECT_EQ(good.code, 0) << good.text;
  EXPECT_EQ(ctl({"validate", kQuickstart + "/config", kQuickstart + "/config/clusters.yaml"}).code, 1)
      << "every resource stands twice";
}

TEST_F(Ctl, ADirectoryIsJudgedWithItsGroups) {
  const auto cluster = [](const std::string& name, const std::string& more = {}) {
    return "resources:\n- {\"@type\": type.googleapis.com/envoy.config.cluster.v3.Cluster, name: " + name +
           ", type: STATIC" + more + "}\n";
  };
  const std::string conf = dir_ / "conf";
  std::filesystem::create_directories(conf + "/edge");
  file("conf/shared.yaml", cluster("shared"));
  file("conf/edge/one.yaml", cluster("one"));
  file("conf/groups.yaml",
       "groups: [{name: edge, match: {cluster: {exact: edge}}, files: [edge, shared.yaml]}]\n"
       "default: {files: [shared.yaml]}\n");
  const Json good = ctl({"validate", "-o", "json", conf}).json();
  EXPECT_EQ(good["good"], true) << good;
  EXPECT_EQ(good["files"], 2);
  EXPECT_EQ(good["resources"], 2) << "a shared one counts once";
  const Answer others = ctl({"diff", conf, conf + "/edge"});
  EXPECT_TRUE(has(others, "- Cluster/shared")) << others.text;
  EXPECT_TRUE(has(others, "+ Cluster/one")) << others.text;
  EXPECT_FALSE(has(ctl({"diff", "--group", "edge", conf, conf + "/edge"}), "Cluster/one"));
  const Answer none = ctl({"diff", "--group", "egde", conf, conf});
  EXPECT_EQ(none.code, 2);
  EXPECT_TRUE(has(none, "has no group \"egde\"")) << none.text;

  file("conf/edge/one.yaml", cluster("one", ", colour: blue"));
  file("conf/shared.yaml", cluster("shared", ", colour: red"));
  const Answer bad = ctl({"validate", conf});
  EXPECT_EQ(bad.code, 1);
  EXPECT_TRUE(has(bad, "edge/one.yaml:2: ")) << bad.text;
  EXPECT_TRUE(has(bad, "2 faults in 2 files")) << "that of the shared file is told once: " << bad.text;
  file("conf/groups.yaml", "groups: [{name: edge, match: {cluster: {exact: edge}}, files: [eddge]}]\n");
  EXPECT_TRUE(has(ctl({"validate", conf}), "eddge is not there"));
}

TEST_F(Ctl, ExplainAsksARunningProxyOrItsFiles) {
  FakeUpstream upstream;
  const std::string text = bootstrap(upstream.port());
  ProxyProcess proxy(text);
  ASSERT_TRUE(proxy.started()) << proxy.output();
  proxy.listener_port("main");
  const std::string admin = "127.0.0.1:" + std::to_string(proxy.admin_port());
  const std::vector<std::vector<std::string>> sides = {{"--admin", admin}, {"--file", file("bootstrap.yaml", text)}};
  for (const auto& side : sides) {
    std::vector<std::string> command = {"explain", "--host", "shop.example",          "--path",
                                        "/cart/1", "-H",     "X-Api-Key: tell-nobody"};
    command.insert(command.end(), side.begin(), side.end());
    const Answer people = ctl(command);
    EXPECT_EQ(people.code, 0) << people.text;
    for (const char* text :
         {"shop", "#1 cart prefix \"/cart\", forward", "#0 canary: wants header x-canary to be present", "keys passes",
          "client: alice", "cluster       back", "round robin", "forwarded to cluster"})
      EXPECT_TRUE(has(people, text)) << text << "\n" << people.text;
    EXPECT_FALSE(has(people, "tell-nobody")) << people.text;
    command[6] = "x-api-key: wrong";
    command.insert(command.end(), {"-o", "json"});
    const Answer refused = ctl(command);
    EXPECT_EQ(refused.code, 1);
    EXPECT_EQ(refused.json()["outcome"]["status"], 401) << refused.text;
  }
  EXPECT_EQ(ctl({"explain", "--listener", "none"}, {"OUTRIGGER_ADMIN=" + admin}).code, 2);
  const Answer nobody = ctl({"explain", "--admin", "unix:" + (dir_ / "none")});
  EXPECT_EQ(nobody.code, 3);
  EXPECT_TRUE(has(nobody, "cannot reach")) << nobody.text;
}

TEST_F(Ctl, DiffComparesFilesAndRunningProxies) {
  FakeUpstream upstream;
  const std::string text = bootstrap(upstream.port());
  ProxyProcess proxy(text);
  ASSERT_TRUE(proxy.started()) << proxy.output();
  proxy.listener_port("main");
  const std::string running = "http://127.0.0.1:" + std::to_string(proxy.admin_port());
  const std::string same = file("same.yaml", text);
  const auto equal = [&] { return ctl({"diff", same, running}); };
  EXPECT_TRUE(wait_until([&] { return equal().code == 0; })) << equal().text;

  std::string changed = text;
  changed.replace(changed.find("prefix: /cart"), 13, "prefix: /bask");
  const Answer people = ctl({"diff", running, file("changed.yaml", changed)});
  EXPECT_EQ(people.code, 1);
  EXPECT_TRUE(has(people, "~ Listener/main")) << people.text;
  EXPECT_TRUE(has(people, "routes[1].match.prefix: \"/cart\" -> \"/bask\"")) << people.text;

  const Answer secret = ctl({"diff", same, file("key.yaml", bootstrap(upstream.port(), "another-key"))});
  EXPECT_EQ(secret.code, 1);
  EXPECT_TRUE(has(secret, "a secret")) << secret.text;
  EXPECT_FALSE(has(secret, "another-key")) << secret.text;

  const Json moved = ctl({"diff", "-o", "json", kQuickstart + "/config", same}).json();
  EXPECT_EQ(moved["equal"], false);
  EXPECT_GT(moved["resources"].size(), 4u);
}

TEST_F(Ctl, DiffKeepsTheSameNameOfTwoSourcesApart) {
  std::string text = "static_resources:\n  clusters:\n";
  for (const std::string source : {"a", "b"}) {
    const std::string path =
        file(source + ".yaml",
             "resources: [{'@type': type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment, cluster_name: "
             "e}]\n");
    text += "  - {name: " + source +
            ", type: EDS, connect_timeout: 1s, eds_cluster_config: {service_name: e, eds_config: " +
            "{resource_api_version: V3, path_config_source: {path: " + path + "}}}}\n";
  }
  ProxyProcess proxy(text);
  ASSERT_TRUE(proxy.started() && proxy.wait_ready()) << proxy.output();
  const std::string running = "http://127.0.0.1:" + std::to_string(proxy.admin_port());
  const std::string none = file("none.yaml", "static_resources: {}\n");
  const std::string eds = "ClusterLoadAssignment/e from ";
  const std::set<std::string> all{"Cluster/a", "Cluster/b", eds + (dir_ / "a.yaml"), eds + (dir_ / "b.yaml")};
  std::set<std::string> names;
  EXPECT_TRUE(wait_until([&] {  // each cluster is there once its file has been read
    names.clear();
    const Json differs = ctl({"diff", "-o", "json", running, none}).json();
    for (const Json& one : differs["resources"]) names.insert(one["resource"].get<std::string>());
    return names == all;
  })) << ::testing::PrintToString(names);
}

TEST_F(Ctl, DumpIsATableOrAllOfIt) {
  FakeUpstream upstream;
  ProxyProcess proxy(bootstrap(upstream.port()));
  ASSERT_TRUE(proxy.started()) << proxy.output();
  proxy.listener_port("main");
  const std::string admin = "127.0.0.1:" + std::to_string(proxy.admin_port());
  const auto dump = [&] { return ctl({"dump", "--admin", admin}); };
  EXPECT_TRUE(wait_until([&] { return has(dump(), "back") && has(dump(), "main"); })) << dump().text;
  const Answer people = dump();
  EXPECT_EQ(people.code, 0);
  EXPECT_TRUE(has(people, "TYPE")) << people.text;
  const Answer some = ctl({"dump", "--admin", admin, "^back$"});
  EXPECT_TRUE(has(some, "back") && !has(some, "main")) << some.text;
  EXPECT_TRUE(ctl({"dump", "--admin", admin, "-o", "json"}).json()["configs"].is_array());
  EXPECT_FALSE(has(ctl({"dump", "--admin", admin, "-o", "yaml"}), "tell-nobody"));
}

TEST_F(Ctl, StatusOverTlsWithATokenTellsTheGroup) {
  Certificates ca(dir_.path());
  ca.issue("server", {"DNS:control.test"});
  ca.issue("me", {"URI:spiffe://test/me"});
  TempDir config;
  fs::create_directory(config / "edge");
  write_file(config / "edge/clusters.yaml", resource_file({eds_cluster_resource("blue")}));
  write_file(config / "groups.yaml", "groups: [{name: edge-group, match: {id: {prefix: ''}}, files: edge}]\n");
  const std::string token = file("token", "# ours\nthe-operators-own-token\n");
  const std::vector<std::string> server = {"--tls-cert",      ca / "server.pem", "--tls-key",    ca / "server.key",
                                           "--tls-client-ca", ca / "ca.pem",     "--token-file", token};
  ControlProcess control(config.path(), 0, server);
  ASSERT_TRUE(control.started()) << control.output();
  const std::string address = "127.0.0.1:" + std::to_string(control.port());
  const auto status = [&](std::vector<std::string> more, std::vector<std::string> environment = {}) {
    more.insert(more.begin(), {"status", "--control", address});
    return ctl(more, std::move(environment));
  };
  const std::vector<std::string> tls = {"--tls-ca",  ca / "ca.pem", "--tls-cert",        ca / "me.pem",
                                        "--tls-key", ca / "me.key", "--tls-server-name", "control.test"};
  EXPECT_EQ(status({}).code, 3) << "plain text";
  const Answer without = status(tls);
  EXPECT_EQ(without.code, 3);
  EXPECT_TRUE(has(without, "wants a bearer token")) << without.text;
  const Answer with = status(tls, {"OUTRIGGER_TOKEN_FILE=" + token});
  EXPECT_EQ(with.code, 0) << with.text;
  EXPECT_TRUE(has(with, "no proxy is connected")) << with.text;
  EXPECT_EQ(status({"--tls-ca", dir_ / "none.pem"}).code, 2);
  EXPECT_EQ(status({"--token-file", dir_ / "none"}).code, 2);
  EXPECT_EQ(control.metric("outrigger_control_refused_total{reason=\"unauthenticated\"}"), 1);

  // A group is shown; of a control plane that takes everybody, as our proxy brings no token.
  ControlProcess open(config.path());
  ASSERT_TRUE(open.started()) << open.output();
  ProxyProcess proxy(ads_bootstrap(open.port()));
  ASSERT_TRUE(proxy.started()) << proxy.output();
  const auto table = [&] { return ctl({"status", "--control", "127.0.0.1:" + std::to_string(open.port())}); };
  EXPECT_TRUE(wait_until([&] { return has(table(), "edge-group"); })) << table().text;
  EXPECT_TRUE(has(table(), "GROUP")) << table().text;

  ControlProcess bad(config.path(), 0, {"--tls-cert", ca / "server.pem", "--tls-key", ca / "me.key"});
  EXPECT_FALSE(bad.started());
  EXPECT_EQ(bad.process().wait_exit(), 1);
  EXPECT_NE(bad.output().find("me.key: does not match the certificate"), std::string::npos) << bad.output();
}

TEST_F(Ctl, StatusAndWatchTellWhatEachProxyRunsAndWhyItRefused) {
  FakeUpstream upstream;
  TempDir config;
  write_file(config / "clusters.yaml", resource_file({eds_cluster_resource("blue")}));
  write_file(config / "endpoints.yaml", resource_file({endpoints_resource("blue", {upstream.port()})}));
  write_file(config / "routes.yaml",
             resource_file({routes_resource("table", "- match: {prefix: /}\n  route: {cluster: blue}\n")}));
  write_file(config / "listener.yaml", resource_file({listener_resource("main", "table")}));
  ControlProcess control(config.path());
  ASSERT_TRUE(control.started()) << control.output();
  const std::string address = "127.0.0.1:" + std::to_string(control.port());
  const std::vector<std::string> environment = {"OUTRIGGER_CONTROL=" + address};
  EXPECT_TRUE(has(ctl({"status"}, environment), "no proxy is connected"));
  ProxyProcess proxy(ads_bootstrap(control.port()));
  ASSERT_TRUE(proxy.started()) << proxy.output();

  const Answer synced = ctl({"watch", "--until-sync", "--timeout", "60"}, environment);
  EXPECT_EQ(synced.code, 0) << synced.text;
  EXPECT_TRUE(has(synced, "in sync")) << synced.text;
  const auto table = [&] { return ctl({"status", "--control", address}); };
  EXPECT_TRUE(wait_until([&] { return table().code == 0; })) << table().text;
  EXPECT_TRUE(has(table(), "NODE") && has(table(), "in sync")) << table().text;

  // The port is somebody else's, which only the proxy can know.
  std::string taken = listener_resource("main", "table");
  taken.replace(taken.find("port_value: 0"), 13, "port_value: " + std::to_string(upstream.port()));
  write_file(config / "listener.yaml", resource_file({taken}));
  EXPECT_TRUE(wait_until([&] { return has(table(), "refused Listener"); })) << table().text;
  const Answer refused = table();
  EXPECT_EQ(refused.code, 1);
  EXPECT_TRUE(has(refused, "in use")) << refused.text;
  EXPECT_EQ(ctl({"watch", "--until-sync", "--timeout", "1"}, environment).code, 1);
  const Answer types = ctl({"status", "--types"}, environment);
  EXPECT_TRUE(has(types, "ClusterLoadAssignment") && has(types, "refused")) << types.text;
  const Json told = ctl({"status", "-o", "json"}, environment).json();
  ASSERT_EQ(told["proxies"].size(), 1u) << told;
  EXPECT_EQ(told["proxies"][0]["in_sync"], false);

  write_file(config / "listener.yaml", resource_file({listener_resource("main", "table")}));
  EXPECT_EQ(ctl({"watch", "--until-sync", "--timeout", "60"}, environment).code, 0);
  EXPECT_TRUE(has(table(), "in use")) << "the last refusal is remembered";
  EXPECT_EQ(ctl({"status", "--control", "unix:" + (dir_ / "none")}).code, 3);
}

TEST_F(Ctl, CompletionScriptsAreValidAndKnowTheCommands) {
  const std::string script = file("complete", ctl({"completion", "bash"}).text);
  Process bash({"bash", "-c",
                "source " + script +
                    "; COMP_WORDS=(outriggerctl exp); COMP_CWORD=1; _outriggerctl; echo \"${COMPREPLY[*]}\"; "
                    "COMP_WORDS=(outriggerctl explain --ho); COMP_CWORD=2; _outriggerctl; echo \"${COMPREPLY[*]}\""});
  EXPECT_EQ(bash.wait_exit(), 0);
  EXPECT_EQ(bash.output(), "explain\n--host\n");
  EXPECT_TRUE(has(ctl({"completion", "zsh"}), "bashcompinit"));
  EXPECT_TRUE(has(ctl({"completion", "fish"}), "__fish_use_subcommand -a explain"));
}

TEST_F(Ctl, WrongUsageIs2) {
  EXPECT_EQ(ctl({}).code, 2);
  EXPECT_EQ(ctl({"no-such-command"}).code, 2);
  EXPECT_EQ(ctl({"validate"}).code, 2);
  EXPECT_EQ(ctl({"--help"}).code, 0);
  EXPECT_EQ(ctl({"validate", "-o", "xml", "x"}).code, 2);
}

}  // namespace
}  // namespace outrigger::test
