#include "route/header_mutation.h"

#include <gtest/gtest.h>

#include "route/route_table.h"
#include "support/route_harness.h"

namespace outrigger::test {
namespace {

using config::HeaderMutationSpec;
using Action = config::HeaderAddSpec::Action;

std::string text_of(HeaderMap& headers) {
  std::string out;
  headers.for_each([&](const Header& h) { out += std::string(h.name) + "=" + std::string(h.value) + ";"; });
  return out;
}

std::string applied(const HeaderMutationSpec& spec, const Fields& fields, const StreamInfo& info = {}) {
  Headers headers(fields);
  const route::HeaderMutations mutations(spec);  // outlives the headers' views
  mutations.apply(*headers, {.request = &*headers, .info = &info});
  EXPECT_FALSE(headers->overflowed());
  return text_of(*headers);
}

TEST(HeaderMutations, Actions) {
  const auto one = [](Action action) {
    return HeaderMutationSpec{.add = {{.name = "x", .value = "new", .action = action}}};
  };
  const auto with = [&](Action action) { return applied(one(action), {{"x", "old"}, {"x", "older"}}); };
  const auto without = [&](Action action) { return applied(one(action), {{"y", "1"}}); };
  EXPECT_EQ(with(Action::kAppendIfExistsOrAdd), "x=old;x=older;x=new;");
  EXPECT_EQ(without(Action::kAppendIfExistsOrAdd), "y=1;x=new;");
  EXPECT_EQ(with(Action::kAddIfAbsent), "x=old;x=older;");
  EXPECT_EQ(without(Action::kAddIfAbsent), "y=1;x=new;");
  EXPECT_EQ(with(Action::kOverwriteIfExistsOrAdd), "x=new;");
  EXPECT_EQ(without(Action::kOverwriteIfExistsOrAdd), "y=1;x=new;");
  EXPECT_EQ(with(Action::kOverwriteIfExists), "x=new;");
  EXPECT_EQ(without(Action::kOverwriteIfExists), "y=1;");
}

TEST(HeaderMutations, WellKnownNames) {
  EXPECT_EQ(applied({.add = {{.name = "server", .value = "s", .action = Action::kOverwriteIfExistsOrAdd},
                             {.name = "via", .value = "v"}},
                     .remove = {"accept", "x-custom"}},
                    {{"accept", "a"}, {"server", "old"}, {"x-custom", "1"}, {"x-custom", "2"}, {"accept", "b"}}),
            "server=s;via=v;");
}

TEST(HeaderMutations, RemovalsComeFirstAndValuesAreReadBeforeAnyChange) {
  EXPECT_EQ(applied({.add = {{.name = "x", .value = "%REQ(y)%"},
                             {.name = "y", .value = "%REQ(z)%", .action = Action::kOverwriteIfExistsOrAdd},
                             {.name = "y", .value = "second", .action = Action::kAddIfAbsent}},
                     .remove = {"x"}},
                    {{"x", "gone"}, {"y", "1"}, {"z", "2"}}),
            "y=2;z=2;x=1;");
}

TEST(HeaderMutations, EmptyValuesAreNotAddedUnlessKept) {
  EXPECT_EQ(applied({.add = {{.name = "a", .value = "%REQ(none)%"},
                             {.name = "b", .value = "%REQ(none)%", .keep_empty_value = true},
                             {.name = "c", .value = ""},
                             {.name = "d", .value = "", .keep_empty_value = true},
                             {.name = "e", .value = "<%REQ(none)%>"}}},
                    {}),
            "b=;d=;e=<>;");
}

TEST(HeaderMutations, NothingBreaksOutOfItsField) {
  const StreamInfo info{.client_name = std::string_view("a\r\nx: y\0z", 9)};
  EXPECT_EQ(
      applied({.add = {{.name = "a", .value = "%OUTRIGGER_CLIENT_NAME%"}, {.name = "b", .value = "1\r\n2"}}}, {}, info),
      "a=a  x: y z;b=1  2;");
}

TEST(HeaderMutations, AFullArenaShows) {
  Arena arena(64 * 1024);
  HeaderMap headers(arena);
  while (arena.try_allocate(64) != nullptr) {
  }
  while (arena.try_allocate(1, 1) != nullptr) {
  }
  route::HeaderMutations({.add = {{.name = "x-new", .value = "%REQ(y)%"}}}).apply(headers, {.request = &headers});
  EXPECT_TRUE(headers.overflowed());
}

TEST(HeaderMutations, LevelsInEnvoysOrder) {
  const auto level = [](const char* name) { return HeaderMutationSpec{.add = {{.name = "x", .value = name}}}; };
  config::RouteSpec route;
  route.match.path.value = "/";
  route.request_headers = route.response_headers = level("route");
  config::ForwardSpec forward;
  forward.weighted = {
      {.name = "c", .weight = 1, .request_headers = level("weighted"), .response_headers = level("weighted")}};
  route.action = forward;
  config::RouteTableSpec spec;
  spec.request_headers = spec.response_headers = level("table");
  spec.virtual_hosts = {{.name = "v",
                         .domains = {"*"},
                         .routes = {route},
                         .request_headers = level("host"),
                         .response_headers = level("host")}};
  for (const bool most_specific_wins : {false, true}) {
    spec.most_specific_header_mutations_wins = most_specific_wins;
    const auto table = route::RouteTable::compile(spec);
    Headers request(Fields{{":path", "/"}}), response;
    const route::Match match = table->match(*request, {});
    match.mutate_request(*request, {.request = &*request});
    match.mutate_response(*response, {.request = &*request, .response = &*response});
    EXPECT_EQ(text_of(*response),
              most_specific_wins ? "x=table;x=host;x=route;x=weighted;" : "x=weighted;x=route;x=host;x=table;");
    EXPECT_EQ(config::joined_header(*request, "x"),
              most_specific_wins ? "table,host,route,weighted" : "weighted,route,host,table");
  }
}

}  // namespace
}  // namespace outrigger::test
