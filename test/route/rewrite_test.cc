#include "route/rewrite.h"

#include <gtest/gtest.h>
#include <re2/re2.h>

#include <random>

#include "support/route_harness.h"

namespace outrigger::test {
namespace {

using config::ForwardSpec;
using config::PathMatchSpec;
using config::RedirectSpec;
using config::RegexRewriteSpec;
using Kind = PathMatchSpec::Kind;

std::shared_ptr<const route::RouteTable> table_of(PathMatchSpec path, decltype(config::RouteSpec::action) action) {
  config::RouteSpec route;
  route.match.path = std::move(path);
  route.action = std::move(action);
  config::RouteTableSpec spec;
  spec.virtual_hosts = {{.name = "v", .domains = {"*"}, .routes = {route}}};
  return route::RouteTable::compile(spec);
}

std::string rewritten(PathMatchSpec path, const ForwardSpec& action, std::string_view request) {
  const auto table = table_of(std::move(path), action);
  Arena arena;
  return std::string(route::rewritten_path(table->virtual_hosts()[0].routes()[0], request, arena));
}

TEST(Rewrite, Prefixes) {
  const struct {
    PathMatchSpec path;
    const char* rewrite;
    const char* request;
    const char* want;
  } cases[] = {
      {{Kind::kPrefix, "/a"}, "/b", "/a/x?q=1", "/b/x?q=1"},
      {{Kind::kPrefix, "/a"}, "/b", "/ax#f", "/bx#f"},
      {{Kind::kPrefix, "/a/"}, "/", "/a/x", "/x"},
      {{Kind::kPrefix, "/a"}, "/", "/a/x", "//x"},  // as Envoy: no slash is merged
      {{Kind::kPrefix, "/A", false}, "/b", "/a/x", "/b/x"},
      {{Kind::kSeparatedPrefix, "/a"}, "/b/c", "/a/x", "/b/c/x"},
      {{Kind::kSeparatedPrefix, "/a"}, "/b/c", "/a?q", "/b/c?q"},
      {{Kind::kExact, "/a"}, "/b", "/a?q", "/b?q"},
      {{Kind::kRegex, "/a.*"}, "/b", "/abc/d?q", "/b?q"},
      {{Kind::kPrefix, "/a"}, "/b", "/changed", "/changed"},  // by a filter: the pattern matches no more
      {{Kind::kPrefix, "/a"}, "", "/a/x", "/a/x"},
      {{Kind::kPrefix, "/a"}, "b", "/a/x", "/b/x"},
      {{Kind::kPrefix, "/a"}, "/b\r\nx: y ", "/a/x", "/b%0D%0Ax:%20y%20/x"},
  };
  for (const auto& c : cases) {
    ForwardSpec action;
    action.prefix_rewrite = c.rewrite;
    EXPECT_EQ(rewritten(c.path, action, c.request), c.want) << c.request;
  }
}

TEST(Rewrite, Regexes) {
  const struct {
    const char* regex;
    const char* substitution;
    const char* request;
    const char* want;
  } cases[] = {
      {"^/service/([^/]+)(/.*)$", "\\2/instance/\\1", "/service/foo/v1/api?q=/service/x/y",
       "/v1/api/instance/foo?q=/service/x/y"},
      {"one", "two", "/xxx/one/yyy/one/zzz", "/xxx/two/yyy/two/zzz"},
      {"^(.*?)one(.*)$", "\\1two\\2", "/xxx/one/yyy/one/zzz", "/xxx/two/yyy/one/zzz"},
      {"(?i)/xxx/", "/yyy/", "/aaa/XxX/bbb", "/aaa/yyy/bbb"},
      {"none", "x", "/a?none", "/a?none"},
      {"a", "\\\\", "/a", "/\\"},
      {".*", "", "/a?q", "/?q"},  // a request target never comes out empty
      {"/a", "x", "/a", "/x"},
  };
  for (const auto& c : cases) {
    ForwardSpec action;
    action.regex_rewrite = RegexRewriteSpec{c.regex, c.substitution};
    EXPECT_EQ(rewritten({Kind::kPrefix, "/"}, action, c.request), c.want) << c.regex;
  }
}

// regex_replace_all against RE2::GlobalReplace itself.
TEST(Rewrite, ReplacesAsRe2Does) {
  std::mt19937 random(7);
  const char* patterns[] = {"a", "a*",      "",  "(a)(b)?", "b*|a",  "\\b", "^",
                            "$", "(?:ab)*", ".", "x*",      "[^a]*", "é",   "(é|a)*"};
  const char* substitutions[] = {"", "-", "<\\0>", "\\\\x"};
  const char* pieces[] = {"a", "b", "ab", "é", "/", "\xff", "\xe2\x82", "\xf4\x90\x80\x80", "x", "\xed\xa0\x80"};
  for (const char* pattern : patterns) {
    const auto regex = config::shared_regex(pattern);
    for (const char* substitution : substitutions) {
      for (int n = 0; n < 200; ++n) {
        std::string text;
        for (uint32_t i = random() % 6; i > 0; --i) text += pieces[random() % std::size(pieces)];
        std::string want = text;
        RE2::GlobalReplace(&want, regex->re2(), substitution);
        Arena arena;
        EXPECT_EQ(route::regex_replace_all({regex.get(), substitution}, text, arena), want)
            << pattern << " in " << testing::PrintToString(text);
      }
    }
  }
}

TEST(Rewrite, FinalisesARequest) {
  ForwardSpec action;
  action.cluster = "c";
  action.prefix_rewrite = "/new";
  action.host_rewrite_literal = "up.example";
  action.append_x_forwarded_host = true;
  const auto table = table_of({Kind::kPrefix, "/old"}, action);
  Headers request(Fields{{":authority", "a.com"}, {":path", "/old/x?q"}});
  const route::Match match = table->match(*request, {});
  route::finalize_request(match, *request, {.request = &*request}, true);
  EXPECT_EQ(request->get(HeaderId::kPath), "/new/x?q");
  EXPECT_EQ(request->get(HeaderId::kXEnvoyOriginalPath), "/old/x?q");
  EXPECT_EQ(request->get(HeaderId::kAuthority), "up.example");
  EXPECT_EQ(request->get(HeaderId::kXForwardedHost), "a.com");
}

TEST(Rewrite, Hosts) {
  ForwardSpec action;
  action.cluster = "c";
  action.host_rewrite_header = "x-host";
  const auto table = table_of({Kind::kPrefix, "/"}, action);
  for (const auto& [given, want] : {std::pair{"other", "other"}, {"", "a.com"}}) {
    Headers request({{":authority", "a.com"}, {":path", "/"}, {"x-host", given}});
    route::finalize_request(table->match(*request, {}), *request, {.request = &*request}, false);
    EXPECT_EQ(request->get(HeaderId::kAuthority), want);
    EXPECT_EQ(request->find(HeaderId::kXEnvoyOriginalPath), nullptr);
  }
  Headers chained(Fields{{":authority", "b"}, {"x-forwarded-host", "a"}});
  route::rewrite_host(*chained, "c", true);
  EXPECT_EQ(chained->get(HeaderId::kXForwardedHost), "a,b");
  Headers same(Fields{{":authority", "b"}, {"x-forwarded-host", "a,b"}});
  route::rewrite_host(*same, "c", true);
  EXPECT_EQ(same->get(HeaderId::kXForwardedHost), "a,b");
  EXPECT_EQ(same->get(HeaderId::kAuthority), "c");
}

TEST(Rewrite, RedirectLocations) {
  const struct {
    RedirectSpec redirect;
    const char* authority;
    const char* path;
    bool tls;
    const char* want;
  } cases[] = {
      {{.scheme_redirect = "https"}, "a.com", "/p?q", false, "https://a.com/p?q"},
      {{.scheme_redirect = "https"}, "a.com:80", "/p", false, "https://a.com/p"},
      {{.scheme_redirect = "https"}, "a.com:81", "/p", false, "https://a.com:81/p"},
      {{.scheme_redirect = "http"}, "a.com:443", "/p", true, "http://a.com/p"},
      {{.scheme_redirect = "https"}, "[::1]:80", "/p", false, "https://[::1]/p"},
      {{.scheme_redirect = "https"}, "[::1]", "/p", false, "https://[::1]/p"},
      {{.host_redirect = "b.com"}, "a.com:80", "/p", false, "http://b.com/p"},
      {{.port_redirect = 8443}, "a.com:80", "/p", false, "http://a.com:8443/p"},
      {{.host_redirect = "b.com", .port_redirect = 8443}, "a.com", "/p", false, "http://b.com:8443/p"},
      {{.path_redirect = "/new"}, "a.com", "/p?q=1", false, "http://a.com/new?q=1"},
      {{.path_redirect = "/new?own"}, "a.com", "/p?q=1", false, "http://a.com/new?own"},
      {{.path_redirect = "/new?own", .strip_query = true}, "a.com", "/p?q=1", false, "http://a.com/new?own"},
      {{.path_redirect = "new", .strip_query = true}, "a.com", "/p?q=1", false, "http://a.com/new"},
      {{.host_redirect = "b", .strip_query = true}, "a.com", "/p?q=1", false, "http://b/p"},
      {{.prefix_rewrite = "/n"}, "a.com", "/p/x?q", false, "http://a.com/n/x?q"},
      {{.regex_rewrite = RegexRewriteSpec{"^/p/(.*)$", "/\\1/p"}}, "a.com", "/p/x?q", false, "http://a.com/x/p?q"},
      {{.host_redirect = "b\r\nset-cookie: x"}, "a.com", "/p", false, "http://b%0D%0Aset-cookie:%20x/p"},
  };
  for (const auto& c : cases) {
    const auto table = table_of({Kind::kPrefix, "/p"}, c.redirect);
    Headers request({{":scheme", c.tls ? "https" : "http"}, {":authority", c.authority}, {":path", c.path}});
    Arena arena;
    const route::Match match = table->match(*request, {.tls = c.tls});
    ASSERT_TRUE(match);
    EXPECT_EQ(route::redirect_location(match, *request, c.tls, arena), c.want);
  }
}

TEST(Rewrite, ShadowHosts) {
  Arena arena;
  for (const auto& [host, want] :
       std::initializer_list<std::pair<std::string_view, std::string_view>>{{"a.example", "a.example-shadow"},
                                                                            {"a.example:8080", "a.example-shadow:8080"},
                                                                            {"[::1]", "[::1]-shadow"},
                                                                            {"[::1]:80", "[::1]-shadow:80"},
                                                                            {"", "-shadow"}}) {
    EXPECT_EQ(route::shadow_host(host, arena), want);
  }
}

TEST(Rewrite, RequireTlsRedirectsToTheSamePlace) {
  config::RouteTableSpec spec;
  spec.virtual_hosts = {{.name = "v", .domains = {"*"}, .require_tls = config::VirtualHostSpec::Tls::kAll}};
  const auto table = route::RouteTable::compile(spec);
  Headers request(Fields{{":scheme", "http"}, {":authority", "a.com"}, {":path", "/p?q=1"}});
  Arena arena;
  EXPECT_EQ(route::redirect_location(table->match(*request, {}), *request, false, arena), "https://a.com/p?q=1");
}

}  // namespace
}  // namespace outrigger::test
