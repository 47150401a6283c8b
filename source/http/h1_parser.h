// H1Parser: finds the structure of an HTTP/1 message in bytes that arrive in any pieces: the head, the body's bytes
// under fixed, chunked or close-delimited framing, the trailer section, the end. What a head means is h1_head.h's.
//
//   kStart --CRLF (requests, once)--> kStart       kBodyFixed --all--> kEnd     kBodyUntilClose (until finish_at_close)
//     | any byte                                   kChunkSize --size CRLF--> kChunkData --CRLF--> kChunkSize
//   kHead --empty line--> kHeadDone                     | "0" CRLF
//     | parse_head()                               kTrailerStart --CRLF--> kEnd
//   kBodyFixed, kBodyUntilClose, kChunkSize, kEnd       | any other byte
//                                                  kTrailers --empty line--> kTrailersDone --parse_trailers()--> kEnd
//   Any state --fault--> kFailed.   kEnd, kHeadDone (interim response) --reset()--> kStart.
//
// A head that lies whole in what next() was given is parsed where it is and copied once, into the stream's arena. One
// that comes in pieces is gathered in a block of the pool, given back as soon as the head is parsed. No byte is scanned
// twice. The verdict does not depend on where the input was cut.
//
// Thread rule: one thread.
// Use:  for (;;) switch (parser.next(at, end)) { case kNeedMore: return; case kHead: parser.parse_head(arena, message);
// ... }
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/block.h"
#include "http/h1_head.h"

namespace outrigger::http {

class H1Parser {
 public:
  enum class Kind : uint8_t { kRequest, kResponse };
  enum class Event : uint8_t {
    kNeedMore,  // everything was taken
    kHead,      // a head is complete: call parse_head() before anything else
    kData,      // data(): body bytes, inside what next() was given
    kTrailers,  // a trailer section with at least one line: call parse_trailers()
    kEnd,       // the message is complete; reset() before the next
    kFault,     // fault(); for good
  };
  enum class State : uint8_t {
    kStart,
    kHead,
    kHeadDone,
    kBodyFixed,
    kBodyUntilClose,
    kChunkSize,
    kChunkData,
    kTrailerStart,
    kTrailers,
    kTrailersDone,
    kEnd,
    kFailed,
  };

  static constexpr uint32_t kMaxHeadBytes = 63 * 1024;           // whatever the options say: one block
  static constexpr uint32_t kMaxChunkExtensionBytes = 4 * 1024;  // of a whole message

  H1Parser(Kind kind, const H1Options& options);
  ~H1Parser() { release_gathered(); }
  H1Parser(const H1Parser&) = delete;
  H1Parser& operator=(const H1Parser&) = delete;

  // Goes on at `at`, which it moves; returns at the first event. kEnd may come without a byte left.
  Event next(const char*& at, const char* end);

  // After kHead. False: fault().
  bool parse_head(Arena& arena, H1Message& out);
  // After kTrailers. nullptr: fault().
  HeaderMap* parse_trailers(Arena& arena);
  std::string_view data() const { return data_; }

  // Responses: what the next head answers.
  void set_request(const H1Asked& asked) { asked_ = asked; }
  // Responses: EOF. True if that is how this message ends.
  bool finish_at_close();
  // Ready for the next message. Interim responses reset themselves.
  void reset();

  const H1Fault& fault() const { return fault_; }
  State state() const { return state_; }
  bool head_incomplete() const { return state_ == State::kHead; }
  bool at_start() const { return state_ == State::kStart; }
  bool owns_block() const { return gathered_ != nullptr; }

 private:
  enum class Chunk : uint8_t { kDigits, kExtension, kSizeLf, kDataCr, kDataLf };

  Event fail(H1Fault fault);
  bool refuse(H1Fault fault);  // fail(), for scan()
  Event next_start(const char*& at, const char* end);
  Event next_section(const char*& at, const char* end, Event done);
  Event next_chunk_size(const char*& at, const char* end);
  Event next_chunk_data(const char*& at, const char* end);
  Event next_trailer_start(const char*& at, const char* end);

  // Scans [base, base + size) from scanned_ on, line by line. True: complete (section_size_) or failed.
  bool scan(const char* base, size_t size);
  void begin_section(State state);
  void gather(const char* at, size_t size);
  void release_gathered();

  const Kind kind_;
  State state_ = State::kStart;
  Chunk chunk_ = Chunk::kDigits;
  bool start_cr_ = false;       // kStart, kTrailerStart: a CR was seen
  bool blank_skipped_ = false;  // the one empty line before a request line
  bool first_line_ = false;     // kHead: the start line is still to come
  H1Asked asked_;
  uint8_t chunk_digits_ = 0;
  const H1Options& options_;
  const uint32_t max_section_bytes_;
  uint32_t scanned_ = 0;  // of the section: bytes known to be good
  uint32_t line_at_ = 0;  // where its current line begins
  uint32_t field_count_ = 0;
  uint32_t section_size_ = 0;  // once complete
  uint32_t extension_bytes_ = 0;
  uint64_t left_ = 0;              // of the body or chunk
  const char* section_ = nullptr;  // the complete section, in the input or in gathered_
  Block* gathered_ = nullptr;
  StartLine line_;
  std::string_view data_;
  H1Fault fault_;
};

}  // namespace outrigger::http
