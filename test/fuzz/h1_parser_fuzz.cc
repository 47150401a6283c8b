// Requests, responses, chunks: the same bytes whole, cut in two and byte by byte must give the same events, and the
// naive parser must agree. The first byte chooses options, the second where to cut.
#include <cstdint>
#include <cstdio>
#include <cstdlib>

#include "support/naive_h1.h"

namespace {

using outrigger::http::H1Parser;
using outrigger::http::TranscriptOptions;

void must_equal(const std::string& a, const std::string& b, const char* what) {
  if (a == b) return;
  std::fprintf(stderr, "%s differ:\n--- whole\n%s\n--- other\n%s\n", what, a.c_str(), b.c_str());
  std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 2) return 0;
  const uint8_t flags = data[0];
  TranscriptOptions options;
  options.kind = (flags & 1) != 0 ? H1Parser::Kind::kResponse : H1Parser::Kind::kRequest;
  options.to_head = (flags & 2) != 0;
  options.eof = (flags & 4) != 0;
  options.h1.enable_trailers = (flags & 8) != 0;
  options.h1.accept_http_10 = (flags & 16) != 0;
  options.h1.allow_absolute_url = (flags & 32) == 0;
  options.to_connect = (flags & 64) != 0;
  options.to_upgrade = options.to_head && options.to_connect;  // no request is both
  if (options.to_upgrade) options.to_head = options.to_connect = false;
  if ((flags & 128) != 0) {
    options.h1.max_head_bytes = 80;
    options.h1.max_headers_count = 4;
    options.h1.default_host_for_http_10 = "default";
  }
  const std::string_view text(reinterpret_cast<const char*>(data + 2), size - 2);
  const std::string whole = transcript({text}, options);
  const size_t cut = text.empty() ? 0 : data[1] * text.size() / 255;
  must_equal(whole, transcript({text.substr(0, cut), text.substr(cut)}, options), "cut in two");
  if (text.size() <= 512) {
    std::vector<std::string_view> pieces;
    for (size_t at = 0; at < text.size(); ++at) pieces.push_back(text.substr(at, 1));
    must_equal(whole, transcript(pieces, options), "byte by byte");
  }
  must_equal(outrigger::http::comparable(whole),
             outrigger::http::comparable(outrigger::http::NaiveH1(std::string(text), options).run()), "parsers");
  return 0;
}
