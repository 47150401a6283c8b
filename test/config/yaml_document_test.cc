#include "config/yaml_document.h"

#include <gtest/gtest.h>

#include <string>

namespace outrigger::config {
namespace {

// The faults of a text that must be refused; "accepted" if it is not.
std::string refusal(std::string_view text) {
  YamlDocument document;
  Faults faults;
  if (document.parse(text, "f.yaml", faults)) return "accepted";
  EXPECT_EQ(faults.errors(), 1U);
  return faults.str();
}

TEST(YamlDocument, RefusesWhatIsNotOneMapping) {
  EXPECT_EQ(refusal(""), "f.yaml: the file is empty\n");
  EXPECT_EQ(refusal("# nothing\n"), "f.yaml: the file is empty\n");
  EXPECT_EQ(refusal("null\n"), "f.yaml: the file is empty\n");
  EXPECT_EQ(refusal("\n- a\n"), "accepted");
  EXPECT_EQ(refusal("text"), "f.yaml:1: a mapping or a list is expected at the top of the file\n");
  EXPECT_EQ(refusal("a: 1\n---\nb: 2\n"), "f.yaml:2: a second document begins here; one file holds one document\n");
  EXPECT_EQ(refusal("---\na: 1\n...\n"), "accepted");
}

TEST(YamlDocument, SyntaxErrorsHaveLines) {
  EXPECT_EQ(refusal("a: 1\nb: [1, 2\nc: 3\n").substr(0, 12), "f.yaml:3: YA");
  EXPECT_EQ(refusal("a: *nobody\n").substr(0, 9), "f.yaml:1:");
}

// yaml-cpp reads some of these as the end of the file.
TEST(YamlDocument, RefusesOpenQuotes) {
  for (const char* text : {"a: 1\nb: \"open\n", "a: 1\nb: 'open", "a: 1\nb: 'o''", "a: 1\nb: \"o\\\"",
                           "a: 1\nb: &x \"open\nc: d", "a: '\xe2\x82\xac'\nb: &x !!str \"open\nc: d",
                           "\xef\xbb\xbf"
                           "a: \"1\"\nb: \"open",
                           "a: it's\r\nb: 'open\r\n"}) {
    EXPECT_NE(refusal(text), "accepted") << text;  // yaml-cpp itself refuses those that do not end in a newline
  }
  EXPECT_EQ(refusal("a: 1\nb: \"open\n"), "f.yaml:2: the quote that begins here is not closed\n");
  EXPECT_EQ(refusal("a: '\xe2\x82\xac'\nb: &x !!str \"open\nc: d\n"),
            "f.yaml:2: the quote that begins here is not closed\n");
  for (const char* text : {"a: \"x\"", "a: 'x'''", "a: ''", "a: \"\\\\\"", "a: it's", "a: &it's \"x\"", "a: 'x' # it's",
                           "\xef\xbb\xbf"
                           "a: '\xe2\x82\xac' # \"",
                           "a: |\n  \"open\n", "a: >-\n  it's", "{\"a\": \"b\"}"}) {
    EXPECT_EQ(refusal(text), "accepted") << text;
  }
}

TEST(YamlDocument, RefusesControlCharactersAndBadUtf8) {
  EXPECT_EQ(refusal("a: 1\nb: \x04 2\nc: 3\n"), "f.yaml:2: control character 0x04\n");
  EXPECT_EQ(refusal(std::string_view("a: 1\n\0b: 2", 10)), "f.yaml:2: control character 0x00\n");
  for (const char* bad : {"a: \xff", "a: \xc0\xaf", "a: \xe0\x80\x80", "a: \xed\xa0\x80", "a: \xf4\x90\x80\x80",
                          "a: \xf5\x80\x80\x80", "a: \xe2\x82", "a: \x80"}) {
    EXPECT_EQ(refusal(bad), "f.yaml:1: not valid UTF-8\n") << bad;
  }
  EXPECT_EQ(refusal("a: \"gr\xc3\xbc\xc3\x9f \xe2\x82\xac \xf0\x9f\x9b\xb6\"\n"), "accepted");
}

TEST(YamlDocument, LimitsSizeAndDepth) {
  EXPECT_EQ(refusal("a: " + std::string(YamlDocument::kMaxBytes, 'x')),
            "f.yaml: the file has 16777219 bytes, the limit is 16777216\n");
  const std::string open(YamlDocument::kMaxDepth, '[');
  const std::string close(YamlDocument::kMaxDepth, ']');
  EXPECT_EQ(refusal("a: " + open + close), "f.yaml:1: nested deeper than 100 levels\n");
  EXPECT_EQ(refusal("a: " + open.substr(1) + close.substr(1)), "accepted");
  EXPECT_NE(refusal("a: " + std::string(100'000, '[')), "accepted");
  EXPECT_NE(refusal("a: " + std::string(100'000, '{')), "accepted");
}

TEST(YamlDocument, LimitsNodes) {
  std::string many = "a: [";
  for (size_t i = 0; i <= YamlDocument::kMaxNodes; ++i) many += "1,";
  EXPECT_EQ(refusal(many + "]"), "f.yaml:1: more than 2000000 nodes\n");
}

TEST(YamlDocument, RefusesAliasOfItself) {
  EXPECT_EQ(refusal("a: &x\n  b: *x\n"), "f.yaml:2: alias of the node that it stands in\n");
}

TEST(YamlDocument, RefusesForeignTags) {
  EXPECT_EQ(refusal("a: !secret b\n"), "f.yaml:1: YAML tag !secret is not supported\n");
  EXPECT_EQ(refusal("a: !!str 5\nb: !!int \"5\"\n"), "accepted");
}

class YamlMergeTest : public ::testing::Test {
 protected:
  // "key=value" of all entries of the mapping under `of`.
  std::string entries(std::string_view text) {
    Faults faults;
    EXPECT_TRUE(document_.parse(text, "f", faults)) << faults.str();
    const auto& top = document_.node(document_.root());
    const YamlDocument::NodeId last = top.children.back();
    std::string out;
    const YamlDocument::Node* bad = nullptr;
    size_t visited = 0;
    for (const YamlDocument::Entry& entry : document_.entries(last, visited, &bad)) {
      out += document_.node(entry.key).text + "=" + document_.node(entry.value).text + (entry.merged ? "* " : " ");
    }
    if (bad != nullptr) out += "bad";
    return out;
  }

  YamlDocument document_;
};

TEST_F(YamlMergeTest, OwnEntriesWinAndEarlierMappingsToo) {
  EXPECT_EQ(entries("b: &b {x: 1, y: 2}\nof: {<<: *b, y: 3, z: 4}"), "y=3 z=4 x=1* ");
  EXPECT_EQ(entries("b: &b {x: 1, y: 2}\nc: &c {x: 5, w: 6}\nof:\n  <<: [*b, *c]\n  z: 4"), "z=4 x=1* y=2* w=6* ");
  EXPECT_EQ(entries("a: &a {x: 1}\nb: &b {<<: *a, y: 2}\nof:\n  <<: *b"), "y=2* x=1* ");
}

TEST_F(YamlMergeTest, QuotedMergeKeyIsAnOrdinaryKey) { EXPECT_EQ(entries("of: {'<<': 1}"), "<<=1 "); }

TEST_F(YamlMergeTest, BadMergeIsSeen) { EXPECT_EQ(entries("of: {<<: 5, a: 1}"), "a=1 bad"); }

TEST_F(YamlMergeTest, MergeBombIsCutShort) {
  std::string text = "a: &a {x: 1, y: 2}\n";
  for (char c = 'b'; c <= 'z'; ++c) {
    const std::string before = std::string("*") + static_cast<char>(c - 1);
    text += c;
    text += ": &";
    text += c;
    text += " {<<: [" + before + ", " + before + ", " + before + "]}\n";
  }
  Faults faults;
  ASSERT_TRUE(document_.parse(text, "f", faults)) << faults.str();
  size_t visited = 0;
  document_.entries(document_.node(document_.root()).children.back(), visited);
  EXPECT_GT(visited, YamlDocument::kMaxNodes);
  EXPECT_LT(visited, YamlDocument::kMaxNodes * 2);
}

TEST(YamlDocument, LineOfPaths) {
  YamlDocument document;
  Faults faults;
  ASSERT_TRUE(
      document.parse("static_resources:\n"      // 1
                     "  listeners:\n"           // 2
                     "  - name: a\n"            // 3
                     "    filterChains:\n"      // 4
                     "      filters:\n"         // 5
                     "      - typed_config:\n"  // 6
                     "          \"x.y\": 1\n"   // 7
                     "  - &b\n"                 // 8
                     "    name: b\n"            // 9
                     "  - <<: *b\n"             // 10
                     "    stat: c\n",           // 11
                     "f.yaml", faults));
  EXPECT_EQ(document.line_of("static_resources"), 1);
  EXPECT_EQ(document.line_of("static_resources.listeners[0]"), 3);
  EXPECT_EQ(document.line_of("static_resources.listeners[0].filter_chains[0].filters[0].typed_config"), 6);
  EXPECT_EQ(document.line_of("static_resources.listeners[0].filter_chains[0].filters[0].typed_config[\"x.y\"]"), 7);
  EXPECT_EQ(document.line_of("static_resources.listeners[0].filter_chains[0].filters[0].typed_config.absent.z"), 6);
  EXPECT_EQ(document.line_of("static_resources.listeners[2].name"), 9);
  EXPECT_EQ(document.line_of("static_resources.listeners[7].name"), 2);
  EXPECT_EQ(document.line_of(""), 0);
  EXPECT_EQ(document.line_of("nothing"), 0);
  EXPECT_EQ(document.line_of("static_resources.listeners[99999999999999999999]"), 2);
  EXPECT_EQ(document.line_of("[\"open"), 0);

  Faults later;
  later.add_at("static_resources.listeners[0].name", "is wrong");
  later.add_at("static_resources.listeners[0].name", "is wrong");
  later.all()[1].line = 77;
  document.locate(later);
  EXPECT_EQ(later.all()[0].str(), "f.yaml:3: static_resources.listeners[0].name: is wrong");
  EXPECT_EQ(later.all()[1].line, 77);
}

}  // namespace
}  // namespace outrigger::config
