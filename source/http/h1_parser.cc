#include "http/h1_parser.h"

#include <algorithm>
#include <cstring>

#include "base/check.h"
#include "http/h1_scan.h"

namespace outrigger::http {
namespace {
constexpr H1Fault kBadCharacter{400, "http1.invalid_characters"};
constexpr H1Fault kBadChunk{400, "http1.invalid_chunk"};
constexpr uint32_t kGatherStep = 2 * 1024;  // bytes copied before each look for the end of the head
}  // namespace

H1Parser::H1Parser(Kind kind, const H1Options& options)
    : kind_(kind), options_(options), max_section_bytes_(std::min(options.max_head_bytes, kMaxHeadBytes)) {}

void H1Parser::reset() {
  release_gathered();
  state_ = State::kStart;
  chunk_ = Chunk::kDigits;
  start_cr_ = blank_skipped_ = false;
  chunk_digits_ = 0;
  extension_bytes_ = 0;
  left_ = 0;
}

H1Parser::Event H1Parser::fail(H1Fault fault) {
  release_gathered();
  fault_ = fault;
  state_ = State::kFailed;
  return Event::kFault;
}

bool H1Parser::refuse(H1Fault fault) {
  fail(fault);
  return true;
}

H1Parser::Event H1Parser::next(const char*& at, const char* end) {
  switch (state_) {
    case State::kStart:
      return next_start(at, end);
    case State::kHead:
      return next_section(at, end, Event::kHead);
    case State::kTrailers:
      return next_section(at, end, Event::kTrailers);
    case State::kBodyFixed: {
      if (at == end) return Event::kNeedMore;
      const size_t n = std::min<uint64_t>(left_, static_cast<uint64_t>(end - at));
      data_ = {at, n};
      at += n;
      left_ -= n;
      if (left_ == 0) state_ = State::kEnd;
      return Event::kData;
    }
    case State::kBodyUntilClose:
      if (at == end) return Event::kNeedMore;
      data_ = {at, static_cast<size_t>(end - at)};
      at = end;
      return Event::kData;
    case State::kChunkSize:
      return next_chunk_size(at, end);
    case State::kChunkData:
      return next_chunk_data(at, end);
    case State::kTrailerStart:
      return next_trailer_start(at, end);
    case State::kEnd:
      return Event::kEnd;
    case State::kFailed:
      return Event::kFault;
    case State::kHeadDone:
    case State::kTrailersDone:
      break;
  }
  CHECK(!"parse_head() or parse_trailers() is due");
}

bool H1Parser::finish_at_close() {
  if (state_ != State::kBodyUntilClose) return false;
  state_ = State::kEnd;
  return true;
}

// --- sections: head and trailers -------------------------------------------------------------------------------------

H1Parser::Event H1Parser::next_start(const char*& at, const char* end) {
  if (at == end) return Event::kNeedMore;
  if (kind_ ==
      Kind::kRequest) {  // RFC 9112 section 2.2: an empty line before the request line is ignored; one is enough
    if (!start_cr_ && *at == '\r') {
      if (blank_skipped_) return fail(kBadCharacter);
      start_cr_ = true;
      if (++at == end) return Event::kNeedMore;
    }
    if (start_cr_) {
      if (*at != '\n') return fail(kBadCharacter);
      start_cr_ = false;
      blank_skipped_ = true;
      if (++at == end) return Event::kNeedMore;
      if (*at == '\r') return fail(kBadCharacter);
    }
  }
  begin_section(State::kHead);
  return next_section(at, end, Event::kHead);
}

void H1Parser::begin_section(State state) {
  state_ = state;
  first_line_ = state == State::kHead;
  scanned_ = line_at_ = field_count_ = section_size_ = 0;
}

H1Parser::Event H1Parser::next_section(const char*& at, const char* end, Event done) {
  if (gathered_ == nullptr) {
    const size_t size = static_cast<size_t>(end - at);
    if (scan(at, size)) {
      if (state_ == State::kFailed) return Event::kFault;
      section_ = at;
      at += section_size_;
    } else {
      gather(at, size);
      at = end;
      return Event::kNeedMore;
    }
  } else {
    for (;;) {
      if (at == end) return Event::kNeedMore;
      const uint32_t before = gathered_->used;
      const size_t step = std::min({static_cast<size_t>(end - at), static_cast<size_t>(kGatherStep),
                                    static_cast<size_t>(max_section_bytes_ - before)});
      gather(at, step);
      if (scan(gathered_->data(), gathered_->used)) {
        if (state_ == State::kFailed) return Event::kFault;
        at += section_size_ - before;
        section_ = gathered_->data();
        break;
      }
      at += step;
    }
  }
  state_ = done == Event::kHead ? State::kHeadDone : State::kTrailersDone;
  return done;
}

void H1Parser::gather(const char* at, size_t size) {
  const size_t had = gathered_ == nullptr ? 0 : gathered_->used;
  if (gathered_ == nullptr || had + size > gathered_->capacity) {
    Block* bigger = BlockPool::local().acquire(had + size > Block::kSmall ? Block::kLarge : Block::kSmall);
    if (had > 0) std::memcpy(bigger->data(), gathered_->data(), had);
    release_gathered();
    gathered_ = bigger;
  }
  std::memcpy(gathered_->data() + had, at, size);
  gathered_->used = static_cast<uint32_t>(had + size);
}

void H1Parser::release_gathered() {
  if (gathered_ == nullptr) return;
  gathered_->release();
  gathered_ = nullptr;
}

bool H1Parser::scan(const char* base, size_t size) {
  const char* const end = base + std::min<size_t>(size, max_section_bytes_);
  const char* at = base + scanned_;
  const char* line = base + line_at_;
  for (;;) {
    at = find_control(at, end, base);
    const bool whole_line_end = end - at >= 2;
    if (at < end && (*at != '\r' || (whole_line_end && at[1] != '\n'))) return refuse(kBadCharacter);
    if (!whole_line_end) break;
    const size_t line_size = static_cast<size_t>(at - line);
    at += 2;
    if (first_line_) {
      first_line_ = false;
      const H1Fault fault = kind_ == Kind::kRequest ? parse_request_line({line, line_size}, line_)
                                                    : parse_status_line({line, line_size}, line_);
      if (fault) return refuse(fault);
    } else if (line_size == 0) {
      section_size_ = static_cast<uint32_t>(at - base);
      return true;
    } else if (is_ows(*line)) {
      return refuse({400, "http1.obsolete_line_folding"});
    } else if (++field_count_ > options_.max_headers_count) {
      return refuse({431, "http1.too_many_headers"});
    }
    line = at;
  }
  scanned_ = static_cast<uint32_t>(at - base);
  line_at_ = static_cast<uint32_t>(line - base);
  if (static_cast<size_t>(end - base) < max_section_bytes_) return false;
  return refuse({431, state_ == State::kHead ? "http1.headers_too_large" : "http1.trailers_too_large"});
}

bool H1Parser::parse_head(Arena& arena, H1Message& out) {
  CHECK(state_ == State::kHeadDone);
  const std::string_view raw(section_, section_size_);
  const H1Fault fault = kind_ == Kind::kRequest ? build_request(raw, line_, options_, arena, out)
                                                : build_response(raw, line_, options_, arena, asked_, out);
  release_gathered();
  if (fault) {
    fail(fault);
    return false;
  }
  switch (out.body) {
    case H1Body::kNone:
      state_ = State::kEnd;
      break;
    case H1Body::kFixed:
      state_ = State::kBodyFixed;
      left_ = out.content_length;
      break;
    case H1Body::kChunked:
      state_ = State::kChunkSize;
      break;
    case H1Body::kUntilClose:
      state_ = State::kBodyUntilClose;
      break;
  }
  if (kind_ == Kind::kResponse && out.status < 200 && !out.upgrade) reset();
  return true;
}

HeaderMap* H1Parser::parse_trailers(Arena& arena) {
  CHECK(state_ == State::kTrailersDone);
  H1Fault fault;
  HeaderMap* const map = build_trailers({section_, section_size_}, arena, fault);
  release_gathered();
  if (map == nullptr) {
    fail(fault);
    return nullptr;
  }
  state_ = State::kEnd;
  return map;
}

// --- chunks ----------------------------------------------------------------------------------------------------------

// chunk-size [ ";" extensions ] CRLF (RFC 9112 section 7.1), without the white space that its grammar tolerates next to
// the size. Extensions are bounded and dropped.
H1Parser::Event H1Parser::next_chunk_size(const char*& at, const char* end) {
  for (; at < end; ++at) {
    const char c = *at;
    switch (chunk_) {
      case Chunk::kDigits:
        if (const int8_t digit = kHexDigit[static_cast<unsigned char>(c)]; digit >= 0) {
          if (++chunk_digits_ > 16 || left_ >> 59 != 0) return fail({400, "http1.chunk_too_large"});
          left_ = left_ << 4 | static_cast<uint64_t>(digit);
          continue;
        }
        if (chunk_digits_ == 0) return fail(kBadChunk);
        [[fallthrough]];
      case Chunk::kExtension:
        if (c == '\r') {
          chunk_ = Chunk::kSizeLf;
          continue;
        }
        if (chunk_ == Chunk::kDigits && c != ';') return fail(kBadChunk);
        chunk_ = Chunk::kExtension;
        if (is_control(c)) return fail(kBadChunk);
        if (++extension_bytes_ > kMaxChunkExtensionBytes) return fail({400, "http1.chunk_extension_too_large"});
        continue;
      default:
        if (c != '\n') return fail(kBadChunk);
        ++at;
        chunk_digits_ = 0;
        if (left_ == 0) {
          start_cr_ = false;
          state_ = State::kTrailerStart;
          return next_trailer_start(at, end);
        }
        state_ = State::kChunkData;
        return next_chunk_data(at, end);
    }
  }
  return Event::kNeedMore;
}

H1Parser::Event H1Parser::next_chunk_data(const char*& at, const char* end) {
  if (at == end) return Event::kNeedMore;
  if (left_ > 0) {
    const size_t n = std::min<uint64_t>(left_, static_cast<uint64_t>(end - at));
    data_ = {at, n};
    at += n;
    left_ -= n;
    if (left_ == 0) chunk_ = Chunk::kDataCr;
    return Event::kData;
  }
  if (chunk_ == Chunk::kDataCr) {
    if (*at != '\r') return fail(kBadChunk);
    chunk_ = Chunk::kDataLf;
    if (++at == end) return Event::kNeedMore;
  }
  if (*at != '\n') return fail(kBadChunk);
  ++at;
  chunk_ = Chunk::kDigits;
  state_ = State::kChunkSize;
  return next_chunk_size(at, end);
}

H1Parser::Event H1Parser::next_trailer_start(const char*& at, const char* end) {
  if (at == end) return Event::kNeedMore;
  if (!start_cr_ && *at != '\r') {
    begin_section(State::kTrailers);
    return next_section(at, end, Event::kTrailers);
  }
  if (!start_cr_) {
    start_cr_ = true;
    if (++at == end) return Event::kNeedMore;
  }
  if (*at != '\n') return fail(kBadCharacter);
  ++at;
  state_ = State::kEnd;
  return Event::kEnd;
}

}  // namespace outrigger::http
