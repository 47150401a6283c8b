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
#include <unordered_map>
#include <utility>

#include "base/hash.h"
#include "config/translate.h"
#include "proxy/listener_part.h"
#include "proxy/store.h"
#include "stats/stats.h"

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

bool is_error(const Fault& fault) { return !fault.warning; }

// The addresses that only one listener may have; a port that the kernel chooses is no such address.
std::vector<std::string> exclusive_addresses(const config::Spec& spec) {
  const auto* listener = std::get_if<config::ListenerSpec>(&spec);
  if (listener == nullptr || listener->api_listener) return {};
  const auto addresses = proxy::ListenerCompiler::addresses(*listener);
  if (!addresses) return {};  // the Store will say so
  std::vector<std::string> all;
  for (const net::Address& address : *addresses) {
    if (!address.is_ip() || address.port() != 0) all.push_back(address.str());
  }
  return all;
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

Fault DirectorySource::fault_of(const std::string& file, const Item& item, std::string message) {
  return {.file = file,
          .line = item.line,
          .resource = label(*item.resource),
          .path = item.path,
          .message = std::move(message)};
}

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
  // What the proxy's Store would refuse, this one does.
  stats::Registry registry(0);
  proxy::Store store({.stats = &registry, .bind = false, .now_ms = [] { return int64_t{0}; }});
  std::vector<Item> items;
  for (config::TranslatedResource& one : translated) {
    faults.append(one.faults);
    if (!one.spec) continue;
    Item item{.resource = std::make_shared<Resource>(
                  Resource::make(std::string(config::type_url(one.type)), one.name, std::move(one.bytes))),
              .path = std::move(one.path),
              .line = one.line,
              .addresses = exclusive_addresses(*one.spec)};
    if (auto verdict = store.accept(std::move(*one.spec), {}, proxy::Source::kFile); !verdict) {
      faults.all().push_back(fault_of(path, item, verdict.error().detail));
    }
    items.push_back(std::move(item));
  }
  file.own_faults = faults.all();
  file.next.reset();
  if (std::none_of(file.own_faults.begin(), file.own_faults.end(), is_error)) file.next = std::move(items);
}

// Who has which name and which address, if every file's next items are taken except those of the refused files.
class DirectorySource::Claims {
 public:
  Claims(const std::map<std::string, File>& files, const std::set<std::string>& refused)
      : files_(files), refused_(refused) {}

  // The conflicts, each with the file that loses by it: the one that changed, the later one if both did. Files that did
  // not change have none.
  Conflicts find(bool served) {
    for (const auto& [path, file] : files_) {
      for (const Item& item : is_taken(path, file) ? *file.next : file.good) claim(path, file, item);
    }
    if (!served) return std::move(found_);
    for (const auto& [path, file] : files_) {
      if (is_taken(path, file)) check_held_addresses(file);
    }
    return std::move(found_);
  }

 private:
  struct Owner {
    const std::string* path;
    const Item* item;
    bool changed;
  };

  bool is_taken(const std::string& path, const File& file) const {
    return file.next.has_value() && refused_.count(path) == 0;
  }

  void claim(const std::string& path, const File& file, const Item& item) {
    const Owner mine{&path, &item, is_taken(path, file)};
    const auto [name, is_new] = names_.try_emplace({item.resource->type_url, item.resource->name}, mine);
    if (!is_new) return conflict(mine, name->second, [](const Owner& other) { return "is also in " + *other.path; });
    for (const std::string& address : item.addresses) {
      const auto [at, is_free] = addresses_.try_emplace(address, mine);
      if (is_free || at->second.item == &item) continue;
      conflict(mine, at->second, [&](const Owner& other) {
        return fmt::format("address {} is that of {} in {}", address, label(*other.item->resource), *other.path);
      });
    }
  }

  template <class Describe>
  void conflict(const Owner& mine, const Owner& theirs, Describe describe) {
    const Owner& loser = mine.changed ? mine : theirs;
    const Owner& winner = mine.changed ? theirs : mine;
    found_[*loser.path].push_back(fault_of(*loser.path, *loser.item, describe(winner)));
  }

  // A proxy does not give a listener's address to another one as long as the first is there on its old address.
  void check_held_addresses(const File& file) {
    for (const Item& old : file.good) {
      if (names_.count({old.resource->type_url, old.resource->name}) == 0) continue;
      for (const std::string& address : old.addresses) {
        const auto at = addresses_.find(address);
        if (at == addresses_.end() || at->second.item->resource->name == old.resource->name) continue;
        const Owner& taker = at->second;
        found_[*taker.path].push_back(
            fault_of(*taker.path, *taker.item,
                     fmt::format("address {} is that of {} until its change is served: move one after the other",
                                 address, label(*old.resource))));
      }
    }
  }

  const std::map<std::string, File>& files_;
  const std::set<std::string>& refused_;
  using TypeAndName = std::pair<std::string_view, std::string_view>;
  struct Hash {
    size_t operator()(const TypeAndName& key) const {
      const std::hash<std::string_view> hash;
      return hash(key.first) * 31 + hash(key.second);
    }
  };
  std::unordered_map<TypeAndName, Owner, Hash> names_;
  std::unordered_map<std::string_view, Owner> addresses_;
  Conflicts found_;
};

// Takes every file's next items except those of files that would bring a name or address that another file has.
DirectorySource::Conflicts DirectorySource::take_what_does_not_conflict(bool& took_some) {
  Conflicts conflicts;
  std::set<std::string> refused;
  const bool has_next =
      std::any_of(files_.begin(), files_.end(), [](const auto& f) { return f.second.next.has_value(); });
  while (has_next) {
    Conflicts found = Claims(files_, refused).find(snapshot_ != nullptr);
    if (found.empty()) break;
    for (const auto& [path, faults] : found) refused.insert(path);
    conflicts.merge(found);
  }
  for (auto& [path, file] : files_) {
    if (!file.next || refused.count(path) != 0) continue;
    took_some = took_some || !refused.empty();
    file.good = std::move(*file.next);
    file.next.reset();
  }
  return conflicts;
}

DirectorySource::Outcome DirectorySource::finish() {
  Outcome outcome;
  Conflicts conflicts = take_what_does_not_conflict(outcome.try_again);
  outcome.files = files_.size();
  std::vector<ResourcePtr> all;
  for (auto& [path, file] : files_) {
    std::vector<Fault> faults = file.own_faults;
    std::vector<Fault>& found = conflicts[path];
    faults.insert(faults.end(), found.begin(), found.end());
    const bool refused = std::any_of(faults.begin(), faults.end(), is_error);
    if (refused) ++outcome.refused_files;
    if (faults != file.faults) {
      if (!refused && std::any_of(file.faults.begin(), file.faults.end(), is_error)) outcome.mended.push_back(path);
      outcome.faults.insert(outcome.faults.end(), faults.begin(), faults.end());
      file.faults = std::move(faults);
    }
    for (const Item& item : file.good) all.push_back(item.resource);
  }
  if (snapshot_ != nullptr || outcome.refused_files == 0) {
    // Names are unique by now.
    if (auto made = ResourceSnapshot::of(std::move(all), snapshot_.get())) snapshot_ = *made;
  }
  outcome.snapshot = snapshot_;
  return outcome;
}

}  // namespace outrigger::control
