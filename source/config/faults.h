// Fault, Faults, FieldPath: every config mistake with the place where it was made.
//
// Thread rule: values of the builder thread.
// Use:  void check(const Route& r, const FieldPath& path, Faults& faults) {
//         if (r.name().empty()) faults.add(path.field("name"), "must not be empty");
//         for (int i = 0; ...) check(r.sub(i), path.field("sub").index(i), faults); }
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace outrigger::config {

// A place in a message, as "listeners[0].filter_chains[0].name". A chain of stack values: a child refers to its parent,
// so never store one.
class FieldPath {
 public:
  FieldPath() = default;
  explicit FieldPath(std::string_view root) : name_(root) {}
  FieldPath field(std::string_view name) const { return FieldPath(this, name, -1); }
  FieldPath index(size_t i) const { return FieldPath(this, {}, static_cast<long>(i)); }
  // A map's entry: typed_per_filter_config["envoy.filters.http.cors"]
  FieldPath key(std::string_view key) const { return FieldPath(this, key, kMapKey); }
  std::string str() const;

 private:
  static constexpr long kMapKey = -2;
  FieldPath(const FieldPath* parent, std::string_view name, long index) : parent_(parent), name_(name), index_(index) {}
  const FieldPath* parent_ = nullptr;
  std::string_view name_;
  long index_ = -1;
};

// What to do about fields, enum values and types that our schemas do not have (--unknown-fields).
enum class UnknownFields : uint8_t { kError, kWarn };

struct Fault {
  std::string file;      // empty: not from a file
  int line = 0;          // 1-based; 0: unknown
  std::string resource;  // "type/name" or "name"; empty: not inside a resource
  std::string path;      // field path inside the resource (or the file)
  std::string message;   // what is wrong and what to do
  bool warning = false;  // --unknown-fields=warn turns unknown-field faults into warnings

  // "file:line: resource: path: message", parts that are empty left out.
  std::string str() const;
  bool operator==(const Fault&) const = default;
};

class Faults {
 public:
  void add(const FieldPath& path, std::string message) { add_at(path.str(), std::move(message)); }
  void add_at(std::string path, std::string message);
  void warn(const FieldPath& path, std::string message);

  // File and resource that the faults added from now on belong to.
  void set_file(std::string file) { file_ = std::move(file); }
  void set_resource(std::string resource) { resource_ = std::move(resource); }

  bool ok() const { return errors_ == 0; }  // warnings do not count
  size_t errors() const { return errors_; }
  const std::vector<Fault>& all() const { return faults_; }
  std::vector<Fault>& all() { return faults_; }
  void append(const Faults& other);
  // All faults, one a line.
  std::string str() const;

 private:
  std::string file_;
  std::string resource_;
  std::vector<Fault> faults_;
  size_t errors_ = 0;
};

}  // namespace outrigger::config
