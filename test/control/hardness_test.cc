// Clients that behave badly, and thousands of them: what they cost, and that they cost nobody else.
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <atomic>
#include <chrono>
#include <deque>
#include <filesystem>
#include <fstream>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "control/raw_client.h"
#include "envoy/service/discovery/v3/discovery.pb.h"
#include "outrigger/control/ads_server.h"
#include "support/grpc_bytes.h"
#include "support/process.h"
#include "support/resources.h"
#include "support/sanitizers.h"
#include "support/temp_dir.h"
#include "support/wait.h"

namespace outrigger::control {
namespace {

using envoy::service::discovery::v3::DiscoveryRequest;
using envoy::service::discovery::v3::DiscoveryResponse;
using test::ControlProcess;
using test::wait_until;
using Names = std::vector<std::string>;

const std::string kCds = "type.googleapis.com/envoy.config.cluster.v3.Cluster";
const std::string kEds = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment";

// A line of /proc/PID/status: KiB of VmRSS, number of Threads.
size_t proc_status(pid_t pid, const std::string& key) {
  std::ifstream file("/proc/" + std::to_string(pid) + "/status");
  for (std::string line; std::getline(file, line);)
    if (line.rfind(key + ":", 0) == 0) return std::stoul(line.substr(key.size() + 1));
  ADD_FAILURE() << "no " << key;
  return 0;
}

// One proxy of many: asks for clusters, acknowledges what comes, and remembers its version. On bytes: a message then
// lives in one function, on one thread, and what it makes is behind the mutex, whose order ThreadSanitizer sees (gRPC's
// it does not).
class Member final : public grpc::ClientBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer> {
 public:
  explicit Member(std::shared_ptr<grpc::Channel> channel, std::string version = {})
      : stub_(std::move(channel)), version_(std::move(version)) {
    std::lock_guard lock(mutex_);
    context_.set_deadline(std::chrono::system_clock::now() + std::chrono::minutes(3));
    context_.set_wait_for_ready(true);
    stub_.PrepareBidiStreamingCall(
        &context_, "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources", {}, this);
    DiscoveryRequest request;
    request.mutable_node()->set_id("member");
    request.set_type_url(kCds);
    request.set_version_info(version_);
    write(request);
    StartRead(&incoming_);
    StartCall();
  }
  ~Member() override { std::lock_guard lock(mutex_); }

  void OnReadDone(bool ok) override {
    std::lock_guard lock(mutex_);
    if (!ok) return;
    DiscoveryResponse response;
    if (!response.ParseFromString(test::text_of(incoming_))) return context_.TryCancel();
    incoming_.Clear();
    ++responses_;
    version_ = response.version_info();
    nonce_ = response.nonce();
    owes_answer_ = true;
    answer();
    StartRead(&incoming_);
  }
  void OnWriteDone(bool ok) override {
    std::lock_guard lock(mutex_);
    writing_ = false;
    asked_ = true;
    if (ok) answer();
  }
  void OnDone(const grpc::Status&) override {
    std::lock_guard lock(mutex_);
    done_ = true;
  }

  void cancel() { context_.TryCancel(); }
  bool done() {
    std::lock_guard lock(mutex_);
    return done_;
  }
  bool asked() const { return asked_; }
  size_t responses() {
    std::lock_guard lock(mutex_);
    return responses_;
  }
  std::string version() {
    std::lock_guard lock(mutex_);
    return version_;
  }

 private:
  void answer() {
    if (writing_ || !owes_answer_) return;
    owes_answer_ = false;
    writing_ = true;
    DiscoveryRequest request;
    request.set_type_url(kCds);
    request.set_version_info(version_);
    request.set_response_nonce(nonce_);
    write(request);
  }
  void write(const DiscoveryRequest& request) {
    outgoing_ = test::bytes_of(request.SerializeAsString());
    StartWrite(&outgoing_);
  }

  grpc::GenericStub stub_;
  grpc::ClientContext context_;
  grpc::ByteBuffer incoming_, outgoing_;
  std::mutex mutex_;
  std::string version_, nonce_;
  size_t responses_ = 0;
  bool writing_ = true, owes_answer_ = false, done_ = false;
  std::atomic<bool> asked_ = false;
};

// So many proxies, each with a connection of its own.
class Fleet {
 public:
  Fleet(size_t size, uint16_t port) {
    grpc::ChannelArguments args;
    args.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    // Not GRPC_ARG_MIN_RECONNECT_BACKOFF_MS: an attempt would end after so long, and those of a fleet to a slow machine
    // would never do anything else.
    args.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 200);
    args.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 1000);
    for (size_t i = 0; i < size; ++i) {
      channels_.push_back(
          grpc::CreateCustomChannel("127.0.0.1:" + std::to_string(port), grpc::InsecureChannelCredentials(), args));
      members_.push_back(std::make_unique<Member>(channels_.back()));
    }
  }
  ~Fleet() {
    for (auto& member : members_) member->cancel();
    EXPECT_TRUE(all([](Member& member) { return member.done(); }));
  }
  template <class Condition>
  bool all(Condition condition) {
    return wait_until(
        [&] {
          for (auto& member : members_)
            if (!condition(*member)) return false;
          return true;
        },
        std::chrono::minutes(2));
  }
  // Every one again, with what it has.
  void reconnect() {
    for (size_t i = 0; i < members_.size(); ++i)
      members_[i] = std::make_unique<Member>(channels_[i], members_[i]->version());
  }
  Member& one() { return *members_.front(); }

 private:
  std::vector<std::shared_ptr<grpc::Channel>> channels_;
  std::vector<std::unique_ptr<Member>> members_;
};

class HardnessTest : public ::testing::Test {
 protected:
  // Instrumented programs are slow and large; what is bounded is so with fewer, too.
  static constexpr size_t kFleet = test::kThreadSanitizer ? 100 : test::kAddressSanitizer ? 300 : 2'000;
  static constexpr int kLarge = test::kThreadSanitizer ? 2'000 : test::kAddressSanitizer ? 4'000 : 20'000;
  static constexpr bool kMeasures = !test::kInstrumented;
  HardnessTest() {
    rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
  }
  // So many clusters, the first one's timeout so many seconds.
  void serve(size_t clusters, int timeout_s = 1) {
    Names resources;
    for (size_t i = 0; i < clusters; ++i)
      resources.push_back(test::eds_cluster_resource("cluster-" + std::to_string(i)));
    const std::string before = "connect_timeout: 5s";
    const size_t at = resources.at(0).find(before);
    ASSERT_NE(at, std::string::npos);
    resources[0].replace(at, before.size(), "connect_timeout: " + std::to_string(timeout_s) + "s");
    test::write_file(dir / "clusters.yaml", test::resource_file(resources));
  }
  static std::string of(const std::string& name) {
    return "outrigger_control_" + name + "{type=\"envoy.config.cluster.v3.Cluster\"}";
  }

  test::TempDir dir;
};

TEST_F(HardnessTest, AFleetOnOneProcessAndARestartThatResendsNothing) {
  using Clock = std::chrono::steady_clock;
  const auto ms_since = [](Clock::time_point began) {
    return std::chrono::duration_cast<std::chrono::milliseconds>(Clock::now() - began).count();
  };
  serve(1'000);
  auto control = std::make_unique<ControlProcess>(dir.path());
  ASSERT_TRUE(control->started()) << control->output();
  const uint16_t port = control->port();
  const size_t before_kib = proc_status(control->process().pid(), "VmRSS");
  auto began = Clock::now();
  Fleet fleet(kFleet, port);
  ASSERT_TRUE(fleet.all([](Member& member) { return member.responses() == 1; }));
  const auto connect_ms = ms_since(began);
  ASSERT_TRUE(wait_until([&] { return control->metric(of("acks_total")) == kFleet; }));
  EXPECT_EQ(control->metric("outrigger_control_streams{kind=\"sotw\"}"), kFleet);
  const std::string first = fleet.one().version();
  began = Clock::now();
  serve(1'000, 2);
  ASSERT_TRUE(fleet.all([&](Member& member) { return member.version() != first; }));
  const auto push_ms = ms_since(began);
  ASSERT_TRUE(wait_until([&] { return control->metric(of("acks_total")) == 2 * kFleet; }));
  const size_t after_kib = proc_status(control->process().pid(), "VmRSS");
  const size_t threads = proc_status(control->process().pid(), "Threads");
  EXPECT_LT(threads, 64u);
  const size_t each_kib = (after_kib - before_kib) / kFleet;
  if (kMeasures) {
    EXPECT_LT(each_kib, 160u) << before_kib << " to " << after_kib;
  }

  // A restart: all come back at once and name what they have.
  control->process().signal(SIGTERM);
  ASSERT_EQ(control->process().wait_exit(), 0) << control->output();
  ASSERT_TRUE(fleet.all([](Member& member) { return member.done(); }));
  began = Clock::now();
  control = std::make_unique<ControlProcess>(dir.path(), port);
  ASSERT_TRUE(control->started()) << control->output();
  fleet.reconnect();
  ASSERT_TRUE(wait_until([&] { return control->metric(of("resumed_total")) == kFleet; }, std::chrono::minutes(2)));
  const auto resume_ms = ms_since(began);
  EXPECT_EQ(control->metric(of("responses_total")).value_or(0), 0) << "nothing is sent again";
  EXPECT_EQ(fleet.one().responses(), 0u);
  // And the next change reaches them.
  serve(1'000, 3);
  ASSERT_TRUE(fleet.all([](Member& member) { return member.responses() == 1; }));
  printf(
      "%zu streams: connected and served in %ld ms, a change in %ld ms, resumed in %ld ms; %zu KiB each, %zu threads\n",
      kFleet, static_cast<long>(connect_ms), static_cast<long>(push_ms), static_cast<long>(resume_ms), each_kib,
      threads);
}

TEST_F(HardnessTest, ClientsThatNeverReadShareWhatTheyAreOwed) {
  // Two megabytes, far more than HTTP/2's window.
  serve(kLarge);
  ControlProcess control(dir.path());
  ASSERT_TRUE(control.started()) << control.output();
  const auto ask = [&](RawClient& client) { return client.ask(kCds); };
  RawClient good(control.port());
  ask(good);
  const auto response = good.read();
  EXPECT_EQ(response.resources_size(), kLarge);
  good.ack(response);
  const size_t before_kib = proc_status(control.process().pid(), "VmRSS");
  std::deque<RawClient> deaf;
  constexpr size_t kDeaf = 60;
  for (size_t i = 0; i < kDeaf; ++i) ask(deaf.emplace_back(control.port()));
  ASSERT_TRUE(wait_until([&] { return control.metric(of("responses_total")) == kDeaf + 1; }));
  const size_t each_kib = (proc_status(control.process().pid(), "VmRSS") - before_kib) / kDeaf;
  if (kMeasures) {
    EXPECT_LT(each_kib, response.ByteSizeLong() / 1024 / 4) << "not a copy each";
  }
  serve(kLarge, 2);
  EXPECT_NE(good.read().version_info(), response.version_info()) << "nobody waits for them";
  EXPECT_EQ(control.metric(of("responses_total")), kDeaf + 2);
  EXPECT_EQ(deaf.front().read().resources_size(), kLarge) << "whole when it is read at last";
}

TEST_F(HardnessTest, AClientThatNeverAcknowledgesIsSentNothingMore) {
  serve(1);
  ControlProcess control(dir.path());
  ASSERT_TRUE(control.started()) << control.output();
  RawClient silent(control.port()), good(control.port());
  silent.ask(kCds);
  silent.read();
  good.ask(kCds);
  good.ack(good.read());
  for (int i = 2; i < 22; ++i) {
    serve(1, i);
    good.ack(good.read());
  }
  EXPECT_EQ(control.metric(of("responses_total")), 22);
}

TEST_F(HardnessTest, AHundredThousandNamesAndMoreThanTheLimit) {
  test::write_file(dir / "a.yaml", test::resource_file({test::endpoints_resource("name-7", {80})}));
  serve(1);
  ControlProcess control(dir.path());
  ASSERT_TRUE(control.started()) << control.output();
  const auto names = [](size_t count) {
    Names all;
    for (size_t i = 0; i < count; ++i) all.push_back("name-" + std::to_string(i));
    return all;
  };
  RawClient greedy(control.port());
  greedy.ask(kEds, names(100'000));
  const auto response = greedy.read();
  EXPECT_EQ(response.resources_size(), 1);
  greedy.ack(response, names(100'000));
  test::write_file(dir / "a.yaml", test::resource_file({test::endpoints_resource("name-7", {81})}));
  EXPECT_EQ(greedy.read().resources_size(), 1) << "it is served on";
  RawClient over(control.port());
  over.ask(kEds, names(200'001));
  EXPECT_EQ(over.end().error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  RawClient good(control.port());
  good.ask(kCds);
  EXPECT_EQ(good.read().resources_size(), 1);
  // A message beyond the limit ends its stream alone.
  ControlProcess tight(dir.path(), 0, {"--max-message-bytes", "10000"});
  ASSERT_TRUE(tight.started()) << tight.output();
  RawClient large(tight.port());
  large.ask(kEds, names(10'000));
  EXPECT_EQ(large.end().error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
}

TEST_F(HardnessTest, AStormOfReconnectsLeavesNothing) {
  serve(10);
  ControlProcess control(dir.path(), 0, {"--max-streams", "100"});
  ASSERT_TRUE(control.started()) << control.output();
  std::string version;
  {
    RawClient client(control.port());
    client.ask(kCds);
    const auto response = client.read();
    version = response.version_info();
    client.ack(response);
  }
  constexpr int kRounds = 10, kClients = 50;
  for (int round = 0; round < kRounds; ++round) {
    std::deque<RawClient> clients;
    for (int i = 0; i < kClients; ++i) clients.emplace_back(control.port()).ask(kCds, {}, version);
  }
  EXPECT_TRUE(wait_until([&] { return control.metric("outrigger_control_streams{kind=\"sotw\"}") == 0; }));
  EXPECT_EQ(control.metric(of("responses_total")), 1);
  // Streams beyond the limit are refused, those within are not disturbed.
  std::deque<RawClient> clients;
  for (int i = 0; i < 100; ++i) clients.emplace_back(control.port()).ask(kCds, {}, version);
  ASSERT_TRUE(wait_until([&] { return control.metric("outrigger_control_streams{kind=\"sotw\"}") == 100; }));
  RawClient many(control.port());
  many.ask(kCds);
  EXPECT_EQ(many.end().error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_EQ(control.metric("outrigger_control_refused_total{reason=\"too_many_streams\"}"), 1);
  serve(10, 2);
  for (RawClient& client : clients) EXPECT_EQ(client.read().resources_size(), 10);
}

TEST(HardnessServer, ConnectionsOfAgeAreSentAwayAndResume) {
  ResourceCache cache;
  cache.set(*ResourceSnapshot::make({Resource::make(kCds, "a", "one")}));
  AdsServer server(cache, {.max_connection_age_ms = 300, .stop_grace_ms = 100});
  const auto port = server.start("127.0.0.1:0");
  ASSERT_TRUE(port);
  std::string version;
  for (int i = 0; i < 3; ++i) {
    RawClient client(*port);
    client.ask(kCds, {}, version);
    if (i == 0) {
      const auto response = client.read();
      version = response.version_info();
      client.ack(response);
    }
    EXPECT_EQ(client.end().error_code(), grpc::StatusCode::UNAVAILABLE);
  }
  EXPECT_EQ(server.stats().types.at(0).responses, 1u);
}

TEST(HardnessServer, StopSpreadsTheEndsOfStreams) {
  using Clock = std::chrono::steady_clock;
  ResourceCache cache;
  cache.set(*ResourceSnapshot::make({Resource::make(kCds, "a", "one")}));
  AdsServer server(cache, {.stop_spread_ms = 400});
  const auto port = server.start("127.0.0.1:0");
  ASSERT_TRUE(port);
  std::deque<RawClient> clients;
  for (int i = 0; i < 20; ++i) {
    clients.emplace_back(*port).ask(kCds);
    clients.back().read();
  }
  std::mutex mutex;
  std::vector<Clock::time_point> ends;
  std::vector<std::thread> threads;
  for (RawClient& client : clients) {
    threads.emplace_back([&] {
      EXPECT_EQ(client.end().error_code(), grpc::StatusCode::UNAVAILABLE);
      std::lock_guard lock(mutex);
      ends.push_back(Clock::now());
    });
  }
  server.stop();
  for (std::thread& thread : threads) thread.join();
  EXPECT_GE(ends.back() - ends.front(), std::chrono::milliseconds(200));
}

}  // namespace
}  // namespace outrigger::control
