// Nothing is allocated per message: operator new is counted while requests go through both codecs over loopback.
#include "base/block.h"
#include "http/h1_fixture.h"
#include "http/h2_codec.h"
#include "stats/stats.h"
#include "support/replace_new.h"

namespace outrigger::http {
namespace {

using test::allocations;
using test::counting;

// A sink that passes on what it gets, as a proxy's would, and owns an arena of its own.
struct QuietSink final : StreamSink {
  Arena memory;
  CodecStream* stream = nullptr;
  bool server = false;
  size_t body_bytes = 0;
  HeaderMap* answer = nullptr;

  Arena& arena() override { return memory; }
  void on_1xx(HeaderMap&) override {}
  void on_headers(HeaderMap&, bool end_stream) override {
    if (!server) return;
    answer = memory.make<HeaderMap>(memory);
    answer->add(HeaderId::kStatus, "200");
    answer->add("x-served-by", "the test");
    answer->add(HeaderId::kServer, "outrigger");
    if (end_stream) stream->encode_headers(*answer, true);
  }
  void on_data(Buffer& data, bool end_stream) override {
    body_bytes += data.size();
    if (!server) return;
    if (answer != nullptr) stream->encode_headers(*answer, false);
    answer = nullptr;
    stream->encode_data(std::move(data), end_stream);  // an echo
  }
  void on_trailers(HeaderMap&) override {}
  void on_bad_request(uint16_t, std::string_view) override { FAIL(); }
  void on_reset(ResetReason, std::string_view) override { FAIL(); }
  void on_write_watermark(bool) override {}
};

struct QuietOwner final : net::ConnectionHandler, CodecCallbacks {
  net::Connection* connection = nullptr;
  std::unique_ptr<Codec> codec;
  QuietSink sink;
  size_t ended = 0;
  bool connected = false;
  bool closed = false;

  void on_connected(net::Connection&) override { connected = true; }
  void on_read(net::Connection&, Block* block, const char* data, size_t size) override {
    codec->on_read(block, data, size);
  }
  void on_eof(net::Connection&) override { codec->on_eof(); }
  void on_close(net::Connection&, const Error*) override {
    closed = true;
    codec->on_close();
  }
  StreamSink& on_new_stream(CodecStream& stream) override {
    sink.server = true;
    sink.stream = &stream;
    return sink;
  }
  void on_stream_end(bool reusable) override {
    EXPECT_TRUE(reusable);
    ++ended;
    sink.memory.reset();
  }
};

enum class Version { kHttp1, kHttp2 };

struct Http2Handles : H2Stats {
  explicit Http2Handles(stats::Layout& layout) : H2Stats(layout, "http.{http}.http2.") {}
};

void run_requests(Version version, bool chunked, size_t body_size) {
  stats::Registry registry(1);
  const stats::Block<Http2Handles> h2_stats(registry, {{"http", "in"}});
  const H2Counting h2_counting{&h2_stats, &registry.worker_shard(0)};
  event::Loop loop;
  net::ConnectionOptions net_options;
  const H1Options options;
  QuietOwner client, server;
  {
    test::ListenSocket listener;
    client.connection =
        net::Connection::connect(loop, *net::Address::parse("127.0.0.1", listener.port()), client, net_options);
    while (!client.connected) loop.run_once();
    client.codec = version == Version::kHttp1 ? make_h1_client_codec(*client.connection, client, options)
                                              : make_h2_client_codec(*client.connection, client, {}, h2_counting);
    const test::Socket accepted = listener.accept();
    const int fd = dup(accepted.fd());
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
    server.connection = net::Connection::accept(loop, fd, {}, {}, server, net_options);
    server.codec = version == Version::kHttp1 ? make_h1_server_codec(*server.connection, server, options)
                                              : make_h2_server_codec(*server.connection, server, {}, h2_counting);
  }
  const std::string body(body_size, 'x');
  const std::string length = std::to_string(body_size);
  const auto one_request = [&] {
    QuietSink& sink = client.sink;
    HeaderMap* const head = sink.memory.make<HeaderMap>(sink.memory);
    head->add(HeaderId::kMethod, body_size == 0 ? "GET" : "POST");
    head->add(HeaderId::kScheme, "http");
    head->add(HeaderId::kPath, "/some/path?with=a&query=too");
    head->add(HeaderId::kAuthority, "service.example.com");
    head->add(HeaderId::kUserAgent, "a client that has a name");
    head->add("x-custom", "some value or other");
    if (!chunked && body_size != 0) head->add(HeaderId::kContentLength, length);
    sink.stream = &client.codec->new_stream(sink);
    sink.stream->encode_headers(*head, body_size == 0);
    if (body_size != 0) sink.stream->encode_data(Buffer(body), true);
    const size_t before = client.ended;
    while (client.ended == before) loop.run_once();
  };
  for (int i = 0; i < 100; ++i) one_request();  // queues, pools and vectors reach their sizes
  client.sink.body_bytes = 0;
  const size_t blocks = BlockPool::local().blocks_in_use() + BlockPool::local().blocks_free();
  allocations = 0;
  counting = true;
  ::operator delete(::operator new(1));
  EXPECT_EQ(allocations, 1u);  // the counter counts
  allocations = 0;
  for (int i = 0; i < 10'000; ++i) one_request();
  counting = false;
  EXPECT_EQ(allocations, 0u);
  EXPECT_EQ(BlockPool::local().blocks_in_use() + BlockPool::local().blocks_free(), blocks);
  EXPECT_EQ(client.sink.body_bytes, body_size * 10'000);
  EXPECT_EQ(server.ended, 10'100u);
  client.connection->close(net::Close::kNow);
  while (!client.closed || !server.closed) loop.run_once();
  for (int i = 0; i < 3; ++i) {
    loop.post([] {});
    loop.run_once();
  }
}

TEST(H1Allocation, NoneForRequestsWithoutABody) { run_requests(Version::kHttp1, false, 0); }
TEST(H1Allocation, NoneForSmallBodies) { run_requests(Version::kHttp1, false, 100); }
TEST(H1Allocation, NoneForChunkedBodies) { run_requests(Version::kHttp1, true, 3000); }
TEST(H2Allocation, NoneForRequestsWithoutABody) { run_requests(Version::kHttp2, false, 0); }
TEST(H2Allocation, NoneForSmallBodies) { run_requests(Version::kHttp2, false, 100); }
TEST(H2Allocation, NoneForBodiesWithoutALength) { run_requests(Version::kHttp2, true, 3000); }

}  // namespace
}  // namespace outrigger::http
