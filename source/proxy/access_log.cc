#include "proxy/access_log.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstring>
#include <mutex>
#include <thread>
#include <vector>

#include "base/check.h"
#include "base/log.h"
#include "config/format.h"
#include "net/system_error.h"

namespace outrigger::proxy {
namespace {

using Sink = config::AccessLogSpec::Sink;

constexpr size_t kMaxLine = 16 * 1024;
constexpr size_t kRingBytes = 1024 * 1024;  // a power of two; pages that were never used cost nothing
constexpr size_t kWriteBytes = 64 * 1024;   // gathered before a write
constexpr int kPaceMs = 10;                 // between two rounds of the writer while lines come
constexpr int kStuckMs = 1000;              // how long shutdown waits for a reader that does not read

// ---- where lines go ----

struct File {
  Sink sink = Sink::kFile;
  std::string path;
  int fd = -1;
  // Under the mutex: loggers now, and ever.
  int users = 0;
  uint64_t taken = 1;
  // The writer's:
  bool regular = true;
  bool failing = false;
  std::string pending;
  uint64_t pending_lines = 0;
};

Result<int> open_file(const std::string& path) {
  // Non-blocking matters to FIFOs: without a reader opening one fails instead of waiting.
  const int fd = ::open(path.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, 0644);
  if (fd < 0) return tl::unexpected(net::system_error(-errno, "opening access log " + path));
  return fd;
}

bool is_regular(int fd) {
  struct stat status {};
  return ::fstat(fd, &status) == 0 && S_ISREG(status.st_mode);
}

// ---- rings ----

struct Record {
  File* file;
  uint32_t size;
};
constexpr size_t kRecordAlign = 16;
constexpr size_t kMaxRecord = sizeof(Record) + kMaxLine;
static_assert(sizeof(Record) == kRecordAlign && kMaxRecord % kRecordAlign == 0);

// One worker's lines. Positions only grow; a record that begins before the ring's end may lie over it, in slack behind
// the ring, and the next one then begins at the front.
class Ring {
 public:
  Ring() {
    void* memory = ::mmap(nullptr, kRingBytes + kMaxRecord, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    CHECK(memory != MAP_FAILED);
    memory_ = static_cast<char*>(memory);
  }
  ~Ring() { ::munmap(memory_, kRingBytes + kMaxRecord); }
  Ring(const Ring&) = delete;
  Ring& operator=(const Ring&) = delete;

  // Worker: room for a line of kMaxLine; nullptr: full.
  char* reserve() {
    const uint64_t head = head_.load(std::memory_order_relaxed);
    if (head - seen_tail_ + kMaxRecord > kRingBytes) {
      seen_tail_ = tail_.load(std::memory_order_acquire);
      if (head - seen_tail_ + kMaxRecord > kRingBytes) return nullptr;
    }
    return memory_ + (head & (kRingBytes - 1)) + sizeof(Record);
  }
  void commit(File* file, size_t size) {
    const uint64_t head = head_.load(std::memory_order_relaxed);
    new (memory_ + (head & (kRingBytes - 1))) Record{file, static_cast<uint32_t>(size)};
    // In one order with `sleeping`: either the writer sees this line or the worker sees that it sleeps.
    head_.store(after(head, size), std::memory_order_seq_cst);
  }

  // Writer.
  bool empty() const { return head_.load(std::memory_order_seq_cst) == tail_.load(std::memory_order_relaxed); }
  template <class F>
  void drain(F&& take) {
    const uint64_t head = head_.load(std::memory_order_acquire);
    for (uint64_t tail = tail_.load(std::memory_order_relaxed); tail != head;) {
      const char* at = memory_ + (tail & (kRingBytes - 1));
      Record record;
      std::memcpy(&record, at, sizeof(record));
      take(*record.file, std::string_view(at + sizeof(record), record.size));
      tail = after(tail, record.size);
      tail_.store(tail, std::memory_order_release);
    }
  }

 private:
  static uint64_t after(uint64_t position, size_t size) {
    const uint64_t offset = position & (kRingBytes - 1);
    const uint64_t taken = (sizeof(Record) + size + kRecordAlign - 1) & ~(kRecordAlign - 1);
    return position + (offset + taken >= kRingBytes ? kRingBytes - offset : taken);
  }

  char* memory_;
  alignas(64) std::atomic<uint64_t> head_{0};
  uint64_t seen_tail_ = 0;  // the worker's
  alignas(64) std::atomic<uint64_t> tail_{0};
};

// ---- lines ----

// Length of the UTF-8 sequence that `text` begins with; 0: it is none (RFC 3629).
size_t utf8_length(std::string_view text) {
  const auto byte = [&](size_t i) { return i < text.size() ? static_cast<unsigned char>(text[i]) : 0u; };
  const auto next = [&](size_t i) { return (byte(i) & 0xc0) == 0x80; };
  const unsigned first = byte(0);
  if (first < 0x80) return 1;
  if (first >= 0xc2 && first <= 0xdf) return next(1) ? 2 : 0;
  if ((first & 0xf0) == 0xe0) {
    if (!next(1) || !next(2)) return 0;
    const bool overlong = first == 0xe0 && byte(1) < 0xa0;
    const bool surrogate = first == 0xed && byte(1) >= 0xa0;
    return overlong || surrogate ? 0 : 3;
  }
  if (first >= 0xf0 && first <= 0xf4) {
    if (!next(1) || !next(2) || !next(3)) return 0;
    const bool overlong = first == 0xf0 && byte(1) < 0x90;
    const bool beyond = first == 0xf4 && byte(1) >= 0x90;
    return overlong || beyond ? 0 : 4;
  }
  return 0;
}

// A JSON object on one line in an array of fixed size; values that do not fit are cut, entries left out: always valid.
class JsonLine {
 public:
  JsonLine(char* data, size_t capacity) : data_(data), limit_(capacity - 3) { put("{"); }

  // False: no room for this entry. `key` is escaped, in quotes, with its colon.
  bool begin(std::string_view key) {
    if (limit_ - size_ < key.size() + 32) return false;
    if (size_ > 1) put(",");
    put(key);
    return true;
  }
  // "null" if there is no room.
  void raw(std::string_view text) { put(text.size() <= limit_ - size_ ? text : std::string_view("null")); }
  void string(std::string_view text) {
    put("\"");
    while (!text.empty() && limit_ - size_ >= 8) text.remove_prefix(escape_one(text));
    put("\"");
  }
  size_t end() {
    std::memcpy(data_ + size_, "}\n", 2);
    return size_ + 2;
  }

 private:
  void put(std::string_view text) {
    std::memcpy(data_ + size_, text.data(), text.size());
    size_ += text.size();
  }
  // Writes one character as JSON has it; how many bytes of `text` it was.
  size_t escape_one(std::string_view text) {
    const char c = text[0];
    switch (c) {
      case '"':
        return put("\\\""), 1;
      case '\\':
        return put("\\\\"), 1;
      case '\n':
        return put("\\n"), 1;
      case '\r':
        return put("\\r"), 1;
      case '\t':
        return put("\\t"), 1;
      default:
        break;
    }
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) {
      const char digits[] = {'\\', 'u', '0', '0', "0123456789abcdef"[c >> 4], "0123456789abcdef"[c & 15]};
      return put({digits, sizeof(digits)}), 1;
    }
    const size_t length = utf8_length(text);
    if (length == 0) return put("\\ufffd"), 1;
    return put(text.substr(0, length)), length;
  }

  char* data_;
  size_t limit_;
  size_t size_ = 0;
};

std::string json_key(std::string_view key) {
  std::string out(key.size() * 6 + 16, '\0');
  JsonLine line(out.data(), out.size());
  line.string(key);
  out.resize(line.end() - 2);
  return out.substr(1) + ":";
}

bool is_number(const config::FormatOperator& op) {
  using Kind = config::FormatOperator::Kind;
  if (op.max_len != config::FormatOperator::kNoLimit) return false;
  switch (op.kind) {
    case Kind::kResponseCode:
    case Kind::kBytesReceived:
    case Kind::kBytesSent:
    case Kind::kDuration:
    case Kind::kRequestDuration:
    case Kind::kResponseDuration:
    case Kind::kUpstreamRequestAttemptCount:
    case Kind::kConnectionId:
    case Kind::kConfigVersion:
    case Kind::kGrpcStatusNumber:
      return true;
    case Kind::kGrpcStatus:
      return op.arg == "NUMBER";
    default:
      return false;
  }
}

}  // namespace

// ---- AccessLogSinks ----

struct AccessLogSinks::Impl {
  Impl(uint32_t workers, stats::Registry& r)
      : registry(r),
        group(r, {}),
        dropped(group.counter("access_log.dropped")),
        written(group.counter("access_log.written")),
        failed(group.counter("access_log.write_failed")),
        wake_fd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
    CHECK(wake_fd >= 0);
    for (uint32_t i = 0; i < workers; ++i) rings.push_back(std::make_unique<Ring>());
    // The writer takes no signals: they are the main thread's.
    sigset_t all, before;
    ::sigfillset(&all);
    ::pthread_sigmask(SIG_SETMASK, &all, &before);
    writer = std::thread([this] { run(); });
    ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  }

  ~Impl() {
    stopping = true;
    wake();
    writer.join();
    for (auto& file : files) close_file(*file);
    ::close(wake_fd);
  }

  Result<File*> acquire(const config::AccessLogSpec& spec) {
    std::lock_guard lock(mutex);
    for (auto& file : files) {
      if (file->sink == spec.sink && file->path == spec.path) {
        ++file->users;
        ++file->taken;
        return file.get();
      }
    }
    auto file = std::make_unique<File>();
    file->sink = spec.sink;
    file->path = spec.path;
    file->users = 1;
    if (spec.sink == Sink::kFile) {
      TRY(file->fd, open_file(spec.path));
    } else {
      file->fd = spec.sink == Sink::kStdout ? STDOUT_FILENO : STDERR_FILENO;
    }
    file->regular = is_regular(file->fd);
    return files.emplace_back(std::move(file)).get();
  }

  void give_back(File* file) {
    {
      std::lock_guard lock(mutex);
      if (--file->users > 0) return;
    }
    wake();  // the writer closes it
  }

  void wake() const {
    const uint64_t one = 1;
    [[maybe_unused]] const ssize_t n = ::write(wake_fd, &one, sizeof(one));
  }
  // After a line was put into a ring: costs a system call only when the writer sleeps, at most once per kPaceMs.
  void wake_if_asleep() {
    if (sleeping.load(std::memory_order_seq_cst) && sleeping.exchange(false, std::memory_order_seq_cst)) wake();
  }

  // ---- the writer's thread ----

  static void close_file(File& file) {
    if (file.sink == Sink::kFile && file.fd >= 0) ::close(file.fd);
    file.fd = -1;
  }

  void run() {
    for (;;) {
      const bool last = stopping;
      uint64_t flush_wanted;
      bool reopen_wanted;
      std::vector<std::pair<File*, uint64_t>> unused;  // and how often it had been taken
      std::vector<File*> all;
      {
        std::lock_guard lock(mutex);
        flush_wanted = flush_requested;
        reopen_wanted = std::exchange(reopen_requested, false);
        for (auto& file : files) {
          if (file->users == 0) unused.emplace_back(file.get(), file->taken);
          if (reopen_wanted) all.push_back(file.get());
        }
      }
      // Whatever was logged before those flags were set is in the rings by now.
      const bool any = drain_rings();
      for (File* file : all) reopen_file(*file);
      {
        std::lock_guard lock(mutex);
        std::erase_if(files, [&](const std::unique_ptr<File>& file) {
          // Not if somebody took it, logged and gave it back meanwhile: that line may be in a ring still.
          const std::pair<File*, uint64_t> same{file.get(), file->taken};
          if (file->users > 0 || std::find(unused.begin(), unused.end(), same) == unused.end()) return false;
          close_file(*file);
          return true;
        });
        flush_done = flush_wanted;
      }
      flushed.notify_all();
      if (last) return;
      if (any) {
        wait(kPaceMs);
        continue;
      }
      sleeping.store(true, std::memory_order_seq_cst);
      if (std::all_of(rings.begin(), rings.end(), [](const auto& ring) { return ring->empty(); })) wait(-1);
      sleeping.store(false, std::memory_order_seq_cst);
    }
  }

  void wait(int timeout_ms) const {
    pollfd poll_fd{.fd = wake_fd, .events = POLLIN, .revents = 0};
    ::poll(&poll_fd, 1, timeout_ms);
    uint64_t count;
    [[maybe_unused]] const ssize_t n = ::read(wake_fd, &count, sizeof(count));
  }

  bool drain_rings() {
    std::vector<File*> dirty;
    bool any = false;
    for (auto& ring : rings) {
      ring->drain([&](File& file, std::string_view line) {
        any = true;
        if (file.pending.empty()) dirty.push_back(&file);
        file.pending += line;
        ++file.pending_lines;
        if (file.pending.size() >= kWriteBytes) write_pending(file);
      });
    }
    for (File* file : dirty) write_pending(*file);
    return any;
  }

  void write_pending(File& file) {
    if (file.pending.empty()) return;
    if (const int error = write_all(file, file.pending); error == 0) {
      registry.add(written, file.pending_lines);
      file.failing = false;
    } else {
      registry.add(failed, file.pending_lines);
      if (!std::exchange(file.failing, true))
        OUTRIGGER_LOG(kWarning, "access", "{}", net::system_error(-error, "writing access log " + file.path).detail);
    }
    file.pending.clear();
    file.pending_lines = 0;
  }

  // 0, or an errno. What is no regular file may be slow: it is written in pieces that a ready pipe takes at once.
  int write_all(File& file, std::string_view text) const {
    int waited_ms = file.failing ? kStuckMs : 0;
    while (!text.empty()) {
      if (!file.regular) {
        pollfd poll_fd{.fd = file.fd, .events = POLLOUT, .revents = 0};
        constexpr int kLookMs = 100;
        if (::poll(&poll_fd, 1, kLookMs) == 0) {
          waited_ms += kLookMs;
          if (!stopping) waited_ms = 0;
          if (waited_ms >= kStuckMs) return EAGAIN;
          continue;
        }
      }
      const size_t part = file.regular ? text.size() : std::min<size_t>(text.size(), PIPE_BUF);
      const ssize_t size = ::write(file.fd, text.data(), part);
      if (size < 0 && errno != EINTR && errno != EAGAIN) return errno;
      if (size > 0) text.remove_prefix(static_cast<size_t>(size));
    }
    return 0;
  }

  static void reopen_file(File& file) {
    if (file.sink != Sink::kFile) return;
    auto fd = open_file(file.path);
    if (!fd) {
      OUTRIGGER_LOG(kWarning, "access", "{}; the old file stays in use", fd.error().detail);
      return;
    }
    ::close(file.fd);
    file.fd = *fd;
    file.regular = is_regular(*fd);
  }

  stats::Registry& registry;
  stats::Group group;
  const stats::Counter dropped, written, failed;
  const int wake_fd;
  std::vector<std::unique_ptr<Ring>> rings;  // one a worker
  std::atomic<bool> sleeping{false};
  std::atomic<bool> stopping{false};
  std::mutex mutex;
  std::condition_variable flushed;
  std::vector<std::unique_ptr<File>> files;  // under mutex
  uint64_t flush_requested = 0;              // under mutex
  uint64_t flush_done = 0;                   // under mutex
  bool reopen_requested = false;             // under mutex
  std::thread writer;
};

AccessLogSinks::AccessLogSinks(uint32_t workers, stats::Registry& registry)
    : impl_(std::make_unique<Impl>(workers, registry)) {}
AccessLogSinks::~AccessLogSinks() = default;

void AccessLogSinks::reopen() {
  {
    std::lock_guard lock(impl_->mutex);
    impl_->reopen_requested = true;
  }
  impl_->wake();
}

void AccessLogSinks::flush() {
  std::unique_lock lock(impl_->mutex);
  const uint64_t wanted = ++impl_->flush_requested;
  impl_->wake();
  impl_->flushed.wait(lock, [&] { return impl_->flush_done >= wanted; });
}

// ---- AccessLogger ----

struct AccessLogger::Impl {
  struct JsonEntry {
    std::string key;
    route::Formatter value;
    bool number = false;
    bool metadata = false;  // all of it, which may be more than text
  };

  size_t text_line(const route::FormatContext& context, char* data) const {
    route::TextOut out(data, kMaxLine);
    format.format(context, omit_empty ? route::Formatter::Missing::kEmpty : route::Formatter::Missing::kDash, out);
    if (out.truncated()) data[kMaxLine - 1] = '\n';
    return out.size();
  }

  size_t json_line(const route::FormatContext& context, char* data) const {
    JsonLine line(data, kMaxLine);
    char value[kMaxLine];
    for (const JsonEntry& entry : json) {
      route::TextOut out(value, sizeof(value));
      const auto& operators = entry.value.operators();
      bool missing = false;
      bool raw = entry.number;
      if (operators.size() == 1) {
        missing = !route::Formatter::append_value(operators[0], context, out);
        raw = raw || (entry.metadata && !missing && !out.truncated() &&
                      route::Formatter::metadata_value(operators[0], context)->text() == nullptr);
      } else {
        entry.value.format(context, omit_empty ? route::Formatter::Missing::kEmpty : route::Formatter::Missing::kDash,
                           out);
      }
      if (missing && omit_empty) continue;
      if (!line.begin(entry.key)) break;
      if (missing)
        line.raw("null");
      else if (raw)
        line.raw(out.view());
      else
        line.string(out.view());
    }
    return line.end();
  }

  AccessLogSinks::Impl* sinks = nullptr;
  File* file = nullptr;
  route::Formatter format;
  std::vector<JsonEntry> json;
  bool omit_empty = false;
};

Result<std::shared_ptr<const AccessLogger>> AccessLogger::compile(const config::AccessLogSpec& spec,
                                                                  AccessLogSinks& sinks) {
  auto impl = std::make_unique<Impl>();
  impl->omit_empty = spec.omit_empty_values;
  for (const auto& [key, format] : spec.json_format) {
    TRY(auto operators, config::parse_format(format));
    const bool number = operators.size() == 1 && is_number(operators[0]);
    const bool metadata =
        operators.size() == 1 && !operators[0].path.empty() && operators[0].max_len == config::FormatOperator::kNoLimit;
    impl->json.push_back({json_key(key), route::Formatter(std::move(operators)), number, metadata});
  }
  if (spec.json_format.empty()) {
    TRY(auto operators, config::parse_format(spec.format.empty() ? config::kDefaultAccessLogFormat : spec.format));
    impl->format = route::Formatter(std::move(operators));
  }
  TRY(impl->file, sinks.impl_->acquire(spec));
  impl->sinks = sinks.impl_.get();
  auto logger = std::shared_ptr<AccessLogger>(new AccessLogger());
  logger->impl_ = std::move(impl);
  return logger;
}

AccessLogger::~AccessLogger() {
  if (impl_ != nullptr) impl_->sinks->give_back(impl_->file);
}

void AccessLogger::log(uint32_t worker, const route::FormatContext& context) const {
  AccessLogSinks::Impl& sinks = *impl_->sinks;
  Ring& ring = *sinks.rings[worker];
  char* at = ring.reserve();
  if (at == nullptr) {
    sinks.registry.worker_shard(worker).add(sinks.dropped);
    return;
  }
  const size_t size = impl_->json.empty() ? impl_->text_line(context, at) : impl_->json_line(context, at);
  ring.commit(impl_->file, size);
  sinks.wake_if_asleep();
}

}  // namespace outrigger::proxy
