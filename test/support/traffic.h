// Traffic: clients that send requests without a pause, on connections of their own, while a test changes what serves
// them. Every answer is judged; what is wrong is noted.
//
// Thread rule: each client has a thread; everything public is safe from any thread. The judge runs in the clients'.
// Use:  Traffic traffic(port, [](const HttpMessage& answer) { return answer.body == "blue" ? "" : "not blue"; });
//       ASSERT_TRUE(traffic.wait_more(10));  traffic.stop();  EXPECT_EQ(traffic.faults(), "");
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "support/http_message.h"
#include "support/wait.h"

namespace outrigger::test {

class Traffic {
 public:
  // What is wrong with a whole answer of status 200; empty: nothing. Other answers, and none, are faults anyway.
  using Judge = std::function<std::string(const HttpMessage&)>;

  // The clients take turns with the targets; the first makes a connection for each request.
  Traffic(uint16_t port, Judge judge, std::vector<std::string> targets = {"/"}, int clients = 3);
  ~Traffic() { stop(); }
  Traffic(const Traffic&) = delete;
  Traffic& operator=(const Traffic&) = delete;

  void stop();
  uint64_t answered() const { return answered_; }
  // Until so many more are answered.
  bool wait_more(uint64_t count, Milliseconds patience = kPatience) const;
  std::string faults() const;

 private:
  void run(uint16_t port, int number);
  void note(const HttpMessage& answer);

  const Judge judge_;
  const std::vector<std::string> targets_;
  std::atomic<bool> stopping_{false};
  std::atomic<uint64_t> answered_{0};
  mutable std::mutex mutex_;
  std::string faults_;
  std::vector<std::thread> threads_;
};

}  // namespace outrigger::test
