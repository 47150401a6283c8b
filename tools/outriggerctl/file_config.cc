#include "file_config.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>

#include "config/names.h"
#include "config/yaml_document.h"
#include "control/directory_source.h"
#include "control/groups_file.h"
#include "filters/all_filters.h"
#include "net/address.h"
#include "server/read_file.h"

namespace outrigger::ctl {
namespace {

constexpr size_t kMaxFileBytes = size_t{1} << 30;  // the reader's own limit is far below
constexpr int64_t kAfterEveryWaitMs = int64_t{1} << 40;

// A bootstrap and not a file of resources.
bool is_bootstrap(const std::string& text) {
  config::YamlDocument document;
  config::Faults ignored;  // the reader of resources says what is wrong
  if (!document.parse(text, "", ignored)) return false;
  const config::YamlDocument::Node& root = document.node(document.root());
  if (root.kind != config::YamlDocument::Kind::kMapping) return false;
  bool admin = false, resources = false;
  for (size_t i = 0; i < root.children.size(); i += 2) {
    const std::string& key = document.node(root.children[i]).text;
    for (const char* of_bootstrap :
         {"static_resources", "staticResources", "dynamic_resources", "dynamicResources", "node"})
      if (key == of_bootstrap) return true;
    admin = admin || key == "admin";
    resources = resources || key == "resources";
  }
  return admin && !resources;
}

bool is_directory(const std::string& path) {
  std::error_code error;
  return std::filesystem::is_directory(path, error);
}

std::string groups_path(const std::string& directory) {
  return directory + "/" + std::string(control::GroupsFile::kName);
}

// Of a directory; nothing: it is none, or its groups.yaml has faults.
std::optional<control::GroupsFile> read_groups(const std::string& directory, config::Faults& faults) {
  if (!is_directory(directory)) return std::nullopt;
  const std::string path = groups_path(directory);
  std::error_code error;
  if (!std::filesystem::exists(path, error)) return control::GroupsFile::none();
  const auto text = server::read_file(path, kMaxFileBytes);
  if (text) return control::GroupsFile::parse(*text, path, faults);
  faults.all().push_back({.file = path, .message = "cannot be read"});
  return std::nullopt;
}

}  // namespace

FileConfig::FileConfig(std::string group)
    : group_(std::move(group)),
      translator_(filters::all_filters(), states_, registry_, {.api_listeners = true}),
      store_({.stats = &registry_, .bind = false, .scopes = false, .now_ms = [this] { return now_ms_; }}) {}

std::vector<std::string> FileConfig::groups_of(const std::vector<std::string>& paths) {
  std::vector<std::string> names = {""};
  for (const std::string& path : paths) {
    config::Faults told_by_load;
    const auto groups = read_groups(path, told_by_load);
    if (!groups) continue;
    for (const control::GroupsFile::Group& group : groups->groups)
      if (std::find(names.begin(), names.end(), group.name) == names.end()) names.push_back(group.name);
  }
  return names;
}

bool FileConfig::good() const {
  return std::all_of(faults_.begin(), faults_.end(), [](const config::Fault& f) { return f.warning; });
}

void FileConfig::load(const std::vector<std::string>& paths) {
  group_found_ = group_.empty();
  for (const std::string& path : paths) {
    if (is_directory(path)) {
      load_directory(path);
    } else {
      load_file(path);
    }
  }
  if (!group_found_) fault(paths.front(), "has no group \"" + group_ + "\"");
}

// A directory without the group serves its nodes what it serves all others.
void FileConfig::load_directory(const std::string& path) {
  config::Faults of_groups;
  const auto groups = read_groups(path, of_groups);
  faults_.insert(faults_.end(), of_groups.all().begin(), of_groups.all().end());
  if (!groups) return;
  const auto group = std::find_if(groups->groups.begin(), groups->groups.end(),
                                  [&](const control::GroupsFile::Group& one) { return one.name == group_; });
  group_found_ = group_found_ || group != groups->groups.end();
  std::set<std::string> inside;
  for (const control::GroupsFile::Entry& entry :
       group != groups->groups.end() ? group->files : groups->groups.front().files) {
    const std::string named = entry.path.empty() ? path : path + "/" + entry.path;
    if (!entry.field.empty() && !std::filesystem::exists(named)) {
      faults_.push_back(
          {.file = groups_path(path), .line = entry.line, .path = entry.field, .message = named + " is not there"});
    }
    control::DirectorySource::list_files(named, inside);
  }
  if (inside.empty() && groups->groups.size() == 1) fault(path, "has no *.yaml, *.yml or *.json file");
  for (const std::string& file : inside) load_file(file);
}

void FileConfig::load_file(const std::string& path) {
  files_.insert(path);
  const auto text = server::read_file(path, kMaxFileBytes);
  if (!text) return fault(path, "cannot be read");
  if (is_bootstrap(*text)) {
    config::TranslatedBootstrap bootstrap = translator_.bootstrap(*text, path);
    for (const config::Fault& one : bootstrap.faults.all()) {
      faults_.push_back(one);
      faults_.back().file = path;
    }
    for (config::TranslatedResource& one : bootstrap.resources) take(path, one, proxy::Source::kStatic);
    return;
  }
  config::Faults of_file;
  of_file.set_file(path);
  std::vector<config::TranslatedResource> all = translator_.resource_file(*text, path, of_file);
  for (config::TranslatedResource& one : all) {
    of_file.append(one.faults);
    take(path, one, proxy::Source::kFile);
  }
  faults_.insert(faults_.end(), of_file.all().begin(), of_file.all().end());
}

void FileConfig::take(const std::string& file, config::TranslatedResource& one, proxy::Source source) {
  if (!one.spec) return;
  const std::string type_url(config::type_url(one.type));
  const std::string name = fmt::format("{}/{}", config::short_type(type_url), one.name);
  const auto refuse = [&](std::string message) {
    faults_.push_back(
        {.file = file, .line = one.line, .resource = name, .path = one.path, .message = std::move(message)});
  };
  if (const auto [at, is_new] = file_of_.try_emplace(name, file); !is_new) return refuse("is also in " + at->second);
  resources_[name] = {type_url, one.bytes};
  if (auto verdict = store_.accept(std::move(*one.spec), {}, source); !verdict) refuse(verdict.error().detail);
}

std::shared_ptr<const proxy::Snapshot> FileConfig::snapshot() {
  for (const auto& spec : store_.dns_clusters()) {
    std::vector<config::EndpointSpec> known;
    for (const config::EndpointSpec& endpoint : spec->endpoints.endpoints)
      if (net::Address::parse(endpoint.address.host, 0)) known.push_back(endpoint);
    store_.set_resolved(spec->name, std::move(known));
  }
  store_.assemble();
  now_ms_ += kAfterEveryWaitMs;
  store_.assemble();
  return store_.live();
}

std::vector<std::string> FileConfig::missing() {
  store_.assemble();
  std::vector<std::string> out;
  for (const proxy::StoreStatus::Resource& one : store_.status()->resources)
    for (const std::string& wait : one.waits_for())
      out.push_back(fmt::format("{}/{} names what is in none of the files: {}",
                                config::short_type(config::type_url(one.type)), one.name, wait));
  return out;
}

}  // namespace outrigger::ctl
