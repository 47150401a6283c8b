// demo_upstream: a small HTTP/1.1 server to put behind a proxy: for the quickstart, the tests and the benchmarks. It
// answers every request with "NAME: PATH", keeps connections alive and stands pipelining. What else it can do is asked
// for in the query, or by path:
//   ?bytes=N       a body of N bytes ('x') instead; streamed, never held whole
//   ?chunked=1     without content-length, in chunks of up to 64 KiB
//   ?delay_ms=N    answers N ms later; other connections are served meanwhile
//   ?status=N      this status instead of 200
//   ?close=1       closes the connection after the answer
//   /echo          the request's body comes back
//   /headers       the request's head comes back as the body
//   /connections   {"open": N, "accepted": N, "requests": N}
// The address is printed once as "NAME listening on IP:PORT"; port 0 lets the kernel choose.
//
// Threads: each has its own epoll and its own SO_REUSEPORT listening socket; only the counters are shared.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <atomic>
#include <charconv>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <unordered_map>
#include <vector>

namespace {

using Clock = std::chrono::steady_clock;

constexpr size_t kReadSize = 64 * 1024;
constexpr size_t kMaxHead = 64 * 1024;
constexpr size_t kChunk = 64 * 1024;
constexpr size_t kMaxWaiting = 1024 * 1024;  // bytes of requests behind one that is being answered

struct Counters {
  std::atomic<int64_t> open{0};
  std::atomic<uint64_t> accepted{0};
  std::atomic<uint64_t> requests{0};
};

Counters g_counters;

std::string_view query_value(std::string_view query, std::string_view key) {
  while (!query.empty()) {
    const size_t end = std::min(query.find('&'), query.size());
    std::string_view pair = query.substr(0, end);
    if (pair.size() > key.size() && pair.substr(0, key.size()) == key && pair[key.size()] == '=') {
      return pair.substr(key.size() + 1);
    }
    query.remove_prefix(std::min(end + 1, query.size()));
  }
  return {};
}

uint64_t number(std::string_view text, uint64_t otherwise) {
  uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && end == text.data() + text.size() && !text.empty() ? value : otherwise;
}

bool equal_ignoring_case(std::string_view a, std::string_view b) {
  return a.size() == b.size() && strncasecmp(a.data(), b.data(), a.size()) == 0;
}

// Reads a request body as it comes: counted or chunked. consume() takes bytes from the front of `in`, appends the
// decoded body to `out` if that is not null, and is true once the body has ended.
class BodyReader {
 public:
  void begin_counted(uint64_t size) {
    chunked_ = false;
    left_ = size;
  }
  void begin_chunked() {
    chunked_ = true;
    left_ = 0;
    state_ = State::kSize;
  }
  bool broken() const { return broken_; }

  bool consume(std::string_view& in, std::string* out) {
    if (!chunked_) {
      take(in, out);
      return left_ == 0;
    }
    while (!broken_) {
      if (state_ == State::kData) {
        take(in, out);
        if (left_ > 0) return false;
        state_ = State::kDataEnd;
      }
      const size_t line_end = in.find("\r\n");
      if (line_end == std::string_view::npos) return false;
      const std::string_view line = in.substr(0, line_end);
      in.remove_prefix(line_end + 2);
      if (state_ == State::kDataEnd) {
        broken_ = !line.empty();
        state_ = State::kSize;
      } else if (state_ == State::kSize) {
        const auto [end, error] = std::from_chars(line.data(), line.data() + line.size(), left_, 16);
        broken_ = error != std::errc() || end == line.data();
        state_ = left_ == 0 ? State::kTrailer : State::kData;
      } else if (line.empty()) {  // end of the trailers
        return true;
      }
    }
    return false;
  }

 private:
  enum class State { kSize, kData, kDataEnd, kTrailer };

  void take(std::string_view& in, std::string* out) {
    const size_t part = static_cast<size_t>(std::min<uint64_t>(left_, in.size()));
    if (out != nullptr) out->append(in.data(), part);
    in.remove_prefix(part);
    left_ -= part;
  }

  bool chunked_ = false;
  bool broken_ = false;
  State state_ = State::kSize;
  uint64_t left_ = 0;
};

struct Connection {
  explicit Connection(int socket) : fd(socket) {}
  ~Connection() {
    close(fd);
    g_counters.open.fetch_sub(1, std::memory_order_relaxed);
  }

  const int fd;
  std::string in;          // bytes of a request that is not complete yet
  std::string out;         // bytes of answers that are not sent yet
  size_t sent = 0;         // of out
  uint64_t fill_left = 0;  // 'x' bytes that follow out
  bool fill_chunked = false;
  bool reading_body = false;
  bool delayed = false;      // waits for its time; no further request is looked at
  bool close_asked = false;  // "connection: close" in the request being read
  bool closing = false;      // after out is sent
  bool wants_write = false;
  BodyReader body;
  std::string head;       // of the request whose body is being read
  std::string echo_body;  // for /echo
};

class Server {
 public:
  Server(std::string name, size_t body_bytes) : name_(std::move(name)), fill_(kChunk, 'x') {
    if (body_bytes > 0) {
      fixed_answer_ = "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: " + std::to_string(body_bytes) +
                      "\r\n\r\n" + std::string(body_bytes, 'x');
    }
  }

  void run(int listener) {
    listener_ = listener;
    epoll_ = epoll_create1(EPOLL_CLOEXEC);
    watch(EPOLL_CTL_ADD, listener_, EPOLLIN);
    std::vector<epoll_event> events(256);
    for (;;) {
      const int count = epoll_wait(epoll_, events.data(), static_cast<int>(events.size()), wait_ms());
      for (int i = 0; i < count; ++i) {
        const int fd = events[i].data.fd;
        if (fd == listener_) {
          accept_all();
          continue;
        }
        const auto found = connections_.find(fd);
        if (found == connections_.end()) continue;
        Connection& connection = *found->second;
        if ((events[i].events & EPOLLOUT) != 0 && !flush(connection)) {
          drop(connection);
        } else if ((events[i].events & ~EPOLLOUT) != 0 && !read(connection)) {
          drop(connection);
        }
      }
      run_timers();
    }
  }

 private:
  void watch(int operation, int fd, uint32_t interest) {
    epoll_event event{};
    event.events = interest;
    event.data.fd = fd;
    epoll_ctl(epoll_, operation, fd, &event);
  }

  int wait_ms() const {
    if (timers_.empty()) return -1;
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(timers_.begin()->first - Clock::now());
    return static_cast<int>(std::clamp<int64_t>(left.count(), 0, 60'000));
  }

  void accept_all() {
    for (;;) {
      const int fd = accept4(listener_, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
      if (fd < 0) return;
      const int on = 1;
      setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
      g_counters.open.fetch_add(1, std::memory_order_relaxed);
      g_counters.accepted.fetch_add(1, std::memory_order_relaxed);
      connections_[fd] = std::make_unique<Connection>(fd);
      watch(EPOLL_CTL_ADD, fd, EPOLLIN | EPOLLRDHUP);
    }
  }

  void drop(Connection& connection) { connections_.erase(connection.fd); }

  // False: the connection has ended.
  bool read(Connection& connection) {
    char buffer[kReadSize];
    const ssize_t size = recv(connection.fd, buffer, sizeof buffer, 0);
    if (size < 0) return errno == EAGAIN || errno == EINTR;
    if (size == 0) return false;
    std::string_view bytes(buffer, static_cast<size_t>(size));
    if (!connection.in.empty()) {
      if (connection.in.size() > kMaxWaiting) return false;
      connection.in.append(bytes);
      bytes = connection.in;
    }
    const size_t used = serve(connection, bytes);
    std::string rest(bytes.substr(used));
    connection.in = std::move(rest);
    return flush(connection);
  }

  // Answers every complete request in `bytes`; how many bytes they took.
  size_t serve(Connection& connection, std::string_view bytes) {
    const size_t total = bytes.size();
    while (!bytes.empty() && !connection.delayed && !connection.closing && connection.fill_left == 0) {
      if (!connection.reading_body) {
        const size_t end = bytes.find("\r\n\r\n");
        if (end == std::string_view::npos) {
          if (bytes.size() > kMaxHead) refuse(connection, "431 Request Header Fields Too Large");
          break;
        }
        begin_request(connection, bytes.substr(0, end + 4));
        bytes.remove_prefix(end + 4);
      }
      const bool echo = connection.head.find(" /echo") == connection.head.find(' ');
      if (!connection.body.consume(bytes, echo ? &connection.echo_body : nullptr)) {
        if (connection.body.broken()) refuse(connection, "400 Bad Request");
        break;
      }
      connection.reading_body = false;
      answer(connection);
    }
    return total - bytes.size();
  }

  void refuse(Connection& connection, std::string_view status) {
    connection.out.append("HTTP/1.1 ").append(status).append("\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
    connection.closing = true;
  }

  void begin_request(Connection& connection, std::string_view head) {
    connection.head.assign(head);
    connection.echo_body.clear();
    connection.reading_body = true;
    connection.body.begin_counted(0);
    for_each_header(head, [&](std::string_view name, std::string_view value) {
      if (equal_ignoring_case(name, "content-length")) {
        connection.body.begin_counted(number(value, 0));
      } else if (equal_ignoring_case(name, "transfer-encoding")) {
        connection.body.begin_chunked();
      } else if (equal_ignoring_case(name, "expect")) {
        connection.out += "HTTP/1.1 100 Continue\r\n\r\n";
      } else if (equal_ignoring_case(name, "connection") && equal_ignoring_case(value, "close")) {
        connection.close_asked = true;
      }
    });
  }

  template <class F>
  static void for_each_header(std::string_view head, F&& each) {
    size_t start = head.find("\r\n") + 2;
    for (size_t end; (end = head.find("\r\n", start)) != std::string_view::npos && end > start; start = end + 2) {
      const std::string_view line = head.substr(start, end - start);
      const size_t colon = line.find(':');
      if (colon == std::string_view::npos) continue;
      std::string_view value = line.substr(colon + 1);
      while (!value.empty() && value.front() == ' ') value.remove_prefix(1);
      each(line.substr(0, colon), value);
    }
  }

  void answer(Connection& connection) {
    g_counters.requests.fetch_add(1, std::memory_order_relaxed);
    const std::string_view head = connection.head;
    const size_t method_end = head.find(' ');
    const std::string_view target = head.substr(method_end + 1, head.find(' ', method_end + 1) - method_end - 1);
    const size_t mark = std::min(target.find('?'), target.size());
    const std::string_view path = target.substr(0, mark);
    const std::string_view query = target.substr(std::min(mark + 1, target.size()));
    const bool close = connection.close_asked || query_value(query, "close") == "1";
    if (!fixed_answer_.empty() && query.empty() && !close && head.substr(0, method_end) == "GET") {
      connection.out += fixed_answer_;
      return;
    }
    std::string body = body_for(connection, path, target);
    uint64_t fill = 0;
    if (const std::string_view bytes = query_value(query, "bytes"); !bytes.empty()) {
      body.clear();
      fill = number(bytes, 0);
    }
    const bool chunked = query_value(query, "chunked") == "1";
    const uint64_t status = number(query_value(query, "status"), 200);
    std::string& out = connection.out;
    out +=
        "HTTP/1.1 " + std::to_string(status) + (status == 200 ? " OK" : " Status") + "\r\ncontent-type: text/plain\r\n";
    if (close) out += "connection: close\r\n";
    if (chunked) {
      out += "transfer-encoding: chunked\r\n\r\n";
    } else {
      out += "content-length: " + std::to_string(body.size() + fill) + "\r\n\r\n";
    }
    connection.closing = close;
    if (head.substr(0, method_end) != "HEAD") {
      append_body(connection, body, chunked);
      connection.fill_left = fill;
      connection.fill_chunked = chunked;
      if (chunked && fill == 0) out += "0\r\n\r\n";
    }
    if (const uint64_t delay = number(query_value(query, "delay_ms"), 0); delay > 0) {
      connection.delayed = true;
      timers_.emplace(Clock::now() + std::chrono::milliseconds(delay), connection.fd);
    }
  }

  std::string body_for(const Connection& connection, std::string_view path, std::string_view target) const {
    if (path == "/echo") return connection.echo_body;
    if (path == "/headers") return connection.head;
    if (path == "/connections") {
      return "{\"open\": " + std::to_string(g_counters.open.load()) +
             ", \"accepted\": " + std::to_string(g_counters.accepted.load()) +
             ", \"requests\": " + std::to_string(g_counters.requests.load()) + "}\n";
    }
    return name_ + ": " + std::string(target) + "\n";
  }

  static void append_body(Connection& connection, std::string_view body, bool chunked) {
    if (!chunked) {
      connection.out += body;
    } else if (!body.empty()) {
      char size[20];
      std::snprintf(size, sizeof size, "%zx\r\n", body.size());
      connection.out.append(size).append(body).append("\r\n");
    }
  }

  // Sends what there is to send; false: the connection has ended.
  bool flush(Connection& connection) {
    while (!connection.delayed) {
      if (connection.sent == connection.out.size()) {
        connection.out.clear();
        connection.sent = 0;
        if (connection.fill_left == 0) break;
        const size_t part = static_cast<size_t>(std::min<uint64_t>(connection.fill_left, kChunk));
        append_body(connection, std::string_view(fill_).substr(0, part), connection.fill_chunked);
        connection.fill_left -= part;
        if (connection.fill_left == 0 && connection.fill_chunked) connection.out += "0\r\n\r\n";
      }
      const ssize_t size = send(connection.fd, connection.out.data() + connection.sent,
                                connection.out.size() - connection.sent, MSG_NOSIGNAL);
      if (size < 0) {
        if (errno != EAGAIN && errno != EINTR) return false;
        want_write(connection, true);
        return true;
      }
      connection.sent += static_cast<size_t>(size);
    }
    if (connection.delayed) return true;
    if (connection.closing) return false;
    want_write(connection, false);
    if (connection.in.empty()) return true;
    // Requests that waited behind this answer.
    const std::string waiting = std::exchange(connection.in, {});
    const size_t used = serve(connection, waiting);
    connection.in = waiting.substr(used);
    return used == 0 || flush(connection);
  }

  void want_write(Connection& connection, bool wanted) {
    if (connection.wants_write == wanted) return;
    connection.wants_write = wanted;
    watch(EPOLL_CTL_MOD, connection.fd, EPOLLIN | EPOLLRDHUP | (wanted ? uint32_t{EPOLLOUT} : 0));
  }

  void run_timers() {
    while (!timers_.empty() && timers_.begin()->first <= Clock::now()) {
      const int fd = timers_.begin()->second;
      timers_.erase(timers_.begin());
      const auto found = connections_.find(fd);
      if (found == connections_.end() || !found->second->delayed) continue;
      found->second->delayed = false;
      if (!flush(*found->second)) drop(*found->second);
    }
  }

  const std::string name_;
  const std::string fill_;
  std::string fixed_answer_;
  int listener_ = -1;
  int epoll_ = -1;
  std::unordered_map<int, std::unique_ptr<Connection>> connections_;
  std::multimap<Clock::time_point, int> timers_;
};

// A non-blocking listening socket; -1 with a message if that fails.
int listen_on(const std::string& ip, uint16_t& port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  if (inet_pton(AF_INET, ip.c_str(), &address.sin_addr) != 1) {
    std::fprintf(stderr, "demo_upstream: '%s' is not an IPv4 address\n", ip.c_str());
    return -1;
  }
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  const int on = 1;
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on);
  socklen_t size = sizeof address;
  if (bind(fd, reinterpret_cast<const sockaddr*>(&address), size) != 0 || listen(fd, 4096) != 0 ||
      getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size) != 0) {
    std::fprintf(stderr, "demo_upstream: cannot listen on %s:%u: %s\n", ip.c_str(), port, std::strerror(errno));
    close(fd);
    return -1;
  }
  port = ntohs(address.sin_port);
  return fd;
}

}  // namespace

int main(int argc, char** argv) {
  std::string name = "demo";
  std::string ip = "127.0.0.1";
  uint16_t port = 0;
  unsigned threads = 1;
  size_t body_bytes = 0;
  CLI::App app{"A small HTTP/1.1 server to put behind a proxy"};
  app.add_option("--name", name, "what it calls itself in its answers");
  app.add_option("--address", ip, "IPv4 address to listen on");
  app.add_option("--port", port, "0: the kernel chooses");
  app.add_option("--threads", threads)->check(CLI::Range(1, 64));
  app.add_option("--body-bytes", body_bytes, "answer GETs without a query with so many bytes instead");
  CLI11_PARSE(app, argc, argv);

  std::signal(SIGPIPE, SIG_IGN);
  std::vector<int> listeners;
  for (unsigned i = 0; i < threads; ++i) {
    const int fd = listen_on(ip, port);
    if (fd < 0) return 1;
    listeners.push_back(fd);
  }
  std::printf("%s listening on %s:%u\n", name.c_str(), ip.c_str(), port);
  std::fflush(stdout);
  std::vector<std::thread> workers;
  for (const int listener : listeners) {
    workers.emplace_back([&, listener] { Server(name, body_bytes).run(listener); });
  }
  for (std::thread& worker : workers) worker.join();
}
