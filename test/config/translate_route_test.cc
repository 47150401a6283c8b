// Route tables.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "translate_support.h"

namespace outrigger::config::testing {
namespace {

constexpr std::string_view kHead = R"("@type": type.googleapis.com/envoy.config.route.v3.RouteConfiguration
name: local
virtual_hosts:
- name: all
  domains: ["*"]
)";

std::string table(std::string_view rest) { return std::string(kHead) + std::string(rest); }
// A table with one route; `route` is a flow mapping's content.
std::string one(std::string_view route) { return table("  routes: [{" + std::string(route) + "}]\n"); }

RouteTableSpec good(Loader& loader, std::string_view yaml) {
  const TranslatedResource out = loader.resource(yaml);
  EXPECT_EQ(out.faults.str(), "") << yaml;
  EXPECT_TRUE(out.spec);
  return out.spec ? std::get<RouteTableSpec>(*out.spec) : RouteTableSpec{};
}
RouteTableSpec good(std::string_view yaml) {
  Loader loader;
  return good(loader, yaml);
}
RouteSpec route(std::string_view yaml) {
  const RouteTableSpec spec = good(one(yaml));
  return spec.virtual_hosts.empty() || spec.virtual_hosts[0].routes.empty() ? RouteSpec{}
                                                                            : spec.virtual_hosts[0].routes[0];
}
RouteMatchSpec match(std::string_view yaml) {
  return route("match: {" + std::string(yaml) + "}, route: {cluster: c}").match;
}
ForwardSpec forward(std::string_view yaml) {
  return std::get<ForwardSpec>(route("match: {prefix: /}, route: {" + std::string(yaml) + "}").action);
}
RedirectSpec redirect(std::string_view yaml) {
  return std::get<RedirectSpec>(route("match: {prefix: /}, redirect: {" + std::string(yaml) + "}").action);
}

void bad(std::string_view yaml, std::vector<Expected> expected) {
  Loader loader;
  const TranslatedResource out = loader.resource(yaml);
  EXPECT_FALSE(out.spec);
  expect_faults(out.faults, std::move(expected), yaml);
}
// Paths are below the first route.
void bad_route(std::string_view yaml, std::vector<Expected> expected) {
  for (Expected& e : expected)
    e.path = e.path.empty() ? "virtual_hosts[0].routes[0]" : "virtual_hosts[0].routes[0]." + e.path;
  bad(one(yaml), std::move(expected));
}
void bad_match(std::string_view yaml, std::vector<Expected> expected) {
  for (Expected& e : expected) e.path = e.path.empty() ? "match" : "match." + e.path;
  bad_route("match: {" + std::string(yaml) + "}, route: {cluster: c}", std::move(expected));
}
void bad_forward(std::string_view yaml, std::vector<Expected> expected) {
  for (Expected& e : expected) e.path = e.path.empty() ? "route" : "route." + e.path;
  bad_route("match: {prefix: /}, route: {" + std::string(yaml) + "}", std::move(expected));
}

TEST(Route, Table) {
  const auto spec = good(R"("@type": type.googleapis.com/envoy.config.route.v3.RouteConfiguration
name: local
internal_only_headers: [X-Internal]
request_headers_to_add: {header: {key: X-A, value: "%REQ(:path)%"}}
request_headers_to_remove: X-B
response_headers_to_add: [{header: {key: x-c, value: "1"}, append_action: ADD_IF_ABSENT, keep_empty_value: true}]
response_headers_to_remove: [X-D]
most_specific_header_mutations_wins: true
validate_clusters: false
ignore_port_in_host_matching: true
metadata: {}
virtual_hosts:
- name: a
  domains: [A.example, "*.a.example", "a.*"]
  require_tls: EXTERNAL_ONLY
  request_headers_to_remove: [x-e]
  routes: []
- {name: b, domains: "*", require_tls: ALL}
)");
  RouteTableSpec want;
  want.name = "local";
  want.internal_only_headers = {"x-internal"};
  want.request_headers = {.add = {{.name = "x-a", .value = "%REQ(:path)%"}}, .remove = {"x-b"}};
  want.response_headers = {
      .add = {{.name = "x-c", .value = "1", .action = HeaderAddSpec::Action::kAddIfAbsent, .keep_empty_value = true}},
      .remove = {"x-d"}};
  want.most_specific_header_mutations_wins = true;
  want.validate_clusters = false;
  want.ignore_port_in_host_matching = true;
  want.virtual_hosts = {{.name = "a",
                         .domains = {"a.example", "*.a.example", "a.*"},
                         .require_tls = VirtualHostSpec::Tls::kExternalOnly,
                         .request_headers = {.remove = {"x-e"}}},
                        {.name = "b", .domains = {"*"}, .require_tls = VirtualHostSpec::Tls::kAll}};
  EXPECT_EQ(spec, want);
}

TEST(Route, HeaderAddActions) {
  using Action = HeaderAddSpec::Action;
  const auto action = [](std::string_view yaml) {
    const auto spec =
        route("match: {prefix: /}, route: {cluster: c}, request_headers_to_add: {header: {key: a, value: b}, " +
              std::string(yaml) + "}");
    return spec.request_headers.add.at(0).action;
  };
  EXPECT_EQ(action(""), Action::kAppendIfExistsOrAdd);
  EXPECT_EQ(action("append: true"), Action::kAppendIfExistsOrAdd);
  EXPECT_EQ(action("append: false"), Action::kOverwriteIfExistsOrAdd);
  EXPECT_EQ(action("append_action: OVERWRITE_IF_EXISTS_OR_ADD"), Action::kOverwriteIfExistsOrAdd);
  EXPECT_EQ(action("append_action: OVERWRITE_IF_EXISTS"), Action::kOverwriteIfExists);
}

TEST(Route, PathMatches) {
  using Kind = PathMatchSpec::Kind;
  EXPECT_EQ(match("prefix: /a").path, (PathMatchSpec{Kind::kPrefix, "/a"}));
  EXPECT_EQ(match("prefix: ''").path, (PathMatchSpec{Kind::kPrefix, ""}));
  EXPECT_EQ(match("path: /a, case_sensitive: false").path, (PathMatchSpec{Kind::kExact, "/a", false}));
  EXPECT_EQ(match("path_separated_prefix: /a").path, (PathMatchSpec{Kind::kSeparatedPrefix, "/a"}));
  EXPECT_EQ(match("safe_regex: {regex: '/a.*', google_re2: {}}, case_sensitive: false").path,
            (PathMatchSpec{Kind::kRegex, "/a.*", true}));
  EXPECT_EQ(match("prefix: /, runtime_fraction: {default_value: {numerator: 7, denominator: MILLION}, runtime_key: k}")
                .runtime_fraction,
            (FractionSpec{7, 1'000'000}));
  EXPECT_EQ(match("prefix: /, runtime_fraction: {default_value: {numerator: 70000, denominator: TEN_THOUSAND}}")
                .runtime_fraction,
            (FractionSpec{10'000, 10'000}));
}

TEST(Route, HeaderMatches) {
  using HeaderKind = HeaderMatchSpec::Kind;
  using Kind = StringMatchSpec::Kind;
  const auto header = [](std::string_view yaml) {
    return match("prefix: /, headers: {name: X-A, " + std::string(yaml) + "}").headers.at(0);
  };
  const auto text = [](Kind kind, std::string value, bool ignore_case = false) {
    return HeaderMatchSpec{.name = "x-a", .kind = HeaderKind::kString, .string = {kind, std::move(value), ignore_case}};
  };
  EXPECT_EQ(header("exact_match: v"), text(Kind::kExact, "v"));
  EXPECT_EQ(header("prefix_match: v"), text(Kind::kPrefix, "v"));
  EXPECT_EQ(header("suffix_match: v"), text(Kind::kSuffix, "v"));
  EXPECT_EQ(header("contains_match: v"), text(Kind::kContains, "v"));
  EXPECT_EQ(header("safe_regex_match: {regex: v+}"), text(Kind::kRegex, "v+"));
  EXPECT_EQ(header("string_match: {exact: v, ignore_case: true}"), text(Kind::kExact, "v", true));
  EXPECT_EQ(header("string_match: {prefix: v}"), text(Kind::kPrefix, "v"));
  EXPECT_EQ(header("string_match: {suffix: v}"), text(Kind::kSuffix, "v"));
  EXPECT_EQ(header("string_match: {contains: v}"), text(Kind::kContains, "v"));
  EXPECT_EQ(header("string_match: {safe_regex: {regex: v}, ignore_case: true}"), text(Kind::kRegex, "v"));
  EXPECT_EQ(header("range_match: {start: -1, end: 5}"),
            (HeaderMatchSpec{.name = "x-a", .kind = HeaderKind::kRange, .range_start = -1, .range_end = 5}));
  EXPECT_EQ(header("present_match: false"), (HeaderMatchSpec{.name = "x-a", .present = false}));
  EXPECT_EQ(header("invert_match: true, treat_missing_header_as_empty: true"),
            (HeaderMatchSpec{.name = "x-a", .invert = true, .treat_missing_as_empty = true}));
  EXPECT_EQ(match("prefix: /, headers: [{name: host}, {name: ':method'}]").headers,
            (std::vector<HeaderMatchSpec>{{.name = ":authority"}, {.name = ":method"}}));
}

TEST(Route, QueryMatches) {
  EXPECT_EQ(
      match("prefix: /, query_parameters: [{name: a}, {name: b, present_match: false}, {name: c, string_match: {exact: "
            "v}}]")
          .query_parameters,
      (std::vector<QueryMatchSpec>{
          {.name = "a"}, {.name = "b", .present = false}, {.name = "c", .string = StringMatchSpec{.value = "v"}}}));
}

TEST(Route, MatchGrpc) {
  EXPECT_TRUE(match("prefix: /, grpc: {}").grpc);
  EXPECT_FALSE(match("prefix: /").grpc);
}

TEST(Route, Forward) {
  EXPECT_EQ(forward("cluster: c"), (ForwardSpec{.cluster = "c"}));
  EXPECT_EQ(forward("cluster_header: X-C").cluster_header, "x-c");
  const ForwardSpec all =
      forward(R"(cluster: c, cluster_not_found_response_code: NOT_FOUND, prefix_rewrite: /x, host_rewrite_literal: h,
    append_x_forwarded_host: true, timeout: 0s, idle_timeout: 2s, max_stream_duration: {max_stream_duration: 3s,
    grpc_timeout_header_max: 4s, grpc_timeout_header_offset: 5s}, max_grpc_timeout: 6s, grpc_timeout_offset: 7s, priority: DEFAULT,
    upgrade_configs: [{upgrade_type: WebSocket}, {upgrade_type: CONNECT, enabled: false}])");
  ForwardSpec want{.cluster = "c",
                   .cluster_not_found_status = 404,
                   .prefix_rewrite = "/x",
                   .host_rewrite_literal = "h",
                   .append_x_forwarded_host = true,
                   .timeout_ms = 0,
                   .idle_timeout_ms = 2000,
                   .max_stream_duration_ms = 3000,
                   .grpc_timeout_header_max_ms = 4000,
                   .grpc_timeout_header_offset_ms = 5000,
                   .max_grpc_timeout_ms = 6000,
                   .grpc_timeout_offset_ms = 7000,
                   .upgrades = {{.type = "websocket"}, {.type = "connect", .enabled = false}}};
  EXPECT_EQ(all, want);
  EXPECT_EQ(forward("cluster: c, cluster_not_found_response_code: INTERNAL_SERVER_ERROR").cluster_not_found_status,
            500);
  EXPECT_TRUE(forward("cluster: c, auto_host_rewrite: true").auto_host_rewrite);
  EXPECT_EQ(forward("cluster: c, host_rewrite_header: X-H").host_rewrite_header, "x-h");
  EXPECT_EQ(forward("cluster: c, regex_rewrite: {pattern: {regex: '^/(a)'}, substitution: '/\\1/'}").regex_rewrite,
            (RegexRewriteSpec{"^/(a)", "/\\1/"}));
}

TEST(Route, WeightedClusters) {
  const ForwardSpec spec = forward(R"(weighted_clusters: {total_weight: 3, runtime_key_prefix: x, clusters: [
      {name: a, weight: 1, request_headers_to_remove: [X-A]}, {cluster_header: X-B, weight: 2, response_headers_to_add: {header: {key: x-c, value: d}}}]})");
  EXPECT_EQ(spec.weighted,
            (std::vector<ClusterWeightSpec>{
                {.name = "a", .weight = 1, .request_headers = {.remove = {"x-a"}}},
                {.cluster_header = "x-b", .weight = 2, .response_headers = {.add = {{.name = "x-c", .value = "d"}}}}}));
}

TEST(Route, RetriesAndTheVirtualHostsPolicy) {
  const ForwardSpec spec =
      forward(R"(cluster: c, retry_policy: {retry_on: "5xx, connect-failure,", num_retries: 3, per_try_timeout: 1s,
    retriable_status_codes: [409], retry_back_off: {base_interval: 0.01s}, host_selection_retry_max_attempts: 3})");
  EXPECT_EQ(spec.retry, (RetryPolicySpec{{"5xx", "connect-failure"}, 3, 1000, {409}, 10, 100}));

  const auto hosts = good(table(R"(  retry_policy: {retry_on: reset}
  routes:
  - {match: {path: /a}, route: {cluster: c}}
  - {match: {path: /b}, route: {cluster: c, retry_policy: {retry_on: 5xx}}}
)"))
                         .virtual_hosts;
  EXPECT_EQ(std::get<ForwardSpec>(hosts[0].routes[0].action).retry->retry_on, (std::vector<std::string>{"reset"}));
  EXPECT_EQ(std::get<ForwardSpec>(hosts[0].routes[1].action).retry->retry_on, (std::vector<std::string>{"5xx"}));
}

TEST(Route, Mirrors) {
  const ForwardSpec spec = forward(R"(cluster: c, request_mirror_policies: [{cluster: m, trace_sampled: false},
      {cluster_header: X-M, runtime_fraction: {runtime_key: k, default_value: {numerator: 5}}, disable_shadow_host_suffix_append: true}])");
  EXPECT_EQ(spec.mirrors,
            (std::vector<MirrorSpec>{{.cluster = "m"},
                                     {.cluster_header = "x-m", .fraction = {5, 100}, .append_shadow = false}}));
  bad_forward(
      "cluster: c, request_mirror_policies: [{}, {cluster: a, cluster_header: b}, {cluster: a, "
      "runtime_fraction: {}}]",
      {{"request_mirror_policies[0]", "needs cluster or cluster_header"},
       {"request_mirror_policies[1]", "exclude each other"},
       {"request_mirror_policies[2].runtime_fraction.default_value", "is required"}});
}

TEST(Route, MirrorsOfTheVirtualHostAndTheTable) {
  const auto hosts = good(R"("@type": type.googleapis.com/envoy.config.route.v3.RouteConfiguration
name: local
request_mirror_policies: {cluster: of-table}
virtual_hosts:
- name: own
  domains: [a]
  request_mirror_policies: {cluster: of-host}
  routes:
  - {match: {path: /a}, route: {cluster: c, request_mirror_policies: {cluster: of-route}}}
  - {match: {path: /b}, route: {cluster: c}}
  - {match: {path: /c}, redirect: {path_redirect: /}}
- {name: none, domains: [b], routes: {match: {prefix: /}, route: {cluster: c}}}
)")
                         .virtual_hosts;
  const auto mirror = [](const RouteSpec& route) { return std::get<ForwardSpec>(route.action).mirrors.at(0).cluster; };
  EXPECT_EQ(mirror(hosts[0].routes[0]), "of-route");
  EXPECT_EQ(mirror(hosts[0].routes[1]), "of-host");
  EXPECT_EQ(mirror(hosts[1].routes[0]), "of-table");
}

TEST(Route, Redirects) {
  EXPECT_EQ(redirect("https_redirect: true, host_redirect: h, port_redirect: 443, path_redirect: /p, response_code: "
                     "FOUND, strip_query: true"),
            (RedirectSpec{.scheme_redirect = "https",
                          .host_redirect = "h",
                          .port_redirect = 443,
                          .path_redirect = "/p",
                          .status = 302,
                          .strip_query = true}));
  EXPECT_EQ(redirect("https_redirect: false, prefix_rewrite: /p"), (RedirectSpec{.prefix_rewrite = "/p"}));
  EXPECT_EQ(redirect("scheme_redirect: http, regex_rewrite: {pattern: {regex: a}, substitution: b}"),
            (RedirectSpec{.scheme_redirect = "http", .regex_rewrite = RegexRewriteSpec{"a", "b"}}));
  EXPECT_EQ(redirect("response_code: SEE_OTHER").status, 303);
  EXPECT_EQ(redirect("response_code: TEMPORARY_REDIRECT").status, 307);
  EXPECT_EQ(redirect("response_code: PERMANENT_REDIRECT").status, 308);
}

TEST(Route, DirectResponses) {
  const auto direct = [](std::string_view yaml) {
    return std::get<DirectResponseSpec>(
        route("match: {prefix: /}, direct_response: {" + std::string(yaml) + "}").action);
  };
  EXPECT_EQ(direct("status: 204"), (DirectResponseSpec{204, ""}));
  EXPECT_EQ(direct("status: 200, body: {inline_string: hi}"), (DirectResponseSpec{200, "hi"}));
  EXPECT_EQ(direct("status: 200, body: {inline_bytes: aGk=}"), (DirectResponseSpec{200, "hi"}));
  const std::string name = ::testing::TempDir() + "outrigger_body_test.txt";
  std::ofstream(name) << std::string(4096, 'x');
  EXPECT_EQ(direct("status: 200, body: {filename: " + name + "}").body.size(), 4096u);
  std::ofstream(name) << std::string(4097, 'x');
  bad_route("match: {prefix: /}, direct_response: {status: 200, body: {filename: " + name + "}}",
            {{"direct_response.body.filename", "longer than the 4096 bytes"}});
  Loader loader;
  EXPECT_TRUE(
      loader
          .resource(with(one("match: {prefix: /}, direct_response: {status: 200, body: {filename: " + name + "}}"),
                         "name: local\n", "name: local\nmax_direct_response_body_size_bytes: 5000\n"))
          .spec);
  std::filesystem::remove(name);
  bad_route("match: {prefix: /}, direct_response: {status: 200, body: {filename: " + name + "}}",
            {{"direct_response.body.filename", "cannot open"}});
  bad_route(
      "match: {prefix: /}, direct_response: {status: 199, body: {environment_variable: OUTRIGGER_NOT_SET}}",
      {{"direct_response.status", "from 200 to 599"}, {"direct_response.body.environment_variable", "no variable"}});
  bad_route("match: {prefix: /}, direct_response: {status: 600, body: {}}",
            {{"direct_response.status", "from 200 to 599"}, {"direct_response.body", "needs one of"}});
}

TEST(Route, RateLimits) {
  using Kind = RateLimitActionSpec::Kind;
  const auto actions = forward(R"(cluster: c, rate_limits: {stage: 10, disable_key: d, actions: [
     {source_cluster: {}}, {destination_cluster: {}}, {remote_address: {}},
     {request_headers: {header_name: X-A, descriptor_key: k, skip_if_absent: true}},
     {query_parameters: {query_parameter_name: q, descriptor_key: k}},
     {generic_key: {descriptor_value: v}}, {generic_key: {descriptor_value: v, descriptor_key: k}},
     {header_value_match: {descriptor_value: v, expect_match: false, headers: {name: x-a}}},
     {query_parameter_value_match: {descriptor_value: v, query_parameters: {name: q}}},
     {masked_remote_address: {v4_prefix_mask_len: 24}}]})")
                           .rate_limits.at(0);
  EXPECT_EQ(actions.stage, 10u);
  EXPECT_EQ(actions.disable_key, "d");
  const std::vector<RateLimitActionSpec> want = {
      {.kind = Kind::kSourceCluster, .descriptor_key = "source_cluster"},
      {.kind = Kind::kDestinationCluster, .descriptor_key = "destination_cluster"},
      {.kind = Kind::kRemoteAddress, .descriptor_key = "remote_address"},
      {.kind = Kind::kRequestHeaders, .descriptor_key = "k", .name = "x-a", .skip_if_absent = true},
      {.kind = Kind::kQueryParameters, .descriptor_key = "k", .name = "q"},
      {.kind = Kind::kGenericKey, .descriptor_key = "generic_key", .descriptor_value = "v"},
      {.kind = Kind::kGenericKey, .descriptor_key = "k", .descriptor_value = "v"},
      {.kind = Kind::kHeaderValueMatch,
       .descriptor_key = "header_match",
       .descriptor_value = "v",
       .expect_match = false,
       .headers = {{.name = "x-a"}}},
      {.kind = Kind::kQueryParameterValueMatch,
       .descriptor_key = "query_match",
       .descriptor_value = "v",
       .query_parameters = {{.name = "q"}}},
      {.kind = Kind::kMaskedRemoteAddress, .descriptor_key = "masked_remote_address", .v4_prefix = 24}};
  EXPECT_EQ(actions.actions, want);
}

TEST(Route, RateLimitMistakes) {
  bad_forward(
      R"(cluster: c, rate_limits: [{}, {stage: 11, actions: [{}, {request_headers: {}}, {query_parameters: {}}, {generic_key: {}},
      {header_value_match: {}}, {query_parameter_value_match: {}}, {masked_remote_address: {v4_prefix_mask_len: 33, v6_prefix_mask_len: 129}}]}])",
      {{"rate_limits[0].actions", "at least one"},
       {"rate_limits[1].stage", "at most 10"},
       {"rate_limits[1].actions[0]", "needs one of"},
       {"rate_limits[1].actions[1].request_headers.header_name", "must not be empty"},
       {"rate_limits[1].actions[1].request_headers.descriptor_key", "must not be empty"},
       {"rate_limits[1].actions[2].query_parameters.query_parameter_name", "must not be empty"},
       {"rate_limits[1].actions[2].query_parameters.descriptor_key", "must not be empty"},
       {"rate_limits[1].actions[3].generic_key.descriptor_value", "must not be empty"},
       {"rate_limits[1].actions[4].header_value_match.descriptor_value", "must not be empty"},
       {"rate_limits[1].actions[4].header_value_match.headers", "at least one"},
       {"rate_limits[1].actions[5].query_parameter_value_match.descriptor_value", "must not be empty"},
       {"rate_limits[1].actions[5].query_parameter_value_match.query_parameters", "at least one"},
       {"rate_limits[1].actions[6].masked_remote_address.v4_prefix_mask_len", "at most 32"},
       {"rate_limits[1].actions[6].masked_remote_address.v6_prefix_mask_len", "at most 128"}});
}

TEST(Route, TableMistakes) {
  bad(with(table(""), "name: local\n", ""), {{"name", "must not be empty"}});
  bad(R"("@type": type.googleapis.com/envoy.config.route.v3.RouteConfiguration
name: local
internal_only_headers: ["a b"]
virtual_hosts:
- {name: "", domains: []}
- {name: a, domains: [A.example, "", "*a*", "a*b", "a b"]}
- {name: a, domains: [b.example, "*"]}
- {name: c, domains: [a.EXAMPLE, "*"]}
)",
      {{"internal_only_headers[0]", "is not a header name"},
       {"virtual_hosts[0].name", "must not be empty"},
       {"virtual_hosts[0].domains", "at least one"},
       {"virtual_hosts[1].domains[1]", "must not be empty"},
       {"virtual_hosts[1].domains[2]", "one '*'"},
       {"virtual_hosts[1].domains[3]", "one '*'"},
       {"virtual_hosts[1].domains[4]", "is not a domain"},
       {"virtual_hosts[2].name", "also the name of virtual_hosts[1]"},
       {"virtual_hosts[3].domains[0]", "already a domain of virtual_hosts[1]"},
       {"virtual_hosts[3].domains[1]", "already a domain of virtual_hosts[2]"}});
}

TEST(Route, HeaderMutationMistakes) {
  bad_route(
      R"(match: {prefix: /}, route: {cluster: c}, request_headers_to_add: [{}, {header: {key: ":path", value: a}}, {header: {key: Host, value: a}},
      {header: {key: "a b", value: "%NOPE%"}}, {header: {key: "", value: "a\nb"}}, {header: {key: a, value: b}, append: true, append_action: ADD_IF_ABSENT}],
      response_headers_to_remove: [":status", host, "a b", ""])",
      {{"request_headers_to_add[0].header", "is required"},
       {"request_headers_to_add[1].header.key", "cannot be changed this way"},
       {"request_headers_to_add[2].header.key", "cannot be changed this way"},
       {"request_headers_to_add[3].header.key", "is not a header name"},
       {"request_headers_to_add[3].header.value", "unknown command %NOPE%"},
       {"request_headers_to_add[4].header.key", "must not be empty"},
       {"request_headers_to_add[4].header.value", "line breaks"},
       {"request_headers_to_add[5].append", "exclude each other"},
       {"response_headers_to_remove[0]", "cannot be removed"},
       {"response_headers_to_remove[1]", "cannot be removed"},
       {"response_headers_to_remove[2]", "is not a header name"},
       {"response_headers_to_remove[3]", "must not be empty"}});
}

TEST(Route, MatchMistakes) {
  bad_route("route: {cluster: c}", {{"match", "is required"}});
  bad_route("match: {prefix: /}", {{"", "needs one of route, redirect, direct_response"}});
  bad_match("", {{"", "needs one of prefix"}});
  bad_match("prefix: '/a?b'", {{"prefix", "never matches"}});
  bad_match("path: /a#b", {{"path", "never matches"}});
  for (const char* p : {"/", "/a/", "''", "'/a?b'"})
    bad_match(std::string("path_separated_prefix: ") + p, {{"path_separated_prefix", "must be longer"}});
  bad_match("safe_regex: {regex: ''}", {{"safe_regex.regex", "must not be empty"}});
  bad_match("safe_regex: {regex: '(a'}", {{"safe_regex.regex", "missing ): (a"}});
  bad_match("safe_regex: {regex: '[a-z]{1000}[a-z]{1000}[a-z]{1000}[a-z]{1000}[a-z]{1000}'}",
            {{"safe_regex.regex", "more than the 4096"}});
  bad_match("prefix: /, runtime_fraction: {runtime_key: a}", {{"runtime_fraction.default_value", "is required"}});
  bad_match(
      R"(prefix: /, headers: [{name: ""}, {name: "a b"}, {name: a, prefix_match: ""}, {name: a, string_match: {}}, {name: a, range_match: {start: 5, end: 5}},
     {name: a, string_match: {safe_regex: {regex: "["}}}, {name: a, suffix_match: ""}, {name: a, contains_match: ""}, {name: a, string_match: {contains: ""}}],
     query_parameters: [{name: ""}, {name: a, string_match: {}}])",
      {{"headers[0].name", "must not be empty"},
       {"headers[1].name", "is not a header name"},
       {"headers[2].prefix_match", "must not be empty"},
       {"headers[3].string_match", "needs one of"},
       {"headers[4].range_match", "is empty"},
       {"headers[5].string_match.safe_regex.regex", "is not a valid RE2 expression"},
       {"headers[6].suffix_match", "must not be empty"},
       {"headers[7].contains_match", "must not be empty"},
       {"headers[8].string_match.contains", "must not be empty"},
       {"query_parameters[0].name", "must not be empty"},
       {"query_parameters[1].string_match", "needs one of"}});
}

TEST(Route, Connect) {
  EXPECT_EQ(match("connect_matcher: {}").path, (PathMatchSpec{PathMatchSpec::Kind::kConnect, ""}));
  const auto upgrades = [](const std::string& configs) {
    return forward("cluster: c, upgrade_configs: [" + configs + "]").upgrades;
  };
  EXPECT_EQ(upgrades("{upgrade_type: CONNECT}"), (std::vector<UpgradeSpec>{{.type = "connect"}}));
  EXPECT_EQ(upgrades("{upgrade_type: a}, {upgrade_type: CONNECT, connect_config: {}}"),
            (std::vector<UpgradeSpec>{{.type = "a"}, {.type = "connect", .terminate = true}}));
  EXPECT_EQ(
      upgrades("{upgrade_type: CONNECT, connect_config: {proxy_protocol_config: {version: V2}}}"),
      (std::vector<UpgradeSpec>{{.type = "connect", .terminate = true, .proxy_header = ProxyHeaderVersion::kV2}}));
  bad_forward("cluster: c, upgrade_configs: [{upgrade_type: CONNECT, connect_config: {allow_post: true}}]",
              {{"upgrade_configs[0].connect_config.allow_post", ""}});
}

TEST(Route, ForwardMistakes) {
  bad_forward("", {{"", "needs one of cluster"}});
  bad_forward("cluster: ''", {{"cluster", "must not be empty"}});
  bad_forward("cluster_header: 'a b'", {{"cluster_header", "is not a header name"}});
  bad_forward(
      "cluster: c, priority: HIGH, timeout: -1s, idle_timeout: -1s, max_stream_duration: {max_stream_duration: -1s, "
      "grpc_timeout_header_max: -1s, grpc_timeout_header_offset: -1s}, max_grpc_timeout: -1s, grpc_timeout_offset: "
      "-1s, "
      "upgrade_configs: [{upgrade_type: other, connect_config: {}}, {}, {upgrade_type: a b}, {upgrade_type: x}, "
      "{upgrade_type: X}]",
      {{"priority", "only DEFAULT"},
       {"timeout", "negative"},
       {"idle_timeout", "negative"},
       {"max_stream_duration.max_stream_duration", "negative"},
       {"max_stream_duration.grpc_timeout_header_max", "negative"},
       {"max_stream_duration.grpc_timeout_header_offset", "negative"},
       {"max_grpc_timeout", "negative"},
       {"grpc_timeout_offset", "negative"},
       {"upgrade_configs[0].connect_config", "CONNECT only"},
       {"upgrade_configs[1].upgrade_type", "must not be empty"},
       {"upgrade_configs[2].upgrade_type", "is not a token"},
       {"upgrade_configs[4].upgrade_type", "is there already"}});
  bad_forward(R"(cluster: c, prefix_rewrite: "/\n", regex_rewrite: {substitution: a}, host_rewrite_literal: "a\r")",
              {{"prefix_rewrite", "line breaks"},
               {"regex_rewrite", "exclude each other"},
               {"regex_rewrite.pattern", "is required"},
               {"host_rewrite_literal", "line breaks"}});
  bad_forward(R"(cluster: c, regex_rewrite: {pattern: {regex: a}, substitution: "\\1"})",
              {{"regex_rewrite.substitution", "does not fit the pattern"}});
  bad_forward("weighted_clusters: {}", {{"weighted_clusters.clusters", "at least one cluster"}});
  bad_forward(
      "weighted_clusters: {total_weight: 5, clusters: [{name: a}, {weight: 0}, {name: a, cluster_header: b, "
      "host_rewrite_literal: h}]}",
      {{"weighted_clusters.clusters", "all 0"},
       {"weighted_clusters.total_weight", "sum to 0"},
       {"weighted_clusters.clusters[1]", "needs name or cluster_header"},
       {"weighted_clusters.clusters[2]", "exclude each other"},
       {"weighted_clusters.clusters[2].host_rewrite_literal", "is not supported"}});
  bad_forward("weighted_clusters: {clusters: [{name: a, weight: 4294967295}, {name: b, weight: 1}]}",
              {{"weighted_clusters.clusters", "at most 4294967295"}});
  bad_forward(
      "cluster: c, retry_policy: {retry_on: '5xx,whim', per_try_timeout: -1s, retriable_status_codes: [99], "
      "retry_back_off: {max_interval: 1s}}",
      {{"retry_policy.retry_on", "\"whim\" is not supported; known are 5xx"},
       {"retry_policy.per_try_timeout", "negative"},
       {"retry_policy.retriable_status_codes[0]", "no HTTP status"},
       {"retry_policy.retry_back_off.base_interval", "is required"}});
  bad_forward("cluster: c, retry_policy: {retry_back_off: {base_interval: 1s, max_interval: 0.5s}}",
              {{"retry_policy.retry_back_off.max_interval", "must not be below"}});
  bad_forward("cluster: c, retry_policy: {retry_back_off: {base_interval: 0s}}",
              {{"retry_policy.retry_back_off.base_interval", "above 0"}});
}

TEST(Route, RedirectMistakes) {
  bad_route(
      R"(match: {prefix: /}, redirect: {scheme_redirect: "a\n", host_redirect: "a\n", port_redirect: 65536, path_redirect: "/\n"})",
      {{"redirect.scheme_redirect", "line breaks"},
       {"redirect.host_redirect", "line breaks"},
       {"redirect.port_redirect", "at most 65535"},
       {"redirect.path_redirect", "line breaks"}});
}

constexpr std::string_view kLimit = "'@type': envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit";
constexpr std::string_view kKeys = "'@type': envoy.extensions.filters.http.api_key_auth.v3.ApiKeyAuthPerRoute";

std::string per_filter(std::string_view entries) {
  return one("match: {prefix: /}, route: {cluster: c}, typed_per_filter_config: {" + std::string(entries) + "}");
}

TEST(PerFilter, EveryLevelAndItsScope) {
  Loader loader;
  const std::string config = "typed_per_filter_config: {limit: {" + std::string(kLimit) + ", stat_prefix: p}}\n";
  const auto spec = good(
      loader,
      config +
          table(
              R"(  )" + config + R"(  routes:
  - name: named
    match: {path: /a}
    )" + config +
              R"(    route: {weighted_clusters: {clusters: [{name: w, weight: 1, typed_per_filter_config: {limit: {)" +
              std::string(kLimit) + R"(, stat_prefix: p}}}]}}
  - match: {path: /b}
    )" + config +
              R"(    route: {cluster: c}
  - match: {path: /b}
    )" + config +
              R"(    route: {cluster: c}
)"));
  const auto note = [](const PerFilterConfigs& configs) {
    EXPECT_EQ(configs.size(), 1u);
    EXPECT_EQ(configs.at(0).filter_id, filter_name_id("limit"));
    return static_cast<const NotedPart&>(*configs.at(0).config.part).note;
  };
  EXPECT_EQ(note(spec.per_filter), "route_table/local/limit p");
  const VirtualHostSpec& host = spec.virtual_hosts.at(0);
  EXPECT_EQ(note(host.per_filter), "route_table/local/all/limit p");
  EXPECT_EQ(note(host.routes[0].per_filter), "route_table/local/all/named/limit p");
  EXPECT_EQ(note(std::get<ForwardSpec>(host.routes[0].action).weighted.at(0).per_filter),
            "route_table/local/all/named/w/limit p");
  // Routes without a name are known by their match; the second of equal ones by its number.
  const std::string unnamed = note(host.routes[1].per_filter);
  EXPECT_TRUE(unnamed.starts_with("route_table/local/all/#")) << unnamed;
  EXPECT_EQ(note(host.routes[2].per_filter), with(unnamed, "/limit", "~2/limit"));
}

TEST(PerFilter, SortedByIdAndSharedWhileEqual) {
  Loader loader;
  filter_name_id("per_filter_z");
  filter_name_id("per_filter_a");
  const std::string yaml =
      per_filter("per_filter_a: {" + std::string(kLimit) + "}, per_filter_z: {" + std::string(kKeys) + "}");
  const auto first = good(loader, yaml);
  const PerFilterConfigs& configs = first.virtual_hosts[0].routes[0].per_filter;
  ASSERT_EQ(configs.size(), 2u);
  EXPECT_EQ(configs[0].filter_name, "per_filter_z");
  EXPECT_EQ(configs[1].filter_name, "per_filter_a");
  const int before = compiled;
  const auto again = good(loader, yaml);
  EXPECT_EQ(compiled, before);
  EXPECT_EQ(first, again);
  EXPECT_EQ(configs[0].config.part, again.virtual_hosts[0].routes[0].per_filter[0].config.part);
}

TEST(PerFilter, Wrapper) {
  Loader loader;
  const auto one_config = [&](std::string_view wrapper) {
    const auto out = loader.resource(
        per_filter("limit: {'@type': envoy.config.route.v3.FilterConfig, " + std::string(wrapper) + "}"));
    EXPECT_TRUE(out.spec) << out.faults.str();
    return std::get<RouteTableSpec>(*out.spec).virtual_hosts[0].routes[0].per_filter;
  };
  const auto disabled = one_config("disabled: true");
  ASSERT_EQ(disabled.size(), 1u);
  EXPECT_TRUE(disabled[0].disabled);
  EXPECT_EQ(disabled[0].config.part, nullptr);
  const auto config = one_config("config: {" + std::string(kLimit) + "}");
  ASSERT_EQ(config.size(), 1u);
  EXPECT_FALSE(config[0].disabled);
  EXPECT_NE(config[0].config.part, nullptr);
  EXPECT_TRUE(one_config("is_optional: true, config: {'@type': a.b.C}").empty());
}

TEST(PerFilter, Mistakes) {
  const std::string at = "virtual_hosts[0].routes[0].typed_per_filter_config";
  bad(per_filter("limit: {'@type': envoy.config.route.v3.FilterConfig}"),
      {{at + "[\"limit\"]", "needs config, or disabled: true"}});
  bad(per_filter("x: {'@type': a.b.C}"), {{at + "[\"x\"]", "a.b.C is not supported"}});
  bad(per_filter("x: {'@type': envoy.config.route.v3.FilterConfig, config: {'@type': a.b.C}}"),
      {{at + "[\"x\"].config", "a.b.C is not supported"}});
  bad(per_filter("x: {'@type': envoy.config.core.v3.Node}"),
      {{at + "[\"x\"]", "is not the per-route config of an HTTP filter"}});
  bad(per_filter("x: {'@type': envoy.extensions.filters.http.api_key_auth.v3.ApiKeyAuth}"),
      {{at + "[\"x\"]", "belongs in http_filters; here use"}});
  bad(per_filter("envoy.filters.http.api_key_auth: {" + std::string(kLimit) + "}"),
      {{at + "[\"envoy.filters.http.api_key_auth\"]", "is a config of envoy.filters.http.local_ratelimit, not of"}});
  bad(per_filter("envoy.filters.http.router: {" + std::string(kLimit) + "}"),
      {{at + "[\"envoy.filters.http.router\"]", "not of envoy.filters.http.router"}});
  bad(per_filter("'': {" + std::string(kLimit) + "}"), {{at + "[\"\"]", "must be the name of an HTTP filter"}});
}

TEST(Route, TenThousandRoutesTranslateQuickly) {
  // Each with a regex of its own: the second time they are known to be good.
  std::string yaml = table("  routes:\n");
  for (int i = 0; i < 10'000; ++i)
    yaml += "  - {match: {safe_regex: {regex: '/r" + std::to_string(i) + "/[0-9]+'}}, route: {cluster: c}}\n";
  Loader loader;
  EXPECT_EQ(good(loader, yaml).virtual_hosts.at(0).routes.size(), 10'000u);
}

}  // namespace
}  // namespace outrigger::config::testing
