// FileConfig: bootstraps, resource files and directories of them, judged and compiled by the proxy's own Translator and
// Store, so that what passes here is accepted there (sockets and access log files aside).
//
// Thread rule: one thread.
// Use:  FileConfig config;  config.load({"bootstrap.yaml", "conf.d"});  for (const config::Fault& f : config.faults())
// ...
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "config/extension.h"
#include "config/faults.h"
#include "config/translate.h"
#include "proxy/store.h"
#include "stats/stats.h"

namespace outrigger::ctl {

class FileConfig {
 public:
  // Of the directories with a groups.yaml, what this group's nodes are served; "": what all others are.
  explicit FileConfig(std::string group = {});
  // The groups of the directories among the paths, "" first.
  static std::vector<std::string> groups_of(const std::vector<std::string>& paths);

  // Each path is a file or a directory, as outrigger-control serves it: its groups, or its *.yaml, *.yml and *.json
  // files.
  void load(const std::vector<std::string>& paths);

  const std::vector<config::Fault>& faults() const { return faults_; }  // warnings too
  bool good() const;
  const std::set<std::string>& files() const { return files_; }
  // By "Cluster/backend": the serialised message and its type.
  struct Resource {
    std::string type_url, bytes;
  };
  const std::map<std::string, Resource>& resources() const { return resources_; }
  // "listener main: cluster b", for each resource that names what no file has.
  std::vector<std::string> missing();
  // What a proxy would run, what is missing aside.
  std::shared_ptr<const proxy::Snapshot> snapshot();

 private:
  void load_directory(const std::string& path);
  void load_file(const std::string& path);
  void take(const std::string& file, config::TranslatedResource& one, proxy::Source source);
  void fault(const std::string& file, std::string message) {
    faults_.push_back({.file = file, .message = std::move(message)});
  }

  const std::string group_;
  bool group_found_ = false;
  stats::Registry registry_{0};
  config::StateRegistry states_;
  config::Translator translator_;
  int64_t now_ms_ = 0;
  proxy::Store store_;
  std::vector<config::Fault> faults_;
  std::map<std::string, Resource> resources_;
  std::map<std::string, std::string> file_of_;  // by the same names
  std::set<std::string> files_;
};

}  // namespace outrigger::ctl
