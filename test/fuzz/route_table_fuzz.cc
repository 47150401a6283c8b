// Bytes -> a route table and a few requests; the compiled table must answer as the linear oracle does.
#include <cstdint>
#include <cstdio>
#include <cstdlib>

#include "support/route_harness.h"
#include "support/route_samples.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace outrigger;
  const uint8_t* const end = data + size;
  test::RouteSamples samples([&](uint32_t below) -> uint32_t {
    if (data == end) return 0;
    const uint32_t byte = *data++;
    if (below <= 256) return byte % below;
    const uint32_t next = data == end ? 0 : *data++;
    return (byte << 8 | next) % below;
  });
  const config::RouteTableSpec spec = samples.table(30);
  const auto table = route::RouteTable::compile(spec);
  for (int i = 0; i < 6; ++i) {
    const test::OracleRequest request = samples.request();
    const test::OracleAnswer expected = test::oracle_match(spec, request);
    const test::OracleAnswer actual = test::answer_of(*table, request);
    if (expected == actual) continue;
    std::fprintf(stderr, "expected %s\nactual   %s\nrequest  %s\n", test::describe(expected).c_str(),
                 test::describe(actual).c_str(), test::describe(request).c_str());
    std::abort();
  }
  return 0;
}
