#include "server/file_sources.h"

#include <sys/stat.h>

#include <algorithm>
#include <filesystem>
#include <set>

#include "base/hash.h"
#include "base/log.h"
#include "server/read_file.h"

namespace outrigger::server {
namespace {

// With a slash at its end, so that it counts as a directory whatever it is now.
std::string directory_of(const FileSource& source) {
  if (!source.watched_directory.empty()) return source.watched_directory + "/";
  const std::string parent = std::filesystem::path(source.path).parent_path().string();
  return parent.empty() ? "./" : parent + "/";
}

bool is_directory(const std::string& path) {
  struct stat status {};
  return ::stat(path.c_str(), &status) == 0 && S_ISDIR(status.st_mode);
}

}  // namespace

void FileSources::want(const std::vector<FileSource>& sources) {
  const std::set<FileSource> wanted(sources.begin(), sources.end());
  std::erase_if(sources_, [&](const auto& entry) { return !wanted.contains(entry.first); });
  for (const FileSource& source : wanted) sources_.try_emplace(source);
  watch();
}

void FileSources::watch() {
  std::set<std::string> directories;
  bool again = false;
  for (const auto& [source, known] : sources_) {
    std::string directory = directory_of(source);
    if (is_directory(directory))
      directories.insert(std::move(directory));
    else
      again = true;
  }
  std::vector<std::string> list(directories.begin(), directories.end());
  if (list != watched_ || (watch_ == nullptr && !list.empty())) {
    watch_.reset();
    watched_.clear();
    if (!list.empty()) {
      auto opened = event::FileWatch::open(loop_, list, [this](const event::FileBatch&) { read_all(); });
      if (opened) {
        watch_ = std::move(*opened);
        watched_ = std::move(list);
      } else {
        OUTRIGGER_LOG(kWarning, "config", "watching files: {}", opened.error().detail);
        again = true;
      }
    }
  }
  // After the watch has begun, so that no change is missed between reading and watching.
  read_all();
  if (again) loop_.timers().arm(retry_, kRetryMs);
}

void FileSources::read_all() {
  for (auto& [source, known] : sources_) read(source, known);
}

void FileSources::read(const FileSource& source, Known& known) {
  auto text = read_file(source.path, kMaxBytes);
  if (!text) {
    if (known.told && known.error == text.error().detail) return;
    known = {.told = true, .hash = {}, .error = text.error().detail};
    on_file_(source, {}, known.error);
    return;
  }
  std::string hash = content_hash_hex(*text);
  if (known.told && known.hash == hash) return;
  known = {.told = true, .hash = std::move(hash), .error = {}};
  on_file_(source, std::move(*text), {});
}

}  // namespace outrigger::server
