// The filters as config brings them: through the translator, with the list of all filters.
#include <gtest/gtest.h>

#include <fstream>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "config/translate.h"
#include "filters/all_filters.h"
#include "harness.h"

namespace outrigger::filters {
namespace {

std::string read_file(const std::string& path) {
  std::ifstream in(path);
  std::ostringstream out;
  out << in.rdbuf();
  EXPECT_FALSE(out.str().empty()) << path;
  return out.str();
}

// The ```yaml blocks of a page.
std::vector<std::string> yaml_blocks(const std::string& page) {
  const std::string text = read_file(std::string(OUTRIGGER_SOURCE_DIR) + "/source/docs/guide/" + page);
  std::vector<std::string> blocks;
  for (size_t at = 0; (at = text.find("```yaml\n", at)) != std::string::npos;) {
    at += 8;
    const size_t end = text.find("```", at);
    blocks.push_back(text.substr(at, end - at));
    at = end;
  }
  return blocks;
}

struct Translated {
  stats::Registry stats{1};
  config::StateRegistry states;
  config::Translator translator{all_filters(), states, stats, {}};
  config::TranslatedBootstrap bootstrap;
  explicit Translated(const std::string& yaml) : bootstrap(translator.bootstrap(yaml, "guide.yaml")) {}
  const config::HcmSpec& hcm() const { return bootstrap.spec->listeners.at(0).filter_chains.at(0).hcm; }
};

TEST(AllFilters, NamesAndTypesAreDistinct) {
  std::set<std::string_view> names, types;
  for (const config::FilterType& filter : all_filters()) {
    EXPECT_TRUE(names.insert(filter.name).second) << filter.name;
    EXPECT_TRUE(types.insert(filter.config_type).second) << filter.config_type;
    EXPECT_NE(filter.compile, nullptr);
    EXPECT_EQ(filter.route_type.empty(), filter.compile_route == nullptr);
  }
}

TEST(Guide, ExamplesAreAccepted) {
  for (const char* page : {"api_key_auth.md", "grpc.md", "local_ratelimit.md", "upgrades.md"}) {
    const auto blocks = yaml_blocks(page);
    EXPECT_FALSE(blocks.empty()) << page;
    for (const std::string& yaml : blocks) {
      const Translated t(yaml);
      EXPECT_TRUE(t.bootstrap.spec.has_value()) << page << "\n" << t.bootstrap.faults.str();
      EXPECT_TRUE(t.bootstrap.faults.all().empty()) << t.bootstrap.faults.str();
    }
  }
}

// The quickstart's own resources, as the control plane reads them.
TEST(Guide, QuickstartIsAccepted) {
  const std::string dir = std::string(OUTRIGGER_SOURCE_DIR) + "/source/docs/guide/examples/quickstart/config/";
  stats::Registry stats{1};
  config::StateRegistry states;
  config::Translator translator(all_filters(), states, stats, {});
  for (const char* file : {"clusters.yaml", "endpoints.yaml", "listener.yaml", "routes.yaml"}) {
    config::Faults faults;
    const auto resources = translator.resource_file(read_file(dir + file), file, faults);
    EXPECT_TRUE(faults.all().empty()) << faults.str();
    EXPECT_FALSE(resources.empty()) << file;
    for (const auto& resource : resources) {
      EXPECT_TRUE(resource.spec.has_value()) << file;
      EXPECT_TRUE(resource.faults.all().empty()) << resource.faults.str();
    }
  }
}

TEST(Guide, ApiKeyExampleDoesWhatThePageSays) {
  const Translated t(yaml_blocks("api_key_auth.md").at(0));
  ASSERT_TRUE(t.bootstrap.spec.has_value());
  const config::HttpFilterSpec& filter = t.hcm().filters.at(0);
  const config::RouteSpec& admin = t.hcm().route_table->virtual_hosts.at(0).routes.at(1);
  ASSERT_EQ(admin.per_filter.size(), 1u);
  EXPECT_EQ(admin.per_filter[0].filter_id, config::filter_name_id(filter.name))
      << "the filter finds its route's config";

  test::FakeStream stream({{":path", "/"}, {"x-api-key", "bob-secret"}, {"x-client", "alice"}});
  EXPECT_EQ(stream.run(*filter.config.part), Verdict::kContinue);
  EXPECT_EQ(stream.request("x-client"), "bob");
  EXPECT_EQ(stream.request("x-api-key"), "<absent>");
  stream.route_configs[admin.per_filter[0].filter_id] = {admin.per_filter[0].config.part.get()};
  stream.next({{":path", "/admin?api_key=bob-secret"}});
  stream.run(*filter.config.part);
  EXPECT_EQ(stream.replied().status, 403);
  EXPECT_EQ(t.stats.value("http.ingress.api_key_auth.allowed"), 1u) << "the connection manager's prefix";
  EXPECT_EQ(t.stats.value("http.ingress.api_key_auth.forbidden"), 1u);
}

TEST(Guide, RateLimitExampleDoesWhatThePageSays) {
  const Translated t(yaml_blocks("local_ratelimit.md").at(0));
  ASSERT_TRUE(t.bootstrap.spec.has_value());
  const FilterConfig& filter = *t.hcm().filters.at(0).config.part;
  const auto admitted = [&](test::FakeStream& stream, const char* client) {
    int passed = 0;
    for (int i = 0; i < 300; ++i) {
      stream.next({{":path", "/"}, {"x-client", client}});
      passed += stream.run(filter) == Verdict::kContinue ? 1 : 0;
    }
    return passed;
  };
  test::FakeStream stream;
  EXPECT_EQ(admitted(stream, "bob"), 100);
  EXPECT_EQ(admitted(stream, "carol"), 100);
  EXPECT_EQ(admitted(stream, "alice"), 300);
  const config::RouteSpec& exports = t.hcm().route_table->virtual_hosts.at(0).routes.at(0);
  stream.route_configs[exports.per_filter.at(0).filter_id] = {exports.per_filter.at(0).config.part.get()};
  EXPECT_EQ(admitted(stream, "alice"), 5);
}

// Two updates: an equal filter config keeps its compiled part; one under another stat_prefix does not.
TEST(Translation, EqualConfigsShareTheirPart) {
  std::string yaml = yaml_blocks("api_key_auth.md").at(0);
  Translated t(yaml);
  const auto part = t.hcm().filters.at(0).config.part;
  const auto again = t.translator.bootstrap(yaml, "guide.yaml");
  EXPECT_EQ(again.spec->listeners.at(0).filter_chains.at(0).hcm.filters.at(0).config.part, part);
  yaml.replace(yaml.find("stat_prefix: ingress"), 20, "stat_prefix: egress_");
  const auto renamed = t.translator.bootstrap(yaml, "guide.yaml");
  EXPECT_NE(renamed.spec->listeners.at(0).filter_chains.at(0).hcm.filters.at(0).config.part, part);
}

TEST(Translation, FaultsOfAFilterHaveTheirWholePathAndNoKey) {
  std::string yaml = yaml_blocks("api_key_auth.md").at(0);
  yaml.replace(yaml.find("bob-secret"), 10, "alice-secret");
  const Translated t(yaml);
  EXPECT_FALSE(t.bootstrap.spec.has_value());
  const std::string faults = t.bootstrap.faults.str();
  EXPECT_NE(faults.find("static_resources.listeners[0].filter_chains[0].filters[0].typed_config.http_filters[0]."
                        "typed_config.credentials[1].key: is the same key as that of credentials[0]"),
            std::string::npos)
      << faults;
  EXPECT_EQ(faults.find("secret"), std::string::npos) << faults;
}

}  // namespace
}  // namespace outrigger::filters
