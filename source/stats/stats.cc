#include "stats/stats.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <iterator>
#include <limits>
#include <map>
#include <new>
#include <unordered_map>
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

// ---- Layout

namespace {

uint32_t cells_of(Kind kind) { return kind == Kind::kHistogram ? kHistogramCells : 1; }

}  // namespace

uint32_t Layout::add(Kind kind, std::string_view family, const Labels& more) {
  const auto place = static_cast<uint32_t>(place_);
  const uint32_t cell = (place << kPlaceShift) + cells_[place] + 1;
  cells_[place] += cells_of(kind);
  entries_.push_back({.kind = kind, .cell = cell, .family = std::string(family), .more = label_text(more)});
  return cell;
}

// ---- Registry

namespace {

constexpr uint32_t kNoCells = UINT32_MAX;

struct Table;

// What a block has of its own: for each place the number before its first cell. They are many: a cluster has one.
struct Cells {
  Table* table = nullptr;
  const std::string* labels = nullptr;  // its key in the table
  uint32_t refs = 0;
  uint32_t before[Layout::kPlaces] = {};  // kNoCells: there were none left
};
using Blocks = std::map<std::string, Cells, std::less<>>;  // by the text of their labels

// All blocks of one layout.
struct Table {
  const Layout* layout;
  Blocks blocks;
  std::string checked;  // the names of the labels that its families were checked with
};

// The metrics of one family, of all blocks.
struct Column {
  Table* table;
  uint32_t first, end;  // of the layout's entries
  Kind kind;
  std::string family, prometheus;
};

// Cells of one size that are free, and where the next are taken from. Each place has a chunk that it fills, so that
// cells which one thread writes do not lie among those of others.
class CellSpace {
 public:
  // The first of `count` cells for `place`; kNoCells: there are no more.
  uint32_t take(size_t place, uint32_t count) {
    if (const auto it = free_.find(count); it != free_.end() && !it->second.empty()) {
      const uint32_t first = it->second.back();
      it->second.pop_back();
      return first;
    }
    auto& [next, end] = open_[place];
    if (next + count > end) {
      const uint32_t chunks = (count + Shard::kChunkCells - 1) / Shard::kChunkCells;
      if (next_chunk_ + chunks > Shard::kMaxChunks) return kNoCells;
      next = next_chunk_ * Shard::kChunkCells;
      next_chunk_ += chunks;
      end = next_chunk_ * Shard::kChunkCells;
      if (next == 0) next = 1;  // the sink
    }
    return std::exchange(next, next + count);
  }
  void give(uint32_t first, uint32_t count) { free_[count].push_back(first); }

 private:
  std::unordered_map<uint32_t, std::vector<uint32_t>> free_;
  std::pair<uint32_t, uint32_t> open_[Layout::kPlaces];
  uint32_t next_chunk_ = 0;
};

}  // namespace

struct Registry::Impl {
  mutable std::mutex mutex;
  std::unordered_map<const Layout*, Table> tables;
  std::unordered_map<std::string, std::unique_ptr<Layout>> singles;  // layouts of groups' metrics, by family
  std::map<std::string, Column> by_family;
  std::map<std::string, Column*> by_prometheus;  // key: Prometheus name, '\0', family
  std::unordered_map<std::string, Kind> prometheus_kinds;
  CellSpace space;
  size_t size = 0;
  bool full = false;

  const Layout& single(Kind kind, std::string_view family);
  Table& table(const Layout& layout);
  void take_cells(const Layout& layout, Cells& cells, const std::vector<std::unique_ptr<Shard>>& shards);
  void release(Cells& cells);
};

// A group's metric: a block of its own, with all of its labels.
const Layout& Registry::Impl::single(Kind kind, std::string_view family) {
  std::unique_ptr<Layout>& layout = singles[std::string(family)];
  if (layout == nullptr) {
    layout = std::make_unique<Layout>();
    layout->add(kind, family, {});
  }
  CHECK(layout->entries_[0].kind == kind);
  return *layout;
}

Table& Registry::Impl::table(const Layout& layout) {
  const auto [at, fresh] = tables.try_emplace(&layout);
  Table& table = at->second;
  if (!fresh) return table;
  table.layout = &layout;
  const auto& entries = layout.entries_;
  for (uint32_t i = 0, end = 0; i < entries.size(); i = end) {
    while (end < entries.size() && entries[end].family == entries[i].family) ++end;
    const Kind kind = entries[i].kind;
    Column column{&table, i, end, kind, entries[i].family, prometheus_name(entries[i].family)};
    // Two families may share a Prometheus name (…_rq, …_rq_{code}), not its type.
    CHECK(prometheus_kinds.emplace(column.prometheus, kind).first->second == kind);
    const auto [known, is_new] = by_family.emplace(column.family, std::move(column));
    CHECK(is_new);
    by_prometheus.emplace(known->second.prometheus + '\0' + known->first, &known->second);
  }
  return table;
}

void Registry::Impl::take_cells(const Layout& layout, Cells& cells, const std::vector<std::unique_ptr<Shard>>& shards) {
  for (size_t place = 0; place < Layout::kPlaces; ++place) {
    const uint32_t count = layout.cells_[place];
    if (count == 0) continue;
    const uint32_t first = space.take(place, count);
    if (first == kNoCells && !std::exchange(full, true))
      OUTRIGGER_LOG(kError, "stats", "no room for more metrics: new ones do not count");
    cells.before[place] = first == kNoCells ? kNoCells : first - 1;
    if (first == kNoCells) continue;
    for (const auto& shard : shards) shard->zero(first, count);
  }
  size += layout.entries_.size();
}

void Registry::Impl::release(Cells& cells) {
  if (--cells.refs > 0) return;
  const Layout& layout = *cells.table->layout;
  for (size_t place = 0; place < Layout::kPlaces; ++place) {
    if (layout.cells_[place] != 0 && cells.before[place] != kNoCells)
      space.give(cells.before[place] + 1, layout.cells_[place]);
  }
  size -= layout.entries_.size();
  Blocks& blocks = cells.table->blocks;
  blocks.erase(blocks.find(*cells.labels));
}

Registry::Registry(uint32_t workers) : impl_(std::make_unique<Impl>()) {
  for (uint32_t i = 0; i <= workers; ++i) shards_.push_back(std::make_unique<Shard>());
}

Registry::~Registry() { CHECK(impl_->size == 0); }

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

bool Registry::Cursor::next(size_t count, const std::function<void(const Sample&)>& f, const Wanted& wanted) {
  const Impl& impl = *registry_.impl_;
  const auto tell = [&](const Column& column, const std::string& labels, const Cells& cells) {
    for (uint32_t i = column.first; i < column.end; ++i) {
      const Layout::Entry& entry = column.table->layout->entries_[i];
      if (count > 0) --count;
      if (wanted != nullptr && !wanted(column.family, {labels, entry.more})) continue;
      const uint32_t before = cells.before[entry.cell >> Layout::kPlaceShift];
      const uint32_t cell = before + (entry.cell & ((1u << Layout::kPlaceShift) - 1));
      const auto sum = [&](uint32_t n) {
        uint64_t total = 0;
        if (before != kNoCells)
          for (const auto& shard : registry_.shards_) total += shard->read(cell + n);
        return total;
      };
      Sample sample{.kind = column.kind,
                    .family = column.family,
                    .prometheus = column.prometheus,
                    .labels = {labels, entry.more}};
      if (column.kind == Kind::kHistogram) {
        for (uint32_t b = 0; b < kBuckets; ++b) sample.count += sample.buckets[b] = sum(b);
        sample.sum_ms = static_cast<double>(sum(kBuckets)) / 1000;
      } else {
        sample.value = sum(0);
      }
      f(sample);
    }
  };
  // The rest of the column that it stopped in, then the next columns; nothing is held from one call to the next.
  const auto walk = [&](const auto& columns, const auto& column_of) {
    auto at = inside_ ? columns.find(column_) : columns.upper_bound(column_);
    for (; at != columns.end(); ++at) {
      const Column& column = column_of(at->second);
      const Blocks& blocks = column.table->blocks;
      for (auto block = inside_ ? blocks.upper_bound(block_) : blocks.begin(); block != blocks.end(); ++block) {
        if (count == 0) return true;
        tell(column, block->first, block->second);
        block_ = block->first;
        if (!std::exchange(inside_, true)) column_ = at->first;
      }
      column_ = at->first;
      inside_ = false;
    }
    return false;
  };
  std::lock_guard lock(impl.mutex);
  return order_ == Order::kFamily ? walk(impl.by_family, [](const Column& c) -> const Column& { return c; })
                                  : walk(impl.by_prometheus, [](const Column* c) -> const Column& { return *c; });
}

void Registry::for_each(const std::function<void(const Sample&)>& f) const {
  Cursor(*this, Cursor::Order::kFamily).next(std::numeric_limits<size_t>::max(), f);
}

size_t Registry::size() const {
  std::lock_guard lock(impl_->mutex);
  return impl_->size;
}

uint64_t Registry::value(std::string_view name) const {
  uint64_t found = 0;
  std::string at;
  for_each([&](const Sample& sample) {
    at.clear();
    append_text_name(at, sample.family, sample.labels);
    if (at == name) found = sample.kind == Kind::kHistogram ? sample.count : sample.value;
  });
  return found;
}

// ---- Block, Group

BlockBase::BlockBase(Registry& registry, const Layout& layout, const Labels& labels) : registry_(registry) {
  const std::string key = label_text(merge_labels(labels, {}));
  Registry::Impl& impl = *registry.impl_;
  std::lock_guard lock(impl.mutex);
  Table& table = impl.table(layout);
  const auto [at, fresh] = table.blocks.try_emplace(key);
  if (fresh) {
    if (std::string names = label_names(key); names != table.checked || table.blocks.size() == 1) {
      for (const Layout::Entry& entry : layout.entries_) CHECK(names_all_labels(entry.family, {key, entry.more}));
      table.checked = std::move(names);
    }
    at->second.table = &table;
    at->second.labels = &at->first;
    impl.take_cells(layout, at->second, registry.shards_);
  }
  ++at->second.refs;
  cells_ = &at->second;
}

BlockBase::~BlockBase() {
  std::lock_guard lock(registry_.impl_->mutex);
  registry_.impl_->release(*static_cast<Cells*>(cells_));
}

uint32_t BlockBase::cell(uint32_t in_layout) const {
  if (in_layout == 0) return 0;
  const uint32_t before = static_cast<const Cells*>(cells_)->before[in_layout >> Layout::kPlaceShift];
  return before == kNoCells ? 0 : before + (in_layout & ((1u << Layout::kPlaceShift) - 1));
}

Group::Group(Registry& registry, Labels labels) : registry_(registry), labels_(std::move(labels)) {}
Group::~Group() = default;

uint32_t Group::make(Kind kind, std::string_view family, const Labels& more) {
  const Layout* layout = nullptr;
  {
    std::lock_guard lock(registry_.impl_->mutex);
    layout = &registry_.impl_->single(kind, family);
  }
  metrics_.push_back(std::make_unique<BlockBase>(registry_, *layout, merge_labels(labels_, more)));
  return metrics_.back()->cell(1);
}

}  // namespace outrigger::stats
