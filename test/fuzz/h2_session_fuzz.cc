// HTTP/2 sessions of both roles: whatever a peer says, in pieces of any size, nothing breaks, what is held stays
// bounded and the connection can be closed. The first byte chooses role and sinks, the second the size of the pieces
// and whether messages have trailers. A sink's memory goes as soon as it is over.
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <deque>
#include <string_view>

#include "event/loop.h"
#include "http/h2_codec.h"
#include "net/connection.h"

namespace {

using namespace outrigger;        // NOLINT
using namespace outrigger::http;  // NOLINT

struct Owner;

struct Sink final : StreamSink {
  Owner& owner;
  Arena memory;
  CodecStream* stream = nullptr;
  bool over = false;
  bool due = false;   // an answer, at the next turn
  bool said = false;  // a client: its request's end
  explicit Sink(Owner& o) : owner(o) {}

  void answer();
  void say(bool trailers);
  Arena& arena() override { return memory; }
  void on_1xx(HeaderMap&) override {}
  void on_headers(HeaderMap&, bool end) override;
  void on_data(Buffer& data, bool end) override;
  void on_trailers(HeaderMap&) override { finish(); }
  void on_bad_request(uint16_t, std::string_view) override { answer(); }
  void on_reset(ResetReason, std::string_view) override { over = true; }
  void on_write_watermark(bool) override {}
  void finish();
};

struct Owner final : net::ConnectionHandler, CodecCallbacks {
  uint8_t flags = 0;
  bool trailers = false;
  net::Connection* connection = nullptr;
  std::unique_ptr<Codec> codec;
  std::deque<Sink> sinks;
  bool closed = false;

  bool server() const { return (flags & 1) == 0; }
  void on_read(net::Connection&, Block* block, const char* data, size_t size) override {
    codec->on_read(block, data, size);
  }
  void on_eof(net::Connection&) override { codec->on_eof(); }
  void on_write_watermark(net::Connection&, bool above) override { codec->on_write_watermark(above); }
  void on_close(net::Connection&, const Error*) override {
    closed = true;
    codec->on_close();
  }
  StreamSink& on_new_stream(CodecStream& stream) override {
    Sink& sink = sinks.emplace_back(*this);
    sink.stream = &stream;
    return sink;
  }
  void on_stream_end(bool) override {}
  void request() {
    if (codec->capacity() == 0) return;
    Sink& sink = sinks.emplace_back(*this);
    HeaderMap& head = *sink.memory.make<HeaderMap>(sink.memory);
    for (const auto& [name, value] :
         {std::pair{":method", "POST"}, {":scheme", "http"}, {":authority", "a"}, {":path", "/"}})
      head.add(name, value);
    sink.stream = &codec->new_stream(sink);
    sink.stream->encode_headers(head, (flags & 2) != 0);
    if ((flags & 2) == 0 && !sink.over) sink.stream->encode_data(Buffer("some body"), false);
  }
  // What sinks do between reads.
  void turn() {
    for (Sink& sink : sinks) {
      if (sink.due) sink.answer();
      if (!sink.over && !sink.said && !server() && (flags & (2 | 128)) == 128) {
        sink.said = true;
        sink.over = !trailers;
        trailers ? sink.say(true) : sink.stream->reset(ResetReason::kLocalReset);
      }
      if (sink.over) sink.memory.reset();
    }
  }
};

void Sink::on_headers(HeaderMap&, bool end) {
  if ((owner.flags & 4) != 0) stream->pause_read(net::Pause::kBackpressure);
  if (!owner.server()) {
    if (end) over = true;
  } else if (end || (owner.flags & 8) != 0) {
    due = (owner.flags & 128) != 0;
    if (!due) answer();
  }
}

void Sink::on_data(Buffer& data, bool end) {
  if (over) return;
  if (owner.server() && (owner.flags & 16) != 0) {
    over = true;
    return stream->reset(ResetReason::kLocalReset);
  }
  data.clear();
  if (end) finish();
}

void Sink::finish() {
  if (!owner.server()) over = true;
  answer();
}

void Sink::answer() {
  due = false;
  if (over || !owner.server()) return;
  HeaderMap& head = *memory.make<HeaderMap>(memory);
  head.add(":status", "200");
  stream->encode_headers(head, false);
  say(owner.trailers);
  over = true;
}

void Sink::say(bool trailers) {
  stream->encode_data(Buffer("an answer"), !trailers);
  if (!trailers) return;
  HeaderMap& map = *memory.make<HeaderMap>(memory);
  map.add("x-sum", "1");
  stream->encode_trailers(map);
}

struct Handles : H2Stats {
  explicit Handles(stats::Layout& layout) : H2Stats(layout, "http.{http}.http2.") {}
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 2) return 0;
  static event::Loop& loop = *new event::Loop;
  static stats::Registry& registry = *new stats::Registry(1);
  static const H2Stats& stats = *new stats::Block<Handles>(registry, {{"http", "f"}});
  int fds[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) != 0) std::abort();
  Owner owner;
  owner.flags = data[0];
  owner.trailers = (data[1] & 1) != 0;
  owner.connection = net::Connection::accept(loop, fds[0], {}, {}, owner, {});
  const H2Options options{.max_concurrent_streams = 4,
                          .initial_stream_window_bytes = 65'535,
                          .stream_buffer_bytes = 1024,
                          .max_head_bytes = 1024,
                          .max_headers_count = 10};
  const H2Counting counting{&stats, &registry.worker_shard(0)};
  owner.codec = owner.server() ? make_h2_server_codec(*owner.connection, owner, options, counting)
                               : make_h2_client_codec(*owner.connection, owner, options, counting);
  std::string_view rest(reinterpret_cast<const char*>(data + 2), size - 2);
  if (owner.server() && (owner.flags & 32) != 0 && write(fds[1], kH2Preface.data(), kH2Preface.size()) < 0)
    std::abort();
  const auto turn = [&] {
    char sink[4096];
    for (int i = 0; i < 2; ++i) {
      loop.post([] {});
      loop.run_once();
      while (read(fds[1], sink, sizeof(sink)) > 0) {
      }
    }
  };
  const size_t piece = data[1] < 128 ? 1 + data[1] : 1 + size_t{data[1]} * 64;
  while (!rest.empty() && !owner.closed) {
    if (!owner.server()) owner.request();
    const ssize_t n = write(fds[1], rest.data(), std::min(piece, rest.size()));
    if (n <= 0) break;
    rest.remove_prefix(static_cast<size_t>(n));
    turn();
    owner.turn();
    if ((owner.flags & 4) != 0 && (rest.size() & 3) == 0)
      for (Sink& sink : owner.sinks)
        if (!sink.over) sink.stream->resume_read(net::Pause::kBackpressure);
  }
  if ((owner.flags & 64) != 0 && !owner.closed) owner.codec->drain();
  turn();
  close(fds[1]);
  owner.connection->close(net::Close::kNow);
  for (int i = 0; i < 1000 && !owner.closed; ++i) turn();
  if (!owner.closed) std::abort();
  loop.post([] {});
  loop.run_once();
  return 0;
}
