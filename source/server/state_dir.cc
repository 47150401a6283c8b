#include "server/state_dir.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <pthread.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>

#include "base/hash.h"
#include "base/log.h"
#include "config/sensitive.h"
#include "event/clock.h"
#include "server/read_file.h"

namespace outrigger::server {
namespace {

// magic[8] format[4] reserved[4] payload_size[8] payload_hash[8], little-endian, then the payload.
constexpr std::string_view kMagic("\x89OUTLKG\n", 8);  // no text file begins so
constexpr uint32_t kFormat = 2;                        // 1 had no scopes; it is read, too
constexpr size_t kHeaderBytes = 32;

void put(std::string& out, uint64_t number, int bytes) {
  for (int i = 0; i < bytes; ++i) out += static_cast<char>(number >> (8 * i) & 0xff);
}
void put(std::string& out, std::string_view text) {
  put(out, text.size(), 4);
  out += text;
}

// Takes fields off the front; once something is missing, everything is.
class Reader {
 public:
  explicit Reader(std::string_view bytes) : rest_(bytes) {}
  uint64_t number(size_t bytes) {
    const std::string_view from = take(bytes);
    uint64_t value = 0;
    for (size_t i = 0; i < from.size(); ++i) value |= uint64_t{static_cast<unsigned char>(from[i])} << (8 * i);
    return value;
  }
  std::string_view text() { return take(number(4)); }
  std::string_view take(size_t bytes) {
    ok_ = ok_ && bytes <= rest_.size();
    if (!ok_) return {};
    const std::string_view front = rest_.substr(0, bytes);
    rest_.remove_prefix(bytes);
    return front;
  }
  bool ok() const { return ok_; }
  std::string_view rest() const { return rest_; }

 private:
  std::string_view rest_;
  bool ok_ = true;
};

auto failed(const std::string& what) { return fail(Errc::kIo, fmt::format("{}: {}", what, std::strerror(errno))); }

Result<void> write_all(int fd, std::string_view bytes, const std::string& path) {
  while (!bytes.empty()) {
    const ssize_t n = ::write(fd, bytes.data(), bytes.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return failed(path);
    bytes.remove_prefix(static_cast<size_t>(n));
  }
  return ::fsync(fd) == 0 ? Result<void>() : failed(path);
}

// What two states have to differ in to be worth a write.
uint64_t content(const Remembered& state) {
  std::string bytes;
  for (const RememberedResource& resource : state.resources) {
    put(bytes, static_cast<uint64_t>(resource.type), 1);
    put(bytes, resource.name);
    put(bytes, resource.scope);
    put(bytes, resource.version);
    put(bytes, content_hash(resource.bytes), 8);
  }
  return content_hash(bytes);
}

}  // namespace

std::string encode(const Remembered& state) {
  std::string payload;
  put(payload, static_cast<uint64_t>(state.saved_unix_ms), 8);
  put(payload, state.node);
  put(payload, state.resources.size(), 4);
  for (const RememberedResource& resource : state.resources) {
    put(payload, static_cast<uint64_t>(resource.type), 1);
    put(payload, resource.name);
    put(payload, resource.scope);
    put(payload, resource.version);
    put(payload, resource.bytes);
  }
  std::string out(kMagic);
  put(out, kFormat, 4);
  put(out, 0, 4);
  put(out, payload.size(), 8);
  put(out, content_hash(payload), 8);
  return out + payload;
}

Result<Remembered> decode(std::string_view bytes) {
  const auto refuse = [](std::string why) { return fail(Errc::kInvalidArgument, std::move(why)); };
  Reader header(bytes.substr(0, kHeaderBytes));
  if (header.take(kMagic.size()) != kMagic) return refuse("is no state of outrigger");
  const uint64_t format = header.number(4);
  const uint64_t reserved = header.number(4), size = header.number(8), hash = header.number(8);
  if (!header.ok()) return refuse("is torn: its header is not whole");
  if (format == 0 || format > kFormat || reserved != 0)
    return refuse(fmt::format("has format {}, this program knows format {}", format, kFormat));
  const std::string_view payload = bytes.substr(kHeaderBytes);
  if (payload.size() != size)
    return refuse(fmt::format("is torn: {} bytes where there should be {}", payload.size(), size));
  if (content_hash(payload) != hash) return refuse("is damaged: its checksum is wrong");
  Reader in(payload);
  Remembered state;
  state.saved_unix_ms = static_cast<int64_t>(in.number(8));
  state.node = in.text();
  const uint64_t count = in.number(4);
  for (uint64_t i = 0; i < count && in.ok(); ++i) {
    RememberedResource resource;
    const uint64_t type = in.number(1);
    if (type >= config::kResourceTypeCount)
      return refuse(fmt::format("is damaged: resource {} is of type {}", i, type));
    resource.type = static_cast<config::ResourceType>(type);
    resource.name = in.text();
    if (format >= 2) resource.scope = in.text();
    resource.version = in.text();
    resource.bytes = in.text();
    if (in.ok()) state.resources.push_back(std::move(resource));
  }
  if (!in.ok() || !in.rest().empty()) return refuse("is damaged: its lengths do not add up");
  return state;
}

Result<std::unique_ptr<StateDir>> StateDir::open(std::string directory, std::string node, stats::Registry& stats) {
  struct stat found {};
  if (::mkdir(directory.c_str(), 0700) != 0 && errno != EEXIST) return failed("--state-dir: " + directory);
  if (::stat(directory.c_str(), &found) != 0) return failed("--state-dir: " + directory);
  if (!S_ISDIR(found.st_mode)) return fail(Errc::kInvalidArgument, "--state-dir: " + directory + " is no directory");
  return std::unique_ptr<StateDir>(new StateDir(std::move(directory), std::move(node), stats));
}

StateDir::StateDir(std::string directory, std::string node, stats::Registry& stats)
    : directory_(std::move(directory)),
      path_(directory_ + "/last_known_good"),
      node_(std::move(node)),
      stats_(stats),
      group_(stats, {}),
      written_(group_.counter("state_dir.written")),
      write_failed_(group_.counter("state_dir.write_failed")),
      left_out_(group_.gauge("state_dir.left_out")),
      thread_([this] { run(); }) {}

StateDir::~StateDir() {
  {
    const std::lock_guard lock(mutex_);
    ending_ = true;
  }
  changed_.notify_one();
  thread_.join();
}

Result<std::optional<Remembered>> StateDir::load() const {
  struct stat found {};
  if (::stat(path_.c_str(), &found) != 0 && errno == ENOENT) return std::optional<Remembered>();
  TRY(const std::string bytes, read_file(path_, kMaxBytes));
  auto state = decode(bytes);
  if (!state) return fail(state.error().code, path_ + ": " + state.error().detail);
  if (state->node != node_)
    return fail(Errc::kInvalidArgument,
                fmt::format("{}: is the state of node \"{}\", this is node \"{}\"", path_, state->node, node_));
  return std::optional(std::move(*state));
}

void StateDir::save(std::shared_ptr<const proxy::StoreStatus> status) {
  {
    const std::lock_guard lock(mutex_);
    next_ = std::move(status);
  }
  changed_.notify_one();
}

void StateDir::run() {
  ::pthread_setname_np(::pthread_self(), "state_dir");
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [this] { return ending_ || next_ != nullptr; });
    if (next_ == nullptr) return;
    const std::shared_ptr<const proxy::StoreStatus> status = std::move(next_);
    next_ = nullptr;
    lock.unlock();
    write(*status);
    lock.lock();
    changed_.wait_for(lock, std::chrono::milliseconds(kMinIntervalMs), [this] { return ending_; });
  }
}

bool StateDir::holds_secrets(const proxy::StoreStatus::Resource& resource) {
  const uint64_t hash = content_hash(resource.live_bytes.text());
  const auto known = known_secrets_.find(hash);
  const bool secret = known != known_secrets_.end()
                          ? known->second
                          : config::may_hold_secrets(config::type_url(resource.type), resource.live_bytes.text());
  still_known_[hash] = secret;
  return secret;
}

void StateDir::write(const proxy::StoreStatus& status) {
  Remembered state{.saved_unix_ms = event::wall_clock_ms(), .node = node_, .resources = {}};
  int64_t left_out = 0;
  for (const proxy::StoreStatus::Resource& resource : status.resources) {
    if (resource.source != proxy::Source::kXds || resource.live_bytes.empty()) continue;
    if (holds_secrets(resource)) {
      ++left_out;
      continue;
    }
    state.resources.push_back(
        {resource.type, resource.name, resource.scope, resource.live_version, resource.live_bytes.text()});
  }
  known_secrets_ = std::exchange(still_known_, {});
  stats_.set(left_out_, left_out);
  const uint64_t hash = content(state);
  if (hash == written_hash_) return;
  if (const auto replaced = replace(encode(state)); !replaced) {
    stats_.add(write_failed_);
    OUTRIGGER_LOG(kWarning, "state", "the last good configuration is not saved: {}", replaced.error().detail);
    return;
  }
  written_hash_ = hash;
  stats_.add(written_);
}

Result<void> StateDir::replace(const std::string& bytes) const {
  const std::string beside = path_ + ".new";
  ::unlink(beside.c_str());
  const int fd = ::open(beside.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (fd < 0) return failed(beside);
  const auto written = write_all(fd, bytes, beside);
  ::close(fd);
  if (!written) {
    ::unlink(beside.c_str());
    return written;
  }
  if (::rename(beside.c_str(), path_.c_str()) != 0) return failed(path_);
  const int directory = ::open(directory_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (directory < 0) return failed(directory_);
  const bool synced = ::fsync(directory) == 0;
  ::close(directory);
  return synced ? Result<void>() : failed(directory_);
}

}  // namespace outrigger::server
