#include "config/yaml_document.h"

#include <fmt/format.h>
#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/mark.h>
#include <yaml-cpp/parser.h>

#include <algorithm>
#include <exception>
#include <istream>
#include <optional>
#include <streambuf>
#include <unordered_map>
#include <unordered_set>

namespace outrigger::config {

namespace {

constexpr std::string_view kTagPrefix = "tag:yaml.org,2002:";

void add_fault(Faults& faults, std::string_view file, int line, std::string message) {
  faults.add_at({}, std::move(message));
  faults.all().back().file = std::string(file);
  faults.all().back().line = line;
}

// The length of the UTF-8 sequence at `s`, 0 if it is not one (RFC 3629: shortest form, no surrogates).
size_t utf8_length(std::string_view s) {
  auto byte = [&](size_t i) { return static_cast<unsigned char>(s[i]); };
  const unsigned char first = byte(0);
  if (first < 0x80) return 1;
  const size_t length = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
  if (first < 0xc2 || first > 0xf4 || s.size() < length) return 0;
  for (size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xc0) != 0x80) return 0;
  }
  if ((first == 0xe0 && byte(1) < 0xa0) || (first == 0xed && byte(1) > 0x9f)) return 0;
  if ((first == 0xf0 && byte(1) < 0x90) || (first == 0xf4 && byte(1) > 0x8f)) return 0;
  return length;
}

// yaml-cpp takes some control characters for the end of the file, and a file cut short reads as deletions.
bool check_text(std::string_view text, std::string_view file, Faults& faults) {
  int line = 1;
  for (size_t i = 0; i < text.size();) {
    const auto c = static_cast<unsigned char>(text[i]);
    if (c == '\n') ++line;
    const size_t length = utf8_length(text.substr(i));
    if (length == 0) {
      add_fault(faults, file, line, "not valid UTF-8");
      return false;
    }
    if ((c < 0x20 && c != '\t' && c != '\n' && c != '\r') || c == 0x7f) {
      add_fault(faults, file, line, fmt::format("control character 0x{:02x}", c));
      return false;
    }
    i += length;
  }
  return true;
}

// yaml-cpp takes the end of the file for the closing quote, so half a file could pass for a whole one. `at` is where
// the last quoted scalar begins, its anchor and tag included.
bool quote_is_open(std::string_view text, size_t at) {
  while (at < text.size() && (text[at] == '&' || text[at] == '!')) {
    at = text.find_first_not_of(" \t\r\n", std::min(text.find_first_of(" \t\r\n", at), text.size()));
  }
  if (at >= text.size() || (text[at] != '"' && text[at] != '\'')) return false;
  const char quote = text[at];
  for (size_t i = at + 1; i < text.size(); ++i) {
    if (text[i] == '\\' && quote == '"') {
      ++i;
    } else if (text[i] == quote) {
      if (quote == '"' || i + 1 >= text.size() || text[i + 1] != quote) return false;
      ++i;
    }
  }
  return true;
}

class ViewBuffer : public std::streambuf {
 public:
  explicit ViewBuffer(std::string_view text) {
    char* begin = const_cast<char*>(text.data());  // never written: no put area
    setg(begin, begin, begin + text.size());
  }
};

}  // namespace

// Turns the parser's events into nodes. After a mistake of its own it ignores what follows, since an exception of ours
// must not pass through the parser.
class YamlBuilder final : public YAML::EventHandler {
 public:
  explicit YamlBuilder(std::vector<YamlDocument::Node>& nodes) : nodes_(nodes) {}

  bool failed() const { return failed_; }
  bool empty() const { return !root_; }
  YamlDocument::NodeId root() const { return *root_; }
  int line() const { return line_; }
  const std::string& message() const { return message_; }
  int first_line() const { return first_line_; }
  // Where the last quoted scalar begins, and its line.
  size_t last_quoted() const { return last_quoted_; }
  int last_quoted_line() const { return last_quoted_line_; }

  void OnDocumentStart(const YAML::Mark& mark) override { first_line_ = mark.line + 1; }
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override { add(mark, anchor, YamlDocument::Kind::kNull); }

  void OnAlias(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    if (failed_) return;
    auto it = anchors_.find(anchor);
    if (it == anchors_.end()) return fail(mark, "alias of an unknown anchor");
    if (nodes_[it->second].open) return fail(mark, "alias of the node that it stands in");
    attach(it->second);
  }

  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string& value) override {
    std::optional<YamlDocument::NodeId> id = add(mark, anchor, YamlDocument::Kind::kScalar);
    if (!id) return;
    nodes_[*id].text = value;
    nodes_[*id].plain = tag.empty() || tag == "?";
    if (!nodes_[*id].plain) {
      last_quoted_ = static_cast<size_t>(mark.pos);
      last_quoted_line_ = mark.line + 1;
    }
    if (nodes_[*id].plain || tag == "!") return;
    std::string_view name = tag;
    if (name.substr(0, kTagPrefix.size()) == kTagPrefix) name.remove_prefix(kTagPrefix.size());
    if (name == "int" || name == "float" || name == "bool") {
      nodes_[*id].plain = true;
    } else if (name != "str") {
      fail(mark, fmt::format("YAML tag {} is not supported", tag));
    }
  }

  void OnSequenceStart(const YAML::Mark& mark, const std::string& /*tag*/, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value /*style*/) override {
    open(mark, anchor, YamlDocument::Kind::kSequence);
  }
  void OnSequenceEnd() override { close(); }
  void OnMapStart(const YAML::Mark& mark, const std::string& /*tag*/, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value /*style*/) override {
    open(mark, anchor, YamlDocument::Kind::kMapping);
  }
  void OnMapEnd() override { close(); }

 private:
  void fail(const YAML::Mark& mark, std::string message) {
    failed_ = true;
    line_ = mark.line + 1;
    message_ = std::move(message);
  }

  void attach(YamlDocument::NodeId id) {
    if (open_.empty()) {
      root_ = id;
    } else {
      nodes_[open_.back()].children.push_back(id);
    }
  }

  std::optional<YamlDocument::NodeId> add(const YAML::Mark& mark, YAML::anchor_t anchor, YamlDocument::Kind kind) {
    if (failed_) return {};
    if (nodes_.size() >= YamlDocument::kMaxNodes) {
      fail(mark, fmt::format("more than {} nodes", YamlDocument::kMaxNodes));
      return {};
    }
    const auto id = static_cast<YamlDocument::NodeId>(nodes_.size());
    nodes_.push_back({.kind = kind, .line = mark.line + 1});
    if (anchor != YAML::NullAnchor) anchors_[anchor] = id;
    attach(id);
    return id;
  }

  void open(const YAML::Mark& mark, YAML::anchor_t anchor, YamlDocument::Kind kind) {
    if (!failed_ && open_.size() >= YamlDocument::kMaxDepth) {
      fail(mark, fmt::format("nested deeper than {} levels", YamlDocument::kMaxDepth));
    }
    std::optional<YamlDocument::NodeId> id = add(mark, anchor, kind);
    if (!id) return;
    nodes_[*id].open = true;
    open_.push_back(*id);
  }

  void close() {
    if (failed_) return;
    nodes_[open_.back()].open = false;
    open_.pop_back();
  }

  std::vector<YamlDocument::Node>& nodes_;
  std::vector<YamlDocument::NodeId> open_;
  std::unordered_map<YAML::anchor_t, YamlDocument::NodeId> anchors_;
  std::optional<YamlDocument::NodeId> root_;
  bool failed_ = false;
  int line_ = 0;
  int first_line_ = 0;
  size_t last_quoted_ = 0;
  int last_quoted_line_ = 0;
  std::string message_;
};

bool YamlDocument::parse(std::string_view text, std::string_view file, Faults& faults) {
  file_ = std::string(file);
  nodes_.clear();
  root_ = 0;
  auto refuse = [&](int line, std::string message) {
    add_fault(faults, file, line, std::move(message));
    return false;
  };
  if (text.size() > kMaxBytes) {
    return refuse(0, fmt::format("the file has {} bytes, the limit is {}", text.size(), kMaxBytes));
  }
  if (!check_text(text, file, faults)) return false;
  if (text.substr(0, 3) == "\xef\xbb\xbf") text.remove_prefix(3);  // byte order mark
  try {
    ViewBuffer buffer(text);
    std::istream in(&buffer);
    YAML::Parser parser(in);
    YamlBuilder builder(nodes_);
    if (!parser.HandleNextDocument(builder) || (!builder.failed() && builder.empty())) {
      return refuse(0, "the file is empty");
    }
    if (builder.failed()) return refuse(builder.line(), builder.message());
    if (quote_is_open(text, builder.last_quoted())) {
      return refuse(builder.last_quoted_line(), "the quote that begins here is not closed");
    }
    root_ = builder.root();
    std::vector<Node> rest;
    YamlBuilder second(rest);
    if (parser.HandleNextDocument(second)) {
      return refuse(second.first_line(), "a second document begins here; one file holds one document");
    }
  } catch (const YAML::Exception& e) {
    return refuse(e.mark.is_null() ? 0 : e.mark.line + 1, fmt::format("YAML: {}", e.msg));
  } catch (const std::exception& e) {
    return refuse(0, fmt::format("YAML: {}", e.what()));
  }
  if (node(root_).kind == Kind::kNull) return refuse(0, "the file is empty");
  if (node(root_).kind == Kind::kScalar) {
    return refuse(node(root_).line, "a mapping or a list is expected at the top of the file");
  }
  return true;
}

struct YamlDocument::Merge {
  std::vector<Entry> entries;
  std::unordered_set<std::string_view> names;  // filled once a merge key was met
  const Node* bad = nullptr;
  size_t& visited;
};

std::vector<YamlDocument::Entry> YamlDocument::entries(NodeId mapping, size_t& visited, const Node** bad_merge) const {
  Merge state{.visited = visited};
  state.entries.reserve(node(mapping).children.size() / 2);
  merge(mapping, 0, state);
  if (bad_merge != nullptr) *bad_merge = state.bad;
  return std::move(state.entries);
}

void YamlDocument::merge(NodeId value, int depth, Merge& state) const {
  const Node& map = node(value);
  if (map.kind != Kind::kMapping || depth > kMaxDepth) {
    state.bad = &map;
    return;
  }
  state.visited += 1 + map.children.size() / 2;
  if (state.visited > kMaxNodes) return;
  std::vector<NodeId> merges;
  for (size_t i = 0; i + 1 < map.children.size(); i += 2) {
    const Node& key = node(map.children[i]);
    if (key.plain && key.text == "<<") {
      merges.push_back(map.children[i + 1]);
    } else if (depth == 0 || state.names.insert(key.text).second) {
      state.entries.push_back({.key = map.children[i], .value = map.children[i + 1], .merged = depth > 0});
    }
  }
  if (depth == 0 && !merges.empty()) {
    for (const Entry& entry : state.entries) state.names.insert(node(entry.key).text);
  }
  for (NodeId id : merges) {
    if (node(id).kind != Kind::kSequence) {
      merge(id, depth + 1, state);
      continue;
    }
    for (NodeId item : node(id).children) {
      if (state.visited > kMaxNodes) return;
      merge(item, depth + 1, state);
    }
  }
}

namespace {

// "listenerFilters" and "listener_filters" are one name.
bool same_name(std::string_view yaml, std::string_view proto) {
  size_t i = 0;
  size_t j = 0;
  while (i < yaml.size() && j < proto.size()) {
    if (yaml[i] == proto[j]) {
      ++i;
      ++j;
    } else if (proto[j] == '_' && j + 1 < proto.size() && yaml[i] == (proto[j + 1] & ~0x20)) {
      ++i;
      j += 2;
    } else {
      return false;
    }
  }
  return i == yaml.size() && j == proto.size();
}

struct Step {
  std::string_view name;
  bool key = false;  // a map's key: compared as it is
  long index = -1;
};

// Takes the first step off `path`; false: nothing left or not a path.
bool next_step(std::string_view& path, Step& step) {
  step = {};
  if (!path.empty() && path.front() == '.') path.remove_prefix(1);
  if (path.empty()) return false;
  if (path.front() != '[') {
    const size_t end = std::min(path.find_first_of(".["), path.size());
    step.name = path.substr(0, end);
    path.remove_prefix(end);
    return true;
  }
  const bool quoted = path.substr(0, 2) == "[\"";
  const size_t end = path.find(quoted ? "\"]" : "]", quoted ? 2 : 1);
  if (end == std::string_view::npos) return false;
  step.key = quoted;
  step.name = path.substr(quoted ? 2 : 1, end - (quoted ? 2 : 1));
  if (!quoted) {
    step.index = 0;
    for (char c : step.name) {
      if (c < '0' || c > '9' || step.index > 100'000'000) return false;
      step.index = step.index * 10 + (c - '0');
    }
  }
  path.remove_prefix(end + (quoted ? 2 : 1));
  return true;
}

}  // namespace

int YamlDocument::line_of(std::string_view path) const {
  if (nodes_.empty()) return 0;
  NodeId at = root_;
  int line = 0;
  Step step;
  while (next_step(path, step)) {
    const Node& here = node(at);
    if (step.index >= 0) {
      if (here.kind != Kind::kSequence) {
        if (step.index == 0) continue;  // one value where a list is due
        return line;
      }
      if (static_cast<size_t>(step.index) >= here.children.size()) return line;
      at = here.children[static_cast<size_t>(step.index)];
      line = node(at).line;
      continue;
    }
    if (here.kind != Kind::kMapping) return line;
    size_t visited = 0;
    const std::vector<Entry> all = entries(at, visited);
    auto it = std::find_if(all.begin(), all.end(), [&](const Entry& entry) {
      const std::string& name = node(entry.key).text;
      return name == step.name || (!step.key && same_name(name, step.name));
    });
    if (it == all.end()) return line;
    at = it->value;
    line = node(it->key).line;
  }
  return line;
}

void YamlDocument::locate(Faults& faults) const {
  for (Fault& fault : faults.all()) {
    if (fault.line != 0) continue;
    fault.file = file_;
    fault.line = line_of(fault.path);
  }
}

}  // namespace outrigger::config
