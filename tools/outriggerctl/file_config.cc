#include "file_config.h"

#include <fmt/format.h>
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "config/names.h"
#include "control/directory_source.h"
#include "filters/all_filters.h"
#include "net/address.h"

namespace outrigger::ctl {
namespace {

constexpr int64_t kAfterEveryWaitMs = int64_t{1} << 40;

// A bootstrap and not a file of resources.
bool is_bootstrap(const std::string& text) {
  try {
    const YAML::Node root = YAML::Load(text);
    if (!root.IsMap()) return false;
    for (const char* key : {"static_resources", "staticResources", "dynamic_resources", "dynamicResources", "node"})
      if (root[key]) return true;
    return root["admin"] && !root["resources"];
  } catch (const YAML::Exception&) {
    return false;  // the reader of resources says what is wrong
  }
}

bool read(const std::string& path, std::string& text) {
  std::ifstream in(path, std::ios::binary);
  std::ostringstream out;
  if (!in || !(out << in.rdbuf())) return false;
  text = out.str();
  return true;
}

}  // namespace

std::string short_type(std::string_view type_url) { return std::string(type_url.substr(type_url.rfind('.') + 1)); }

FileConfig::FileConfig()
    : translator_(filters::all_filters(), states_, registry_, {.api_listeners = true}),
      store_({.stats = &registry_, .bind = false, .now_ms = [this] { return now_ms_; }}) {}

bool FileConfig::good() const {
  return std::all_of(faults_.begin(), faults_.end(), [](const config::Fault& f) { return f.warning; });
}

void FileConfig::load(const std::vector<std::string>& paths) {
  for (const std::string& path : paths) {
    std::error_code error;
    if (!std::filesystem::is_directory(path, error)) {
      load_file(path);
      continue;
    }
    std::vector<std::string> inside;
    for (const auto& entry : std::filesystem::directory_iterator(path, error))
      if (control::DirectorySource::is_resource_file(entry.path().filename().string()))
        inside.push_back(entry.path().string());
    std::sort(inside.begin(), inside.end());
    if (inside.empty()) fault(path, "has no *.yaml, *.yml or *.json file");
    for (const std::string& file : inside) load_file(file);
  }
}

void FileConfig::load_file(const std::string& path) {
  ++files_;
  std::string text;
  if (!read(path, text)) return fault(path, "cannot be read");
  if (is_bootstrap(text)) {
    config::TranslatedBootstrap bootstrap = translator_.bootstrap(text, path);
    for (const config::Fault& one : bootstrap.faults.all()) {
      faults_.push_back(one);
      faults_.back().file = path;
    }
    for (config::TranslatedResource& one : bootstrap.resources) take(path, one, proxy::Source::kStatic);
    return;
  }
  config::Faults of_file;
  of_file.set_file(path);
  std::vector<config::TranslatedResource> all = translator_.resource_file(text, path, of_file);
  for (config::TranslatedResource& one : all) {
    of_file.append(one.faults);
    take(path, one, proxy::Source::kFile);
  }
  faults_.insert(faults_.end(), of_file.all().begin(), of_file.all().end());
}

void FileConfig::take(const std::string& file, config::TranslatedResource& one, proxy::Source source) {
  if (!one.spec) return;
  const std::string type_url(config::type_url(one.type));
  const std::string name = short_type(type_url) + "/" + one.name;
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
    for (const std::string& wait : one.waits_for)
      out.push_back(fmt::format("{}/{} names what is in none of the files: {}", short_type(config::type_url(one.type)),
                                one.name, wait));
  return out;
}

}  // namespace outrigger::ctl
