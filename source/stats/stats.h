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
// Thread rule: Registry and Group on any non-worker thread (it locks); Shard::add/set/record on the shard's own thread.
// Handles are plain numbers; they stay valid until the Group that made them is destroyed. A Group belongs to a compiled
// part and dies with it on the builder thread, when no worker can use it any more.
// Use:  stats::Group group(registry, {{"cluster", name}});  stats::Counter total =
// group.counter("cluster.{cluster}.upstream_rq_total");
//       shard.add(total);                                    // on a worker
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <unordered_map>
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
  static constexpr uint32_t kChunkCells = 512;
  static constexpr uint32_t kMaxChunks = 16384;

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

// One metric as a reader sees it.
struct Sample {
  Kind kind;
  std::string_view family;        // the template
  const Labels* labels;           // sorted by name
  uint64_t value = 0;             // counter, gauge (as int64_t)
  std::vector<uint64_t> buckets;  // histogram, not cumulative
  double sum_ms = 0;
  uint64_t count = 0;  // the sum of the buckets
  bool used() const { return value != 0 || count != 0; }
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

  // Every live metric, sorted by family, then labels. The registry is locked only while the values are read.
  void for_each(const std::function<void(const Sample&)>& f) const;
  size_t size() const;                                 // live metrics
  static std::string text_name(const Sample& sample);  // "cluster.backend.upstream_rq_total"
  std::string prometheus() const;                      // text format 0.0.4
  uint64_t value(std::string_view text_name) const;    // tests: 0 if absent; of a histogram, the count

 private:
  friend class Group;
  struct Impl;
  std::unique_ptr<Impl> impl_;
  std::vector<std::unique_ptr<Shard>> shards_;
  std::mutex others_mutex_;  // writes to the last shard
};

// Metrics that share labels and a life. Metrics with the same family and labels in two live groups are one metric
// (reference counted), so a changed cluster goes on counting where its old version stopped. A family has one kind, and
// every label that its template names (CHECKed). Labels that the template does not name are put at the end of the name.
class Group {
 public:
  Group(Registry& registry, Labels labels);
  ~Group();
  Group(const Group&) = delete;
  Group& operator=(const Group&) = delete;

  Counter counter(std::string_view family, const Labels& more = {});
  Gauge gauge(std::string_view family, const Labels& more = {});
  Histogram histogram(std::string_view family, const Labels& more = {});

 private:
  uint32_t make(Kind kind, std::string_view family, const Labels& more);
  Registry& registry_;
  Labels labels_;
  std::vector<uint32_t> metrics_;
};

}  // namespace outrigger::stats
