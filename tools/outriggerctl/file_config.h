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
  FileConfig();

  // Each path is a file or a directory of *.yaml, *.yml and *.json files.
  void load(const std::vector<std::string>& paths);

  const std::vector<config::Fault>& faults() const { return faults_; }  // warnings too
  bool good() const;
  size_t files() const { return files_; }
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
  void load_file(const std::string& path);
  void take(const std::string& file, config::TranslatedResource& one, proxy::Source source);
  void fault(const std::string& file, std::string message) {
    faults_.push_back({.file = file, .message = std::move(message)});
  }

  stats::Registry registry_{0};
  config::StateRegistry states_;
  config::Translator translator_;
  int64_t now_ms_ = 0;
  proxy::Store store_;
  std::vector<config::Fault> faults_;
  std::map<std::string, Resource> resources_;
  std::map<std::string, std::string> file_of_;  // by the same names
  size_t files_ = 0;
};

}  // namespace outrigger::ctl
