// What H1Parser makes of some bytes, as text: every event of every message, to be compared with expectations, with the
// same bytes cut elsewhere, and with the naive parser (naive_h1.h).
#pragma once

#include <algorithm>
#include <cstring>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "http/h1_parser.h"

namespace outrigger::http {

struct TranscriptOptions {
  H1Parser::Kind kind = H1Parser::Kind::kRequest;
  H1Options h1;
  bool to_head = false;
  bool to_connect = false;
  bool to_upgrade = false;
  bool eof = false;  // the input ends with the connection
};

inline void append_fields(std::string& out, const HeaderMap& map) {
  map.for_each([&](const Header& h) {
    out.append(h.name).append("=").append(h.value).append("\n");
    if (find_header_id(h.name) != h.id) out.append("WRONG ID\n");
  });
}

inline void append_message(std::string& out, const H1Message& m, bool request) {
  out += "HEAD ";
  out += m.http_10 ? "1.0" : "1.1";
  if (m.keep_alive) out += " keep";
  if (m.body == H1Body::kFixed) out += " fixed:" + std::to_string(m.content_length);
  if (m.body == H1Body::kChunked) out += " chunked";
  if (m.body == H1Body::kUntilClose) out += " until-close";
  if (request && m.head_request) out += " head";
  if (request && m.connect_request) out += " connect";
  if (m.upgrade) out += " upgrade";
  out += "\n";
  append_fields(out, *m.headers);
}

inline std::string transcript(const std::vector<std::string_view>& pieces, const TranscriptOptions& options) {
  const bool request = options.kind == H1Parser::Kind::kRequest;
  H1Parser parser(options.kind, options.h1);
  parser.set_request({.head = options.to_head, .connect = options.to_connect, .upgrade = options.to_upgrade});
  std::string out;
  std::string body;
  Arena arena;
  H1Message message;
  bool done = false;
  bool ended = false;  // a response: what follows is extra
  bool extra = false;
  const auto flush = [&] {
    if (!body.empty()) out += "BODY " + body + "\n";
    body.clear();
  };
  for (const std::string_view piece : pieces) {
    extra = extra || (ended && !piece.empty());
    // A copy of the exact size: a sanitizer sees every byte read beyond it.
    const std::unique_ptr<char[]> bytes(new char[piece.size()]);
    if (!piece.empty()) std::memcpy(bytes.get(), piece.data(), piece.size());
    const char* at = bytes.get();
    const char* const end = at + piece.size();
    for (bool more = true; more && !done;) {
      switch (parser.next(at, end)) {
        case H1Parser::Event::kNeedMore:
          more = false;
          break;
        case H1Parser::Event::kHead:
          if (parser.parse_head(arena, message)) append_message(out, message, request);
          break;
        case H1Parser::Event::kData:
          body += parser.data();
          break;
        case H1Parser::Event::kTrailers:
          flush();
          if (const HeaderMap* map = parser.parse_trailers(arena); map != nullptr) {
            out += "TRAILERS\n";
            append_fields(out, *map);
          }
          break;
        case H1Parser::Event::kEnd:
          flush();
          out += "END\n";
          if (request) {
            parser.reset();
            arena.reset();
            more = at < end;
          } else {
            done = ended = true;
            extra = at < end;
          }
          break;
        case H1Parser::Event::kFault:
          flush();
          out += "FAULT " + std::to_string(parser.fault().status) + " " + std::string(parser.fault().details) + "\n";
          done = true;
          break;
      }
    }
  }
  if (done) return extra ? out + "EXTRA\n" : out;
  flush();
  if (options.eof && parser.finish_at_close()) {
    out += "END\n";
  } else if (!parser.at_start()) {
    out += "INCOMPLETE\n";
  }
  return out;
}

}  // namespace outrigger::http
