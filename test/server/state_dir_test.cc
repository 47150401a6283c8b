// The last good configuration on disk: its format, what is refused, what is never in it.
#include "server/state_dir.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>

#include "base/hash.h"
#include "config/translate.h"
#include "filters/all_filters.h"
#include "running_server.h"
#include "support/certificates.h"
#include "support/temp_dir.h"

namespace outrigger::server {
namespace {

using config::ResourceType;
using test::wait_until;

Remembered sample() {
  return {.saved_unix_ms = 1'700'000'000'123,
          .node = "me/fleet",
          .resources = {{ResourceType::kCluster, "a", "", "1", "bytes of a"},
                        {ResourceType::kListener, "", "", "", std::string("\0\xff", 2)},
                        {ResourceType::kEndpoints, "e", "control_b#1", "version 2", ""}}};
}

std::string why_not(std::string_view bytes) {
  const auto state = decode(bytes);
  return state ? "" : state.error().detail;
}

TEST(StateFormat, WhatWasWrittenIsRead) {
  EXPECT_EQ(*decode(encode(sample())), sample());
  EXPECT_EQ(*decode(encode({})), Remembered{});
}

// Before 2 there was but one source of a name.
TEST(StateFormat, Format1IsRead) {
  const auto number = [](uint64_t value, int bytes) {
    std::string out;
    for (int i = 0; i < bytes; ++i) out += static_cast<char>(value >> (8 * i) & 0xff);
    return out;
  };
  const auto text = [&](const std::string& t) { return number(t.size(), 4) + t; };
  const std::string payload = number(5, 8) + text("me/fleet") + number(1, 4) +
                              number(static_cast<uint64_t>(ResourceType::kCluster), 1) + text("a") + text("1") +
                              text("bytes");
  const std::string old = std::string("\x89OUTLKG\n") + number(1, 4) + number(0, 4) + number(payload.size(), 8) +
                          number(content_hash(payload), 8) + payload;
  const auto state = decode(old);
  ASSERT_TRUE(state) << state.error().detail;
  EXPECT_EQ(*state, (Remembered{.saved_unix_ms = 5,
                                .node = "me/fleet",
                                .resources = {{ResourceType::kCluster, "a", "", "1", "bytes"}}}));
}

TEST(StateFormat, EveryCutAndEveryFlippedBitIsRefused) {
  const std::string whole = encode(sample());
  for (size_t size = 0; size < whole.size(); ++size) EXPECT_NE(why_not(whole.substr(0, size)), "") << size;
  for (size_t bit = 0; bit < whole.size() * 8; ++bit) {
    std::string bytes = whole;
    bytes[bit / 8] = static_cast<char>(bytes[bit / 8] ^ (1 << bit % 8));
    EXPECT_NE(why_not(bytes), "") << bit;
  }
  EXPECT_NE(why_not(whole + "x"), "");
}

TEST(StateFormat, ReasonsAreTold) {
  std::string bytes = encode(sample());
  EXPECT_EQ(why_not("static_resources: {}\n and more of a file that is another's"), "is no state of outrigger");
  EXPECT_NE(why_not(bytes.substr(0, bytes.size() - 1)).find("is torn"), std::string::npos);
  EXPECT_NE(why_not(bytes.substr(0, 20)).find("header"), std::string::npos);
  std::string newer = bytes;
  newer[8] = 3;
  EXPECT_EQ(why_not(newer), "has format 3, this program knows format 2");
  bytes.back() = static_cast<char>(bytes.back() + 1);
  EXPECT_NE(why_not(bytes).find("checksum"), std::string::npos);
}

// A status with live resources, as the builder tells it, read from YAML.
std::shared_ptr<const proxy::StoreStatus> status_of(const std::vector<std::string>& yaml, const std::string& version) {
  stats::Registry registry(1);
  config::StateRegistry states;
  config::Translator translator(filters::all_filters(), states, registry, {});
  auto status = std::make_shared<proxy::StoreStatus>();
  for (const std::string& one : yaml) {
    config::Faults faults;
    auto read = translator.resource_file("resources: [" + one + "]", "r.yaml", faults);
    EXPECT_TRUE(faults.ok() && read.at(0).spec) << faults.str() << read.at(0).faults.str();
    proxy::StoreStatus::Resource resource{.name = read[0].name, .type = read[0].type, .source = proxy::Source::kXds};
    resource.live_version = version;
    resource.live_bytes = read[0].bytes;
    status->resources.put(std::move(resource));
  }
  return status;
}

std::string cluster(const std::string& name) {
  return "{\"@type\": type.googleapis.com/envoy.config.cluster.v3.Cluster, name: " + name + ", type: STATIC}";
}

std::string listener_with_key(const std::string& key) {
  std::string yaml = listener_yaml("main", direct_response("x"));
  const std::string at = "http_filters: [";
  yaml.insert(
      yaml.find(at) + at.size(),
      "{name: keys, typed_config: {\"@type\": type.googleapis.com/envoy.extensions.filters.http.api_key_auth.v3."
      "ApiKeyAuth, credentials: [{key: " +
          key + ", client: c}], key_sources: [{header: x-api-key}]}}, ");
  return "{\"@type\": type.googleapis.com/envoy.config.listener.v3.Listener, " + yaml.substr(1);
}

// `key`: a DataSource.
std::string listener_with_tls(const test::Certificate& certificate, const std::string& key) {
  std::string chain;
  for (const char c : certificate.pem) chain += c == '\n' ? std::string("\\n") : std::string(1, c);
  std::string yaml = listener_yaml("tls", direct_response("x"));
  yaml.insert(yaml.find("filters:"),
              "transport_socket: {name: tls, typed_config: {\"@type\": "
              "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext, common_tls_context: "
              "{tls_certificates: [{certificate_chain: {inline_string: \"" +
                  chain + "\"}, private_key: " + key + "}]}}}, ");
  return "{\"@type\": type.googleapis.com/envoy.config.listener.v3.Listener, " + yaml.substr(1);
}

struct StateDirTest : testing::Test {
  std::unique_ptr<StateDir> open(const std::string& node = "me") {
    auto opened = StateDir::open(path, node, registry);
    EXPECT_TRUE(opened.has_value()) << opened.error().detail;
    return std::move(*opened);
  }
  test::TempDir dir;
  const std::string path = dir / "state";
  stats::Registry registry{1};
};

TEST_F(StateDirTest, TheLastStateSavedIsThereAfterTheEnd) {
  auto state_dir = open();
  EXPECT_FALSE(state_dir->load()->has_value());
  std::vector<decltype(status_of({}, ""))> states;  // made before, so that the time of making them is not between saves
  for (int i = 0; i <= 100; ++i) states.push_back(status_of({cluster("a"), cluster("b")}, std::to_string(i)));
  for (auto& state : states) state_dir->save(std::move(state));
  EXPECT_LE(registry.value("state_dir.written"), 2u);  // coalesced
  state_dir.reset();
  state_dir = open();
  const auto found = state_dir->load();
  ASSERT_TRUE(found.has_value() && found->has_value());
  ASSERT_EQ((*found)->resources.size(), 2u);
  EXPECT_EQ((*found)->resources[1].name, "b");
  EXPECT_EQ((*found)->resources[1].version, "100");
  struct stat file {};
  ASSERT_EQ(::stat(state_dir->path().c_str(), &file), 0);
  EXPECT_EQ(file.st_mode & 0777, 0600u);
  EXPECT_FALSE(std::filesystem::exists(state_dir->path() + ".new"));
}

TEST_F(StateDirTest, WhatIsThereAlreadyIsNotWrittenAgain) {
  auto state_dir = open();
  state_dir->save(status_of({cluster("a")}, "1"));
  ASSERT_TRUE(wait_until([&] { return registry.value("state_dir.written") == 1; }));
  const auto written_at = std::filesystem::last_write_time(state_dir->path());
  state_dir->save(status_of({cluster("a")}, "1"));
  state_dir.reset();
  EXPECT_EQ(std::filesystem::last_write_time(path + "/last_known_good"), written_at);
}

TEST_F(StateDirTest, SecretsAreNotInTheFile) {
  auto state_dir = open();
  auto status = std::make_shared<proxy::StoreStatus>(*status_of({listener_with_key("hunter2"), cluster("a")}, "1"));
  proxy::StoreStatus::Resource of_bootstrap = *std::next(status->resources.begin());
  of_bootstrap.name = "b";
  of_bootstrap.source = proxy::Source::kStatic;  // the bootstrap's own are not remembered
  auto with_it = std::make_shared<proxy::StoreStatus>(*status);
  with_it->resources.put(of_bootstrap);
  status = with_it;
  state_dir->save(status);
  EXPECT_TRUE(wait_until([&] { return registry.value("state_dir.left_out") == 1; }));
  state_dir.reset();
  EXPECT_EQ(test::read_file(path + "/last_known_good").find("hunter2"), std::string::npos);
  EXPECT_EQ((*open()->load())->resources.size(), 1u);
}

// What a file is called is no secret, what is in it is not in the message.
TEST_F(StateDirTest, WhatNamesAKeysFileIsInTheFile) {
  const test::Certificate mine = test::CertificateAuthority().issue("a");
  test::write_file(dir / "tls.key", mine.private_key);
  auto state_dir = open();
  state_dir->save(status_of({listener_with_tls(mine, "{filename: \"" + (dir / "tls.key") + "\"}")}, "1"));
  ASSERT_TRUE(wait_until([&] { return registry.value("state_dir.written") == 1; }));
  EXPECT_EQ(registry.value("state_dir.left_out"), 0u);
  std::string inlined = "{inline_string: \"";
  for (const char c : mine.private_key) inlined += c == '\n' ? std::string("\\n") : std::string(1, c);
  state_dir->save(status_of({listener_with_tls(mine, inlined + "\"}"), cluster("a")}, "2"));
  EXPECT_TRUE(wait_until([&] { return registry.value("state_dir.left_out") == 1; }));
  EXPECT_TRUE(wait_until([&] { return registry.value("state_dir.written") == 2; }));
  EXPECT_EQ(test::read_file(path + "/last_known_good").find("PRIVATE KEY"), std::string::npos);
  state_dir->save(status_of({listener_with_tls(mine, "{filename: \"" + (dir / "tls.key") + "\"}")}, "3"));
  state_dir.reset();
  const std::string written = test::read_file(path + "/last_known_good");
  EXPECT_NE(written.find(dir / "tls.key"), std::string::npos);
  EXPECT_EQ(written.find("PRIVATE KEY"), std::string::npos);
  EXPECT_EQ((*open()->load())->resources.size(), 1u);
}

TEST_F(StateDirTest, AnotherNodesStateIsRefused) {
  auto state_dir = open("me");
  state_dir->save(status_of({cluster("a")}, "1"));
  state_dir.reset();
  const auto found = open("you")->load();
  ASSERT_FALSE(found.has_value());
  EXPECT_NE(found.error().detail.find("is the state of node \"me\", this is node \"you\""), std::string::npos);
}

TEST_F(StateDirTest, WhatCannotBeWrittenIsCounted) {
  auto state_dir = open();
  std::filesystem::create_directories(state_dir->path() + ".new/in the way");
  state_dir->save(status_of({cluster("a")}, "1"));
  EXPECT_TRUE(wait_until([&] { return registry.value("state_dir.write_failed") == 1; }));
  state_dir.reset();
  test::write_file(dir / "a file", "");
  EXPECT_FALSE(StateDir::open(dir / "a file", "me", registry).has_value());
}

}  // namespace
}  // namespace outrigger::server
