// StateDir: the last good configuration on disk (--state-dir), so that a proxy starts and serves while its control
// plane is away. One file, DIR/last_known_good: what discovery brought and is live, as bytes, each with type, name and
// version; framed by lengths, checksummed, of a numbered format, replaced as a whole (written beside, fsync, rename,
// fsync of the directory), mode 0600. Resources that hold secrets are left out. A file that is torn, of another program
// or node, or of a format that this program does not know is refused with a reason.
//
// Thread rule: open() and load() on the main thread; save() from any one thread, it never waits: a thread of the
// StateDir's own writes the newest state, at most every kMinIntervalMs, and nothing that is there already.
// Use:  TRY(auto dir, StateDir::open("/var/lib/outrigger", node_id, registry));
//       if (auto found = dir->load(); found && *found) ...;   dir->save(store_status);
#pragma once

#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <unordered_map>
#include <vector>

#include "config/spec.h"
#include "outrigger/result.h"
#include "proxy/store.h"
#include "stats/stats.h"

namespace outrigger::server {

struct RememberedResource {
  config::ResourceType type = config::ResourceType::kListener;
  std::string name, scope;     // proxy::Origin::scope
  std::string version, bytes;  // the serialised message
  bool operator==(const RememberedResource&) const = default;
};

struct Remembered {
  int64_t saved_unix_ms = 0;
  std::string node;  // whose configuration it is: node.id and node.cluster
  std::vector<RememberedResource> resources;
  bool operator==(const Remembered&) const = default;
};

// The file's format. decode() believes nothing: an error says what is wrong with the bytes.
std::string encode(const Remembered& state);
Result<Remembered> decode(std::string_view bytes);

class StateDir {
 public:
  static constexpr uint64_t kMinIntervalMs = 1'000;
  static constexpr size_t kMaxBytes = 1u << 30;

  // Makes the directory (0700) if it is not there.
  static Result<std::unique_ptr<StateDir>> open(std::string directory, std::string node, stats::Registry& stats);
  // Writes what was saved last, if it is not on disk yet.
  ~StateDir();
  StateDir(const StateDir&) = delete;
  StateDir& operator=(const StateDir&) = delete;

  // What was remembered; nullopt: there is no file.
  Result<std::optional<Remembered>> load() const;
  void save(std::shared_ptr<const proxy::StoreStatus> status);

  const std::string& path() const { return path_; }

 private:
  StateDir(std::string directory, std::string node, stats::Registry& stats);
  void run();
  void write(const proxy::StoreStatus& status);
  bool holds_secrets(const proxy::StoreStatus::Resource& resource);
  Result<void> replace(const std::string& bytes) const;

  const std::string directory_, path_, node_;
  stats::Registry& stats_;
  stats::Group group_;
  stats::Counter written_, write_failed_;
  stats::Gauge left_out_;
  // The writing thread's.
  uint64_t written_hash_ = 0;                                       // of what is on disk, its time aside; 0: unknown
  std::unordered_map<uint64_t, bool> known_secrets_, still_known_;  // by the hash of the bytes

  std::mutex mutex_;  // what follows is shared with the writing thread
  std::condition_variable changed_;
  std::shared_ptr<const proxy::StoreStatus> next_;
  bool ending_ = false;
  std::thread thread_;
};

}  // namespace outrigger::server
