// DirectorySource: the xDS resources in the *.yaml, *.yml and *.json files of one directory, validated by the code that
// the proxy uses (its Translator and its Store), as one consistent snapshot. Each file is in Envoy's format of resource
// files.
//
// A file is taken whole or not at all: one fault refuses it, and its last good resources stay. A resource that two
// files have, or an address that two listeners have, is a fault of the file that changed (the later one by name if both
// did), told with both names; a file refused for that is tried again whenever another changes. Nothing is given out
// before every file was good at once: a control plane that starts beside a broken file would else delete that file's
// resources from every proxy. A directory that is gone changes nothing.
//
// Thread rule: one thread.
// Use:  DirectorySource source("/etc/outrigger/conf.d", translator);
//       auto outcome = source.load();   ...   outcome = source.update(batch);   // of a FileWatch on the directory
//       if (outcome.snapshot) cache.set(outcome.snapshot);
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
#include "event/file_watch.h"
#include "outrigger/control/resource_cache.h"

namespace outrigger::config {
class Translator;
}

namespace outrigger::control {

class DirectorySource {
 public:
  struct Outcome {
    std::shared_ptr<const ResourceSnapshot> snapshot;  // nullptr: there is nothing that may be served yet
    std::vector<config::Fault> faults;                 // that were not there before, warnings too
    std::vector<std::string> mended;                   // files whose faults are gone
    size_t files = 0;
    size_t refused_files = 0;
    bool try_again = false;  // update({}) when this is served may take more: an address may have become free by it
  };

  // The translator must outlive the source.
  DirectorySource(std::string directory, config::Translator& translator);

  // Reads everything (again).
  Outcome load();
  // Reads what the batch names.
  Outcome update(const event::FileBatch& batch);

  static bool is_resource_file(std::string_view name);

 private:
  struct Item {
    ResourcePtr resource;
    std::string path;                    // in the file: "resources[3]"
    int line = 0;                        // in the file
    std::vector<std::string> addresses;  // of a listener, those that no other may have
  };
  struct File {
    std::optional<uint64_t> read_hash;      // of the text read last
    std::vector<Item> good;                 // what is served
    std::optional<std::vector<Item>> next;  // valid by itself, not taken yet
    std::vector<config::Fault> own_faults;  // of the text read last
    std::vector<config::Fault> faults;      // own ones and conflicts, as told
  };
  using Conflicts = std::map<std::string, std::vector<config::Fault>>;  // by path of the file that is refused for them
  class Claims;

  static config::Fault fault_of(const std::string& file, const Item& item, std::string message);

  bool list(std::set<std::string>& paths) const;
  void read(const std::string& path);
  void parse(const std::string& path, const std::string& text, File& file);
  Outcome finish();
  Conflicts take_what_does_not_conflict(bool& took_some);

  const std::string directory_;
  config::Translator& translator_;
  std::map<std::string, File> files_;  // by path
  std::shared_ptr<const ResourceSnapshot> snapshot_;
};

}  // namespace outrigger::control
