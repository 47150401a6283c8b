// Two ways to the same table must agree: the next version of a table made of pieces of the one before (as it comes over
// the wire), and the same bytes translated and compiled as a whole. Random tables, changed at random.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <random>

#include "../config/translate_support.h"
#include "config/route_pieces.h"
#include "envoy/config/route/v3/route.pb.h"
#include "envoy/config/route/v3/route_components.pb.h"
#include "route/rewrite.h"
#include "support/route_harness.h"
#include "support/temp_dir.h"

namespace outrigger::test {
namespace {

namespace wire = envoy::config::route::v3;
using config::KeptRoutes;
using config::TableBase;
using config::TranslatedResource;

constexpr std::string_view kType = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration";

uint64_t first_seed() {
  const char* given = std::getenv("OUTRIGGER_TEST_SEED");
  return given != nullptr ? std::strtoull(given, nullptr, 10) : std::random_device{}();
}

// A RouteConfiguration and random changes of it.
class World {
 public:
  World(uint64_t seed, std::string file) : random_(seed), file_(std::move(file)) {
    table_.set_name("table");
    rare_ = one_in(3) ? 60 : 2'000;
    for (int i = 0; i < 3; ++i) add_host();
  }

  const wire::RouteConfiguration& table() const { return table_; }
  uint32_t below(uint32_t n) { return static_cast<uint32_t>(random_() % n); }
  bool one_in(uint32_t n) { return below(n) == 0; }

  void change() {
    wire::VirtualHost& host = any_host();
    switch (below(16)) {
      case 0:
        if (table_.virtual_hosts_size() < 6) add_host();
        break;
      case 1:
        if (table_.virtual_hosts_size() > 1)
          table_.mutable_virtual_hosts()->DeleteSubrange(static_cast<int>(below(count(table_.virtual_hosts()))), 1);
        break;
      case 2:
        table_.mutable_virtual_hosts()->SwapElements(0, table_.virtual_hosts_size() - 1);
        break;
      case 3:
      case 9:
        change_around(host);
        break;
      case 4:
        erase(host, 1 + below(90));
        break;
      case 5:
        insert(host, 1 + below(90));
        break;
      case 6:
        move_routes(host);
        break;
      case 7:
        insert(host, 1);
        break;
      case 8:
        erase(host, 1);
        break;
      default:
        if (host.routes_size() > 0) *host.mutable_routes(any_of(host)) = route();
    }
  }

  void make_a_mistake() {
    wire::VirtualHost& host = any_host();
    insert(host, 1);
    wire::Route& route = *host.mutable_routes(any_of(host));
    switch (below(5)) {
      case 0:
        route.mutable_direct_response()->set_status(99);
        break;
      case 1:
        route.clear_match();
        break;
      case 2:
        route.mutable_match()->mutable_safe_regex()->set_regex("(");
        break;
      case 3:
        route.GetReflection()->MutableUnknownFields(&route)->AddVarint(7777, 1);
        break;
      default:
        *host.add_domains() = host.domains(0);
    }
  }

  std::string request_path() { return path(); }
  std::string request_host() { return fmt::format("host{}.example", below(8)); }

 private:
  static uint32_t count(const auto& repeated) { return static_cast<uint32_t>(repeated.size()); }
  wire::VirtualHost& any_host() {
    return *table_.mutable_virtual_hosts(static_cast<int>(below(count(table_.virtual_hosts()))));
  }
  int any_of(const wire::VirtualHost& host) { return static_cast<int>(below(count(host.routes()))); }

  void add_host() {
    wire::VirtualHost& host = *table_.add_virtual_hosts();
    host.set_name(fmt::format("host{}", ++hosts_));
    host.add_domains(fmt::format("host{}.example", hosts_ % 8));
    host.add_domains(fmt::format("only{}.example", hosts_));
    for (int i = 0; i + 1 < table_.virtual_hosts_size(); ++i)
      if (table_.virtual_hosts(i).domains(0) == host.domains(0)) host.set_domains(0, fmt::format("x{}.org", hosts_));
    insert(host, one_in(4) ? below(5) : below(500));
  }

  // What all routes of a host, or of the table, have around them.
  void change_around(wire::VirtualHost& host) {
    switch (below(8)) {
      case 0:
        host.add_domains(fmt::format("d{}.net", ++hosts_));
        break;
      case 1:
        host.set_name(fmt::format("host{}", ++hosts_));
        break;
      case 2:
        host.mutable_retry_policy()->set_retry_on(one_in(2) ? "5xx" : "connect-failure");
        break;
      case 6:
        host.clear_request_mirror_policies();
        host.add_request_mirror_policies()->set_cluster(cluster());
        break;
      case 3:
        host.set_require_tls(one_in(2) ? wire::VirtualHost::ALL : wire::VirtualHost::NONE);
        break;
      case 4:
        add_header(*host.add_request_headers_to_add());
        break;
      case 5:
        table_.clear_request_mirror_policies();
        table_.add_request_mirror_policies()->set_cluster(cluster());
        break;
      default:
        per_filter(*table_.mutable_typed_per_filter_config());
    }
  }

  void insert(wire::VirtualHost& host, uint32_t routes) {
    auto& list = *host.mutable_routes();
    const auto at = static_cast<int>(below(count(list) + 1));
    const int old = list.size();
    for (uint32_t i = 0; i < routes; ++i) *list.Add() = route();
    std::rotate(list.pointer_begin() + at, list.pointer_begin() + old, list.pointer_end());
  }
  void erase(wire::VirtualHost& host, uint32_t routes) {
    auto& list = *host.mutable_routes();
    if (list.empty()) return;
    const auto at = static_cast<int>(below(count(list)));
    list.DeleteSubrange(at, std::min(static_cast<int>(routes), list.size() - at));
  }
  void move_routes(wire::VirtualHost& host) {
    auto& list = *host.mutable_routes();
    if (list.size() < 3) return;
    std::rotate(list.pointer_begin(), list.pointer_begin() + static_cast<int>(below(count(list))), list.pointer_end());
  }

  std::string cluster() { return fmt::format("cluster{}", below(40)); }
  std::string path() { return fmt::format("/{}/{}", below(20), below(30)); }
  void add_header(envoy::config::core::v3::HeaderValueOption& to) {
    to.mutable_header()->set_key(fmt::format("x-{}", below(5)));
    to.mutable_header()->set_value(one_in(2) ? "constant" : "%REQ(:path)%");
  }
  void per_filter(auto& map) {
    google::protobuf::Any& any = map["envoy.filters.http.local_ratelimit"];
    any.set_type_url("type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit");
    envoy::extensions::filters::http::local_ratelimit::v3::LocalRateLimit limit;
    limit.set_stat_prefix(fmt::format("p{}", below(3)));
    any.set_value(limit.SerializeAsString());
  }

  wire::Route route() {
    wire::Route route;
    if (one_in(3)) route.set_name(fmt::format("route{}", below(100)));
    wire::RouteMatch& match = *route.mutable_match();
    switch (below(5)) {
      case 0:
        match.set_prefix(path().substr(0, 1 + below(5)));
        break;
      case 1:
        match.mutable_safe_regex()->set_regex(path().substr(0, 2) + (one_in(2) ? "[0-9]*/.*" : ".*"));
        break;
      case 2:
        match.set_path_separated_prefix(fmt::format("/{}", below(20)));
        match.mutable_case_sensitive()->set_value(one_in(2));
        break;
      default:
        match.set_path(path());
    }
    if (one_in(5)) {
      auto& header = *match.add_headers();
      header.set_name("x-h");
      header.mutable_string_match()->set_exact(one_in(2) ? "1" : "2");
    }
    if (one_in(12)) match.add_query_parameters()->set_name("q");
    add_action(route);
    if (one_in(6)) add_header(*route.add_request_headers_to_add());
    if (one_in(9)) route.add_request_headers_to_remove("x-0");
    if (one_in(rare_)) per_filter(*route.mutable_typed_per_filter_config());
    return route;
  }
  void add_action(wire::Route& route) {
    const uint32_t kind = below(12);
    if (kind == 0) {
      route.mutable_redirect()->set_host_redirect(fmt::format("to{}.example", below(3)));
      return;
    }
    if (kind == 1) {
      route.mutable_direct_response()->set_status(200 + below(3));
      auto& body = *route.mutable_direct_response()->mutable_body();
      one_in(rare_ / 12) ? body.set_filename(file_) : body.set_inline_string("body");
      return;
    }
    wire::RouteAction& action = *route.mutable_route();
    if (kind == 2) {
      for (int i = 0; i < 2; ++i) {
        auto& entry = *action.mutable_weighted_clusters()->add_clusters();
        entry.set_name(cluster());
        entry.mutable_weight()->set_value(1 + below(3));
        if (one_in(rare_ / 6)) per_filter(*entry.mutable_typed_per_filter_config());
      }
    } else if (kind == 3) {
      action.set_cluster_header("x-cluster");
    } else {
      action.set_cluster(cluster());
    }
    if (one_in(5)) action.mutable_timeout()->set_seconds(1 + below(3));
    if (one_in(7)) action.set_prefix_rewrite(fmt::format("/r{}", below(3)));
    if (one_in(9)) action.mutable_retry_policy()->set_retry_on("5xx");
    if (one_in(9)) action.add_request_mirror_policies()->set_cluster(cluster());
    if (one_in(9)) action.set_host_rewrite_literal("h.example");
  }

  std::mt19937_64 random_;
  std::string file_;
  uint32_t rare_ = 0;  // one route in so many is made of more than its bytes
  wire::RouteConfiguration table_;
  int hosts_ = 0;
};

// As a control plane may send it that writes fields in another order than we do: routes first.
std::string routes_first(const wire::RouteConfiguration& table) {
  wire::RouteConfiguration rest = table;
  rest.clear_virtual_hosts();
  std::string out;
  for (const wire::VirtualHost& host : table.virtual_hosts()) {
    wire::VirtualHost only_routes, others = host;
    *only_routes.mutable_routes() = host.routes();
    others.clear_routes();
    wire::RouteConfiguration one;
    std::string text = only_routes.SerializeAsString() + others.SerializeAsString();
    out += '\x12';
    for (size_t size = text.size();; size >>= 7) {
      out += static_cast<char>(size < 0x80 ? size : (size & 0x7f) | 0x80);
      if (size < 0x80) break;
    }
    out += text;
  }
  return out + rest.SerializeAsString();
}

std::string describe(const route::HeaderMutations* mutations) { return mutations == nullptr ? "-" : "m"; }

std::string describe(const route::ForwardAction& action) {
  std::string out =
      fmt::format("header {} rewrite {} host {} {} timeout {} idle {} status {} retry {} total {}",
                  action.cluster_header, action.prefix_rewrite, action.host_rewrite_literal, action.host_rewrite_header,
                  action.timeout_ms, action.idle_timeout_ms.value_or(7), action.cluster_not_found_status,
                  action.retry == nullptr ? "-" : action.retry->retry_on.at(0), action.total_weight);
  for (const auto& entry : action.weighted) out += fmt::format(" {}*{}", entry.cluster.text, entry.weight);
  for (const auto& mirror : action.mirrors) out += fmt::format(" mirror {}", mirror.cluster.text);
  return out;
}

std::string describe(const route::RouteTable& table) {
  std::string out = table.name() + describe(table.request_mutations());
  for (const auto& name : table.clusters()) out += fmt::format(" {}", name.text);
  for (const route::VirtualHost& host : table.virtual_hosts()) {
    out += fmt::format("\nhost {} {} {}", host.name, static_cast<int>(host.require_tls()), host.routes().size());
    for (const route::Route& route : host.routes()) {
      EXPECT_EQ(&route.virtual_host(), &host);
      EXPECT_EQ(route.virtual_host_view, &host);
      out += fmt::format("\n {} {} {} \"{}\" {} {} {} {}{} ", route.index(), route.name,
                         static_cast<int>(route.path_kind()), route.path_pattern(), route.case_sensitive(),
                         route.unconditional(), route.cluster, describe(route.request_mutations()),
                         describe(route.response_mutations()));
      if (const auto* forward = route.forward()) out += describe(*forward);
      if (const auto* redirect = route.redirect()) out += fmt::format("to {}", redirect->host);
      if (const auto* direct = route.direct_response()) out += fmt::format("{} {}", direct->status, direct->body);
    }
  }
  return out;
}

// All that a request sees of its route.
std::string fate(const route::RouteTable& table, const OracleRequest& request) {
  Headers headers(request.headers);
  const route::Match match = table.match(*headers, {.random = request.random, .tls = request.tls});
  std::string out = describe(answer_of(table, request));
  if (!match) return out;
  out += fmt::format(" cluster {}", match.cluster(*headers).text);
  const uint16_t filter = config::filter_name_id("envoy.filters.http.local_ratelimit");
  match.for_each_filter_config(
      filter, [&](const FilterPart& part) { out += " " + static_cast<const config::testing::NotedPart&>(part).note; });
  match.mutate_request(*headers, {.request = &*headers});
  headers->for_each([&](const Header& h) { out += fmt::format(" {}={}", h.name, h.value); });
  return out;
}

OracleRequest request_of(World& world) {
  OracleRequest request;
  request.random = world.below(1000);
  request.tls = world.one_in(2);
  request.headers = {{":authority", world.request_host()}, {":path", world.request_path()}, {"x-cluster", "c"}};
  if (world.one_in(3)) request.headers.emplace_back("x-h", world.one_in(2) ? "1" : "2");
  return request;
}

std::string text_of(const config::Faults& faults) {
  std::string out;
  for (const config::Fault& fault : faults.all()) out += fault.str() + (fault.warning ? " (warning)\n" : "\n");
  return out;
}

struct Counts {
  size_t tables = 0, refused = 0, kept = 0, pieces = 0;
};

void run(uint64_t seed, int steps, const std::string& file, config::UnknownFields mode, Counts& counts) {
  TableBase base;
  config::testing::Loader whole({.unknown_fields = mode});
  config::testing::Loader next({.unknown_fields = mode, .table_base = [&](std::string_view) { return base; }});
  World world(seed, file);
  const bool other_order = world.one_in(2);
  const config::FieldPath path("resources[0]");
  for (int step = 0; step < steps; ++step) {
    World changed = world;
    for (uint32_t n = 1 + world.below(3); n > 0; --n) changed.change();
    world.below(2);
    if (changed.one_in(6)) changed.make_a_mistake();
    const std::string bytes = other_order ? routes_first(changed.table()) : changed.table().SerializeAsString();
    const TranslatedResource expected = whole.translator.resource(kType, bytes, path);
    TranslatedResource actual = next.translator.resource(kType, bytes, path);
    ASSERT_EQ(text_of(expected.faults), text_of(actual.faults)) << "seed " << seed << " step " << step;
    ASSERT_EQ(expected.spec.has_value(), actual.spec.has_value());
    ASSERT_EQ(expected.name, actual.name);
    ASSERT_TRUE(expected.bytes == actual.bytes) << "seed " << seed << " step " << step;
    ++counts.tables;
    if (!expected.spec) {
      ++counts.refused;
      continue;
    }
    world = changed;
    const auto& spec = std::get<config::RouteTableSpec>(*actual.spec);
    const auto full = route::RouteTable::compile(std::get<config::RouteTableSpec>(*expected.spec));
    const auto made = route::RouteTable::compile(spec);
    for (const auto& piece : spec.kept == nullptr ? std::vector<KeptRoutes::Piece>() : spec.kept->pieces) {
      ++counts.pieces;
      counts.kept += piece.from != KeptRoutes::kNew ? 1 : 0;
      ASSERT_LE(piece.routes, 96u);
    }
    base = {.keys = spec.keys, .compiled = made, .bytes = std::string(actual.bytes)};
    ASSERT_EQ(describe(*full), describe(*made)) << "seed " << seed << " step " << step;
    for (int i = 0; i < 40; ++i) {
      const OracleRequest request = request_of(world);
      ASSERT_EQ(fate(*full, request), fate(*made, request)) << "seed " << seed << " step " << step;
    }
  }
}

TEST(KeptRoutes, ANextVersionIsWhatItWouldBeFromNothing) {
  const uint64_t seed = first_seed();
  std::printf("OUTRIGGER_TEST_SEED=%llu\n", static_cast<unsigned long long>(seed));
  const TempDir directory;
  const std::string file = directory / "body";
  write_file(file, "from a file");
  Counts counts;
  for (uint64_t i = 0; i < 12; ++i) {
    run(seed + i, 25, file, i % 3 == 0 ? config::UnknownFields::kWarn : config::UnknownFields::kError, counts);
    if (HasFatalFailure()) return;
  }
  EXPECT_GT(counts.refused, counts.tables / 50);
  EXPECT_GT(counts.kept, counts.tables);  // else it says little
}

// A table of `routes` routes, one of them another one.
std::string table_bytes(int routes, int other, int port_redirect = 0) {
  wire::RouteConfiguration table;
  table.set_name("t");
  auto* host = table.add_virtual_hosts();
  host->set_name("h");
  host->add_domains("*");
  for (int i = 0; i < routes; ++i) {
    auto* route = host->add_routes();
    route->mutable_match()->set_path(fmt::format("/{}{}", i, i == other ? "/other" : ""));
    route->mutable_route()->set_cluster(fmt::format("cluster{}", i));
    if (port_redirect > 0 && i == other)
      route->mutable_redirect()->set_port_redirect(static_cast<uint32_t>(port_redirect));
  }
  return table.SerializeAsString();
}

struct NextVersion : testing::Test {
  const config::RouteTableSpec& take(const std::string& bytes) {
    last = loader.translator.resource(kType, bytes, config::FieldPath("resources[3]"));
    if (!last.spec) {
      static const config::RouteTableSpec kNone;
      return kNone;
    }
    const auto& spec = std::get<config::RouteTableSpec>(*last.spec);
    table = route::RouteTable::compile(spec);
    base = {.keys = spec.keys, .compiled = table, .bytes = std::string(last.bytes)};
    return spec;
  }
  TableBase base;
  config::testing::Loader loader{{.table_base = [this](std::string_view) { return base; }}};
  TranslatedResource last;
  std::shared_ptr<const route::RouteTable> table;
};

TEST_F(NextVersion, OneRouteOfManyCostsItsPiece) {
  EXPECT_EQ(take(table_bytes(10'000, -1)).kept, nullptr);
  const auto before = table;
  const config::RouteTableSpec& spec = take(table_bytes(10'000, 5'000));
  ASSERT_NE(spec.kept, nullptr);
  EXPECT_LE(spec.virtual_hosts[0].routes.size(), 96u);
  EXPECT_EQ(table->route_count(), 10'000u);
  // A kept route's texts are those that were.
  EXPECT_EQ(table->virtual_hosts()[0].routes()[0].path_pattern().data(),
            before->virtual_hosts()[0].routes()[0].path_pattern().data());
  size_t added = 0;
  table->compare_clusters(
      *before, [&](std::string_view) { ++added; }, [&](std::string_view) { ++added; });
  EXPECT_EQ(added, 0u);
}

TEST_F(NextVersion, OfAMistakeThePlaceInTheWholeIsTold) {
  take(table_bytes(1'000, -1));
  take(table_bytes(1'000, 777, 70'000));
  ASSERT_EQ(last.faults.all().size(), 1u) << last.faults.str();
  EXPECT_EQ(last.faults.all()[0].path, "resources[3].virtual_hosts[0].routes[777].redirect.port_redirect");
}

TEST_F(NextVersion, ManyChangesLeaveNoCrumbs) {
  take(table_bytes(2'000, -1));
  for (int i = 0; i < 300; ++i) take(table_bytes(2'000 - i % 7, i * 37 % 1'900));
  EXPECT_LT(base.keys->pieces.size(), 2'000u / 32u);
}

TEST(RoutePieces, BrokenBytesAreNotWalked) {
  const std::string good = table_bytes(3, -1);
  EXPECT_TRUE(config::walk_routes(good, true).has_value());
  EXPECT_EQ(config::walk_routes(good, true)->routes.size(), 3u);
  EXPECT_EQ(config::walk_routes(good, true)->name, "t");
  for (const std::string& bad :
       {good + "\x12", good + "\x12\x05", good + "\x13", good + std::string(11, '\xff'), good + std::string(2, '\0')})
    EXPECT_FALSE(config::walk_routes(bad, true).has_value());
}

}  // namespace
}  // namespace outrigger::test
