// FileSources: resource files (path_config_source), read when they are first wanted and again after each settled change
// of their directory. A file with unchanged content is not told again; all files of one batch are told together.
//
// Thread rule: its loop's thread.
// Use:  FileSources files(loop, [&](FileSource s, std::string text, std::string error) { ... });  files.want(sources);
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "event/file_watch.h"
#include "event/loop.h"
#include "event/timer.h"
#include "server/builder.h"

namespace outrigger::server {

class FileSources {
 public:
  // `error` says why the file cannot be read; then `text` is empty.
  using OnFile = std::function<void(const FileSource& source, std::string text, std::string error)>;
  static constexpr size_t kMaxBytes = 256u << 20;
  static constexpr uint64_t kRetryMs = 1'000;  // for directories that cannot be watched

  FileSources(event::Loop& loop, OnFile on_file) : loop_(loop), on_file_(std::move(on_file)) {}

  // All that is wanted now; others are forgotten.
  void want(const std::vector<FileSource>& sources);

 private:
  struct Known {
    bool told = false;
    std::string hash;   // of the content that was told
    std::string error;  // or this was
  };
  void watch();
  void read_all();
  void read(const FileSource& source, Known& known);

  event::Loop& loop_;
  OnFile on_file_;
  std::map<FileSource, Known> sources_;
  std::vector<std::string> watched_;  // directories
  std::unique_ptr<event::FileWatch> watch_;
  event::Timeout retry_{[](void* self) { static_cast<FileSources*>(self)->watch(); }, this};
};

}  // namespace outrigger::server
