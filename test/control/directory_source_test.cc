#include "control/directory_source.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>

#include "config/extension.h"
#include "config/translate.h"
#include "control/listener_at.h"
#include "outrigger/control/consistency.h"
#include "stats/stats.h"
#include "support/resources.h"
#include "support/temp_dir.h"

namespace outrigger::control {
namespace {

using test::eds_cluster_resource;
using test::endpoints_resource;
using test::resource_file;
using test::write_file;
namespace fs = std::filesystem;

const std::string kCds = "type.googleapis.com/envoy.config.cluster.v3.Cluster";
const std::string kEds = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment";

class DirectorySourceTest : public ::testing::Test {
 protected:
  DirectorySource::Outcome load() { return source.load(); }
  DirectorySource::Outcome changed(std::vector<std::string> names) {
    event::FileBatch batch;
    for (const std::string& name : names) batch.changed.push_back(dir / name);
    return source.update(batch);
  }
  static std::vector<std::string> names(const DirectorySource::Outcome& outcome, const std::string& url = kCds,
                                        const std::string& group = {}) {
    std::vector<std::string> all;
    if (outcome.snapshot(group) == nullptr) return {"(nothing to serve)"};
    for (const ResourcePtr& resource : outcome.snapshot(group)->find(url)->resources) all.push_back(resource->name);
    return all;
  }
  static std::string text(const DirectorySource::Outcome& outcome) {
    std::string all;
    for (const config::Fault& fault : outcome.faults) all += fault.str() + "\n";
    return all;
  }

  test::TempDir dir;
  stats::Registry registry{0};
  config::StateRegistry states;
  config::Translator translator{{}, states, registry, {.files_elsewhere = true}};
  ResourcePool pool;
  DirectorySource source{dir.path().string() + "/", translator, pool};
};
using Names = std::vector<std::string>;

TEST_F(DirectorySourceTest, AllFilesAreOneSnapshot) {
  write_file(dir / "b.yaml", resource_file({eds_cluster_resource("b"), endpoints_resource("b", {80})}));
  write_file(dir / "a.yml", resource_file({eds_cluster_resource("a")}));
  write_file(dir / "c.json", R"({"resources": [{"@type": ")" + kCds +
                                 R"(", "name": "c", "type": "STATIC", "load_assignment": {"cluster_name": "c"}}]})");
  write_file(dir / "notes.txt", "not ours");
  write_file(dir / ".hidden.yaml", "{");
  const auto outcome = load();
  EXPECT_EQ(text(outcome), "");
  EXPECT_EQ(outcome.files, 3u);
  EXPECT_EQ(names(outcome), (Names{"a", "b", "c"}));
  EXPECT_EQ(names(outcome, kEds), Names{"b"});
}

TEST_F(DirectorySourceTest, ChangedAddedDeletedFiles) {
  write_file(dir / "a.yaml", resource_file({eds_cluster_resource("a")}));
  const auto first = load();
  write_file(dir / "a.yaml", resource_file({eds_cluster_resource("a2")}));
  write_file(dir / "b.yaml", resource_file({eds_cluster_resource("b")}));
  EXPECT_EQ(names(changed({"a.yaml", "b.yaml"})), (Names{"a2", "b"}));
  fs::remove(dir / "a.yaml");
  EXPECT_EQ(names(changed({"a.yaml"})), Names{"b"});
  EXPECT_NE(first.snapshot()->version(), load().snapshot()->version());
}

TEST_F(DirectorySourceTest, UntouchedFilesAreNotReadAgain) {
  write_file(dir / "a.yaml", resource_file({eds_cluster_resource("a")}));
  write_file(dir / "b.yaml", resource_file({eds_cluster_resource("b")}));
  load();
  // Somebody is in the middle of writing b.
  write_file(dir / "b.yaml", resource_file({}));
  write_file(dir / "a.yaml", resource_file({eds_cluster_resource("a2")}));
  EXPECT_EQ(names(changed({"a.yaml"})), (Names{"a2", "b"}));
}

TEST_F(DirectorySourceTest, EqualContentIsTheSameVersion) {
  write_file(dir / "a.yaml", resource_file({eds_cluster_resource("a")}));
  const auto first = load();
  write_file(dir / "a.yaml", "# a comment\n" + resource_file({eds_cluster_resource("a")}));
  const auto second = changed({"a.yaml"});
  EXPECT_EQ(first.snapshot()->version(), second.snapshot()->version());
  EXPECT_EQ(first.snapshot()->find(kCds), second.snapshot()->find(kCds)) << "shared";
}

TEST_F(DirectorySourceTest, ABadFileKeepsItsLastGoodResources) {
  write_file(dir / "a.yaml", resource_file({eds_cluster_resource("a")}));
  write_file(dir / "b.yaml", resource_file({eds_cluster_resource("b")}));
  load();
  write_file(dir / "a.yaml", resource_file({eds_cluster_resource("a2"), eds_cluster_resource("a3", "colour: red\n")}));
  write_file(dir / "b.yaml", resource_file({eds_cluster_resource("b2")}));
  const auto refused = changed({"a.yaml", "b.yaml"});
  EXPECT_EQ(names(refused), (Names{"a", "b2"})) << "whole or not at all";
  EXPECT_EQ(refused.refused_files, 1u);
  EXPECT_NE(text(refused).find(dir / "a.yaml"), std::string::npos) << text(refused);
  EXPECT_NE(text(refused).find("Cluster/a3"), std::string::npos) << text(refused);
  EXPECT_NE(text(refused).find("resources[1].colour"), std::string::npos) << text(refused);
  // Told once.
  EXPECT_EQ(text(changed({"b.yaml"})), "");
  // Not even YAML.
  write_file(dir / "a.yaml", "resources: [");
  EXPECT_EQ(names(changed({"a.yaml"})), (Names{"a", "b2"}));
  write_file(dir / "a.yaml", resource_file({eds_cluster_resource("a4")}));
  const auto mended = changed({"a.yaml"});
  EXPECT_EQ(names(mended), (Names{"a4", "b2"}));
  EXPECT_EQ(mended.mended, Names{dir / "a.yaml"});
  // A bad file that is deleted is gone.
  write_file(dir / "a.yaml", "resources: [");
  changed({"a.yaml"});
  fs::remove(dir / "a.yaml");
  EXPECT_EQ(names(changed({"a.yaml"})), Names{"b2"});
}

TEST_F(DirectorySourceTest, NothingIsServedBeforeAllWereGoodOnce) {
  write_file(dir / "a.yaml", resource_file({eds_cluster_resource("a")}));
  write_file(dir / "b.yaml", "resources: [");
  const auto first = load();
  EXPECT_EQ(first.snapshot(), nullptr);
  EXPECT_NE(text(first), "");
  write_file(dir / "b.yaml", resource_file({eds_cluster_resource("b")}));
  EXPECT_EQ(names(changed({"b.yaml"})), (Names{"a", "b"}));
  write_file(dir / "c.yaml", "resources: [");
  EXPECT_EQ(names(changed({"c.yaml"})), (Names{"a", "b"})) << "from then on a bad new file holds up nobody";
}

TEST_F(DirectorySourceTest, ACircleOfAggregatesAcrossFilesIsRefusedInTheFileThatChanged) {
  const auto aggregate = [](const std::string& name, const std::string& members) {
    return "{\"@type\": " + kCds + ", name: " + name +
           ", cluster_type: {name: envoy.clusters.aggregate, typed_config: {\"@type\": "
           "type.googleapis.com/envoy.extensions.clusters.aggregate.v3.ClusterConfig, clusters: [" +
           members + "]}}, lb_policy: CLUSTER_PROVIDED}";
  };
  write_file(dir / "a.yaml", resource_file({aggregate("a", "b, leaf")}));
  write_file(dir / "b.yaml", resource_file({aggregate("b", "c")}));
  write_file(dir / "c.yaml", resource_file({eds_cluster_resource("c"), eds_cluster_resource("leaf")}));
  EXPECT_EQ(text(load()), "");
  write_file(dir / "c.yaml", resource_file({aggregate("c", "leaf, a"), eds_cluster_resource("leaf")}));
  const auto refused = changed({"c.yaml"});
  const std::string said = text(refused);
  EXPECT_NE(said.find("c.yaml:2: Cluster/c: resources[0]: closes a circle: c -> a (in " + dir / "a.yaml" + ") -> b"),
            std::string::npos)
      << said;
  EXPECT_EQ(refused.refused_files, 1u);
  EXPECT_EQ(names(refused), (Names{"a", "b", "c", "leaf"}));
  // Two files that close it together: the later one loses.
  write_file(dir / "b.yaml", resource_file({aggregate("b", "leaf")}));
  const auto mended = changed({"b.yaml"});
  EXPECT_EQ(text(mended), "");
  EXPECT_EQ(mended.mended, Names{dir / "c.yaml"});
  write_file(dir / "c.yaml", resource_file({eds_cluster_resource("c"), eds_cluster_resource("leaf")}));
  EXPECT_EQ(text(changed({"c.yaml"})), "");
  write_file(dir / "a.yaml", resource_file({aggregate("a", "c")}));
  write_file(dir / "b.yaml", resource_file({aggregate("b", "a")}));
  write_file(dir / "c.yaml", resource_file({aggregate("c", "b"), eds_cluster_resource("leaf")}));
  const auto both = changed({"a.yaml", "b.yaml", "c.yaml"});
  EXPECT_NE(text(both).find("c.yaml:2: Cluster/c"), std::string::npos) << text(both);
  EXPECT_EQ(both.refused_files, 1u) << text(both);
}

TEST_F(DirectorySourceTest, CertificatesAreFilesOfTheProxies) {
  std::string tls = test::read_file(OUTRIGGER_SOURCE_DIR "/source/docs/guide/examples/quickstart/tls.yaml");
  write_file(dir / "tls.yaml", tls);
  const auto outcome = load();
  EXPECT_EQ(text(outcome), "");
  EXPECT_EQ(names(outcome, "type.googleapis.com/envoy.config.listener.v3.Listener"), Names{"ingress_tls"});
}

TEST_F(DirectorySourceTest, DuplicatesAreRefusedInTheFileThatChanged) {
  write_file(dir / "a.yaml", resource_file({eds_cluster_resource("a")}));
  write_file(dir / "b.yaml", resource_file({eds_cluster_resource("b")}));
  load();
  write_file(dir / "a.yaml", resource_file({eds_cluster_resource("a"), eds_cluster_resource("b")}));
  const auto refused = changed({"a.yaml"});
  EXPECT_EQ(names(refused), (Names{"a", "b"}));
  EXPECT_NE(text(refused).find(dir / "a.yaml"), std::string::npos) << text(refused);
  EXPECT_NE(text(refused).find("is also in " + dir / "b.yaml"), std::string::npos) << text(refused);
  EXPECT_NE(text(refused).find("Cluster/b"), std::string::npos) << text(refused);
  // The other file gives way: what was refused is taken.
  write_file(dir / "b.yaml", resource_file({eds_cluster_resource("c")}));
  const auto mended = changed({"b.yaml"});
  EXPECT_EQ(names(mended), (Names{"a", "b", "c"}));
  EXPECT_EQ(mended.mended, Names{dir / "a.yaml"});
}

TEST_F(DirectorySourceTest, AResourceMayMoveBetweenFilesInOneBatch) {
  write_file(dir / "a.yaml", resource_file({eds_cluster_resource("a"), eds_cluster_resource("x")}));
  write_file(dir / "b.yaml", resource_file({eds_cluster_resource("b")}));
  load();
  write_file(dir / "a.yaml", resource_file({eds_cluster_resource("a")}));
  write_file(dir / "b.yaml", resource_file({eds_cluster_resource("b"), eds_cluster_resource("x")}));
  const auto moved = changed({"a.yaml", "b.yaml"});
  EXPECT_EQ(text(moved), "");
  EXPECT_EQ(names(moved), (Names{"a", "b", "x"}));
}

TEST_F(DirectorySourceTest, TwiceInOneFileAndTwiceAtTheStart) {
  write_file(dir / "a.yaml", resource_file({eds_cluster_resource("x"), eds_cluster_resource("x")}));
  EXPECT_NE(text(load()).find("Cluster/x"), std::string::npos);
  write_file(dir / "a.yaml", resource_file({eds_cluster_resource("x")}));
  write_file(dir / "b.yaml", resource_file({eds_cluster_resource("x")}));
  const auto both = load();
  EXPECT_EQ(both.snapshot(), nullptr);
  ASSERT_EQ(both.faults.size(), 1u) << text(both);
  EXPECT_EQ(both.faults[0].file, dir / "b.yaml") << "the later one";
}

TEST_F(DirectorySourceTest, FaultsHaveFileLineResourceAndPath) {
  write_file(dir / "a.yaml", resource_file({eds_cluster_resource("a"), eds_cluster_resource("b", "colour: red\n")}));
  write_file(dir / "b.yaml", resource_file({eds_cluster_resource("a")}));
  const auto outcome = load();
  ASSERT_EQ(outcome.faults.size(), 1u) << text(outcome);
  EXPECT_EQ(outcome.faults[0].file, dir / "a.yaml");
  EXPECT_GT(outcome.faults[0].line, 2);
  EXPECT_EQ(outcome.faults[0].resource, "Cluster/b");
  EXPECT_EQ(outcome.faults[0].path, "resources[1].colour");
  write_file(dir / "a.yaml", resource_file({eds_cluster_resource("b"), eds_cluster_resource("a")}));
  const auto twice = load();
  ASSERT_EQ(twice.faults.size(), 1u) << text(twice);
  EXPECT_GT(twice.faults[0].line, 2) << "of the resource that is also elsewhere";
  EXPECT_EQ(twice.faults[0].path, "resources[1]");
}

TEST_F(DirectorySourceTest, WhatTheProxysStoreRefusesIsRefused) {
  write_file(dir / "a.yaml", resource_file({listener_at("one", 8080), listener_at("two", 8080)}));
  const auto outcome = load();
  ASSERT_EQ(outcome.faults.size(), 1u) << text(outcome);
  EXPECT_EQ(outcome.faults[0].resource, "Listener/two");
  EXPECT_GT(outcome.faults[0].line, 2);
  EXPECT_NE(outcome.faults[0].message.find("address"), std::string::npos) << text(outcome);
  write_file(dir / "a.yaml", resource_file({listener_at("one", 0), listener_at("two", 0)}));
  EXPECT_EQ(text(load()), "") << "port 0 is nobody's";
}

TEST_F(DirectorySourceTest, OneAddressInTwoFilesIsAFaultOfTheFileThatChanged) {
  write_file(dir / "a.yaml", resource_file({listener_at("a", 8080)}));
  write_file(dir / "b.yaml", resource_file({listener_at("b", 8081)}));
  EXPECT_EQ(text(load()), "");
  write_file(dir / "a.yaml", resource_file({listener_at("a", 8081)}));
  const auto refused = changed({"a.yaml"});
  ASSERT_EQ(refused.faults.size(), 1u) << text(refused);
  EXPECT_EQ(refused.faults[0].file, dir / "a.yaml");
  EXPECT_NE(text(refused).find("address 127.0.0.1:8081 is that of Listener/b in " + dir / "b.yaml"), std::string::npos)
      << text(refused);
  // The other goes: the address is free.
  fs::remove(dir / "b.yaml");
  EXPECT_EQ(changed({"b.yaml"}).mended, Names{dir / "a.yaml"});
}

TEST_F(DirectorySourceTest, AddressesAreNotSwappedInOneStep) {
  // A proxy would refuse it: each listener holds its address until its own change is live.
  write_file(dir / "a.yaml", resource_file({listener_at("a", 8080)}));
  write_file(dir / "b.yaml", resource_file({listener_at("b", 8081)}));
  const auto first = load();
  write_file(dir / "a.yaml", resource_file({listener_at("a", 8081)}));
  write_file(dir / "b.yaml", resource_file({listener_at("b", 8080)}));
  const auto swapped = changed({"a.yaml", "b.yaml"});
  EXPECT_EQ(swapped.refused_files, 2u) << text(swapped);
  EXPECT_EQ(swapped.snapshot()->version(), first.snapshot()->version());
  EXPECT_FALSE(swapped.try_again);
  // One after the other.
  write_file(dir / "a.yaml", resource_file({listener_at("a", 8082)}));
  const auto half = changed({"a.yaml"});
  EXPECT_EQ(half.refused_files, 1u) << "b waits for this change to be served";
  EXPECT_TRUE(half.try_again);
  const auto whole = changed({});
  EXPECT_EQ(whole.refused_files, 0u);
  EXPECT_FALSE(whole.try_again);
}

TEST_F(DirectorySourceTest, RescanFindsEverything) {
  write_file(dir / "a.yaml", resource_file({eds_cluster_resource("a")}));
  write_file(dir / "b.yaml", resource_file({eds_cluster_resource("b")}));
  load();
  fs::remove(dir / "a.yaml");
  write_file(dir / "c.yaml", resource_file({eds_cluster_resource("c")}));
  event::FileBatch batch;
  batch.rescan.push_back(dir.path().string() + "/");
  EXPECT_EQ(names(source.update(batch)), (Names{"b", "c"}));
  fs::rename(dir.path(), dir.path().string() + "_away");
  EXPECT_EQ(names(source.update(batch)), (Names{"b", "c"})) << "a directory that is gone changes nothing";
  fs::rename(dir.path().string() + "_away", dir.path());
}

TEST_F(DirectorySourceTest, OddEntriesAreNoFiles) {
  fs::create_directory(dir / "sub.yaml");
  fs::create_symlink("nowhere", dir / "dangling.yaml");
  write_file(dir / "a.yaml", resource_file({eds_cluster_resource("a")}));
  const auto outcome = load();
  EXPECT_EQ(text(outcome), "");
  EXPECT_EQ(names(outcome), Names{"a"});
}

// ---- groups.yaml ----

class GroupsTest : public DirectorySourceTest {
 protected:
  GroupsTest() {
    fs::create_directory(dir / "edge");
    write_file(dir / "all.yaml", resource_file({eds_cluster_resource("shared")}));
    write_file(dir / "edge/a.yaml", resource_file({eds_cluster_resource("a")}));
  }
  void groups(const std::string& text) { write_file(dir / "groups.yaml", text); }
  Names edge(const DirectorySource::Outcome& outcome) { return names(outcome, kCds, "edge"); }
  static constexpr const char* kEdge = "groups: [{name: edge, match: {cluster: {exact: edge}}, files: [., edge]}]\n";
};

TEST_F(GroupsTest, ResourcesAndSetsAreSharedBetweenGroups) {
  fs::create_directory(dir / "other");
  write_file(dir / "other/a.yaml", resource_file({eds_cluster_resource("a"), endpoints_resource("a", {80})}));
  write_file(dir / "edge/e.yaml", resource_file({endpoints_resource("a", {80})}));
  groups(std::string(kEdge) + "default: {files: [other, all.yaml]}\n");
  const auto outcome = load();
  EXPECT_EQ(text(outcome), "");
  EXPECT_EQ(edge(outcome), (Names{"a", "shared"}));
  EXPECT_EQ(names(outcome), (Names{"a", "shared"}));
  EXPECT_EQ(outcome.snapshot()->find(kCds), outcome.snapshot("edge")->find(kCds)) << "equal, though of other files";
  EXPECT_EQ(outcome.resources(), 3u);
  EXPECT_EQ(outcome.rules.size(), 1u);
  EXPECT_EQ(source.directories(), (Names{dir.path(), dir / "edge", dir / "other"}));
}

TEST_F(GroupsTest, OneNameInTwoGroupsIsNoConflictInOneItIs) {
  write_file(dir / "edge/l.yaml", resource_file({listener_at("ingress", 8080)}));
  write_file(dir / "plain.yaml", resource_file({listener_at("ingress", 8080)}));
  groups("groups: [{name: edge, match: {cluster: {exact: edge}}, files: edge}]\n");
  EXPECT_EQ(text(load()), "");
  groups(kEdge);
  const auto refused = changed({"groups.yaml"});
  EXPECT_NE(text(refused).find("groups.yaml"), std::string::npos) << text(refused);
  EXPECT_NE(text(refused).find("Listener/ingress"), std::string::npos) << text(refused);
  EXPECT_EQ(edge(refused), Names{"a"}) << "the old groups stay";
  fs::remove(dir / "edge/l.yaml");
  const auto mended = changed({"edge/l.yaml"});
  EXPECT_EQ(edge(mended), (Names{"a", "shared"})) << text(mended);
  EXPECT_EQ(mended.mended, Names{dir / "groups.yaml"});
  // From now on a duplicate in the group is the file's fault.
  write_file(dir / "edge/l.yaml", resource_file({eds_cluster_resource("shared")}));
  EXPECT_NE(text(changed({"edge/l.yaml"})).find("edge/l.yaml:2: Cluster/shared: resources[0]: is also in"),
            std::string::npos);
}

TEST_F(GroupsTest, FaultsHaveLineAndPath) {
  groups(R"(groups:
- name: edge
  match: [{}]
  files: [/etc, ../up, ""]
- name: edge
  match: {id: {suffix: x}}
- name: default
  match: {metadata: {value: {exact: x}}}
  files: [.]
)");
  const std::string told = text(load());
  for (const char* part : {"groups.yaml:3: groups[0].match[0]: matches every node",
                           "groups.yaml:4: groups[0].files[0]: must be a path inside",
                           "groups[0].files[1]: must be a path inside", "groups[0].files[2]: must not be empty"})
    EXPECT_NE(told.find(part), std::string::npos) << part << "\n" << told;
  EXPECT_NE(told.find("groups[1].match[0].id.suffix"), std::string::npos) << told;
}

TEST_F(GroupsTest, EveryFaultOfASelectorIsTold) {
  groups(R"(groups:
- {name: edge, match: {id: {}}, files: [.]}
- {name: edge, files: [.]}
- {name: default, match: {metadata: {value: {exact: x}}}, files: []}
- {name: "a b", match: {id: {exact: x}}, files: [.]}
)");
  const std::string told = text(load());
  for (const char* part : {"groups.yaml:2: groups[0].match[0].id: needs exact or prefix",
                           "two groups are named \"edge\"", "groups[1].match: needs at least one selector",
                           "\"default\" is the group", "groups[2].match[0].metadata[0].path: needs at least one key",
                           "groups[2].files: needs at least one", "groups[3].name: must not have spaces"})
    EXPECT_NE(told.find(part), std::string::npos) << part << "\n" << told;
}

TEST_F(GroupsTest, NothingIsServedBesideABrokenGroupsFile) {
  groups("groups: {");
  EXPECT_TRUE(load().groups.empty());
  groups(kEdge);
  EXPECT_EQ(edge(changed({"groups.yaml"})), (Names{"a", "shared"}));
}

TEST_F(GroupsTest, ChangedGroupsWaitForTheirFilesAndDirectories) {
  load();
  groups("groups: [{name: edge, match: {cluster: {exact: edge}}, files: [edge, new, b.yaml]}]\n");
  const auto missing = changed({"groups.yaml"});
  EXPECT_NE(text(missing).find("groups[0].files[1]: " + (dir / "new") + " is not there"), std::string::npos)
      << text(missing);
  EXPECT_TRUE(missing.try_again);
  EXPECT_EQ(missing.groups.size(), 1u);
  fs::create_directory(dir / "new");
  write_file(dir / "new/n.yaml", "resources: [");
  write_file(dir / "b.yaml", resource_file({eds_cluster_resource("b")}));
  const auto bad = changed({"b.yaml"});
  EXPECT_NE(text(bad).find("waits for " + (dir / "new/n.yaml")), std::string::npos) << text(bad);
  EXPECT_EQ(bad.groups.size(), 1u) << "a group without one of its files would delete what that has";
  write_file(dir / "new/n.yaml", resource_file({eds_cluster_resource("n")}));
  EXPECT_EQ(edge(changed({"new/n.yaml"})), (Names{"a", "b", "n"}));
}

TEST_F(GroupsTest, AFileThatIsNamedAndADirectoryThatIsGoneChangeNothing) {
  groups("groups: [{name: edge, match: {cluster: {exact: edge}}, files: [edge, all.yaml]}]\n");
  load();
  fs::remove(dir / "all.yaml");
  fs::remove_all(dir / "edge");
  event::FileBatch batch;
  batch.changed = {dir / "all.yaml"};
  batch.rescan = {dir / "edge"};
  const auto outcome = source.update(batch);
  EXPECT_EQ(edge(outcome), (Names{"a", "shared"}));
  EXPECT_NE(text(outcome).find("is gone; groups.yaml names it"), std::string::npos) << text(outcome);
  // Without groups.yaml all is as without groups, and with nothing left there is nothing.
  fs::remove(dir / "groups.yaml");
  const auto plain = changed({"groups.yaml"});
  EXPECT_EQ(plain.groups.size(), 1u);
  EXPECT_EQ(plain.refused_files, 0u) << text(plain);
}

TEST(Selectors, AllThatIsSaidMustHoldAndTheFirstRuleWins) {
  const ClientInfo client{.node_id = "edge-7",
                          .node_cluster = "edge",
                          .user_agent = "envoy",
                          .metadata = {{{"labels", "track"}, "canary"}, {{"zones"}, "a"}, {{"zones"}, "b"}},
                          .tls_identities = {"spiffe://x/edge"}};
  const auto edge = TextMatch::exact("edge");
  EXPECT_TRUE((NodeSelector{.id = TextMatch::prefix("edge-"), .cluster = edge}.matches(client)));
  EXPECT_FALSE((NodeSelector{.id = edge, .cluster = edge}.matches(client)));
  EXPECT_FALSE((NodeSelector{.user_agent = TextMatch::prefix("gRPC")}.matches(client)));
  EXPECT_TRUE((NodeSelector{.tls_identity = TextMatch::prefix("spiffe://x/")}.matches(client)));
  EXPECT_FALSE((NodeSelector{.tls_identity = edge}.matches(client)));
  EXPECT_TRUE((NodeSelector{.metadata = {{{"zones"}, TextMatch::exact("b")}}}.matches(client)));
  EXPECT_FALSE((NodeSelector{.metadata = {{{"labels.track"}, TextMatch::exact("canary")}}}.matches(client)));
  EXPECT_FALSE((NodeSelector{.metadata = {{{"zones"}, TextMatch::exact("b")}, {{"no"}, edge}}}.matches(client)));
  const std::vector<GroupRule> rules = {
      {"no", {{.id = edge}}}, {"one", {{.id = edge}, {.cluster = edge}}}, {"two", {{}}}};
  EXPECT_EQ(group_of(rules, client), "one");
  EXPECT_EQ(group_of(rules, {}), "two");
  EXPECT_EQ(group_of({}, client), "");
}

TEST_F(DirectorySourceTest, InconsistenciesAreTold) {
  write_file(dir / "a.yaml", resource_file({eds_cluster_resource("a"), eds_cluster_resource("b"),
                                            endpoints_resource("b", {80}), listener_at("l", 8080)}));
  const auto outcome = load();
  std::string told;
  for (const Inconsistency& one : check_consistency(*outcome.snapshot())) told += one.name + ": " + one.problem + "\n";
  EXPECT_EQ(told, "a: names what is not there: endpoints a\nl: names what is not there: route table table: unknown\n");
  const auto broken = ResourceSnapshot::make({Resource::make(kCds, "c", "\xff")});
  EXPECT_EQ(check_consistency(**broken).size(), 1u);
}

}  // namespace
}  // namespace outrigger::control
