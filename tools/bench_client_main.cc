// bench_client: a closed-loop HTTP/1.1 load generator: N keep-alive connections, each with one request under way. It
// counts every answer that was not the expected one and every connection that broke, so that a test can ask for "not
// one failed request", and prints one line of JSON:
//   {"requests": N, "failed": N, "connections_lost": N, "seconds": S, "per_second": R, "p50_us": .., "p99_us": ..,
//    "max_us": .., "statuses": {"200": N}}
// It ends after --requests or --seconds, or on SIGTERM/SIGINT; 0 is the exit status if nothing failed.
// With --idle it makes one request on each connection, says "ready" on stderr and keeps them open until a signal.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace {

using Clock = std::chrono::steady_clock;

volatile std::sig_atomic_t g_stop = 0;

struct Options {
  std::string host = "127.0.0.1";
  uint16_t port = 0;
  unsigned connections = 64;
  uint64_t requests = 0;
  double seconds = 0;
  std::string path = "/";
  std::string authority = "bench.example";
  std::vector<std::string> headers;
  size_t body_bytes = 0;
  int expect_status = 200;
  bool idle = false;
};

// Latencies in microseconds, in buckets of 1/8 of a power of two.
class Histogram {
 public:
  void add(uint64_t us) {
    ++buckets_[index(us)];
    ++count_;
    max_ = std::max(max_, us);
  }
  uint64_t max() const { return max_; }
  uint64_t quantile(double q) const {
    uint64_t seen = 0;
    for (size_t i = 0; i < buckets_.size(); ++i) {
      seen += buckets_[i];
      if (static_cast<double>(seen) >= q * static_cast<double>(count_)) return std::min(upper(i), max_);
    }
    return max_;
  }

 private:
  static size_t index(uint64_t us) {
    if (us < 8) return us;
    const auto power = static_cast<unsigned>(std::bit_width(us)) - 1;
    return std::min<size_t>((power - 2) * 8 + ((us >> (power - 3)) & 7), 8 * 40 - 1);
  }
  static uint64_t upper(size_t i) {
    if (i < 8) return i;
    const size_t power = i / 8 + 2;
    return ((8 + i % 8 + 1) << (power - 3)) - 1;
  }

  std::array<uint64_t, 8 * 40> buckets_{};
  uint64_t count_ = 0;
  uint64_t max_ = 0;
};

// Finds the end of one response. Counted and chunked bodies; a body that ends with the connection is a failure here.
class ResponseReader {
 public:
  // Takes bytes; true when the response is complete (the closed loop leaves nothing behind it).
  bool consume(std::string_view bytes) {
    while (!bytes.empty() && !broken_) {
      if (state_ == State::kHead) {
        line_.append(bytes);
        const size_t end = line_.find("\r\n\r\n");
        if (end == std::string::npos) return false;
        bytes.remove_prefix(bytes.size() - (line_.size() - end - 4));
        line_.resize(end + 2);
        parse_head();
        line_.clear();
        if (state_ == State::kHead) continue;  // an interim response
        if (state_ == State::kBody && left_ == 0) return finish();
      } else if (state_ == State::kBody || state_ == State::kChunk) {
        const auto part = static_cast<size_t>(std::min<uint64_t>(left_, bytes.size()));
        bytes.remove_prefix(part);
        left_ -= part;
        if (left_ > 0) return false;
        if (state_ == State::kBody) return finish();
        state_ = State::kChunkLine;
      } else {
        const size_t end = bytes.find('\n');
        line_.append(bytes.substr(0, std::min(end, bytes.size())));
        if (end == std::string_view::npos) return false;
        bytes.remove_prefix(end + 1);
        if (chunk_line()) return finish();
      }
    }
    return false;
  }
  bool broken() const { return broken_; }
  int status() const { return status_; }
  bool closes() const { return closes_; }

 private:
  enum class State { kHead, kBody, kChunkLine, kChunk, kTrailer };

  bool finish() {
    state_ = State::kHead;
    return true;
  }

  void parse_head() {
    status_ = line_.size() > 12 ? std::atoi(line_.c_str() + 9) : 0;
    broken_ = line_.compare(0, 5, "HTTP/") != 0 || status_ < 100;
    if (status_ < 200) return;
    bool counted = status_ == 204 || status_ == 304;
    bool chunked = false;
    left_ = 0;
    closes_ = false;
    for (size_t start = line_.find("\r\n") + 2, end; (end = line_.find("\r\n", start)) != std::string::npos;
         start = end + 2) {
      const char* line = line_.c_str() + start;
      if (strncasecmp(line, "content-length:", 15) == 0) {
        left_ = std::strtoull(line + 15, nullptr, 10);
        counted = true;
      } else if (strncasecmp(line, "transfer-encoding: chunked", 26) == 0) {
        chunked = true;
      } else if (strncasecmp(line, "connection: close", 17) == 0) {
        closes_ = true;
      }
    }
    broken_ = broken_ || (!counted && !chunked);
    state_ = chunked ? State::kChunkLine : State::kBody;
  }

  // One line between chunks; true at the end of the body.
  bool chunk_line() {
    if (!line_.empty() && line_.back() == '\r') line_.pop_back();
    const std::string line = std::exchange(line_, {});
    if (state_ == State::kTrailer) return line.empty();
    if (line.empty()) return false;  // the end of a chunk's data
    left_ = std::strtoull(line.c_str(), nullptr, 16);
    state_ = left_ == 0 ? State::kTrailer : State::kChunk;
    return false;
  }

  State state_ = State::kHead;
  bool broken_ = false;
  bool closes_ = false;
  int status_ = 0;
  uint64_t left_ = 0;
  std::string line_;
};

struct Connection {
  int fd = -1;
  size_t sent = 0;
  bool waiting_for_write = false;
  Clock::time_point began;
  ResponseReader response;
};

class Client {
 public:
  explicit Client(const Options& options) : options_(options), connections_(options.connections) {
    request_ = std::string(options.body_bytes > 0 ? "POST " : "GET ") + options.path +
               " HTTP/1.1\r\nhost: " + options.authority + "\r\n";
    for (const std::string& header : options.headers) request_ += header + "\r\n";
    if (options.body_bytes > 0) request_ += "content-length: " + std::to_string(options.body_bytes) + "\r\n";
    request_ += "\r\n" + std::string(options.body_bytes, 'x');
  }

  int run() {
    epoll_ = epoll_create1(EPOLL_CLOEXEC);
    for (size_t i = 0; i < connections_.size(); ++i) {
      if (!open(i)) return 2;
    }
    const auto start = Clock::now();
    deadline_ = options_.seconds > 0 ? start + std::chrono::nanoseconds(static_cast<int64_t>(options_.seconds * 1e9))
                                     : Clock::time_point::max();
    for (size_t i = 0; i < connections_.size(); ++i) begin(i);
    std::vector<epoll_event> events(256);
    while (active_ > 0) {
      const int count = epoll_wait(epoll_, events.data(), static_cast<int>(events.size()), 1000);
      for (int i = 0; i < count; ++i) {
        const size_t at = events[i].data.u64;
        if ((events[i].events & EPOLLOUT) != 0) write(at);
        if ((events[i].events & ~EPOLLOUT) != 0) read(at);
      }
      if (count == 0 && Clock::now() > last_answer_ + std::chrono::seconds(20)) {
        std::fprintf(stderr, "bench_client: %zu requests have had no answer for 20 s\n", active_);
        failed_ += active_;
        break;
      }
    }
    if (options_.idle && failed_ == 0) {
      std::fprintf(stderr, "ready\n");
      while (g_stop == 0) pause();
    }
    report(std::chrono::duration<double>(Clock::now() - start).count());
    return failed_ == 0 ? 0 : 1;
  }

 private:
  bool open(size_t at) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(options_.port);
    inet_pton(AF_INET, options_.host.c_str(), &address.sin_addr);
    Connection& connection = connections_[at];
    connection = Connection{};
    connection.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const int on = 1;
    setsockopt(connection.fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (connect(connection.fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
      std::fprintf(stderr, "bench_client: cannot connect to port %u: %s\n", options_.port, std::strerror(errno));
      close(connection.fd);
      connection.fd = -1;
      return false;
    }
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.u64 = at;
    epoll_ctl(epoll_, EPOLL_CTL_ADD, connection.fd, &event);
    return true;
  }

  bool over() const {
    return g_stop != 0 || (options_.requests > 0 && begun_ >= options_.requests) || Clock::now() >= deadline_;
  }

  void begin(size_t at) {
    if (over()) return;
    if (connections_[at].fd < 0 && !open(at)) {
      ++failed_;
      return;
    }
    ++begun_;
    ++active_;
    connections_[at].sent = 0;
    connections_[at].began = Clock::now();
    write(at);
  }

  void write(size_t at) {
    Connection& connection = connections_[at];
    while (connection.fd >= 0 && connection.sent < request_.size()) {
      const ssize_t size = send(connection.fd, request_.data() + connection.sent, request_.size() - connection.sent,
                                MSG_NOSIGNAL | MSG_DONTWAIT);
      if (size < 0) {
        if (errno != EAGAIN && errno != EINTR) return;  // the answer may be there to be read nevertheless
        break;
      }
      connection.sent += static_cast<size_t>(size);
    }
    const bool wanted = connection.sent < request_.size();
    if (connection.fd < 0 || wanted == connection.waiting_for_write) return;
    connection.waiting_for_write = wanted;
    epoll_event event{};
    event.events = EPOLLIN | (wanted ? uint32_t{EPOLLOUT} : 0);
    event.data.u64 = at;
    epoll_ctl(epoll_, EPOLL_CTL_MOD, connection.fd, &event);
  }

  void read(size_t at) {
    Connection& connection = connections_[at];
    if (connection.fd < 0) return;
    static char buffer[256 * 1024];
    const ssize_t size = recv(connection.fd, buffer, sizeof buffer, MSG_DONTWAIT);
    if (size < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (size <= 0) {
      lose(at, connection.began != Clock::time_point{});
      return;
    }
    const bool complete = connection.response.consume(std::string_view(buffer, static_cast<size_t>(size)));
    if (connection.response.broken()) {
      lose(at, true);
      return;
    }
    if (!complete) return;
    const auto now = Clock::now();
    latency_.add(
        static_cast<uint64_t>(std::chrono::duration_cast<std::chrono::microseconds>(now - connection.began).count()));
    last_answer_ = now;
    ++answered_;
    --active_;
    ++statuses_[connection.response.status()];
    if (connection.response.status() != options_.expect_status) ++failed_;
    connection.began = {};
    if (connection.response.closes()) {
      close(connection.fd);
      connection.fd = -1;
    }
    begin(at);
  }

  // The connection ended; with a request under way that request has failed.
  void lose(size_t at, bool under_way) {
    close(connections_[at].fd);
    connections_[at].fd = -1;
    ++lost_;
    if (!under_way) return;
    ++failed_;
    --active_;
    begin(at);
  }

  void report(double seconds) const {
    std::string statuses;
    for (const auto& [status, count] : statuses_) {
      statuses += (statuses.empty() ? "\"" : ", \"") + std::to_string(status) + "\": " + std::to_string(count);
    }
    std::printf(
        "{\"requests\": %llu, \"failed\": %llu, \"connections_lost\": %llu, \"seconds\": %.3f, \"per_second\": %.0f, "
        "\"p50_us\": %llu, \"p99_us\": %llu, \"max_us\": %llu, \"statuses\": {%s}}\n",
        ull(answered_), ull(failed_), ull(lost_), seconds, static_cast<double>(answered_) / seconds,
        ull(latency_.quantile(0.5)), ull(latency_.quantile(0.99)), ull(latency_.max()), statuses.c_str());
  }
  static unsigned long long ull(uint64_t value) { return value; }

  const Options& options_;
  std::string request_;
  std::vector<Connection> connections_;
  int epoll_ = -1;
  Clock::time_point deadline_;
  Clock::time_point last_answer_ = Clock::now();
  size_t active_ = 0;
  uint64_t begun_ = 0, answered_ = 0, failed_ = 0, lost_ = 0;
  std::map<int, uint64_t> statuses_;
  Histogram latency_;
};

}  // namespace

int main(int argc, char** argv) {
  Options options;
  CLI::App app{"A closed-loop HTTP/1.1 load generator"};
  app.add_option("--host", options.host, "IPv4 address");
  app.add_option("--port", options.port)->required();
  app.add_option("--connections", options.connections)->check(CLI::Range(1, 20000));
  app.add_option("--requests", options.requests, "end after so many");
  app.add_option("--seconds", options.seconds, "end after this time");
  app.add_option("--path", options.path);
  app.add_option("--authority", options.authority, "value of the host header");
  app.add_option("--header", options.headers, "\"name: value\", may be repeated");
  app.add_option("--body-bytes", options.body_bytes, "POST a body of this size");
  app.add_option("--expect-status", options.expect_status, "any other counts as failed");
  app.add_flag("--idle", options.idle, "one request on each connection, then wait for a signal");
  CLI11_PARSE(app, argc, argv);
  struct sigaction action {};
  action.sa_handler = [](int) { g_stop = 1; };
  sigaction(SIGTERM, &action, nullptr);
  sigaction(SIGINT, &action, nullptr);
  if (options.idle) options.requests = options.connections;
  return Client(options).run();
}
