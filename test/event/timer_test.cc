#include "event/timer.h"

#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "event/clock.h"
#include "event/loop.h"

namespace outrigger::event {
namespace {

int64_t fake_now = 0;

// A timeout that runs a function.
struct Alarm {
  explicit Alarm(std::function<void()> f) : f(std::move(f)) {}
  std::function<void()> f;
  Timeout timeout{[](void* self) { static_cast<Alarm*>(self)->f(); }, this};
};

class FrozenTimer : public ::testing::Test {
 protected:
  FrozenTimer() {
    fake_now = 1'000'000'000;
    set_clock_for_test([] { return fake_now; });
    loop = std::make_unique<Loop>();
  }
  ~FrozenTimer() override {
    loop.reset();
    set_clock_for_test(nullptr);
  }
  void advance(int64_t ms) {
    fake_now += ms * 1'000'000;
    loop->timers().fire_due();
  }
  TimerWheel& timers() { return loop->timers(); }
  std::unique_ptr<Loop> loop;
  std::vector<std::string> log;
  Alarm make(std::string name) {
    return Alarm([this, name] { log.push_back(name); });
  }
};

TEST(Timer, FiresOnTimeWithTheRealClock) {
  Loop loop;
  int64_t fired = 0;
  Alarm alarm([&] {
    fired = loop.now_ns();
    loop.stop();
  });
  const int64_t start = steady_ns();
  loop.timers().arm(alarm.timeout, 20);
  loop.run();
  EXPECT_GE(fired - start, 20'000'000);
  EXPECT_FALSE(alarm.timeout.armed());
}

TEST(Timer, ZeroFiresAtOnceAndRearmingItselfDoesNotStarveTheLoop) {
  Loop loop;
  int fired = 0;
  bool posted = false;
  Alarm alarm([&] {
    ++fired;
    if (!posted) loop.timers().arm(alarm.timeout, 0);
  });
  loop.timers().arm(alarm.timeout, 0);
  loop.post([&] {
    posted = true;
    loop.stop();
  });
  loop.run();
  EXPECT_TRUE(posted);
}

TEST(Timer, AnEarlierTimeoutMovesTheLibuvTimerForward) {
  Loop loop;
  Alarm late([&] { ADD_FAILURE(); });
  Alarm early([&] { loop.stop(); });
  loop.timers().arm(late.timeout, 3'600'000);
  loop.timers().arm(early.timeout, 1);
  loop.run();
}

TEST(Timer, ARestartedTimeoutFiresAtItsNewTime) {
  // The libuv timer stays at the old time, finds nothing due, and goes to sleep again.
  Loop loop;
  int64_t restarted = 0;
  Alarm idle([&] { loop.stop(); });
  Alarm touch([&] {
    restarted = loop.now_ns();
    loop.timers().arm(idle.timeout, 20);
  });
  loop.timers().arm(idle.timeout, 20);
  loop.timers().arm(touch.timeout, 10);
  loop.run();
  EXPECT_GE(steady_ns() - restarted, 20'000'000);
}

TEST_F(FrozenTimer, FiresOnceAtTheDeadline) {
  Alarm a = make("a");
  timers().arm(a.timeout, 100);
  advance(99);
  EXPECT_TRUE(log.empty());
  EXPECT_TRUE(a.timeout.armed());
  advance(1);
  EXPECT_EQ(log, (std::vector<std::string>{"a"}));
  advance(1000);
  EXPECT_EQ(log.size(), 1u);
}

TEST_F(FrozenTimer, FiresInOrderOfDeadlinesAcrossQueues) {
  Alarm a = make("a"), b = make("b"), c = make("c");
  timers().arm(a.timeout, 300);
  timers().arm(b.timeout, 100);
  timers().arm(c.timeout, 200);
  advance(1000);
  EXPECT_EQ(log, (std::vector<std::string>{"b", "c", "a"}));
}

TEST_F(FrozenTimer, RestartsAndDisarms) {
  Alarm a = make("a"), b = make("b");
  timers().arm(a.timeout, 100);
  timers().arm(b.timeout, 100);
  advance(50);
  timers().arm(a.timeout, 100);
  b.timeout.disarm();
  advance(60);
  EXPECT_TRUE(log.empty());
  advance(40);
  EXPECT_EQ(log, (std::vector<std::string>{"a"}));
}

TEST_F(FrozenTimer, ACallbackMayDestroyItsOwnerAndDisarmOthers) {
  Alarm other = make("other");
  auto owner = std::make_unique<Alarm>(nullptr);
  owner->f = [&] {
    log.push_back("owner");
    other.timeout.disarm();
    owner.reset();
  };
  timers().arm(owner->timeout, 100);
  timers().arm(other.timeout, 100);
  advance(100);
  EXPECT_EQ(log, (std::vector<std::string>{"owner"}));
  EXPECT_EQ(owner, nullptr);
}

TEST_F(FrozenTimer, ACallbackThatRearmsAtZeroIsCalledOncePerFiring) {
  Alarm a = make("a");
  a.f = [&] {
    log.push_back("a");
    timers().arm(a.timeout, 0);
  };
  timers().arm(a.timeout, 0);
  advance(0);
  EXPECT_EQ(log.size(), 1u);
  advance(1);
  EXPECT_EQ(log.size(), 2u);
  a.timeout.disarm();
}

TEST_F(FrozenTimer, EachCallbackHasATurnOfItsOwn) {
  struct End final : TurnEnd {
    std::vector<std::string>* log;
    void on_turn_end() override { log->push_back("end"); }
  } end;
  end.log = &log;
  Alarm a([&] {
    log.push_back("a");
    loop->at_turn_end(end);
  });
  Alarm b = make("b");
  timers().arm(a.timeout, 1);
  timers().arm(b.timeout, 1);
  advance(1);
  EXPECT_EQ(log, (std::vector<std::string>{"a", "end", "b"}));
}

TEST_F(FrozenTimer, MoreDurationsThanQueuesAreRoundedUpNeverDown) {
  std::vector<std::unique_ptr<Alarm>> alarms;
  std::vector<int64_t> fired(300, 0);
  for (int i = 0; i < 300; ++i) {
    alarms.push_back(std::make_unique<Alarm>([&fired, i] { fired[i] = fake_now; }));
    timers().arm(alarms.back()->timeout, 1000 + i);
  }
  const int64_t start = fake_now;
  for (int ms = 0; ms < 4000; ++ms) advance(1);
  for (int i = 0; i < 300; ++i) {
    const int64_t took = (fired[i] - start) / 1'000'000;
    if (i < static_cast<int>(TimerWheel::kMaxQueues)) {
      EXPECT_EQ(took, 1000 + i);
    } else {
      EXPECT_GE(took, 1000 + i);
      EXPECT_LE(took, 2048);
    }
  }
}

TEST_F(FrozenTimer, EmptyQueuesAreUsedAgainForNewDurations) {
  for (int i = 0; i < 1000; ++i) {  // as many durations as a client cares to name
    Alarm a = make("a");
    timers().arm(a.timeout, 5000 + i);
  }
  Alarm exact = make("exact");
  timers().arm(exact.timeout, 9999);
  advance(9998);
  EXPECT_TRUE(log.empty());
  advance(1);
  EXPECT_EQ(log.size(), 1u);
}

TEST_F(FrozenTimer, EndlessDurationsDoNotOverflow) {
  Alarm a = make("a");
  timers().arm(a.timeout, UINT64_MAX);
  advance(1'000'000);
  EXPECT_TRUE(log.empty());
}

TEST_F(FrozenTimer, ATimeoutMayOutliveTheLoop) {
  Alarm a = make("a");
  timers().arm(a.timeout, 10);
  loop.reset();
  EXPECT_FALSE(a.timeout.armed());
}

}  // namespace
}  // namespace outrigger::event
