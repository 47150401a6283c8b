// LineBudget: a bound for lines of the log that others can cause: kLines at once, then one a second; what was left out
// is counted.
//
// Thread rule: any thread.
// Use:  if (const auto left_out = budget.take()) OUTRIGGER_LOG(kWarning, ..., "{}{}", what, also(*left_out));
#pragma once

#include <algorithm>
#include <cstdint>
#include <mutex>
#include <optional>
#include <utility>

#include "event/clock.h"

namespace outrigger::control {

class LineBudget {
 public:
  static constexpr int64_t kLines = 10, kRefillNs = 1'000'000'000;

  // How many lines were left out since the last one; nothing: this one is to be left out, too.
  std::optional<uint64_t> take() {
    std::lock_guard lock(mutex_);
    const int64_t now = event::steady_ns();
    const int64_t full = now - kLines * kRefillNs;
    if (spent_until_ns_ > now - kRefillNs) {
      ++left_out_;
      return std::nullopt;
    }
    spent_until_ns_ = std::max(spent_until_ns_, full) + kRefillNs;
    return std::exchange(left_out_, 0);
  }

 private:
  std::mutex mutex_;
  int64_t spent_until_ns_ = INT64_MIN / 2;
  uint64_t left_out_ = 0;
};

}  // namespace outrigger::control
