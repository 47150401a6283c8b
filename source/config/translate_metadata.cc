// Metadata, metadata_match and lb_subset_config.
#include <fmt/format.h>
#include <google/protobuf/struct.pb.h>

#include <algorithm>
#include <cmath>

#include "base/hash.h"
#include "config/translation.h"
#include "envoy/config/cluster/v3/cluster.pb.h"
#include "envoy/config/core/v3/base.pb.h"

namespace outrigger::config {
namespace cluster = envoy::config::cluster::v3;
namespace core = envoy::config::core::v3;
using google::protobuf::Struct;
using google::protobuf::Value;
using LbSubsetConfig = cluster::Cluster::LbSubsetConfig;
using Selector = LbSubsetConfig::LbSubsetSelector;

namespace {

constexpr int kMaxDepth = 24;  // of structs and lists in each other; protobuf itself takes some 30

// The value of each of a map's entries, by key.
template <class Map, class F>
MetadataValue::Struct fields_of(const Map& map, const FieldPath& path, F&& value_of) {
  MetadataValue::Struct fields;
  fields.reserve(map.size());
  for (const auto& [key, value] : map) fields.push_back({key, value_of(value, path.key(key))});
  std::sort(fields.begin(), fields.end(), [](const MetadataField& a, const MetadataField& b) { return a.key < b.key; });
  return fields;
}

MetadataValue value_of(const Value& from, int depth, const FieldPath& path, Translation& t) {
  if (depth > kMaxDepth) {
    t.fault(path, fmt::format("is nested deeper than {} levels", kMaxDepth));
    return {};
  }
  switch (from.kind_case()) {
    case Value::kBoolValue:
      return {from.bool_value()};
    case Value::kNumberValue:
      if (!std::isfinite(from.number_value())) t.fault(path, "is no finite number");
      return {from.number_value() == 0 ? 0.0 : from.number_value()};
    case Value::kStringValue:
      return {from.string_value()};
    case Value::kStructValue:
      return {fields_of(from.struct_value().fields(), path,
                        [&](const Value& value, const FieldPath& at) { return value_of(value, depth + 1, at, t); })};
    case Value::kListValue: {
      MetadataValue::List list;
      each(from.list_value().values(), path,
           [&](const Value& value, const FieldPath& at) { list.push_back(value_of(value, depth + 1, at, t)); });
      return {std::move(list)};
    }
    case Value::kNullValue:
      return {};
    case Value::KIND_NOT_SET:
      break;
  }
  t.fault(path, "has no value");
  return {};
}

MetadataValue::Struct struct_of(const Struct& from, const FieldPath& path, Translation& t) {
  return fields_of(from.fields(), path,
                   [&](const Value& value, const FieldPath& at) { return value_of(value, 2, at, t); });
}

// Sorted, each once, as Envoy takes them.
template <class Keys>
std::vector<std::string> key_set(const Keys& keys, const FieldPath& path, Translation& t) {
  std::vector<std::string> sorted;
  each(keys, path, [&](const std::string& key, const FieldPath& at) {
    if (key.empty()) t.fault(at, "must not be empty");
    sorted.push_back(key);
  });
  std::sort(sorted.begin(), sorted.end());
  sorted.erase(std::unique(sorted.begin(), sorted.end()), sorted.end());
  return sorted;
}

void selector_fallback(const Selector& from, SubsetSpec::Selector& spec, const FieldPath& path, Translation& t) {
  const FieldPath at = path.field("fallback_keys_subset");
  spec.fallback = static_cast<SubsetSpec::Selector::Fallback>(from.fallback_policy());
  spec.fallback_keys = key_set(from.fallback_keys_subset(), at, t);
  if (from.fallback_policy() != Selector::KEYS_SUBSET) {
    if (!spec.fallback_keys.empty()) t.fault(at, "needs fallback_policy: KEYS_SUBSET");
    return;
  }
  if (spec.fallback_keys.empty()) return t.fault(at, "needs at least one key");
  if (!std::includes(spec.keys.begin(), spec.keys.end(), spec.fallback_keys.begin(), spec.fallback_keys.end()))
    return t.fault(at, "must be some of the selector's keys");
  if (spec.fallback_keys.size() == spec.keys.size()) t.fault(at, "must not be all of the selector's keys");
}

SubsetSpec::Selector selector(const Selector& from, const FieldPath& path, Translation& t) {
  SubsetSpec::Selector spec;
  const FieldPath keys = path.field("keys");
  spec.keys = key_set(from.keys(), keys, t);
  if (spec.keys.empty()) t.fault(keys, "needs at least one key");
  if (spec.keys.size() > SubsetSpec::kMaxKeys)
    t.fault(keys, fmt::format("has {} keys; at most {} are supported", spec.keys.size(), SubsetSpec::kMaxKeys));
  spec.single_host = from.single_host_per_subset();
  selector_fallback(from, spec, path, t);
  return spec;
}

}  // namespace

ByValue<Metadata> metadata(const core::Metadata& from, const FieldPath& path, Translation& t) {
  if (from.filter_metadata().empty()) return {};
  Metadata all{fields_of(
      from.filter_metadata(), path.field("filter_metadata"),
      [&](const Struct& fields, const FieldPath& at) -> MetadataValue { return {struct_of(fields, at, t)}; })};
  const uint64_t hash = content_hash(to_json(all.namespaces));
  return t.state.metadata.shared(hash, std::move(all));
}

ByValue<MetadataMatch> metadata_match(const core::Metadata& from, const ByValue<MetadataMatch>& under,
                                      const FieldPath& path, Translation& t) {
  const auto found = from.filter_metadata().find(std::string(kLbNamespace));
  if (found == from.filter_metadata().end()) return under;
  const FieldPath at = path.field("filter_metadata");
  MetadataMatch match = MetadataMatch::of(struct_of(found->second, at.key(kLbNamespace), t));
  if (under) match = under->merged(match);
  const uint64_t hash = match.hash;
  return t.state.metadata_matches.shared(hash, std::move(match));
}

ByValue<SubsetSpec> subset_spec(const LbSubsetConfig& from, const FieldPath& path, Translation& t) {
  SubsetSpec spec;
  const FieldPath selectors = path.field("subset_selectors");
  each(from.subset_selectors(), selectors, [&](const Selector& one, const FieldPath& at) {
    SubsetSpec::Selector made = selector(one, at, t);
    for (size_t i = 0; i < spec.selectors.size(); ++i)
      if (!made.keys.empty() && spec.selectors[i].keys == made.keys)
        t.fault(at.field("keys"), fmt::format("are those of subset_selectors[{}]", i));
    spec.selectors.push_back(std::move(made));
  });
  spec.fallback = static_cast<SubsetSpec::Fallback>(from.fallback_policy());
  spec.default_subset = struct_of(from.default_subset(), path.field("default_subset"), t);
  spec.panic_mode_any = from.panic_mode_any();
  spec.list_as_any = from.list_as_any();
  if (from.metadata_fallback_policy() != LbSubsetConfig::METADATA_NO_FALLBACK)
    t.fault(path.field("metadata_fallback_policy"), "only METADATA_NO_FALLBACK is supported");
  if (spec.selectors.empty()) return {};  // as Envoy: there are no subsets then
  return spec;
}

}  // namespace outrigger::config
