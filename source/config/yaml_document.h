// YamlDocument: one YAML or JSON file as a flat tree of nodes that know their lines. Aliases share a node; merge keys
// ("<<") are expanded by entries(). Everything that the parser or our limits refuse becomes a fault with its line.
//
// Thread rule: immutable after parse(); any thread.
// Use:  YamlDocument doc;  if (!doc.parse(text, "bootstrap.yaml", faults)) return;
//       read_message(doc, bootstrap, faults);          // proto_reader.h
//       translate(bootstrap, faults);  doc.locate(faults);   // later faults get lines by their paths
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "config/faults.h"

namespace outrigger::config {

class YamlDocument {
 public:
  static constexpr size_t kMaxBytes = 16 << 20;
  static constexpr size_t kMaxNodes = 2'000'000;  // nodes of the file, and nodes visited when aliases are followed
  static constexpr int kMaxDepth = 100;

  enum class Kind : uint8_t { kNull, kScalar, kSequence, kMapping };
  using NodeId = uint32_t;

  struct Node {
    Kind kind = Kind::kNull;
    bool plain = false;            // scalar without quotes: may be a number, a bool
    bool open = false;             // while parsing: its end has not been seen yet
    int line = 0;                  // 1-based
    std::string text;              // scalar
    std::vector<NodeId> children;  // sequence: items; mapping: key, value, key, value ...
  };

  // One entry of a mapping. Merged: it came by way of "<<" and gives way to the mapping's own.
  struct Entry {
    NodeId key;
    NodeId value;
    bool merged;
  };

  // Exactly one document, whose top is a mapping or a list. False: `faults` says why.
  bool parse(std::string_view text, std::string_view file, Faults& faults);

  const std::string& file() const { return file_; }
  NodeId root() const { return root_; }
  const Node& node(NodeId id) const { return nodes_[id]; }
  // Entries of a mapping: its own in file order, then those that merge keys bring in (the first of equal keys first).
  // `bad_merge` is set to the node of a merge value that is neither a mapping nor a list of mappings. `visited` grows
  // by the entries that were looked at; beyond kMaxNodes the answer is cut short.
  std::vector<Entry> entries(NodeId mapping, size_t& visited, const Node** bad_merge = nullptr) const;

  // The line of what a path such as `a.b[2].c["key"].d` names, or of the deepest part of it that the file has; 0: none.
  int line_of(std::string_view path) const;
  // Gives file and line to the faults that have no line yet.
  void locate(Faults& faults) const;

 private:
  struct Merge;
  void merge(NodeId value, int depth, Merge& state) const;

  std::string file_;
  std::vector<Node> nodes_;
  NodeId root_ = 0;
};

}  // namespace outrigger::config
