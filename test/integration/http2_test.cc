// Clients of other makes speak HTTP/2 to the program: curl, nghttp, h2load.
#include "support/fake_upstream.h"
#include "support/process.h"
#include "support/wire_case.h"

namespace outrigger::test {
namespace {

class Http2 : public testing::Test {
 protected:
  void SetUp() override {
    proxy_ = std::make_unique<ProxyProcess>(WireCase{}.bootstrap(upstream_.port(), dir_ / "access.log"));
    ASSERT_TRUE(proxy_->started()) << proxy_->output();
    ASSERT_TRUE(proxy_->wait_ready()) << proxy_->output();
    url_ = "http://127.0.0.1:" + std::to_string(proxy_->listener_port("main"));
  }
  // Patience is for a program that says nothing more: how fast it is depends on the machine.
  std::string run(std::vector<std::string> argv) {
    Process program(std::move(argv));
    size_t said = 0;
    while (!program.wait_exit() && program.output().size() > said) said = program.output().size();
    EXPECT_EQ(program.wait_exit(Milliseconds(0)), 0) << program.output();
    return program.output();
  }

  TempDir dir_;
  FakeUpstream upstream_{
      [](Exchange& e) { e.respond(200, e.request.body.empty() ? "hello " + e.request.target() : e.request.body); }};
  std::unique_ptr<ProxyProcess> proxy_;
  std::string url_;
};

TEST_F(Http2, CurlByPriorKnowledgeByUpgradeAndInHttp1) {
  const std::vector<std::string> curl = {"curl", "-sS", "-w", " %{http_version} %{http_code}", url_ + "/a"};
  const auto with = [&](const std::string& option) {
    std::vector<std::string> argv = curl;
    argv.push_back(option);
    return run(argv);
  };
  EXPECT_EQ(with("--http2-prior-knowledge"), "hello /a 2 200");
  EXPECT_EQ(with("--http2"), "hello /a 1.1 200");  // the upgrade is not taken
  EXPECT_EQ(with("--http1.1"), "hello /a 1.1 200");
  const std::string body(200'000, 'b');
  write_file(dir_ / "body", body);
  EXPECT_EQ(run({"curl", "-sS", "--http2-prior-knowledge", "--data-binary", "@" + (dir_ / "body"), url_ + "/"}), body);
}

TEST_F(Http2, NghttpReadsSeveralStreamsOfOneConnection) {
  const std::string said = run({"nghttp", "-nv", url_ + "/a", url_ + "/b"});
  size_t answers = 0;
  for (size_t at = 0; (at = said.find(":status: 200", at)) != std::string::npos; ++at) ++answers;
  EXPECT_EQ(answers, 2u) << said;
}

TEST_F(Http2, H2loadLosesNoRequest) {
  const std::string said = run({"h2load", "-n", "5000", "-c", "4", "-m", "20", url_ + "/x"});
  EXPECT_NE(said.find("5000 succeeded, 0 failed, 0 errored, 0 timeout"), std::string::npos) << said;
  EXPECT_EQ(proxy_->stat("cluster.upstream.upstream_rq_completed").value_or(0), 5000u);
}

}  // namespace
}  // namespace outrigger::test
