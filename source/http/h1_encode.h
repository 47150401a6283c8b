// What both HTTP/1 codecs do when they encode: fields, lengths and chunks.
//
// Thread rule: the buffer's thread.
#pragma once

#include <cstdint>
#include <string_view>

#include "http/h1_writer.h"

namespace outrigger::http {

struct DeclaredLength {
  bool given = false;
  bool invalid = false;  // not a decimal number
  uint64_t bytes = 0;
};
DeclaredLength declared_length(const HeaderMap& headers);

// The sender wants the connection closed after this message ("connection: close" in its map).
bool asks_to_close(const HeaderMap& headers);

// Room for a head of these fields, the start line and what the codec adds.
inline size_t expected_head_bytes(const HeaderMap& headers) { return headers.byte_size() + headers.size() * 4 + 160; }

// All fields but pseudo-headers and those that the codec decides itself: hop-by-hop, host, content-length. `trailers`:
// the connection carries them, so "trailer" may be announced.
void write_fields(HeadWriter& out, const HeaderMap& headers, bool trailers);

// One chunk of `data` (none if it is empty), and the end of the body if `last`.
void write_chunk(Buffer& out, Buffer&& data, bool last);
// The last chunk and the trailer section.
void write_last_chunk(Buffer& out, const HeaderMap* trailers);

}  // namespace outrigger::http
