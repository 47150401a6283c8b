// A request's routing allocates nothing: this binary counts operator new per thread.
#include <gtest/gtest.h>

#include <cstdlib>
#include <new>

#include "route/rewrite.h"
#include "support/route_harness.h"

namespace {
thread_local size_t allocations = 0;
}

void* operator new(size_t size) {
  ++allocations;
  if (void* at = std::malloc(size)) return at;
  std::abort();
}
void* operator new(size_t size, const std::nothrow_t&) noexcept {  // std::stable_sort's
  ++allocations;
  return std::malloc(size);
}
void operator delete(void* at) noexcept { std::free(at); }
void operator delete(void* at, size_t) noexcept { std::free(at); }

namespace outrigger::test {
namespace {

using Kind = config::PathMatchSpec::Kind;

TEST(Allocation, MatchingAndFinalisingARequest) {
  config::RouteTableSpec spec;
  spec.virtual_hosts = {{.name = "v", .domains = {"a.com", "*.b.com", "c.*"}}};
  config::VirtualHostSpec& host = spec.virtual_hosts[0];
  const auto add = [&](Kind kind, std::string path, bool case_sensitive = true) -> config::RouteSpec& {
    config::RouteSpec route;
    route.match.path = {kind, std::move(path), case_sensitive};
    config::ForwardSpec forward;
    forward.cluster = "c";
    route.action = forward;
    host.routes.push_back(route);
    return host.routes.back();
  };
  for (int i = 0; i < 20; ++i) {
    add(Kind::kRegex, "/re/[^/]+/" + std::to_string(i) + "/[a-z]*");
    add(Kind::kPrefix, "/Folded/" + std::to_string(i) + "/", false);
  }
  add(Kind::kPrefix, "/h").match.headers = {
      {.name = "x", .kind = config::HeaderMatchSpec::Kind::kString, .string = {.value = "1,2"}}};
  add(Kind::kRegex, "/[0-9]+");
  config::RouteSpec& last = add(Kind::kPrefix, "/last/");
  std::get<config::ForwardSpec>(last.action).prefix_rewrite = "/first/";
  last.request_headers = {.add = {{.name = "x-new", .value = "1"}, {.name = "x-path", .value = "%REQ(:path)%"}},
                          .remove = {"x"}};
  const auto table = route::RouteTable::compile(spec);

  for (const char* authority : {"a.com", "x.B.com", "c.org"}) {
    for (const char* path : {"/re/x/17/abc", "/FOLDED/3/", "/h", "/42", "/last/one", "/none"}) {
      for (int round = 0; round < 2; ++round) {
        Headers request({{":authority", authority}, {":path", path}, {"x", "1"}, {"x", "2"}});
        const size_t before = allocations;
        const route::Match match = table->match(*request, {.random = 5});
        route::finalize_request(match, *request, {.request = &*request}, true);
        EXPECT_TRUE(round == 0 || allocations == before) << authority << path;
      }
    }
  }
}

}  // namespace
}  // namespace outrigger::test
