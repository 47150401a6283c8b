#include "config/faults.h"

#include <fmt/format.h>

namespace outrigger::config {

std::string FieldPath::str() const {
  std::string out = parent_ == nullptr ? std::string() : parent_->str();
  if (index_ >= 0) {
    out += fmt::format("[{}]", index_);
  } else if (index_ == kMapKey) {
    out += fmt::format("[\"{}\"]", name_);
  } else if (!name_.empty()) {
    if (!out.empty()) out += '.';
    out += name_;
  }
  return out;
}

std::string Fault::str() const {
  std::string out;
  if (!file.empty()) out += line > 0 ? fmt::format("{}:{}: ", file, line) : fmt::format("{}: ", file);
  if (!resource.empty()) out += resource + ": ";
  if (!path.empty()) out += path + ": ";
  return out + message;
}

void Faults::add_at(std::string path, std::string message) {
  faults_.push_back(
      Fault{.file = file_, .resource = resource_, .path = std::move(path), .message = std::move(message)});
  ++errors_;
}

void Faults::warn(const FieldPath& path, std::string message) {
  faults_.push_back(
      Fault{.file = file_, .resource = resource_, .path = path.str(), .message = std::move(message), .warning = true});
}

void Faults::append(const Faults& other) {
  faults_.insert(faults_.end(), other.faults_.begin(), other.faults_.end());
  errors_ += other.errors_;
}

std::string Faults::str() const {
  std::string out;
  for (const Fault& fault : faults_) out += fault.str() + "\n";
  return out;
}

}  // namespace outrigger::config
