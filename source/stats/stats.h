// Stats: labelled counters, gauges and histograms, one shard per worker. A worker writes only its own shard (relaxed,
// single writer, no lock, no shared cache line); readers add the shards up.
//
// A family has a name template in Envoy's form, with labels in braces: "cluster.{cluster}.upstream_rq_total".
//   /stats text   cluster.backend.upstream_rq_total: 5
//   /metrics      envoy_cluster_upstream_rq_total{envoy_cluster_name="backend"} 5
// Labels and their Prometheus names: cluster -> envoy_cluster_name, http -> envoy_http_conn_manager_prefix, listener ->
// envoy_listener_address, response_code -> envoy_response_code, response_code_class -> envoy_response_code_class,
// worker -> envoy_worker_id; any other label keeps its name with "envoy_" before it.
//
// Label values are taken as Envoy takes them: ':' becomes '_'; bytes that are not UTF-8 and control characters do too.
//
// What there are many of (clusters) has its metrics described once, by a struct of handles, and each one of it is a
// Block: names and extra labels are shared, its own are its labels and its cells. Single metrics are made by a Group.
//
// Thread rule: Registry, Group and Block on any non-worker thread (it locks); Shard::add/set/record on the shard's own
// thread. Handles are plain numbers; they stay valid until the Group or Block that made them is destroyed. These belong
// to a compiled part and die with it on the builder thread, when no worker can use them any more.
// Use:  struct Handles { explicit Handles(Layout& l) : total(l.counter("cluster.{cluster}.upstream_rq_total")) {}
//                        Counter total; };
//       stats::Block<Handles> stats(registry, {{"cluster", name}});
//       shard.add(stats.total);                              // on a worker
#pragma once

#include <array>
#include <atomic>
#include <bit>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

namespace outrigger::stats {

struct Counter {
  uint32_t cell = 0;
};  // cell 0 is a sink: a default handle counts nowhere
struct Gauge {
  uint32_t cell = 0;
};  // the sum over shards is the value
struct Histogram {
  uint32_t cell = 0;
};  // kHistogramCells from here; values in ms unless the name says otherwise

inline constexpr double kBucketBounds[] = {0.5,  1,    5,     10,    25,    50,     100,    250,     500,    1000,
                                           2500, 5000, 10000, 30000, 60000, 300000, 600000, 1800000, 3600000};
inline constexpr uint32_t kBuckets = 20;                   // the bounds above and +Inf
inline constexpr uint32_t kHistogramCells = kBuckets + 1;  // the buckets, then the sum in µs

class Shard {
 public:
  static constexpr uint32_t kChunkCells = 64;  // what a worker pays for the first cell that it writes: 512 B
  static constexpr uint32_t kMaxChunks = 131072;

  Shard();
  ~Shard();
  Shard(const Shard&) = delete;
  Shard& operator=(const Shard&) = delete;

  void add(Counter c, uint64_t n = 1) { bump(c.cell, n); }
  void add(Gauge g, int64_t n) { bump(g.cell, static_cast<uint64_t>(n)); }
  void inc(Gauge g) { bump(g.cell, 1); }
  void dec(Gauge g) { bump(g.cell, static_cast<uint64_t>(-1)); }
  void set(Gauge g, int64_t value) { bump(g.cell, static_cast<uint64_t>(value) - read(g.cell)); }
  void record(Histogram h, double ms);

  uint64_t read(uint32_t cell) const;        // any thread
  void zero(uint32_t cell, uint32_t count);  // when cells are handed out again (Registry)

 private:
  void bump(uint32_t cell, uint64_t n) {
    std::atomic<uint64_t>* chunk = chunks_[cell / kChunkCells].load(std::memory_order_acquire);
    if (chunk == nullptr) [[unlikely]]
      chunk = make_chunk(cell / kChunkCells);
    std::atomic<uint64_t>& at = chunk[cell % kChunkCells];
    at.store(at.load(std::memory_order_relaxed) + n, std::memory_order_relaxed);
  }
  std::atomic<uint64_t>* make_chunk(uint32_t index);
  std::atomic<std::atomic<uint64_t>*>* chunks_;  // kMaxChunks, zero pages until used
};

enum class Kind : uint8_t { kCounter, kGauge, kHistogram };
using Labels = std::vector<std::pair<std::string, std::string>>;

// The labels of a metric: its block's, and those that its family has more.
struct LabelTexts {
  std::string_view block, more;  // "name\0value\0" for each, see names.h
};

// One metric as a reader sees it, while it is told of it.
struct Sample {
  Kind kind;
  std::string_view family;      // the template
  std::string_view prometheus;  // its name
  LabelTexts labels;
  uint64_t value = 0;                           // counter, gauge (as int64_t)
  std::array<uint64_t, kBuckets> buckets = {};  // histogram, not cumulative
  double sum_ms = 0;
  uint64_t count = 0;  // the sum of the buckets
  bool used() const { return value != 0 || count != 0; }
};

// The metrics of one kind of thing: families, and where their cells lie in a block. It lives as long as the program.
class Layout {
 public:
  // Cells that are written together lie together, so that a worker has no memory for those that it never writes.
  enum class Place : uint8_t { kOften, kSeldom, kNoWorker };
  static constexpr size_t kPlaces = 3;

  // `place` holds from here on.
  void at(Place place) { place_ = place; }
  // Handles in a block yet to be made. One family's metrics follow each other.
  Counter counter(std::string_view family, const Labels& more = {}) { return {add(Kind::kCounter, family, more)}; }
  Gauge gauge(std::string_view family, const Labels& more = {}) { return {add(Kind::kGauge, family, more)}; }
  Histogram histogram(std::string_view family, const Labels& more = {}) {
    return {add(Kind::kHistogram, family, more)};
  }

 private:
  friend class BlockBase;
  friend class Registry;
  struct Entry {
    Kind kind;
    uint32_t cell;  // the place, then 1 and up
    std::string family, more;
  };
  static constexpr uint32_t kPlaceShift = 28;
  uint32_t add(Kind kind, std::string_view family, const Labels& more);
  std::vector<Entry> entries_;
  std::array<uint32_t, kPlaces> cells_ = {};
  Place place_ = Place::kOften;
};

class Registry {
 public:
  // One shard a worker, and one more for all other threads.
  explicit Registry(uint32_t workers);
  ~Registry();

  Shard& worker_shard(uint32_t index) { return *shards_[index]; }
  uint32_t workers() const { return static_cast<uint32_t>(shards_.size()) - 1; }
  // For threads that are not workers.
  void add(Counter c, uint64_t n = 1);
  void set(Gauge g, int64_t value);  // this shard's part: the whole value if no worker writes it
  void add(Gauge g, int64_t n);
  void record(Histogram h, double ms);

  // Visits all metrics, some at a time, whatever comes and goes meanwhile: sorted by family or by Prometheus name, then
  // by labels. It holds names, no metrics: a page that nobody reads costs nothing.
  class Cursor {
   public:
    enum class Order : uint8_t { kFamily, kPrometheus };
    Cursor(const Registry& registry, Order order) : registry_(registry), order_(order) {}
    // Visits the next `count` or a few more, and calls f for those that are wanted by their names (values are read
    // after that); false: those were the last. The registry is locked meanwhile.
    using Wanted = std::function<bool(std::string_view family, const LabelTexts& labels)>;
    bool next(size_t count, const std::function<void(const Sample&)>& f, const Wanted& wanted = nullptr);

   private:
    const Registry& registry_;
    const Order order_;
    std::string column_, block_;  // where the last one was
    bool inside_ = false;         // `column_` has more
  };
  void for_each(const std::function<void(const Sample&)>& f) const;  // all at once, by family
  size_t size() const;                                               // live metrics
  uint64_t value(std::string_view text_name) const;                  // tests: 0 if absent; of a histogram, the count

 private:
  friend class BlockBase;
  friend class Group;
  struct Impl;
  std::unique_ptr<Impl> impl_;
  std::vector<std::unique_ptr<Shard>> shards_;
  std::mutex others_mutex_;  // writes to the last shard
};

// Blocks of one layout with the same labels are one (reference counted), so a changed cluster goes on counting where
// its old version stopped. A family has one kind and one layout, and every label that its template names (CHECKed).
// Labels that the template does not name are put at the end of the name.
class BlockBase {
 public:
  BlockBase(Registry& registry, const Layout& layout, const Labels& labels);
  ~BlockBase();
  BlockBase(const BlockBase&) = delete;
  BlockBase& operator=(const BlockBase&) = delete;
  uint32_t cell(uint32_t in_layout) const;

 private:
  Registry& registry_;
  void* cells_;  // in the registry
};

// `Handles`: nothing but handles, made by a constructor from Layout&.
template <class Handles>
class Block : public Handles {
 public:
  Block(Registry& registry, const Labels& labels) : Handles(plan().handles), base_(registry, plan().layout, labels) {
    static_assert(std::is_trivially_copyable_v<Handles>);
    using Cells = std::array<uint32_t, sizeof(Handles) / sizeof(uint32_t)>;
    Cells cells = std::bit_cast<Cells>(static_cast<Handles&>(*this));
    for (uint32_t& cell : cells) cell = base_.cell(cell);
    static_cast<Handles&>(*this) = std::bit_cast<Handles>(cells);
  }

 private:
  struct Plan {
    Layout layout;
    Handles handles{layout};
  };
  static const Plan& plan() {
    static const Plan& plan = *new Plan();
    return plan;
  }
  BlockBase base_;
};

// Single metrics with labels and a life in common. Those with the same family and labels in two live groups are one.
class Group {
 public:
  Group(Registry& registry, Labels labels);
  ~Group();
  Group(const Group&) = delete;
  Group& operator=(const Group&) = delete;

  Counter counter(std::string_view family, const Labels& more = {}) { return {make(Kind::kCounter, family, more)}; }
  Gauge gauge(std::string_view family, const Labels& more = {}) { return {make(Kind::kGauge, family, more)}; }
  Histogram histogram(std::string_view family, const Labels& more = {}) {
    return {make(Kind::kHistogram, family, more)};
  }

 private:
  uint32_t make(Kind kind, std::string_view family, const Labels& more);
  Registry& registry_;
  Labels labels_;
  std::vector<std::unique_ptr<BlockBase>> metrics_;
};

}  // namespace outrigger::stats
