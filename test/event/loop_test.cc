#include "event/loop.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <ctime>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "event/clock.h"
#include "event/timer.h"

namespace outrigger::event {
namespace {

struct Recorder final : TurnEnd {
  Recorder(Loop& loop, std::vector<std::string>& log, std::string name) : loop(loop), log(log), name(std::move(name)) {}
  void on_turn_end() override {
    log.push_back(name);
    if (next != nullptr) loop.at_turn_end(*std::exchange(next, nullptr));
  }
  Loop& loop;
  std::vector<std::string>& log;
  std::string name;
  Recorder* next = nullptr;
};

struct Tombstone final : Deferred {
  Tombstone(std::vector<std::string>& log, std::string name) : log(log), name(std::move(name)) {}
  ~Tombstone() override {
    log.push_back("~" + name);
    if (on_death) on_death();
  }
  std::vector<std::string>& log;
  std::string name;
  std::function<void()> on_death;
};

TEST(Loop, PostsRunInOrderFromAnyThread) {
  Loop loop;
  std::thread runner([&] { loop.run(); });
  std::vector<int> seen;  // the loop's thread only, then this one after the join
  for (int i = 0; i < 1000; ++i) ASSERT_TRUE(loop.post([&, i] { seen.push_back(i); }));
  loop.stop();
  runner.join();
  ASSERT_EQ(seen.size(), 1000u);  // all were posted before the stop
  for (int i = 0; i < 1000; ++i) EXPECT_EQ(seen[i], i);
}

// A test's loop would wait for what its own turn has caused already: bytes that nobody but the test reads, say.
TEST(Loop, OneRoundDoesNotWaitBehindATurnOfItsOwn) {
  Loop loop;
  bool fired = false, written = false, late = false;
  struct Round final : TurnEnd {
    explicit Round(bool& done) : done(done) {}
    void on_turn_end() override { done = true; }
    bool& done;
  } round(written);
  struct Both {
    Loop& loop;
    Round& round;
    bool& fired;
  } both{loop, round, fired};
  Timeout due(
      [](void* self) {
        Both& b = *static_cast<Both*>(self);
        b.fired = true;
        b.loop.at_round_end(b.round);
      },
      &both);
  Timeout watchdog([](void* flag) { *static_cast<bool*>(flag) = true; }, &late);
  loop.timers().arm(watchdog, 10'000);
  loop.timers().arm(due, 1);
  while (steady_ns() < due.deadline_ns() + 2'000'000) {
  }
  loop.run_once();
  EXPECT_TRUE(fired);
  EXPECT_TRUE(written);
  EXPECT_FALSE(late);
  // What was left for the end of a round.
  written = false;
  loop.at_round_end(round);
  loop.run_once();
  EXPECT_TRUE(written);
  EXPECT_FALSE(late);
}

TEST(Loop, ManyThreadsPostAndNothingIsLost) {
  Loop loop;
  std::thread runner([&] { loop.run(); });
  int count = 0;
  std::vector<std::thread> posters;
  for (int t = 0; t < 4; ++t)
    posters.emplace_back([&] {
      for (int i = 0; i < 2000; ++i) loop.post([&] { ++count; });
    });
  for (auto& t : posters) t.join();
  loop.stop();
  runner.join();
  EXPECT_EQ(count, 8000);
}

TEST(Loop, APostFromATaskRunsLaterInATurnOfItsOwn) {
  Loop loop;
  std::vector<std::string> log;
  Recorder end(loop, log, "end");
  loop.post([&] {
    loop.at_turn_end(end);
    loop.post([&] {
      log.push_back("second");
      loop.stop();
    });
    log.push_back("first");
  });
  loop.run();
  EXPECT_EQ(log, (std::vector<std::string>{"first", "end", "second"}));
}

TEST(Loop, StopBeforeRunReturnsAtOnceAndTheLoopRunsAgain) {
  Loop loop;
  bool ran = false;
  loop.post([&] { ran = true; });
  loop.stop();
  loop.run();
  EXPECT_TRUE(ran);
  loop.stop();
  loop.run_once();  // swallows the wake-up
  loop.run();       // must still see the stop
  int again = 0;
  loop.post([&] {
    ++again;
    loop.stop();
  });
  loop.run();
  EXPECT_EQ(again, 1);
}

TEST(Loop, ClosePostsRunsTheQueueAndRefusesTheRest) {
  Loop loop;
  std::vector<int> seen;
  auto token = std::make_shared<int>(1);
  loop.post([&] {
    seen.push_back(1);
    EXPECT_FALSE(loop.post([&] { seen.push_back(99); }));
  });
  loop.post([&] { seen.push_back(2); });
  loop.close_posts();
  EXPECT_EQ(seen, (std::vector<int>{1, 2}));
  EXPECT_FALSE(loop.post([token] {}));
  EXPECT_EQ(token.use_count(), 1);
}

TEST(Loop, ClosePostsFromInsideATask) {
  Loop loop;
  std::vector<int> seen;
  loop.post([&] {
    seen.push_back(1);
    loop.post([&] { seen.push_back(3); });
    loop.close_posts();
    loop.stop();
  });
  loop.post([&] { seen.push_back(2); });
  loop.run();
  EXPECT_EQ(seen, (std::vector<int>{1, 3, 2}));
}

TEST(Loop, TheDestructorDropsTasksWithoutRunningThem) {
  auto token = std::make_shared<int>(1);
  bool ran = false;
  {
    Loop loop;
    loop.post([token, &ran] { ran = true; });
  }
  EXPECT_FALSE(ran);
  EXPECT_EQ(token.use_count(), 1);
}

TEST(Loop, TurnEndsRunInOrderOnceAndMayAddMore) {
  Loop loop;
  std::vector<std::string> log;
  Recorder a(loop, log, "a"), b(loop, log, "b"), c(loop, log, "c");
  a.next = &c;
  {
    Turn turn(loop);
    loop.at_turn_end(a);
    loop.at_turn_end(b);
    loop.at_turn_end(a);
    {
      Turn inner(loop);  // not the outermost: nothing happens at its end
    }
    EXPECT_TRUE(log.empty());
  }
  EXPECT_EQ(log, (std::vector<std::string>{"a", "b", "c"}));
}

TEST(Loop, ADestroyedTurnEndIsForgotten) {
  Loop loop;
  std::vector<std::string> log;
  {
    Turn turn(loop);
    Recorder gone(loop, log, "gone");
    loop.at_turn_end(gone);
  }
  EXPECT_TRUE(log.empty());
}

TEST(Loop, DeferredObjectsDieAfterTurnEndsAndMayDeferMore) {
  Loop loop;
  std::vector<std::string> log;
  Recorder end(loop, log, "end"), late(loop, log, "late");
  {
    Turn turn(loop);
    auto first = std::make_unique<Tombstone>(log, "first");
    first->on_death = [&] {
      loop.defer_delete(std::make_unique<Tombstone>(log, "second"));
      loop.at_turn_end(late);
    };
    loop.defer_delete(std::move(first));
    loop.at_turn_end(end);
    EXPECT_TRUE(log.empty());
  }
  EXPECT_EQ(log, (std::vector<std::string>{"end", "~first", "~second", "late"}));
}

TEST(Loop, WhatIsAskedForOutsideATurnIsDoneWhenTheLoopRuns) {
  Loop loop;
  std::vector<std::string> log;
  Recorder end(loop, log, "end");
  loop.at_turn_end(end);
  loop.defer_delete(std::make_unique<Tombstone>(log, "object"));
  loop.run_once();
  EXPECT_EQ(log, (std::vector<std::string>{"end", "~object"}));
}

TEST(Loop, LongWorkHasAShareOfEachRound) {
  struct Long final : TurnEnd {
    void on_turn_end() override {
      EXPECT_TRUE(loop->in_turn());
      done->push_back(name);
      loop->took_long(ns);
    }
    Loop* loop = nullptr;
    std::vector<int>* done = nullptr;
    int name = 0;
    int64_t ns = 0;
  };
  Loop loop;
  std::vector<int> done;
  Long all[6];
  const int64_t half = Loop::kLongNs / 2;
  const int64_t takes[] = {2 * half, half, half, 4 * half, half, 1};
  for (int i = 0; i < 6; ++i) {
    all[i].loop = &loop;
    all[i].done = &done;
    all[i].name = i;
    all[i].ns = takes[i];
  }
  EXPECT_TRUE(loop.has_leisure());
  for (Long& one : all) loop.at_leisure(one);
  loop.at_leisure(all[5]);
  EXPECT_FALSE(loop.has_leisure());
  const std::vector<std::vector<int>> rounds = {{0}, {0, 1, 2}, {0, 1, 2, 3}, {0, 1, 2, 3, 4, 5}};
  for (const auto& expected : rounds) {
    loop.run_once();
    EXPECT_EQ(done, expected);
  }
  EXPECT_TRUE(loop.has_leisure());
  // What a round has spent on its own leaves nothing, and who is gone waits for nothing.
  loop.took_long(Loop::kLongNs);
  EXPECT_FALSE(loop.has_leisure());
  {
    Long gone;
    loop.at_leisure(gone);
  }
  loop.run_once();
  EXPECT_TRUE(loop.has_leisure());
}

TEST(Loop, TheDestructorDestroysDeferredObjects) {
  std::vector<std::string> log;
  {
    Loop loop;
    loop.defer_delete(std::make_unique<Tombstone>(log, "object"));
  }
  EXPECT_EQ(log, (std::vector<std::string>{"~object"}));
}

TEST(Loop, TimeStandsStillWithinATurnAndMovesBetweenTurns) {
  static std::atomic<int64_t> now{1'000'000'000};
  set_clock_for_test([] { return now.fetch_add(1000) + 1000; });
  {
    Loop loop;
    int64_t first = 0, second = 0;
    {
      Turn turn(loop);
      first = loop.now_ns();
      steady_ns();
      EXPECT_EQ(loop.now_ns(), first);
      EXPECT_EQ(loop.wall_us(), first / 1000);
    }
    {
      Turn turn(loop);
      second = loop.now_ns();
    }
    EXPECT_GT(second, first);
    EXPECT_GT(loop.take_longest_turn_ns(), 0);
    EXPECT_EQ(loop.take_longest_turn_ns(), 0);
  }
  set_clock_for_test(nullptr);
}

TEST(Loop, ATaskIsMeasuredInCpuTime) {
  Loop loop;
  loop.post([] { std::this_thread::sleep_for(std::chrono::milliseconds(30)); });
  loop.run_once();
  const int64_t asleep_ns = loop.take_longest_task_cpu_ns();
  EXPECT_GT(asleep_ns, 0);
  EXPECT_LT(asleep_ns, 20'000'000);
  EXPECT_GE(loop.take_longest_turn_ns(), 30'000'000);
  EXPECT_EQ(loop.take_longest_task_cpu_ns(), 0);
  loop.post([] {
    const std::clock_t until = std::clock() + CLOCKS_PER_SEC / 20;
    while (std::clock() < until) {
    }
  });
  loop.run_once();
  EXPECT_GT(loop.take_longest_task_cpu_ns(), 20'000'000);
}

TEST(Loop, WallClockIsNear) {
  Loop loop;
  EXPECT_NEAR(static_cast<double>(loop.wall_us()), static_cast<double>(wall_clock_us()), 2e6);
}

TEST(Loop, RandomNumbersDiffer) {
  Loop a, b;
  std::set<uint64_t> seen;
  for (int i = 0; i < 1000; ++i) {
    seen.insert(a.random());
    seen.insert(b.random());
  }
  EXPECT_EQ(seen.size(), 2000u);
}

TEST(Loop, KnowsItsThread) {
  Loop loop;
  EXPECT_TRUE(loop.on_thread());
  std::thread runner([&] { loop.run(); });
  std::atomic<bool> inside{false};
  loop.post([&] { inside = loop.on_thread() && loop.in_turn(); });
  loop.stop();
  runner.join();
  EXPECT_TRUE(inside);
  EXPECT_FALSE(loop.on_thread());
}

TEST(LoopDeathTest, AnOpenHandleAtTheEndIsOurMistake) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_DEATH(
      {
        uv_timer_t timer;
        Loop loop;
        uv_timer_init(loop.uv(), &timer);
      },
      "uv_is_closing");
}

}  // namespace
}  // namespace outrigger::event
