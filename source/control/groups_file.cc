#include "control/groups_file.h"

#include <filesystem>
#include <set>
#include <utility>

#include "config/proto_reader.h"
#include "outrigger/control/v1/groups.pb.h"

namespace outrigger::control {
namespace {

using config::Faults;
using config::FieldPath;

// The entry as a normal path; a fault if it would leave the directory.
std::optional<std::string> normal_path(const std::string& text, const FieldPath& path, Faults& faults) {
  std::string normal = std::filesystem::path(text).lexically_normal().string();
  while (normal.ends_with('/')) normal.pop_back();
  if (normal == ".") normal.clear();
  if (text.empty()) {
    faults.add(path, "must not be empty; \".\" is the configuration directory itself");
  } else if (normal.starts_with('/') || normal == ".." || normal.starts_with("../")) {
    faults.add(path, "must be a path inside the configuration directory");
  } else {
    return normal;
  }
  return std::nullopt;
}

template <class Files>
std::vector<GroupsFile::Entry> entries(const Files& files, const FieldPath& path, Faults& faults) {
  std::vector<GroupsFile::Entry> out;
  for (int i = 0; i < files.size(); ++i) {
    const FieldPath at = path.index(static_cast<size_t>(i));
    if (auto normal = normal_path(files[i], at, faults)) out.push_back({std::move(*normal), at.str()});
  }
  return out;
}

std::optional<TextMatch> text_match(bool given, const v1::TextMatch& match, const FieldPath& path, Faults& faults) {
  if (!given) return std::nullopt;
  switch (match.match_case()) {
    case v1::TextMatch::kExact:
      return TextMatch::exact(match.exact());
    case v1::TextMatch::kPrefix:
      return TextMatch::prefix(match.prefix());
    default:
      faults.add(path, "needs exact or prefix");
      return std::nullopt;
  }
}

NodeSelector selector(const v1::NodeSelector& from, const FieldPath& path, Faults& faults) {
  NodeSelector to;
  to.id = text_match(from.has_id(), from.id(), path.field("id"), faults);
  to.cluster = text_match(from.has_cluster(), from.cluster(), path.field("cluster"), faults);
  to.user_agent = text_match(from.has_user_agent(), from.user_agent(), path.field("user_agent"), faults);
  to.tls_identity = text_match(from.has_tls_identity(), from.tls_identity(), path.field("tls_identity"), faults);
  const FieldPath all = path.field("metadata");
  for (int i = 0; i < from.metadata_size(); ++i) {
    const FieldPath at = all.index(static_cast<size_t>(i));
    const v1::MetadataMatch& match = from.metadata(i);
    if (match.path().empty()) faults.add(at.field("path"), "needs at least one key");
    auto value = text_match(true, match.value(), at.field("value"), faults);
    if (value) to.metadata.push_back({{match.path().begin(), match.path().end()}, std::move(*value)});
  }
  if (!from.has_id() && !from.has_cluster() && !from.has_user_agent() && !from.has_tls_identity() &&
      from.metadata().empty())
    faults.add(path, "matches every node: what all others get is said by `default`");
  return to;
}

void check_name(const std::string& name, std::set<std::string>& names, const FieldPath& path, Faults& faults) {
  for (const char c : name) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte <= 0x20 || byte == 0x7f) return faults.add(path, "must not have spaces or control characters");
  }
  if (name.empty()) return faults.add(path, "must not be empty");
  if (name == "default") return faults.add(path, "\"default\" is the group of those that match none");
  if (!names.insert(name).second) faults.add(path, "two groups are named \"" + name + "\"");
}

}  // namespace

GroupsFile GroupsFile::none() {
  GroupsFile out;
  out.groups.push_back({"", {{"", ""}}});
  return out;
}

std::optional<GroupsFile> GroupsFile::parse(std::string_view text, const std::string& file, Faults& faults) {
  faults.set_file(file);
  config::YamlDocument document;
  v1::Groups read;
  if (!document.parse(text, file, faults)) return std::nullopt;
  config::read_message(document, read, faults);  // what can be read is judged all the same
  GroupsFile out = none();
  const FieldPath in_default("default");
  if (read.has_default_()) out.groups[0].files = entries(read.default_().files(), in_default.field("files"), faults);
  std::set<std::string> names;
  const FieldPath all("groups");
  for (int i = 0; i < read.groups_size(); ++i) {
    const v1::Group& from = read.groups(i);
    const FieldPath at = all.index(static_cast<size_t>(i));
    check_name(from.name(), names, at.field("name"), faults);
    GroupRule rule{from.name(), {}};
    const FieldPath matches = at.field("match");
    for (int m = 0; m < from.match_size(); ++m)
      rule.any_of.push_back(selector(from.match(m), matches.index(static_cast<size_t>(m)), faults));
    if (from.match().empty()) faults.add(matches, "needs at least one selector");
    const FieldPath files = at.field("files");
    if (from.files().empty()) faults.add(files, "needs at least one file or directory");
    out.rules.push_back(std::move(rule));
    out.groups.push_back({from.name(), entries(from.files(), files, faults)});
  }
  document.locate(faults);
  for (Group& group : out.groups)
    for (Entry& entry : group.files) entry.line = document.line_of(entry.field);
  if (!faults.ok()) return std::nullopt;
  return out;
}

}  // namespace outrigger::control
