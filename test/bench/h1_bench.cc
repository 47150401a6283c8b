// HTTP/1 heads: parsing (scan, copy, fields, framing; arena reset included) and serialising, per head. "instructions"
// is there where the kernel lets a process count its own.
#include <benchmark/benchmark.h>
#include <linux/perf_event.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <string>
#include <string_view>

#include "http/h1_encode.h"
#include "http/h1_parser.h"

namespace {

using namespace outrigger;
using namespace outrigger::http;

constexpr std::string_view kSmall =
    "GET /api/v1/items/4711 HTTP/1.1\r\n"
    "Host: service.default.svc\r\n"
    "User-Agent: load/1.0\r\n"
    "Accept: */*\r\n"
    "X-Request-Class: bench-a\r\n"
    "\r\n";

constexpr std::string_view kBrowser =
    "GET /products/shoes?color=red&size=42&page=3&sort=price HTTP/1.1\r\n"
    "Host: www.example.com\r\n"
    "Connection: keep-alive\r\n"
    "sec-ch-ua: \"Chromium\";v=\"124\", \"Not-A.Brand\";v=\"99\"\r\n"
    "sec-ch-ua-mobile: ?0\r\n"
    "sec-ch-ua-platform: \"Linux\"\r\n"
    "Upgrade-Insecure-Requests: 1\r\n"
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/124.0.0.0 "
    "Safari/537.36\r\n"
    "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8\r\n"
    "Sec-Fetch-Site: same-origin\r\n"
    "Sec-Fetch-Mode: navigate\r\n"
    "Sec-Fetch-Dest: document\r\n"
    "Referer: https://www.example.com/products\r\n"
    "Accept-Encoding: gzip, deflate, br, zstd\r\n"
    "Accept-Language: en-US,en;q=0.9,fr;q=0.8\r\n"
    "Cookie: session=0123456789abcdef0123456789abcdef; theme=dark; consent=yes\r\n"
    "\r\n";

constexpr std::string_view kResponse =
    "HTTP/1.1 200 OK\r\n"
    "Date: Mon, 01 Jan 2024 00:00:00 GMT\r\n"
    "Content-Type: application/json\r\n"
    "Content-Length: 0\r\n"
    "Cache-Control: no-store\r\n"
    "ETag: \"abcdef0123456789\"\r\n"
    "\r\n";

// Instructions in user mode of this thread; 0 where the kernel does not allow it.
class Instructions {
 public:
  Instructions() {
    perf_event_attr attr{};
    attr.type = PERF_TYPE_HARDWARE;
    attr.size = sizeof(attr);
    attr.config = PERF_COUNT_HW_INSTRUCTIONS;
    attr.exclude_kernel = 1;
    attr.exclude_hv = 1;
    fd_ = static_cast<int>(syscall(SYS_perf_event_open, &attr, 0, -1, -1, 0));
    start_ = read_count();
  }
  ~Instructions() {
    if (fd_ >= 0) close(fd_);
  }
  void report(benchmark::State& state) {
    if (fd_ < 0) return;
    state.counters["instructions"] =
        static_cast<double>(read_count() - start_) / static_cast<double>(state.iterations());
  }

 private:
  uint64_t read_count() {
    uint64_t value = 0;
    if (fd_ < 0 || read(fd_, &value, sizeof(value)) != sizeof(value)) return 0;
    return value;
  }
  int fd_;
  uint64_t start_;
};

void parse(benchmark::State& state, H1Parser::Kind kind, std::string_view text, size_t cut = 0) {
  const H1Options options;
  H1Parser parser(kind, options);
  Arena arena;
  H1Message message;
  Instructions instructions;
  for (auto _ : state) {
    const char* at = text.data();
    if (cut != 0) benchmark::DoNotOptimize(parser.next(at, text.data() + cut));
    benchmark::DoNotOptimize(parser.next(at, text.data() + text.size()));
    if (!parser.parse_head(arena, message)) state.SkipWithError("does not parse");
    benchmark::DoNotOptimize(message.headers->size());
    parser.reset();
    arena.reset();
  }
  instructions.report(state);
  state.SetBytesProcessed(static_cast<int64_t>(state.iterations() * text.size()));
  state.SetLabel(std::to_string(text.size()) + " B");
}

void serialise(benchmark::State& state, std::string_view text) {
  const H1Options options;
  H1Parser parser(H1Parser::Kind::kRequest, options);
  Arena arena;
  H1Message message;
  const char* at = text.data();
  parser.next(at, text.data() + text.size());
  if (!parser.parse_head(arena, message)) state.SkipWithError("does not parse");
  Buffer out;
  Instructions instructions;
  for (auto _ : state) {
    {
      HeadWriter writer(out, expected_head_bytes(*message.headers));
      writer.text("GET ");
      writer.text(message.headers->get(HeaderId::kPath));
      writer.text(" HTTP/1.1\r\nhost: ");
      writer.text(message.headers->get(HeaderId::kAuthority));
      writer.text("\r\n");
      write_fields(writer, *message.headers, false);
      writer.text("\r\n");
    }
    benchmark::DoNotOptimize(out.size());
    out.clear();
  }
  instructions.report(state);
  state.SetLabel(std::to_string(text.size()) + " B");
}

void chunks(benchmark::State& state) {
  std::string text = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
  for (int i = 0; i < 100; ++i) text += "64\r\n" + std::string(100, 'x') + "\r\n";
  text += "0\r\n\r\n";
  const H1Options options;
  H1Parser parser(H1Parser::Kind::kRequest, options);
  Arena arena;
  H1Message message;
  Instructions instructions;
  for (auto _ : state) {
    const char* at = text.data();
    const char* const end = at + text.size();
    parser.next(at, end);
    parser.parse_head(arena, message);
    while (parser.next(at, end) == H1Parser::Event::kData) benchmark::DoNotOptimize(parser.data());
    parser.reset();
    arena.reset();
  }
  instructions.report(state);
  state.SetLabel("100 chunks");
}

BENCHMARK_CAPTURE(parse, request_small, H1Parser::Kind::kRequest, kSmall);
BENCHMARK_CAPTURE(parse, request_browser, H1Parser::Kind::kRequest, kBrowser);
BENCHMARK_CAPTURE(parse, request_browser_in_two_pieces, H1Parser::Kind::kRequest, kBrowser, 400);
BENCHMARK_CAPTURE(parse, response, H1Parser::Kind::kResponse, kResponse);
BENCHMARK_CAPTURE(serialise, small, kSmall);
BENCHMARK_CAPTURE(serialise, browser, kBrowser);
BENCHMARK(chunks);

}  // namespace

BENCHMARK_MAIN();
