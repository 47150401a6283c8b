#include "control/directory_source.h"

#include <dirent.h>
#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <set>
#include <string_view>
#include <unordered_map>
#include <utility>

#include "base/hash.h"
#include "config/translate.h"
#include "control/read_text.h"
#include "proxy/aggregate.h"
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

std::vector<std::string> members_of(const config::Spec& spec) {
  const auto* cluster = std::get_if<config::ClusterSpec>(&spec);
  return cluster == nullptr ? std::vector<std::string>{} : cluster->members;
}

bool is_directory(const std::string& path) {
  struct stat info;
  return stat(path.c_str(), &info) == 0 && S_ISDIR(info.st_mode);
}

}  // namespace

Fault DirectorySource::fault_of(const std::string& file, const Item& item, std::string message) {
  return {.file = file,
          .line = item.line,
          .resource = label(*item.resource),
          .path = item.path,
          .message = std::move(message)};
}

std::shared_ptr<const ResourceSnapshot> DirectorySource::Outcome::snapshot(const std::string& group) const {
  const auto at = groups.find(group);
  return at == groups.end() ? nullptr : at->second;
}

size_t DirectorySource::Outcome::resources() const {
  std::set<const Resource*> distinct;
  for (const auto& [group, snapshot] : groups)
    for (const auto& type : snapshot->types())
      for (const ResourcePtr& resource : type->resources) distinct.insert(resource.get());
  return distinct.size();
}

DirectorySource::DirectorySource(std::string directory, config::Translator& translator, ResourcePool& pool)
    : directory_(without_slashes(std::move(directory))), translator_(translator), pool_(pool) {}

bool DirectorySource::is_resource_file(std::string_view name) {
  if (name.empty() || name[0] == '.' || name == GroupsFile::kName) return false;
  for (std::string_view end : {".yaml", ".yml", ".json"}) {
    if (name.size() > end.size() && name.substr(name.size() - end.size()) == end) return true;
  }
  return false;
}

void DirectorySource::list_files(const std::string& path, std::set<std::string>& files) {
  DIR* dir = opendir(path.c_str());
  if (dir == nullptr) {
    if (errno == ENOTDIR) files.insert(path);
    return;
  }
  while (const dirent* entry = readdir(dir)) {
    if (is_resource_file(entry->d_name)) files.insert(path + "/" + entry->d_name);
  }
  closedir(dir);
}

// ---- what is where ----

std::string DirectorySource::full(const std::string& relative) const {
  return relative.empty() ? directory_ : directory_ + "/" + relative;
}

bool DirectorySource::is_in(const GroupsFile::Group& group, const std::string& path) const {
  const std::string_view relative = std::string_view(path).substr(directory_.size() + 1);
  const size_t slash = relative.rfind('/');
  const std::string_view parent = slash == std::string_view::npos ? "" : relative.substr(0, slash);
  return std::any_of(group.files.begin(), group.files.end(),
                     [&](const GroupsFile::Entry& entry) { return entry.path == relative || entry.path == parent; });
}

bool DirectorySource::is_in(const GroupsFile& groups, const std::string& path) const {
  return std::any_of(groups.groups.begin(), groups.groups.end(),
                     [&](const GroupsFile::Group& group) { return is_in(group, path); });
}

bool DirectorySource::is_wanted(const std::string& path) const {
  return is_in(groups_.in_force, path) || (groups_.next && is_in(*groups_.next, path));
}

bool DirectorySource::is_named(const std::string& path) const {
  for (const GroupsFile::Group& group : groups_.in_force.groups)
    for (const GroupsFile::Entry& entry : group.files)
      if (full(entry.path) == path) return true;
  return false;
}

std::set<std::string> DirectorySource::list() const {
  std::set<std::string> paths;
  const auto add = [&](const GroupsFile& groups) {
    for (const GroupsFile::Group& group : groups.groups)
      for (const GroupsFile::Entry& entry : group.files) list_files(full(entry.path), paths);
  };
  add(groups_.in_force);
  if (groups_.next) add(*groups_.next);
  return paths;
}

std::vector<std::string> DirectorySource::directories() const {
  std::set<std::string> found;
  const auto add = [&](const GroupsFile& groups) {
    for (const GroupsFile::Group& group : groups.groups) {
      for (const GroupsFile::Entry& entry : group.files) {
        std::string path = full(entry.path);
        if (!is_directory(path)) path.resize(path.rfind('/'));
        if (path != directory_ && is_directory(path)) found.insert(std::move(path));
      }
    }
  };
  add(groups_.in_force);
  if (groups_.next) add(*groups_.next);
  std::vector<std::string> out = {directory_};
  out.insert(out.end(), found.begin(), found.end());
  return out;
}

// ---- reading ----

DirectorySource::Outcome DirectorySource::load() {
  if (is_directory(directory_)) {
    read_groups();
    std::set<std::string> paths = list();
    for (const auto& [path, unused] : files_) {
      const std::string parent = path.substr(0, path.rfind('/'));
      if (is_directory(parent)) paths.insert(path);  // what is gone with its directory stays
    }
    for (const std::string& path : paths) read(path);
  }
  return finish();
}

DirectorySource::Outcome DirectorySource::update(const event::FileBatch& batch) {
  if (!batch.rescan.empty()) return load();
  const auto is_groups = [&](const std::string& path) { return path == full(std::string(GroupsFile::kName)); };
  if (groups_.next || std::any_of(batch.changed.begin(), batch.changed.end(), is_groups)) {
    read_groups();
    for (const std::string& path : list())
      if (files_.count(path) == 0) read(path);
  }
  for (const std::string& path : batch.changed) {
    if (is_resource_file(path.substr(path.rfind('/') + 1)) && is_wanted(path)) read(path);
  }
  return finish();
}

void DirectorySource::read_groups() {
  const std::string path = full(std::string(GroupsFile::kName));
  const Result<std::string> text = read_text(path);
  if (!text && text.error().code == Errc::kNotFound) {
    if (groups_.read_hash || !groups_.own_faults.empty()) groups_.next = GroupsFile::none();
    groups_.read_hash.reset();
    groups_.own_faults.clear();
    return;
  }
  if (!text) {
    groups_.read_hash.reset();
    groups_.next.reset();
    groups_.own_faults = {{.file = path, .message = "cannot be read: " + text.error().detail}};
    return;
  }
  const uint64_t hash = content_hash(*text);
  if (groups_.read_hash == hash) return;
  groups_.read_hash = hash;
  config::Faults faults;
  groups_.next = GroupsFile::parse(*text, path, faults);
  groups_.own_faults = faults.all();
}

void DirectorySource::read(const std::string& path) {
  Result<std::string> text = read_text(path);
  const bool gone = !text && text.error().code == Errc::kNotFound;
  if (gone && !is_named(path)) {
    files_.erase(path);
    return;
  }
  File& file = files_[path];
  file.is_gone = gone;
  if (!text) {
    file.read_hash.reset();
    file.next.reset();
    file.own_faults = {{.file = path,
                        .message = gone ? "is gone; groups.yaml names it, so it is served as it was last good"
                                        : "cannot be read: " + text.error().detail}};
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
  proxy::Store store({.stats = &registry, .bind = false, .scopes = false, .now_ms = [] { return int64_t{0}; }});
  std::vector<Item> items;
  for (config::TranslatedResource& one : translated) {
    faults.append(one.faults);
    if (!one.spec) continue;
    Item item{.resource =
                  pool_.share(Resource::make(std::string(config::type_url(one.type)), one.name, std::move(one.bytes))),
              .path = std::move(one.path),
              .line = one.line,
              .addresses = exclusive_addresses(*one.spec),
              .members = members_of(*one.spec)};
    if (auto verdict = store.accept(std::move(*one.spec), {}, proxy::Source::kFile); !verdict) {
      faults.all().push_back(fault_of(path, item, verdict.error().detail));
    }
    items.push_back(std::move(item));
  }
  file.own_faults = faults.all();
  file.next.reset();
  if (std::none_of(file.own_faults.begin(), file.own_faults.end(), is_error)) file.next = std::move(items);
}

// ---- what goes together ----

// Who has which name and which address in each group, and which clusters lead where, if every file's next items are
// taken except those of the refused files.
class DirectorySource::Claims {
 public:
  Claims(const DirectorySource& source, const GroupsFile& groups, const std::set<std::string>& refused)
      : source_(source), groups_(groups), refused_(refused) {}

  // The conflicts, each with the file that loses by it: the one that changed, the later one if both did. Groups of
  // which no file changed have none, unless `all` are asked for.
  Conflicts find(bool served, bool all = false) {
    for (const GroupsFile::Group& group : groups_.groups) {
      std::vector<const Entry*> members;
      bool changed = all;
      for (const Entry& entry : source_.files_) {
        if (!source_.is_in(group, entry.first)) continue;
        members.push_back(&entry);
        changed = changed || is_taken(entry);
      }
      if (changed) check(members, served);
    }
    return std::move(found_);
  }

 private:
  using Entry = std::map<std::string, File>::value_type;
  struct Owner {
    const std::string* path;
    const Item* item;
    bool changed;
  };

  bool is_taken(const Entry& entry) const { return entry.second.next.has_value() && refused_.count(entry.first) == 0; }

  void check(const std::vector<const Entry*>& members, bool served) {
    names_.clear();
    addresses_.clear();
    for (const Entry* entry : members)
      for (const Item& item : is_taken(*entry) ? *entry->second.next : entry->second.good) claim(*entry, item);
    for (const Entry* entry : members)
      if (served && is_taken(*entry)) check_held_addresses(entry->second);
    for (const auto& [name, owner] : names_)
      if (owner.changed) check_circle(owner);
  }

  void claim(const Entry& entry, const Item& item) {
    const Owner mine{&entry.first, &item, is_taken(entry)};
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
    add(*loser.path, fault_of(*loser.path, *loser.item, describe(winner)));
  }

  // A proxy does not give a listener's address to another one as long as the first is there on its old address.
  void check_held_addresses(const File& file) {
    for (const Item& old : file.good) {
      if (names_.count({old.resource->type_url, old.resource->name}) == 0) continue;
      for (const std::string& address : old.addresses) {
        const auto at = addresses_.find(address);
        if (at == addresses_.end() || at->second.item->resource->name == old.resource->name) continue;
        const Owner& taker = at->second;
        add(*taker.path, fault_of(*taker.path, *taker.item,
                                  fmt::format("address {} is that of {} until its change is served: move one after the "
                                              "other",
                                              address, label(*old.resource))));
      }
    }
  }

  // Aggregate clusters must not lead back to themselves. Of the files that do it together, the last one that changed is
  // refused.
  void check_circle(const Owner& mine) {
    const auto members = [&](const std::string& cluster) -> const std::vector<std::string>* {
      const auto at = names_.find({mine.item->resource->type_url, cluster});
      return at == names_.end() ? nullptr : &at->second.item->members;
    };
    for (const std::string& member : mine.item->members) {
      const std::vector<std::string> way = proxy::way_to(mine.item->resource->name, member, members);
      if (way.empty()) continue;
      const Owner* loser = &mine;
      std::string text = mine.item->resource->name;
      for (const std::string& cluster : way) {
        const Owner& owner = names_.at({mine.item->resource->type_url, cluster});
        if (owner.changed && *owner.path > *loser->path) loser = &owner;
        text += fmt::format(" -> {}", cluster);
        if (*owner.path != *mine.path) text += fmt::format(" (in {})", *owner.path);
      }
      if (loser == &mine) add(*mine.path, fault_of(*mine.path, *mine.item, "closes a circle: " + text));
    }
  }

  // Groups that share files have the same conflicts.
  void add(const std::string& path, Fault fault) {
    std::vector<Fault>& faults = found_[path];
    if (std::find(faults.begin(), faults.end(), fault) == faults.end()) faults.push_back(std::move(fault));
  }

  const DirectorySource& source_;
  const GroupsFile& groups_;
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
  const bool first = serving_.empty();
  for (size_t before = 1; before != refused.size();) {
    before = refused.size();
    Conflicts found = Claims(*this, groups_.in_force, refused).find(!first, first);
    for (const auto& [path, faults] : found) refused.insert(path);
    conflicts.merge(found);
  }
  for (auto& [path, file] : files_) {
    // What only groups that are not in force name waits for them.
    if (!file.next || refused.count(path) != 0 || !is_in(groups_.in_force, path)) continue;
    took_some = took_some || !refused.empty();
    file.good = std::move(*file.next);
    file.was_good = true;
    file.next.reset();
  }
  return conflicts;
}

// Puts the next groups in force, if all that they name is there and goes together; before anything is served, in any
// case: then the files' own faults say what is wrong.
void DirectorySource::take_groups(Outcome& outcome, std::vector<Fault>& faults) {
  const std::string path = full(std::string(GroupsFile::kName));
  for (const GroupsFile::Group& group : groups_.next->groups) {
    for (const GroupsFile::Entry& entry : group.files) {
      const std::string named = full(entry.path);
      if (is_directory(named) || files_.count(named) != 0) continue;
      faults.push_back({.file = path, .line = entry.line, .path = entry.field, .message = named + " is not there"});
      outcome.try_again = true;
    }
  }
  if (!serving_.empty()) {
    for (const auto& [file_path, file] : files_) {
      if (file.was_good || file.next || !is_in(*groups_.next, file_path)) continue;
      faults.push_back({.file = path, .message = "waits for " + file_path + ", which is refused"});
    }
    for (const auto& [file_path, conflicts] : Claims(*this, *groups_.next, {}).find(true, true))
      for (const Fault& one : conflicts) faults.push_back({.file = path, .message = "does not go: " + one.str()});
  }
  if (!faults.empty()) return;
  groups_.in_force = std::move(*groups_.next);
  groups_.next.reset();
}

// ---- the outcome ----

// Notes what was not told before.
void DirectorySource::report(std::vector<Fault> faults, const std::string& path, std::vector<Fault>& told,
                             Outcome& outcome) {
  const bool refused = std::any_of(faults.begin(), faults.end(), is_error);
  if (refused) ++outcome.refused_files;
  if (faults == told) return;
  if (!refused && std::any_of(told.begin(), told.end(), is_error)) outcome.mended.push_back(path);
  outcome.faults.insert(outcome.faults.end(), faults.begin(), faults.end());
  told = std::move(faults);
}

void DirectorySource::make_snapshots() {
  serving_.clear();
  for (const GroupsFile::Group& group : groups_.in_force.groups) {
    std::vector<ResourcePtr> all;
    for (const auto& [path, file] : files_) {
      if (!is_in(group, path)) continue;
      for (const Item& item : file.good) all.push_back(item.resource);
    }
    // Names are unique by now.
    if (auto made = ResourceSnapshot::of(std::move(all), &pool_)) serving_[group.name] = *made;
  }
}

DirectorySource::Outcome DirectorySource::finish() {
  Outcome outcome;
  std::vector<Fault> of_groups = groups_.own_faults;
  if (groups_.next) take_groups(outcome, of_groups);
  std::erase_if(files_, [&](const auto& entry) {
    return !is_wanted(entry.first) || (entry.second.is_gone && !is_named(entry.first));
  });
  Conflicts conflicts = take_what_does_not_conflict(outcome.try_again);
  outcome.files = files_.size() + (groups_.read_hash ? 1 : 0);
  report(std::move(of_groups), full(std::string(GroupsFile::kName)), groups_.faults, outcome);
  for (auto& [path, file] : files_) {
    std::vector<Fault> faults = file.own_faults;
    const std::vector<Fault>& found = conflicts[path];
    faults.insert(faults.end(), found.begin(), found.end());
    report(std::move(faults), path, file.faults, outcome);
  }
  if (!serving_.empty() || outcome.refused_files == 0) make_snapshots();
  outcome.groups = serving_;
  outcome.rules = groups_.in_force.rules;
  return outcome;
}

}  // namespace outrigger::control
