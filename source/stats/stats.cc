#include "stats/stats.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <deque>
#include <iterator>
#include <new>
#include <utility>

#include "base/check.h"
#include "base/log.h"
#include "stats/names.h"

namespace outrigger::stats {

// ---- Shard

static_assert(std::size(kBucketBounds) + 1 == kBuckets);

Shard::Shard() {
  using Chunk = std::atomic<std::atomic<uint64_t>*>;
  // Zero pages: an unused shard costs no memory.
  chunks_ = static_cast<Chunk*>(std::calloc(kMaxChunks, sizeof(Chunk)));
  CHECK(chunks_ != nullptr);
}

Shard::~Shard() {
  for (uint32_t i = 0; i < kMaxChunks; ++i) std::free(chunks_[i].load(std::memory_order_relaxed));
  std::free(chunks_);
}

std::atomic<uint64_t>* Shard::make_chunk(uint32_t index) {
  CHECK(index < kMaxChunks);
  void* memory = std::aligned_alloc(64, kChunkCells * sizeof(std::atomic<uint64_t>));  // no line is shared with another
  CHECK(memory != nullptr);
  auto* chunk = static_cast<std::atomic<uint64_t>*>(memory);
  for (uint32_t i = 0; i < kChunkCells; ++i) new (&chunk[i]) std::atomic<uint64_t>(0);
  chunks_[index].store(chunk, std::memory_order_release);
  return chunk;
}

void Shard::record(Histogram h, double ms) {
  if (h.cell == 0) return;
  if (!(ms > 0)) ms = 0;  // NaN too
  const auto* bound = std::lower_bound(std::begin(kBucketBounds), std::end(kBucketBounds), ms);
  bump(h.cell + static_cast<uint32_t>(bound - std::begin(kBucketBounds)), 1);
  constexpr double kMostUs = 1e15;  // 31 years: what is longer is a mistake, and must not break the sum
  bump(h.cell + kBuckets, static_cast<uint64_t>(std::llround(std::min(ms * 1000, kMostUs))));
}

uint64_t Shard::read(uint32_t cell) const {
  const std::atomic<uint64_t>* chunk = chunks_[cell / kChunkCells].load(std::memory_order_acquire);
  return chunk == nullptr ? 0 : chunk[cell % kChunkCells].load(std::memory_order_relaxed);
}

void Shard::zero(uint32_t cell, uint32_t count) {
  for (uint32_t i = cell; i < cell + count; ++i) {
    std::atomic<uint64_t>* chunk = chunks_[i / kChunkCells].load(std::memory_order_acquire);
    if (chunk != nullptr) chunk[i % kChunkCells].store(0, std::memory_order_relaxed);
  }
}

// ---- Registry

namespace {

// A template, for good: their number is the program's.
struct Family {
  Kind kind;
  std::string name;
  std::string prometheus;
};

// The labels of one group, shared by its metrics, which it lists: a metric is found by walking them.
struct LabelSet {
  Labels labels;
  std::string key;
  std::vector<uint32_t> metrics;
};

// 24 bytes, since there are many: 10,000 clusters have half a million.
struct Metric {
  std::shared_ptr<LabelSet> labels;  // nullptr: free
  uint32_t family = 0;
  uint32_t refs = 0;
};

uint32_t cells_of(Kind kind) { return kind == Kind::kHistogram ? kHistogramCells : 1; }

std::string key_of(const Labels& labels) {
  std::string key;
  for (const auto& [name, value] : labels) key.append(name).append(1, '\0').append(value).append(1, '\0');
  return key;
}

// A metric as it was when the lock was held.
struct Row {
  uint32_t family_rank;
  uint32_t labels_rank;
  const Family* family;
  std::shared_ptr<const LabelSet> labels;
  uint64_t value;  // of a histogram: the index of its first cell in `cells`
};

struct Reading {
  std::vector<Row> rows;
  std::vector<uint64_t> cells;
};

Sample sample_of(const Reading& reading, const Row& row) {
  Sample sample{row.family->kind, row.family->name, &row.labels->labels, row.value, {}, 0, 0};
  if (sample.kind != Kind::kHistogram) return sample;
  sample.value = 0;
  const auto first = reading.cells.begin() + static_cast<ptrdiff_t>(row.value);
  sample.buckets.assign(first, first + kBuckets);
  for (const uint64_t n : sample.buckets) sample.count += n;
  sample.sum_ms = static_cast<double>(*(first + kBuckets)) / 1000;
  return sample;
}

}  // namespace

struct Registry::Impl {
  mutable std::mutex mutex;
  std::deque<Family> families;
  std::unordered_map<std::string, uint32_t> family_ids;
  std::unordered_map<std::string, Kind> prometheus_kinds;
  std::unordered_map<std::string_view, std::weak_ptr<LabelSet>> label_sets;  // by their own key; all have metrics
  std::deque<Metric> metrics;                                                // they are many: no slack
  std::vector<uint32_t> cells;                                               // of metrics, apart: by the same index
  std::vector<uint32_t> free_metrics;
  std::vector<uint32_t> free_cells, free_histograms;
  uint32_t next_cell = 1;
  bool full = false;

  uint32_t family_id(Kind kind, std::string_view name);
  std::shared_ptr<LabelSet> label_set(Labels labels);
  uint32_t take_cells(Kind kind);
  void release(uint32_t id);
  Reading read(const std::vector<std::unique_ptr<Shard>>& shards, bool by_prometheus_name) const;
};

uint32_t Registry::Impl::family_id(Kind kind, std::string_view name) {
  if (const auto it = family_ids.find(std::string(name)); it != family_ids.end()) {
    CHECK(families[it->second].kind == kind);
    return it->second;
  }
  std::string prometheus = prometheus_name(name);
  const auto [known, fresh] = prometheus_kinds.emplace(prometheus, kind);
  CHECK(fresh || known->second == kind);  // two families may share a Prometheus name (…_rq, …_rq_{code}), not its type
  const auto id = static_cast<uint32_t>(families.size());
  families.push_back(Family{kind, std::string(name), std::move(prometheus)});
  family_ids.emplace(name, id);
  return id;
}

std::shared_ptr<LabelSet> Registry::Impl::label_set(Labels labels) {
  std::string key = key_of(labels);
  if (const auto it = label_sets.find(key); it != label_sets.end()) return it->second.lock();
  auto set = std::make_shared<LabelSet>();
  set->labels = std::move(labels);
  set->key = std::move(key);
  label_sets.emplace(set->key, set);
  return set;
}

// 0, the sink, when there are no more.
uint32_t Registry::Impl::take_cells(Kind kind) {
  auto& list = kind == Kind::kHistogram ? free_histograms : free_cells;
  if (!list.empty()) {
    const uint32_t cell = list.back();
    list.pop_back();
    return cell;
  }
  const uint32_t count = cells_of(kind);
  if (next_cell + count > Shard::kMaxChunks * Shard::kChunkCells) {
    if (!full) OUTRIGGER_LOG(kError, "stats", "no room for more metrics: new ones do not count");
    full = true;
    return 0;
  }
  return std::exchange(next_cell, next_cell + count);
}

void Registry::Impl::release(uint32_t id) {
  Metric& metric = metrics[id];
  if (--metric.refs > 0) return;
  LabelSet& set = *metric.labels;
  std::erase(set.metrics, id);
  if (set.metrics.empty()) label_sets.erase(set.key);
  metric.labels.reset();
  if (cells[id] != 0)
    (families[metric.family].kind == Kind::kHistogram ? free_histograms : free_cells).push_back(cells[id]);
  free_metrics.push_back(id);
}

// Only the values are read under the lock; sorting and printing half a million metrics takes longer than a builder
// should wait.
Reading Registry::Impl::read(const std::vector<std::unique_ptr<Shard>>& shards, bool by_prometheus_name) const {
  Reading out;
  const auto sum = [&shards](uint32_t cell) {
    uint64_t total = 0;
    if (cell != 0)
      for (const auto& shard : shards) total += shard->read(cell);
    return total;
  };
  std::vector<const Family*> order;
  {
    std::lock_guard lock(mutex);
    out.rows.reserve(metrics.size() - free_metrics.size());
    for (size_t id = 0; id < metrics.size(); ++id) {
      const Metric& metric = metrics[id];
      if (metric.labels == nullptr) continue;
      const Family& family = families[metric.family];
      Row row{metric.family, 0, &family, metric.labels, 0};
      if (family.kind == Kind::kHistogram) {
        row.value = out.cells.size();
        for (uint32_t i = 0; i < kHistogramCells; ++i) out.cells.push_back(sum(cells[id] == 0 ? 0 : cells[id] + i));
      } else {
        row.value = sum(cells[id]);
      }
      out.rows.push_back(std::move(row));
    }
    for (const Family& family : families) order.push_back(&family);
  }

  // Ranks first, so that the rows are sorted by numbers.
  std::vector<uint32_t> by_rank(order.size()), family_rank(order.size());
  for (uint32_t i = 0; i < by_rank.size(); ++i) by_rank[i] = i;
  std::sort(by_rank.begin(), by_rank.end(), [&](uint32_t a, uint32_t b) {
    const int c = by_prometheus_name ? order[a]->prometheus.compare(order[b]->prometheus) : 0;
    return c != 0 ? c < 0 : order[a]->name < order[b]->name;
  });
  for (uint32_t i = 0; i < by_rank.size(); ++i) family_rank[by_rank[i]] = i;
  std::vector<const LabelSet*> sets;
  for (const Row& row : out.rows) sets.push_back(row.labels.get());
  std::sort(sets.begin(), sets.end());
  sets.erase(std::unique(sets.begin(), sets.end()), sets.end());
  std::sort(sets.begin(), sets.end(), [](const LabelSet* a, const LabelSet* b) { return a->labels < b->labels; });
  std::unordered_map<const LabelSet*, uint32_t> labels_rank;
  for (uint32_t i = 0; i < sets.size(); ++i) labels_rank.emplace(sets[i], i);
  for (Row& row : out.rows) {
    row.family_rank = family_rank[row.family_rank];
    row.labels_rank = labels_rank[row.labels.get()];
  }
  std::sort(out.rows.begin(), out.rows.end(), [](const Row& a, const Row& b) {
    return std::pair(a.family_rank, a.labels_rank) < std::pair(b.family_rank, b.labels_rank);
  });
  return out;
}

Registry::Registry(uint32_t workers) : impl_(std::make_unique<Impl>()) {
  for (uint32_t i = 0; i <= workers; ++i) shards_.push_back(std::make_unique<Shard>());
}

Registry::~Registry() { CHECK(impl_->metrics.size() == impl_->free_metrics.size()); }

void Registry::add(Counter c, uint64_t n) {
  std::lock_guard lock(others_mutex_);
  shards_.back()->add(c, n);
}

void Registry::set(Gauge g, int64_t value) {
  std::lock_guard lock(others_mutex_);
  shards_.back()->set(g, value);
}

void Registry::add(Gauge g, int64_t n) {
  std::lock_guard lock(others_mutex_);
  shards_.back()->add(g, n);
}

void Registry::record(Histogram h, double ms) {
  std::lock_guard lock(others_mutex_);
  shards_.back()->record(h, ms);
}

void Registry::for_each(const std::function<void(const Sample&)>& f) const {
  const Reading reading = impl_->read(shards_, false);
  for (const Row& row : reading.rows) f(sample_of(reading, row));
}

size_t Registry::size() const {
  std::lock_guard lock(impl_->mutex);
  return impl_->metrics.size() - impl_->free_metrics.size();
}

std::string Registry::text_name(const Sample& sample) { return stats::text_name(sample.family, *sample.labels); }

std::string Registry::prometheus() const {
  const Reading reading = impl_->read(shards_, true);
  std::string out;
  const std::string* last = nullptr;
  for (const Row& row : reading.rows) {
    const std::string& name = row.family->prometheus;
    if (last == nullptr || *last != name) write_prometheus_type(out, name, row.family->kind);
    last = &name;
    write_prometheus(out, name, sample_of(reading, row));
  }
  return out;
}

uint64_t Registry::value(std::string_view name) const {
  uint64_t found = 0;
  for_each([&](const Sample& sample) {
    if (text_name(sample) == name) found = sample.kind == Kind::kHistogram ? sample.count : sample.value;
  });
  return found;
}

// ---- Group

Group::Group(Registry& registry, Labels labels) : registry_(registry), labels_(std::move(labels)) {}

Group::~Group() {
  std::lock_guard lock(registry_.impl_->mutex);
  for (const uint32_t id : metrics_) registry_.impl_->release(id);
}

Counter Group::counter(std::string_view family, const Labels& more) { return {make(Kind::kCounter, family, more)}; }
Gauge Group::gauge(std::string_view family, const Labels& more) { return {make(Kind::kGauge, family, more)}; }
Histogram Group::histogram(std::string_view family, const Labels& more) {
  return {make(Kind::kHistogram, family, more)};
}

uint32_t Group::make(Kind kind, std::string_view family, const Labels& more) {
  Labels labels = merge_labels(labels_, more);
  CHECK(names_all_labels(family, labels));
  Registry::Impl& impl = *registry_.impl_;
  std::lock_guard lock(impl.mutex);
  const uint32_t family_id = impl.family_id(kind, family);
  std::shared_ptr<LabelSet> set = impl.label_set(std::move(labels));
  for (const uint32_t id : set->metrics) {
    if (impl.metrics[id].family != family_id) continue;
    ++impl.metrics[id].refs;
    metrics_.push_back(id);
    return impl.cells[id];
  }
  uint32_t id = static_cast<uint32_t>(impl.metrics.size());
  if (impl.free_metrics.empty()) {
    impl.metrics.emplace_back();
    impl.cells.emplace_back();
  } else {
    id = impl.free_metrics.back();
    impl.free_metrics.pop_back();
  }
  impl.cells[id] = impl.take_cells(kind);
  if (impl.cells[id] != 0)
    for (const auto& shard : registry_.shards_) shard->zero(impl.cells[id], cells_of(kind));
  set->metrics.push_back(id);
  Metric& metric = impl.metrics[id];
  metric.family = family_id;
  metric.refs = 1;
  metric.labels = std::move(set);
  metrics_.push_back(id);
  return impl.cells[id];
}

}  // namespace outrigger::stats
