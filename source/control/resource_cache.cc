#include "outrigger/control/resource_cache.h"

#include <algorithm>
#include <map>
#include <mutex>
#include <tuple>
#include <unordered_map>
#include <utility>

#include "base/hash.h"

namespace outrigger::control {
namespace {

bool by_type_and_name(const ResourcePtr& a, const ResourcePtr& b) {
  return std::tie(a->type_url, a->name) < std::tie(b->type_url, b->name);
}

// Objects by a hash of what they are, for as long as somebody holds them.
template <class T>
class WeakTable {
 public:
  // The one that is held already if `same` says so of it, else `made`.
  template <class Same>
  std::shared_ptr<const T> share(uint64_t hash, std::shared_ptr<const T> made, Same same) {
    std::weak_ptr<const T>& slot = table_[hash];
    if (auto held = slot.lock()) return same(*held) ? held : made;
    slot = made;
    if (table_.size() >= sweep_at_) sweep();
    return made;
  }

 private:
  void sweep() {
    std::erase_if(table_, [](const auto& entry) { return entry.second.expired(); });
    sweep_at_ = std::max<size_t>(1024, table_.size() * 2);
  }
  std::unordered_map<uint64_t, std::weak_ptr<const T>> table_;
  size_t sweep_at_ = 1024;
};

uint64_t hash_of(const std::string& a, const std::string& b, const std::string& c) {
  std::string all;
  all.append(a).push_back('\0');
  all.append(b).push_back('\0');
  return content_hash(all.append(c));
}

}  // namespace

struct ResourcePool::Impl {
  std::mutex mutex;
  WeakTable<Resource> resources;
  WeakTable<TypeSet> sets;
};

ResourcePool::ResourcePool() : impl_(std::make_unique<Impl>()) {}
ResourcePool::~ResourcePool() = default;

ResourcePtr ResourcePool::share(Resource resource) {
  const uint64_t hash = hash_of(resource.type_url, resource.name, resource.version);
  auto made = std::make_shared<const Resource>(std::move(resource));
  std::lock_guard lock(impl_->mutex);
  return impl_->resources.share(hash, made, [&](const Resource& held) {
    return held.version == made->version && held.type_url == made->type_url && held.name == made->name;
  });
}

std::shared_ptr<const TypeSet> ResourcePool::share(std::shared_ptr<const TypeSet> set) {
  const uint64_t hash = hash_of(set->type_url, set->version, {});
  std::lock_guard lock(impl_->mutex);
  return impl_->sets.share(
      hash, set, [&](const TypeSet& held) { return held.version == set->version && held.type_url == set->type_url; });
}

Resource Resource::make(std::string type_url, std::string name, std::string bytes) {
  std::string version = content_hash_hex(bytes);
  return {std::move(type_url), std::move(name), std::move(bytes), std::move(version)};
}

const ResourcePtr* TypeSet::find(std::string_view name) const {
  const auto at = std::lower_bound(resources.begin(), resources.end(), name,
                                   [](const ResourcePtr& r, std::string_view n) { return r->name < n; });
  return at != resources.end() && (*at)->name == name ? &*at : nullptr;
}

std::shared_ptr<const TypeSet> TypeSet::make(std::string type_url, std::vector<ResourcePtr> resources) {
  auto set = std::make_shared<TypeSet>();
  std::string all;
  for (const ResourcePtr& resource : resources) {
    all.append(resource->name).push_back('\0');
    all.append(resource->version);
  }
  set->type_url = std::move(type_url);
  set->version = content_hash_hex(all);
  set->resources = std::move(resources);
  return set;
}

Result<std::shared_ptr<const ResourceSnapshot>> ResourceSnapshot::make(std::vector<Resource> resources,
                                                                       ResourcePool* pool) {
  std::vector<ResourcePtr> held;
  held.reserve(resources.size());
  for (Resource& resource : resources)
    held.push_back(pool != nullptr ? pool->share(std::move(resource))
                                   : std::make_shared<const Resource>(std::move(resource)));
  return of(std::move(held), pool);
}

Result<std::shared_ptr<const ResourceSnapshot>> ResourceSnapshot::of(std::vector<ResourcePtr> sorted,
                                                                     ResourcePool* pool) {
  for (const ResourcePtr& resource : sorted) {
    if (resource->name.empty())
      return fail(Errc::kInvalidArgument, "a resource of type " + resource->type_url + " has no name");
    if (resource->type_url.empty()) return fail(Errc::kInvalidArgument, "resource " + resource->name + " has no type");
  }
  std::sort(sorted.begin(), sorted.end(), by_type_and_name);
  for (size_t i = 1; i < sorted.size(); ++i) {
    if (by_type_and_name(sorted[i - 1], sorted[i])) continue;
    return fail(Errc::kInvalidArgument,
                "two resources of type " + sorted[i]->type_url + " are named " + sorted[i]->name);
  }

  auto snapshot = std::make_shared<ResourceSnapshot>();
  std::string all;
  for (size_t begin = 0; begin < sorted.size();) {
    size_t end = begin;
    while (end < sorted.size() && sorted[end]->type_url == sorted[begin]->type_url) ++end;
    std::shared_ptr<const TypeSet> set = TypeSet::make(
        sorted[begin]->type_url, {sorted.begin() + static_cast<long>(begin), sorted.begin() + static_cast<long>(end)});
    if (pool != nullptr) set = pool->share(std::move(set));
    all.append(set->type_url).append(set->version);
    snapshot->types_.push_back(std::move(set));
    begin = end;
  }
  snapshot->version_ = content_hash_hex(all);
  return snapshot;
}

std::shared_ptr<const TypeSet> ResourceSnapshot::find(std::string_view type_url) const {
  for (const auto& set : types_) {
    if (set->type_url == type_url) return set;
  }
  return TypeSet::make(std::string(type_url), {});
}

size_t ResourceSnapshot::size() const {
  size_t n = 0;
  for (const auto& set : types_) n += set->resources.size();
  return n;
}

struct ResourceCache::Impl {
  ResourcePool pool;
  mutable std::mutex mutex;
  std::map<std::string, std::shared_ptr<const ResourceSnapshot>> groups;
  // Held while listeners are called, so that unlisten() waits.
  std::mutex listeners_mutex;
  std::map<uint64_t, Listener> listeners;
  uint64_t next_id = 1;
};

ResourceCache::ResourceCache() : impl_(std::make_unique<Impl>()) {}
ResourceCache::~ResourceCache() = default;
ResourcePool& ResourceCache::pool() { return impl_->pool; }

void ResourceCache::set(std::shared_ptr<const ResourceSnapshot> snapshot, const std::string& group) {
  {
    std::lock_guard lock(impl_->mutex);
    if (snapshot == nullptr) {
      impl_->groups.erase(group);
      return;
    }
    auto& held = impl_->groups[group];
    if (held != nullptr && held->version() == snapshot->version()) return;
    held = std::move(snapshot);
  }
  std::lock_guard lock(impl_->listeners_mutex);
  for (const auto& [id, listener] : impl_->listeners) listener(group);
}

std::shared_ptr<const ResourceSnapshot> ResourceCache::get(const std::string& group) const {
  std::lock_guard lock(impl_->mutex);
  const auto found = impl_->groups.find(group);
  return found == impl_->groups.end() ? nullptr : found->second;
}

uint64_t ResourceCache::listen(Listener listener) {
  std::lock_guard lock(impl_->listeners_mutex);
  const uint64_t id = impl_->next_id++;
  impl_->listeners[id] = std::move(listener);
  return id;
}

void ResourceCache::unlisten(uint64_t id) {
  std::lock_guard lock(impl_->listeners_mutex);
  impl_->listeners.erase(id);
}

}  // namespace outrigger::control
