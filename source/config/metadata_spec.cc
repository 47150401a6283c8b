#include "config/metadata_spec.h"

#include <algorithm>

#include "base/hash.h"

namespace outrigger::config {
namespace {

void add(MetadataMatch& to, MetadataMatch::Criterion criterion) {
  to.keys_hash += criterion.key_hash;
  to.hash += criterion.hash;
  to.criteria.push_back(std::move(criterion));
}

}  // namespace

uint64_t key_hash(std::string_view key) { return content_hash(key); }

uint64_t criterion_hash(std::string_view key, const MetadataValue& value) {
  std::string text(key);
  text += '\0';
  return content_hash(text + to_json(value));
}

MetadataMatch MetadataMatch::of(const MetadataValue::Struct& fields) {
  MetadataMatch match;
  match.criteria.reserve(fields.size());
  for (const MetadataField& field : fields)
    add(match, {field.key, field.value, config::key_hash(field.key), criterion_hash(field.key, field.value)});
  return match;
}

MetadataMatch MetadataMatch::merged(const MetadataMatch& over) const {
  MetadataMatch match;
  auto mine = criteria.begin();
  for (const Criterion& theirs : over.criteria) {
    for (; mine != criteria.end() && mine->key < theirs.key; ++mine) add(match, *mine);
    if (mine != criteria.end() && mine->key == theirs.key) ++mine;
    add(match, theirs);
  }
  for (; mine != criteria.end(); ++mine) add(match, *mine);
  return match;
}

}  // namespace outrigger::config
