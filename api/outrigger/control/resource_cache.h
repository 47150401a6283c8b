// ResourceSnapshot, ResourceCache: what a control plane serves. A snapshot is an immutable, consistent set of xDS
// resources; the cache holds the current one of each group of proxies, and whoever serves it is told when it changes.
// Resources that are equal in two snapshots are one object, so memory is what is distinct.
//
// Thread rule: snapshots are immutable and shared; the cache may be used from any thread.
// Use:  ResourceCache cache;
//       std::vector<Resource> resources = {Resource::make(url, "backend", cluster.SerializeAsString()), ...};
//       auto snapshot = ResourceSnapshot::make(std::move(resources), &cache.pool());
//       if (snapshot) cache.set(*snapshot);              // of the one group; or (*snapshot, "edge")
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "outrigger/result.h"

namespace outrigger::control {

struct Resource {
  std::string type_url;  // "type.googleapis.com/envoy.config.cluster.v3.Cluster"
  std::string name;
  std::string bytes;    // the serialised message; serialise deterministically, or equal resources look changed
  std::string version;  // content hash of `bytes`, 16 hex digits

  static Resource make(std::string type_url, std::string name, std::string bytes);
};
using ResourcePtr = std::shared_ptr<const Resource>;

// All resources of one type, sorted by name.
struct TypeSet {
  std::string type_url;
  std::string version;  // content hash of names and versions, 16 hex digits
  std::vector<ResourcePtr> resources;

  // nullptr: there is none of that name.
  const ResourcePtr* find(std::string_view name) const;
  // `resources` must be sorted by name, names unique.
  static std::shared_ptr<const TypeSet> make(std::string type_url, std::vector<ResourcePtr> resources);
};

// Makes equal resources, and equal sets of them, one object for as long as anybody holds it. Any thread.
class ResourcePool {
 public:
  ResourcePool();
  ~ResourcePool();
  ResourcePool(const ResourcePool&) = delete;
  ResourcePool& operator=(const ResourcePool&) = delete;

  ResourcePtr share(Resource resource);
  std::shared_ptr<const TypeSet> share(std::shared_ptr<const TypeSet> set);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

class ResourceSnapshot {
 public:
  // Refused (kInvalidArgument): two resources of one type and name, a resource without name or type. With a pool, what
  // other snapshots of that pool have equally is shared with them.
  static Result<std::shared_ptr<const ResourceSnapshot>> make(std::vector<Resource> resources,
                                                              ResourcePool* pool = nullptr);
  // The same of resources that are held already.
  static Result<std::shared_ptr<const ResourceSnapshot>> of(std::vector<ResourcePtr> resources,
                                                            ResourcePool* pool = nullptr);

  // The set of a type; an empty one if there is none.
  std::shared_ptr<const TypeSet> find(std::string_view type_url) const;
  const std::vector<std::shared_ptr<const TypeSet>>& types() const { return types_; }
  size_t size() const;                                     // resources
  const std::string& version() const { return version_; }  // content hash of all types

 private:
  std::vector<std::shared_ptr<const TypeSet>> types_;  // sorted by type_url
  std::string version_;
};

class ResourceCache {
 public:
  using Listener = std::function<void(const std::string& group)>;

  ResourceCache();
  ~ResourceCache();
  ResourceCache(const ResourceCache&) = delete;
  ResourceCache& operator=(const ResourceCache&) = delete;

  // For the snapshots of this cache.
  ResourcePool& pool();

  // Replaces a group's snapshot and tells the listeners, on the calling thread. An equal snapshot tells nobody; nullptr
  // forgets the group (its clients keep what they have).
  void set(std::shared_ptr<const ResourceSnapshot> snapshot, const std::string& group = {});
  // nullptr: nothing was set for that group.
  std::shared_ptr<const ResourceSnapshot> get(const std::string& group = {}) const;

  // Told after every change until unlisten(id), which waits for a call that is under way.
  uint64_t listen(Listener listener);
  void unlisten(uint64_t id);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace outrigger::control
