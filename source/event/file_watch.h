// FileWatch: tells when watched files, or files in watched directories, have been written completely. Ours on inotify,
// since libuv's watcher lacks CLOSE_WRITE and half a YAML file reads as deletions.
//
// Noticed: a file closed after writing, renamed into place, linked or symlinked into place, deleted or renamed away; a
// symlink or directory swapped in the watched directory (Kubernetes' `..data`); the watched directory itself (or the
// symlink that names it) replaced, deleted or made. Its parent must exist. Not noticed: in-place edits of a file in
// another directory that a watched name is a symlink to.
//
// Changes are gathered until none came for settle_ms (20), at most 3 x settle_ms, and then told in one batch.
//
// Thread rule: the loop's thread. The callback may destroy the FileWatch.
// Use:  auto watch = FileWatch::open(loop, {"/etc/outrigger/conf.d"}, [&](const FileBatch& b) { reload(b); });
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "outrigger/result.h"

namespace outrigger::event {

class Loop;

// One settled batch.
struct FileBatch {
  // Sorted, unique: "<watched directory>/<name>" for an entry of a watched directory that was changed or is gone, or
  // the watched file as it was given.
  std::vector<std::string> changed;
  // Watched paths (as given) of which anything may have changed: list the directory again, read the file again.
  std::vector<std::string> rescan;
};

class FileWatch {
 public:
  using Callback = std::function<void(const FileBatch&)>;

  // `paths`: directories (what is a directory now, or ends in '/') and files. Refused: no such parent directory, or the
  // system's inotify limits.
  static Result<std::unique_ptr<FileWatch>> open(Loop& loop, std::vector<std::string> paths, Callback callback,
                                                 uint64_t settle_ms = 20);
  ~FileWatch();
  FileWatch(const FileWatch&) = delete;
  FileWatch& operator=(const FileWatch&) = delete;

 private:
  struct Impl;
  explicit FileWatch(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace outrigger::event
