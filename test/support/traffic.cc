#include "support/traffic.h"

#include <utility>

#include "support/http_client.h"

namespace outrigger::test {
namespace {

constexpr size_t kMaxFaultBytes = 10'000;

}  // namespace

Traffic::Traffic(uint16_t port, Judge judge, std::vector<std::string> targets, int clients)
    : judge_(std::move(judge)), targets_(std::move(targets)) {
  for (int i = 0; i < clients; ++i) threads_.emplace_back([this, port, i] { run(port, i); });
}

void Traffic::stop() {
  stopping_ = true;
  for (auto& thread : threads_) {
    if (thread.joinable()) thread.join();
  }
}

bool Traffic::wait_more(uint64_t count, Milliseconds patience) const {
  const uint64_t goal = answered_ + count;
  return wait_until([&] { return answered_ >= goal; }, patience);
}

std::string Traffic::faults() const {
  const std::lock_guard lock(mutex_);
  return faults_;
}

void Traffic::note(const HttpMessage& answer) {
  std::string fault;
  if (!answer.ok() || answer.status() != 200) {
    fault = answer.error + " " + std::to_string(answer.status()) + " " + answer.body;
  } else {
    fault = judge_(answer);
  }
  if (fault.empty()) return;
  const std::lock_guard lock(mutex_);
  if (faults_.size() < kMaxFaultBytes) faults_ += fault + "\n";
}

void Traffic::run(uint16_t port, int number) {
  HttpClient client(port);
  for (size_t i = 0; !stopping_; ++i) {
    const std::string& target = targets_[i % targets_.size()];
    const bool fresh = number == 0 || i % 50 == 0;
    if (fresh) client = HttpClient(port);
    HttpMessage answer = client.get(target);
    if (!answer.ok() && answer.raw_head.empty() && !fresh) {
      // An idle connection may end at any time; a request that met that is sent again on a new one.
      client = HttpClient(port);
      answer = client.get(target);
    }
    note(answer);
    if (!answer.ok() || answer.header("connection") == "close") client = HttpClient(port);
    ++answered_;
  }
}

}  // namespace outrigger::test
