// The commands of outriggerctl. Each prints its answer and returns the exit code.
//
// Thread rule: one thread.
// Use:  return validate(out, {"conf.d"});
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "output.h"

namespace outrigger::ctl {

struct ExplainOptions {
  std::string admin;               // a running proxy; or, if there are any:
  std::vector<std::string> files;  // a bootstrap and files
  std::string group;               // of a directory with a groups.yaml
  std::string listener, method = "GET", host, path = "/", remote = "127.0.0.1";
  std::vector<std::string> headers;  // "Name: value"
  uint64_t random = 0;
  uint64_t misses = 10;
};

int validate(const Output& out, const std::vector<std::string>& paths);
int explain(const Output& out, const ExplainOptions& options);
// Each side is a file, a directory, or http://HOST:PORT of a running proxy's admin.
// `group`: of a directory with a groups.yaml.
int diff(const Output& out, const std::string& before, const std::string& after, const std::string& group);
int dump(const Output& out, const std::string& admin, const std::string& name_regex);

}  // namespace outrigger::ctl
