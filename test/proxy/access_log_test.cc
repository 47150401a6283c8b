// Access logs: formats, several workers and files, a full ring, rotation, no allocation per line.
#include "proxy/access_log.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <thread>

#include "support/replace_new.h"
#include "support/temp_dir.h"
#include "support/wait.h"

namespace outrigger::proxy {
namespace {

using test::allocations;
using test::counting;  // of this thread: the writer's may allocate
using test::read_file;
using test::TempDir;

struct Request {
  Request() : request(arena), response(arena) {
    request.add(HeaderId::kMethod, "GET");
    request.add(HeaderId::kPath, "/a\"b\\c");
    request.add(HeaderId::kAuthority, "a.example");
    info.response_code = 200;
    info.response_bytes = 12;
    info.start_time_unix_us = 1'700'000'000'123'456;
  }
  route::FormatContext context() { return {.request = &request, .response = &response, .info = &info}; }
  Arena arena;
  HeaderMap request, response;
  StreamInfo info;
};

class AccessLog : public testing::Test {
 protected:
  std::shared_ptr<const AccessLogger> logger(config::AccessLogSpec spec) {
    if (spec.sink == config::AccessLogSpec::Sink::kFile && spec.path.empty()) spec.path = dir_ / "log";
    auto made = AccessLogger::compile(spec, *sinks_);
    EXPECT_TRUE(made.has_value()) << made.error().detail;
    return made.value_or(nullptr);
  }
  std::string text() {
    sinks_->flush();
    return read_file(dir_ / "log");
  }

  TempDir dir_;
  stats::Registry registry_{2};
  std::unique_ptr<AccessLogSinks> sinks_ = std::make_unique<AccessLogSinks>(2, registry_);
  Request request_;
};

TEST_F(AccessLog, WritesEnvoysDefaultLine) {
  logger({})->log(0, request_.context());
  EXPECT_EQ(
      text(),
      "[2023-11-14T22:13:20.123Z] \"GET /a\"b\\c HTTP/1.1\" 200 - 0 12 - - \"-\" \"-\" \"-\" \"a.example\" \"-\"\n");
  EXPECT_EQ(registry_.value("access_log.written"), 1u);
}

TEST_F(AccessLog, MissingValuesAreADashOrNothing) {
  logger({.format = "%REQ(X-NONE)%|%RESPONSE_CODE%\n"})->log(0, request_.context());
  logger({.format = "%REQ(X-NONE)%|%RESPONSE_CODE%\n", .omit_empty_values = true})->log(1, request_.context());
  const std::string lines = text();
  EXPECT_NE(lines.find("-|200\n"), std::string::npos) << lines;
  EXPECT_EQ(lines.size(), 11u) << lines;
}

// As configuration changes do: the writer is about to close the file when it is taken up again.
TEST_F(AccessLog, AFileThatIsTakenUpAgainAtOnceLosesNoLine) {
  constexpr int kTimes = 3'000;
  for (int i = 0; i < kTimes; ++i) logger({.format = "%RESPONSE_CODE%\n"})->log(i % 2, request_.context());
  EXPECT_EQ(text().size(), kTimes * 4u);
}

TEST_F(AccessLog, JsonLinesHaveTypesAndEscapes) {
  request_.request.add("x-bytes", "a\xff\xc3\xa9\t\x01");
  const std::vector<std::pair<std::string, std::string>> format = {
      {"bytes", "%REQ(X-BYTES)%"}, {"code", "%RESPONSE_CODE%"},
      {"k\"ey", "constant"},       {"mixed", "%REQ(X-NONE)% %RESPONSE_CODE%"},
      {"none", "%REQ(X-NONE)%"},   {"path", "%REQ(:PATH)%"}};
  logger({.json_format = format})->log(0, request_.context());
  EXPECT_EQ(text(),
            "{\"bytes\":\"a\\ufffd\xc3\xa9\\t\\u0001\",\"code\":200,\"k\\\"ey\":\"constant\",\"mixed\":\"- 200\","
            "\"none\":null,\"path\":\"/a\\\"b\\\\c\"}\n");
  std::filesystem::resize_file(dir_ / "log", 0);
  logger({.json_format = {{"code", "%RESPONSE_CODE%"}, {"none", "%REQ(X-NONE)%"}}, .omit_empty_values = true})
      ->log(0, request_.context());
  EXPECT_EQ(text(), "{\"code\":200}\n");
}

TEST_F(AccessLog, LongLinesAreCutAndStayWhole) {
  request_.request.add("x-long", std::string(20'000, 'x'));
  logger({.format = "%REQ(X-LONG)% end\n"})->log(0, request_.context());
  EXPECT_EQ(text(), std::string(16 * 1024 - 1, 'x') + "\n");
  std::filesystem::resize_file(dir_ / "log", 0);
  logger({.json_format = {{"a", "%REQ(X-LONG)%"}, {"b", "%RESPONSE_CODE%"}}})->log(0, request_.context());
  const std::string line = text();
  EXPECT_LE(line.size(), 16u * 1024);
  EXPECT_TRUE(line.starts_with("{\"a\":\"xxx")) << line.substr(0, 20);
  EXPECT_TRUE(line.ends_with("x\"}\n")) << line.substr(line.size() - 20);
}

TEST_F(AccessLog, EveryLineOfEveryWorkerIsWrittenOnceAndInOrder) {
  const auto both = logger({.format = "%RESPONSE_CODE% %BYTES_SENT%\n"});
  constexpr uint64_t kLines = 20'000;  // many times round the ring
  const auto work = [&](uint32_t worker) {
    Request mine;
    mine.info.response_code = static_cast<uint16_t>(200 + worker);
    for (uint64_t i = 0; i < kLines; ++i) {
      mine.info.response_bytes = i;
      both->log(worker, mine.context());
      if (i % 1000 == 999) sinks_->flush();
    }
  };
  std::thread one([&] { work(1); });
  work(0);
  one.join();
  const std::string all = text();
  uint64_t next[2] = {0, 0};
  for (size_t at = 0; at < all.size();) {
    const size_t end = all.find('\n', at);
    ASSERT_NE(end, std::string::npos);
    const int worker = all[at + 2] - '0';
    ASSERT_EQ(all.substr(at, end - at), std::to_string(200 + worker) + " " + std::to_string(next[worker]));
    ++next[worker];
    at = end + 1;
  }
  EXPECT_EQ(next[0], kLines);
  EXPECT_EQ(next[1], kLines);
  EXPECT_EQ(registry_.value("access_log.dropped"), 0u);
}

TEST_F(AccessLog, AFullRingDropsAndCountsAndNobodyWaits) {
  const std::string fifo = dir_ / "fifo";
  ASSERT_EQ(::mkfifo(fifo.c_str(), 0600), 0);
  const int reader = ::open(fifo.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC);
  ASSERT_GE(reader, 0);
  const auto log = logger({.path = fifo, .format = "%REQ(X-LONG)%\n"});
  request_.request.add("x-long", std::string(4000, 'x'));
  uint64_t logged = 0;
  for (; registry_.value("access_log.dropped") == 0; ++logged) {
    ASSERT_LT(logged, 1'000'000u);
    log->log(0, request_.context());
  }
  EXPECT_GT(logged, 200u);
  // The other worker's ring has room.
  log->log(1, request_.context());
  EXPECT_EQ(registry_.value("access_log.dropped"), 1u);
  // Once somebody reads, all that was not dropped comes.
  std::atomic<uint64_t> lines = 0;
  std::thread reading([&] {
    std::string buffer(1 << 16, '\0');
    while (lines < logged) {
      const ssize_t size = ::read(reader, buffer.data(), buffer.size());
      for (ssize_t i = 0; i < size; ++i) lines += buffer[static_cast<size_t>(i)] == '\n' ? 1 : 0;
      if (size <= 0) std::this_thread::yield();
    }
  });
  sinks_->flush();
  reading.join();
  EXPECT_EQ(lines, logged);  // one was dropped, one came from the other worker
  ::close(reader);
}

TEST_F(AccessLog, ShutdownDoesNotWaitForAReaderThatDoesNotRead) {
  const std::string fifo = dir_ / "fifo";
  ASSERT_EQ(::mkfifo(fifo.c_str(), 0600), 0);
  const int reader = ::open(fifo.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC);
  auto log = logger({.path = fifo, .format = "%REQ(X-LONG)%\n"});
  request_.request.add("x-long", std::string(4000, 'x'));
  for (int i = 0; i < 200; ++i) log->log(0, request_.context());
  log.reset();
  const test::Deadline patience(test::kPatience);
  sinks_.reset();
  EXPECT_FALSE(patience.over());
  ::close(reader);
}

TEST_F(AccessLog, ReopensAfterARotation) {
  const auto log = logger({.format = "%RESPONSE_CODE%\n"});
  log->log(0, request_.context());
  sinks_->flush();
  std::filesystem::rename(dir_ / "log", dir_ / "log.1");
  log->log(0, request_.context());
  EXPECT_EQ(text(), "");  // still the old file
  EXPECT_EQ(read_file(dir_ / "log.1"), "200\n200\n");
  sinks_->reopen();
  sinks_->flush();
  log->log(0, request_.context());
  EXPECT_EQ(text(), "200\n");
  EXPECT_EQ(read_file(dir_ / "log.1"), "200\n200\n");
}

TEST_F(AccessLog, AFileIsClosedWithItsLastLogger) {
  const auto open_files = [] {
    return std::distance(std::filesystem::directory_iterator("/proc/self/fd"), std::filesystem::directory_iterator());
  };
  const auto before = open_files();
  auto first = logger({.format = "a\n"});
  auto second = logger({.format = "b\n"});
  EXPECT_EQ(open_files(), before + 1);
  first->log(0, request_.context());
  first.reset();
  sinks_->flush();
  EXPECT_EQ(open_files(), before + 1);
  second->log(1, request_.context());
  second.reset();
  EXPECT_EQ(text(), "a\nb\n");
  EXPECT_TRUE(test::wait_until([&] { return open_files() == before; }));
}

TEST_F(AccessLog, AFileThatCannotBeOpenedIsAnErrorThatNamesIt) {
  const auto made = AccessLogger::compile({.path = dir_ / "no/such/dir/log"}, *sinks_);
  ASSERT_FALSE(made.has_value());
  EXPECT_NE(made.error().detail.find("no/such/dir/log: "), std::string::npos) << made.error().detail;
}

TEST_F(AccessLog, FailedWritesAreCounted) {
  const auto log = logger({.path = "/dev/full", .format = "%RESPONSE_CODE%\n"});
  log->log(0, request_.context());
  sinks_->flush();
  EXPECT_EQ(registry_.value("access_log.write_failed"), 1u);
  EXPECT_EQ(registry_.value("access_log.written"), 0u);
}

TEST_F(AccessLog, NothingIsAllocatedPerLine) {
  const auto text_log = logger({});
  const auto json_log = logger({.json_format = {{"code", "%RESPONSE_CODE%"}, {"path", "%REQ(:PATH)%"}}});
  text_log->log(0, request_.context());
  counting = true;
  allocations = 0;
  for (int i = 0; i < 1000; ++i) {
    text_log->log(0, request_.context());
    json_log->log(0, request_.context());
  }
  counting = false;
  EXPECT_EQ(allocations, 0u);
}

}  // namespace
}  // namespace outrigger::proxy
