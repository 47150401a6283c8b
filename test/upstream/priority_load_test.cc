#include "upstream/priority_load.h"

#include <gtest/gtest.h>

#include <vector>

namespace outrigger::upstream {
namespace {

struct Row {
  std::vector<std::pair<uint32_t, uint32_t>> hosts;  // healthy, total
  std::vector<uint32_t> percent;
  bool scarce;
};

TEST(PriorityLoad, IsEnvoys) {
  const Row rows[] = {
      {{{100, 100}, {100, 100}}, {100, 0}, false},
      {{{72, 100}, {72, 100}}, {100, 0}, false},
      {{{71, 100}, {71, 100}}, {99, 1}, false},
      {{{50, 100}, {50, 100}, {50, 100}}, {70, 30, 0}, false},
      {{{25, 100}, {100, 100}}, {35, 65}, false},
      {{{25, 100}, {25, 100}, {25, 100}}, {35, 35, 30}, false},
      {{{0, 3}, {3, 3}}, {0, 100}, false},
      {{{0, 0}, {1, 1}}, {0, 100}, false},
      // Too little for all requests: what there is takes all of them.
      {{{50, 100}, {0, 100}}, {100, 0}, true},
      {{{50, 100}, {10, 100}}, {84, 16}, true},
      {{{0, 3}, {2, 4}}, {0, 100}, true},
      // Every one in panic: by the number of hosts.
      {{{0, 1}, {0, 3}}, {25, 75}, true},
      {{{1, 4}, {1, 4}, {1, 4}}, {35, 35, 30}, false},
      {{{0, 0}, {0, 0}}, {0, 0}, true},
      {{{1, 3}}, {100}, true},
      {{}, {}, true},
  };
  for (const Row& row : rows) {
    std::vector<PriorityLoad> of;
    for (const auto& [healthy, total] : row.hosts) of.push_back({.healthy = healthy, .total = total});
    EXPECT_EQ(spread_load(of), row.scarce);
    std::vector<uint32_t> percent;
    for (const PriorityLoad& one : of) percent.push_back(one.percent);
    EXPECT_EQ(percent, row.percent);
  }
}

TEST(PriorityLoad, IsChosenByTheRandomValue) {
  std::vector<PriorityLoad> of = {{.healthy = 0, .total = 1}, {.healthy = 1, .total = 2}, {.healthy = 9, .total = 9}};
  EXPECT_FALSE(spread_load(of));
  std::vector<int> counts(3);
  for (uint64_t random = 0; random < 1000; ++random) ++counts[choose_priority(of, random)];
  EXPECT_EQ(counts, (std::vector<int>{0, 700, 300}));
  std::vector<PriorityLoad> nobody = {{}, {}};
  spread_load(nobody);
  EXPECT_EQ(choose_priority(nobody, 5), 2u);
}

}  // namespace
}  // namespace outrigger::upstream
