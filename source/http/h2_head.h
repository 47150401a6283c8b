// Heads of HTTP/2 messages: what a decoded field section means above the codec, and how a head is handed to nghttp2. It
// has checked before what RFC 9113 section 8 says of names, values, pseudo-headers and connection-specific fields.
//
// Thread rule: pure functions; the arena's thread. FieldList: one thread's, reused.
// Use:  if (H2Fault f = finish_request(map)) ...;   FieldList& list = FieldList::of_request(map);
#pragma once

#include <nghttp2/nghttp2.h>

#include <cstdint>
#include <string_view>
#include <vector>

#include "outrigger/header_map.h"

namespace outrigger::http {

// status 0: no fault. `malformed`: a stream error (RFC 9113 section 8.1.1) rather than an answer.
struct H2Fault {
  uint16_t status = 0;
  bool malformed = false;
  std::string_view details;  // static text
  explicit operator bool() const { return status != 0; }
};

// A request as it goes up: Host has become :authority, cookies are one field again (section 8.2.3), what is of this hop
// is gone; extended CONNECT has become GET with "upgrade" (codec.h).
H2Fault finish_request(HeaderMap& map);
// The acceptance of an upgrade to `protocol` as it goes up: 101.
void finish_upgrade(HeaderMap& map, std::string_view protocol);
// Removes what an interim response, a 204, or a trailer section may not have.
void finish_response(HeaderMap& map, uint16_t status);
void finish_trailers(HeaderMap& map);

// 0: none.
uint16_t status_of(const HeaderMap& map);

// A head as nghttp2 takes it: views into the map. Pseudo-headers first; no field of one hop; a control byte in a value
// becomes a space, a field whose name is no token is left out. A request with "upgrade" is an extended CONNECT, its
// acceptance 200 (RFC 8441); what HTTP/1.1 needs for WebSocket alone is left out. Valid until the next of_*() on this
// thread.
class FieldList {
 public:
  // size() is 0 if the map lacks what a message needs.
  static const FieldList& of_request(const HeaderMap& map);
  static const FieldList& of_response(const HeaderMap& map);
  static const FieldList& of_acceptance(const HeaderMap& map);
  static const FieldList& of_trailers(const HeaderMap& map);
  const nghttp2_nv* data() const { return fields_.data(); }
  size_t size() const { return fields_.size(); }

 private:
  static FieldList& fresh();
  bool add_pseudo(const HeaderMap& map, HeaderId id);
  void add_fields(const HeaderMap& map, bool request);
  void add(std::string_view name, std::string_view value, uint8_t flags);
  std::string_view clean(std::string_view value);

  std::vector<nghttp2_nv> fields_;
  std::vector<char> cleaned_;
};

}  // namespace outrigger::http
