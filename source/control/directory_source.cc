#include "control/directory_source.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <set>
#include <string_view>
#include <utility>

#include "base/hash.h"
#include "config/translate.h"

namespace outrigger::control {
namespace {

using config::Fault;

std::string without_slashes(std::string path) {
  while (path.size() > 1 && path.back() == '/') path.pop_back();
  return path;
}

std::string label(const Resource& resource) {
  const size_t dot = resource.type_url.rfind('.');
  return (dot == std::string::npos ? resource.type_url : resource.type_url.substr(dot + 1)) + "/" + resource.name;
}

// The whole file. kNotFound: there is none (any more), or it is no regular file.
Result<std::string> read_text(const std::string& path) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return fail(errno == ENOENT ? Errc::kNotFound : Errc::kIo, strerror(errno));
  struct stat info;
  std::string text;
  Result<std::string> result = fail(Errc::kNotFound, "not a regular file");
  if (fstat(fd, &info) == 0 && S_ISREG(info.st_mode)) {
    char buffer[64 * 1024];
    ssize_t n;
    while ((n = ::read(fd, buffer, sizeof(buffer))) > 0) text.append(buffer, static_cast<size_t>(n));
    result = n == 0 ? Result<std::string>(std::move(text)) : fail(Errc::kIo, strerror(errno));
  }
  close(fd);
  return result;
}

}  // namespace

DirectorySource::DirectorySource(std::string directory, config::Translator& translator)
    : directory_(without_slashes(std::move(directory))), translator_(translator) {}

bool DirectorySource::is_resource_file(std::string_view name) {
  if (name.empty() || name[0] == '.') return false;
  for (std::string_view end : {".yaml", ".yml", ".json"}) {
    if (name.size() > end.size() && name.substr(name.size() - end.size()) == end) return true;
  }
  return false;
}

DirectorySource::Outcome DirectorySource::load() {
  std::set<std::string> paths;
  if (list(paths)) {
    for (const auto& [path, unused] : files_) paths.insert(path);
    for (const std::string& path : paths) read(path);
  }
  return finish();
}

DirectorySource::Outcome DirectorySource::update(const event::FileBatch& batch) {
  if (!batch.rescan.empty()) return load();
  for (const std::string& path : batch.changed) {
    if (is_resource_file(path.substr(path.rfind('/') + 1))) read(path);
  }
  return finish();
}

bool DirectorySource::list(std::set<std::string>& paths) const {
  DIR* dir = opendir(directory_.c_str());
  if (dir == nullptr) return false;
  while (const dirent* entry = readdir(dir)) {
    if (is_resource_file(entry->d_name)) paths.insert(directory_ + "/" + entry->d_name);
  }
  closedir(dir);
  return true;
}

void DirectorySource::read(const std::string& path) {
  Result<std::string> text = read_text(path);
  if (!text && text.error().code == Errc::kNotFound) {
    files_.erase(path);
    return;
  }
  File& file = files_[path];
  if (!text) {
    file.read_hash.reset();
    file.next.reset();
    file.own_faults = {{.file = path, .message = "cannot be read: " + text.error().detail}};
    return;
  }
  const uint64_t hash = content_hash(*text);
  if (file.read_hash == hash) return;
  file.read_hash = hash;
  parse(path, *text, file);
}

void DirectorySource::parse(const std::string& path, const std::string& text, File& file) {
  config::Faults faults;
  faults.set_file(path);
  std::vector<config::TranslatedResource> translated = translator_.resource_file(text, path, faults);
  std::vector<Resource> resources;
  for (config::TranslatedResource& one : translated) {
    faults.append(one.faults);
    if (!one.spec) continue;
    resources.push_back(Resource::make(std::string(config::type_url(one.type)), one.name, std::move(one.bytes)));
  }
  file.own_faults = faults.all();
  file.next.reset();
  if (faults.ok()) file.next = std::move(resources);
}

// Takes every file's next resources except those of files that would bring a name that another file has.
void DirectorySource::take_what_does_not_conflict(std::map<std::string, std::vector<Fault>>& conflicts) {
  std::set<std::string> refused;
  while (true) {
    struct Owner {
      const std::string* path;
      bool changed;
    };
    std::map<std::pair<std::string_view, std::string_view>, Owner> owners;
    std::set<std::string> now_refused;
    for (auto& [path, file] : files_) {
      const bool changed = file.next && refused.count(path) == 0;
      for (const Resource& resource : changed ? *file.next : file.good) {
        const auto [at, inserted] = owners.try_emplace({resource.type_url, resource.name}, Owner{&path, changed});
        if (inserted) continue;
        // The one that changed loses; the later one if both did. Two that did not change have no conflict.
        const bool mine = changed;
        const std::string& loser = mine ? path : *at->second.path;
        const std::string& other = mine ? *at->second.path : path;
        now_refused.insert(loser);
        conflicts[loser].push_back({.file = loser, .resource = label(resource), .message = "is also in " + other});
      }
    }
    if (now_refused.empty()) break;
    refused.merge(now_refused);
  }
  for (auto& [path, file] : files_) {
    if (!file.next || refused.count(path) != 0) continue;
    file.good = std::move(*file.next);
    file.next.reset();
  }
}

DirectorySource::Outcome DirectorySource::finish() {
  std::map<std::string, std::vector<Fault>> conflicts;
  take_what_does_not_conflict(conflicts);

  Outcome outcome;
  outcome.files = files_.size();
  std::vector<Resource> all;
  for (auto& [path, file] : files_) {
    std::vector<Fault> faults = file.own_faults;
    std::vector<Fault>& found = conflicts[path];
    faults.insert(faults.end(), found.begin(), found.end());
    const auto is_error = [](const Fault& fault) { return !fault.warning; };
    const bool refused = std::any_of(faults.begin(), faults.end(), is_error);
    if (refused) ++outcome.refused_files;
    if (faults != file.faults) {
      if (!refused && std::any_of(file.faults.begin(), file.faults.end(), is_error)) outcome.mended.push_back(path);
      outcome.faults.insert(outcome.faults.end(), faults.begin(), faults.end());
      file.faults = std::move(faults);
    }
    all.insert(all.end(), file.good.begin(), file.good.end());
  }
  if (snapshot_ != nullptr || outcome.refused_files == 0) {
    // Names are unique by now.
    if (auto made = ResourceSnapshot::make(std::move(all), snapshot_.get())) snapshot_ = *made;
  }
  outcome.snapshot = snapshot_;
  return outcome;
}

}  // namespace outrigger::control
