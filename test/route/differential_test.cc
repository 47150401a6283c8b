// The route table against the linear oracle, on random tables and requests.
#include <gtest/gtest.h>

#include <cstdlib>
#include <random>

#include "config/regex.h"
#include "support/route_harness.h"
#include "support/route_samples.h"

namespace outrigger::test {
namespace {

uint64_t first_seed() {
  const char* given = std::getenv("OUTRIGGER_TEST_SEED");
  return given != nullptr ? std::strtoull(given, nullptr, 10) : std::random_device{}();
}

std::string describe_routes(const config::RouteTableSpec& table, int host) {
  if (host < 0) return "";
  std::string out;
  for (const auto& route : table.virtual_hosts[static_cast<size_t>(host)].routes) {
    const auto& path = route.match.path;
    out += "  kind " + std::to_string(static_cast<int>(path.kind)) + (path.case_sensitive ? "" : " folded") + " \"" +
           path.value + "\" headers " + std::to_string(route.match.headers.size()) + "\n";
  }
  return out;
}

// `tables` tables of up to `max_routes` routes, `requests` requests each.
void compare(uint64_t seed, int tables, uint32_t max_routes, int requests) {
  size_t hits = 0, cases = 0;
  for (int n = 0; n < tables; ++n, ++seed) {
    std::mt19937_64 random(seed);
    RouteSamples samples([&](uint32_t below) { return static_cast<uint32_t>(random() % below); });
    const config::RouteTableSpec spec = samples.table(max_routes);
    const auto table = route::RouteTable::compile(spec);
    for (int r = 0; r < requests; ++r) {
      const OracleRequest request = samples.request();
      const OracleAnswer expected = oracle_match(spec, request);
      const OracleAnswer actual = answer_of(*table, request);
      ASSERT_EQ(expected, actual) << "seed " << seed << "\nexpected " << describe(expected) << "\nactual   "
                                  << describe(actual) << "\nrequest  " << describe(request) << "\n"
                                  << describe_routes(spec, expected.virtual_host);
      ++cases;
      hits += expected.route >= 0 ? 1 : 0;
    }
  }
  EXPECT_GT(hits, cases / 10);  // else the samples say little
}

TEST(Differential, SmallTables) {
  const uint64_t seed = first_seed();
  std::printf("OUTRIGGER_TEST_SEED=%llu\n", static_cast<unsigned long long>(seed));
  compare(seed, 2500, 6, 20);
}

TEST(Differential, MediumTables) {
  const uint64_t seed = first_seed();
  std::printf("OUTRIGGER_TEST_SEED=%llu\n", static_cast<unsigned long long>(seed));
  compare(seed, 250, 40, 60);
}

TEST(Differential, LargeTables) {
  const uint64_t seed = first_seed();
  std::printf("OUTRIGGER_TEST_SEED=%llu\n", static_cast<unsigned long long>(seed));
  compare(seed, 20, 400, 150);
}

// What regex_literals promises, on random patterns: each full match has the prefix and contains every literal.
TEST(Differential, RegexLiteralsHoldForEveryMatch) {
  const uint64_t seed = first_seed();
  std::printf("OUTRIGGER_TEST_SEED=%llu\n", static_cast<unsigned long long>(seed));
  std::mt19937_64 random(seed);
  RouteSamples samples([&](uint32_t below) { return static_cast<uint32_t>(random() % below); });
  size_t matches = 0;
  for (int n = 0; n < 3000; ++n) {
    const config::Regex regex(samples.regex());
    const config::RegexLiterals& literals = regex.literals();
    for (int r = 0; r < 50; ++r) {
      const std::string path = samples.path();
      if (!regex.full_match(path)) continue;
      ++matches;
      const std::string subject = literals.folded ? oracle_lower(path) : path;
      ASSERT_EQ(subject.compare(0, literals.prefix.size(), literals.prefix), 0)
          << "seed " << seed << " regex " << regex.pattern() << " path " << path << " prefix " << literals.prefix;
      for (const std::string& literal : literals.required)
        ASSERT_NE(subject.find(literal), std::string::npos)
            << "seed " << seed << " regex " << regex.pattern() << " path " << path << " literal " << literal;
    }
  }
  EXPECT_GT(matches, 1000u);
}

}  // namespace
}  // namespace outrigger::test
