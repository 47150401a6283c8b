// DirectorySource: the xDS resources in the *.yaml, *.yml and *.json files of a directory, validated by the code that
// the proxy uses (its Translator and its Store), as one consistent snapshot for each group of nodes that the
// directory's groups.yaml tells of (groups_file.h); without one, a single snapshot of the files directly in the
// directory. Each file is in Envoy's format of resource files.
//
// A file is taken whole or not at all: one fault refuses it, and its last good resources stay. A resource that two
// files of a group have, an address that two of its listeners have, or a circle of aggregate clusters is a fault of the
// file that changed (the later one by name if both did), told with both names; a file refused for that is tried again
// whenever another changes.
// Changed groups are taken when all of their files are there, were good once, and agree; until then the old groups
// stay. Nothing is given out before every file was good at once: a control plane that starts beside a broken file would
// else delete that file's resources from every proxy. A directory that is gone changes nothing, nor does a file that
// groups.yaml names and that is gone.
//
// Thread rule: one thread.
// Use:  DirectorySource source("/etc/outrigger/conf.d", translator, cache.pool());
//       auto outcome = source.load();   ...   outcome = source.update(batch);   // of a FileWatch on directories()
//       for (auto& [group, snapshot] : outcome.groups) cache.set(snapshot, group);
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "config/faults.h"
#include "control/groups_file.h"
#include "event/file_watch.h"
#include "outrigger/control/resource_cache.h"

namespace outrigger::config {
class Translator;
}

namespace outrigger::control {

class DirectorySource {
 public:
  struct Outcome {
    // What each group is to be served, "" for those of no other; empty: there is nothing that may be served yet.
    std::map<std::string, std::shared_ptr<const ResourceSnapshot>> groups;
    std::vector<GroupRule> rules;
    std::vector<config::Fault> faults;  // that were not there before, warnings too
    std::vector<std::string> mended;    // files whose faults are gone
    size_t files = 0;                   // groups.yaml is one of them
    size_t refused_files = 0;
    bool try_again = false;  // update({}) later may take more: an address may be free by then, a directory there

    std::shared_ptr<const ResourceSnapshot> snapshot(const std::string& group = {}) const;
    size_t resources() const;  // distinct ones
  };

  // The translator and the pool must outlive the source.
  DirectorySource(std::string directory, config::Translator& translator, ResourcePool& pool);

  // Reads everything (again).
  Outcome load();
  // Reads what the batch names.
  Outcome update(const event::FileBatch& batch);
  // Those to watch, the configuration directory first; as the last load() or update() found them.
  std::vector<std::string> directories() const;

  static bool is_resource_file(std::string_view name);
  // Adds `path` if it is a file, else the resource files directly in that directory; nothing if it is not there.
  static void list_files(const std::string& path, std::set<std::string>& files);

 private:
  struct Item {
    ResourcePtr resource;
    std::string path;                    // in the file: "resources[3]"
    int line = 0;                        // in the file
    std::vector<std::string> addresses;  // of a listener, those that no other may have
    std::vector<std::string> members;    // of an aggregate cluster
  };
  struct File {
    std::optional<uint64_t> read_hash;      // of the text read last
    bool is_gone = false;                   // and was kept
    bool was_good = false;                  // `good` is what it had when it was
    std::vector<Item> good;                 // what is served
    std::optional<std::vector<Item>> next;  // valid by itself, not taken yet
    std::vector<config::Fault> own_faults;  // of the text read last
    std::vector<config::Fault> faults;      // own ones and conflicts, as told
  };
  // groups.yaml itself.
  struct Groups {
    GroupsFile in_force = GroupsFile::none();
    std::optional<GroupsFile> next;  // valid by itself, not taken yet
    std::optional<uint64_t> read_hash;
    std::vector<config::Fault> own_faults;
    std::vector<config::Fault> faults;  // as told
  };
  using Conflicts = std::map<std::string, std::vector<config::Fault>>;  // by path of the file that is refused for them
  class Claims;

  static config::Fault fault_of(const std::string& file, const Item& item, std::string message);

  std::string full(const std::string& relative) const;
  bool is_in(const GroupsFile::Group& group, const std::string& path) const;
  bool is_in(const GroupsFile& groups, const std::string& path) const;
  bool is_named(const std::string& path) const;
  bool is_wanted(const std::string& path) const;
  std::set<std::string> list() const;
  void read_groups();
  void read(const std::string& path);
  void parse(const std::string& path, const std::string& text, File& file);
  void take_groups(Outcome& outcome, std::vector<config::Fault>& faults);
  Outcome finish();
  void report(std::vector<config::Fault> faults, const std::string& path, std::vector<config::Fault>& told,
              Outcome& outcome);
  Conflicts take_what_does_not_conflict(bool& took_some);
  void make_snapshots();

  const std::string directory_;
  config::Translator& translator_;
  ResourcePool& pool_;
  Groups groups_;
  std::map<std::string, File> files_;                                       // by path
  std::map<std::string, std::shared_ptr<const ResourceSnapshot>> serving_;  // by group
};

}  // namespace outrigger::control
