// GroupsFile: groups.yaml of the configuration directory (outrigger.control.v1.Groups), read and checked by itself:
// names, selectors, and entries that stay inside the directory. Whether the entries exist, DirectorySource sees.
//
// Thread rule: pure function.
// Use:  config::Faults faults;  auto groups = GroupsFile::parse(text, "conf.d/groups.yaml", faults);
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "config/faults.h"
#include "outrigger/control/groups.h"

namespace outrigger::control {

struct GroupsFile {
  struct Entry {
    std::string path;   // relative to the configuration directory, normal; "" is the directory itself
    std::string field;  // where it stands: "groups[0].files[1]"
    int line = 0;
    bool operator==(const Entry&) const = default;
  };
  struct Group {
    std::string name;  // "": the default group, which is always the first
    std::vector<Entry> files;
  };
  std::vector<Group> groups;
  std::vector<GroupRule> rules;

  static constexpr std::string_view kName = "groups.yaml";

  // What holds without a groups.yaml: one group, of the files directly in the directory.
  static GroupsFile none();
  // Nothing if there was a fault.
  static std::optional<GroupsFile> parse(std::string_view text, const std::string& file, config::Faults& faults);
};

}  // namespace outrigger::control
