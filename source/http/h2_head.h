// Heads of HTTP/2 messages: which field sections are well-formed (RFC 9113 section 8), what a head means above the
// codec, and how one is handed down.
//
// Thread rule: pure functions; the arena's thread.
// Use:  check.begin(...);  if (!check.add(field)) ...;  if (!check.whole()) ...;
//       if (H2Fault f = finish_request(map)) ...;   encode_response(map, encoder, out);
#pragma once

#include <cstdint>
#include <string_view>

#include "http/hpack.h"
#include "outrigger/header_map.h"

namespace outrigger::http {

// One field section, as it comes.
class H2HeadCheck {
 public:
  enum class Of : uint8_t { kRequest, kResponse, kTrailers };
  // `protocol`: requests may have :protocol (RFC 8441).
  void begin(Of of, bool protocol) { *this = H2HeadCheck(of, protocol); }
  H2HeadCheck() = default;

  // False: malformed.
  bool add(const HpackField& field);
  bool whole() const;
  int64_t content_length() const { return content_length_; }  // -1: not given
  bool asks_for_tunnel() const { return connect_; }

 private:
  H2HeadCheck(Of of, bool protocol) : of_(of), protocol_(protocol) {}
  bool add_pseudo(const HpackField& field);
  bool seen(HeaderId id) const { return (seen_ & 1u << static_cast<unsigned>(id)) != 0; }
  bool see(HeaderId id);

  static constexpr HeaderId kLastPseudo = HeaderId::kProtocol;
  int64_t content_length_ = -1;
  uint32_t seen_ = 0;  // pseudo-headers and Host, a bit each
  Of of_ = Of::kRequest;
  bool protocol_ = false;
  bool regular_ = false;  // has begun: no more pseudo-headers
  bool connect_ = false;
  bool options_ = false;
  bool web_ = false;  // the scheme is http or https
  char path_ = 0;     // '/': begins so; '*': is so; else another form
};

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

// A head, written: pseudo-headers first; no field of one hop; a control byte in a value becomes a space, a field whose
// name is no token is left out. A request with "upgrade" is an extended CONNECT, its acceptance 200 (RFC 8441); what
// HTTP/1.1 needs for WebSocket alone is left out. False: the map lacks what a message needs (trailers: there is no
// field); nothing is written.
bool encode_request(const HeaderMap& map, HpackEncoder& encoder, HpackOutput& out);
bool encode_response(const HeaderMap& map, HpackEncoder& encoder, HpackOutput& out);
bool encode_acceptance(const HeaderMap& map, HpackEncoder& encoder, HpackOutput& out);
bool encode_trailers(const HeaderMap& map, HpackEncoder& encoder, HpackOutput& out);

}  // namespace outrigger::http
