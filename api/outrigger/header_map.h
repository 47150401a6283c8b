// HeaderMap: the header fields of one message, in order of arrival, whatever the HTTP version. Names are lower-case.
// The pseudo-header fields of HTTP/2 (":method", ":scheme", ":authority", ":path", ":status") are entries like any
// other; HTTP/1 codecs translate to and from them ("host" becomes ":authority").
//
// Well-known names have a HeaderId, found once at parsing; lookup by id is one array access. Memory comes from the
// stream's arena. If the arena's limit is reached, the change is dropped and overflowed() stays true: the proxy then
// answers 431 (requests) or 502 (responses) and forwards nothing.
//
// Thread rule: the stream's worker. Views live as long as the stream.
// Use:  if (const Header* h = headers.find(HeaderId::kContentType)) ...h->value;   headers.set(HeaderId::kServer,
// "outrigger");
#pragma once

#include <cstdint>
#include <string_view>

#include "outrigger/arena.h"

namespace outrigger {

// X(id, name). The order is free; kNone is 0.
#define OUTRIGGER_HEADERS(X)                                     \
  X(Method, ":method")                                           \
  X(Scheme, ":scheme")                                           \
  X(Authority, ":authority")                                     \
  X(Path, ":path")                                               \
  X(Status, ":status")                                           \
  X(Protocol, ":protocol")                                       \
  X(Host, "host")                                                \
  X(Accept, "accept")                                            \
  X(AcceptEncoding, "accept-encoding")                           \
  X(Age, "age")                                                  \
  X(Allow, "allow")                                              \
  X(Authorization, "authorization")                              \
  X(CacheControl, "cache-control")                               \
  X(Connection, "connection")                                    \
  X(ContentEncoding, "content-encoding")                         \
  X(ContentLength, "content-length")                             \
  X(ContentType, "content-type")                                 \
  X(Cookie, "cookie")                                            \
  X(Date, "date")                                                \
  X(Etag, "etag")                                                \
  X(Expect, "expect")                                            \
  X(Expires, "expires")                                          \
  X(GrpcMessage, "grpc-message")                                 \
  X(GrpcStatus, "grpc-status")                                   \
  X(GrpcTimeout, "grpc-timeout")                                 \
  X(Http2Settings, "http2-settings")                             \
  X(IfModifiedSince, "if-modified-since")                        \
  X(IfNoneMatch, "if-none-match")                                \
  X(KeepAlive, "keep-alive")                                     \
  X(LastModified, "last-modified")                               \
  X(Location, "location")                                        \
  X(Origin, "origin")                                            \
  X(ProxyAuthenticate, "proxy-authenticate")                     \
  X(ProxyAuthorization, "proxy-authorization")                   \
  X(ProxyConnection, "proxy-connection")                         \
  X(Range, "range")                                              \
  X(Referer, "referer")                                          \
  X(RetryAfter, "retry-after")                                   \
  X(Server, "server")                                            \
  X(SetCookie, "set-cookie")                                     \
  X(Te, "te")                                                    \
  X(Traceparent, "traceparent")                                  \
  X(Tracestate, "tracestate")                                    \
  X(Trailer, "trailer")                                          \
  X(TransferEncoding, "transfer-encoding")                       \
  X(Upgrade, "upgrade")                                          \
  X(UserAgent, "user-agent")                                     \
  X(Vary, "vary")                                                \
  X(Via, "via")                                                  \
  X(WwwAuthenticate, "www-authenticate")                         \
  X(XEnvoyAttemptCount, "x-envoy-attempt-count")                 \
  X(XEnvoyDecoratorOperation, "x-envoy-decorator-operation")     \
  X(XEnvoyExpectedRqTimeoutMs, "x-envoy-expected-rq-timeout-ms") \
  X(XEnvoyExternalAddress, "x-envoy-external-address")           \
  X(XEnvoyInternal, "x-envoy-internal")                          \
  X(XEnvoyOriginalPath, "x-envoy-original-path")                 \
  X(XEnvoyUpstreamRqTimeoutMs, "x-envoy-upstream-rq-timeout-ms") \
  X(XEnvoyUpstreamServiceTime, "x-envoy-upstream-service-time")  \
  X(XForwardedClientCert, "x-forwarded-client-cert")             \
  X(XForwardedFor, "x-forwarded-for")                            \
  X(XForwardedHost, "x-forwarded-host")                          \
  X(XForwardedProto, "x-forwarded-proto")                        \
  X(XRequestId, "x-request-id")

enum class HeaderId : uint8_t {
  kNone = 0,
#define OUTRIGGER_HEADER_ID(id, name) k##id,
  OUTRIGGER_HEADERS(OUTRIGGER_HEADER_ID)
#undef OUTRIGGER_HEADER_ID
      kCount
};
inline constexpr size_t kHeaderIdCount = static_cast<size_t>(HeaderId::kCount);

// The id of a lower-case name, kNone if it is not well known. O(1).
HeaderId find_header_id(std::string_view lower_case_name);
namespace detail {
inline constexpr std::string_view kHeaderNames[kHeaderIdCount] = {"",
#define OUTRIGGER_HEADER_NAME(id, name) name,
                                                                  OUTRIGGER_HEADERS(OUTRIGGER_HEADER_NAME)
#undef OUTRIGGER_HEADER_NAME
};
}  // namespace detail
inline std::string_view header_name(HeaderId id) { return detail::kHeaderNames[static_cast<size_t>(id)]; }

struct Header {
  std::string_view name;   // lower-case
  std::string_view value;  // no leading or trailing white space
  HeaderId id = HeaderId::kNone;
  bool removed = false;        // skip me; iteration by for_each() does
  bool never_indexed = false;  // its sender wants it in no compression's table, on no hop (RFC 7541 section 7.1.3)
};

class HeaderMap {
 public:
  explicit HeaderMap(Arena& arena) : arena_(&arena) {}
  HeaderMap(const HeaderMap&) = delete;
  HeaderMap& operator=(const HeaderMap&) = delete;

  Arena& arena() { return *arena_; }
  // The memory of this map now belongs to `arena` (Arena::take).
  void moved_to(Arena& arena) { arena_ = &arena; }

  // Adds a field at the end. `add` copies both strings into the arena and lower-cases the name; `add_view` takes views
  // that outlive the stream (or lie in its arena), name already lower-case.
  void add(std::string_view name, std::string_view value);
  void add(HeaderId id, std::string_view value) { add_view(header_name(id), arena_copy(value), id); }
  void add_view(std::string_view name, std::string_view value, HeaderId id, bool never_indexed = false) {
    if (value.data() == nullptr && overflowed_) return;
    if (count_ == capacity_ && !grow()) [[unlikely]] {
      overflowed_ = true;
      return;
    }
    fields_[count_++] = Header{name, value, id, false, never_indexed};
    bytes_ += static_cast<uint32_t>(name.size() + value.size());
    if (id == HeaderId::kNone) return;
    uint16_t& first = first_[static_cast<size_t>(id)];
    if (first == 0) first = static_cast<uint16_t>(count_);
  }
  void add_view(std::string_view name, std::string_view value) { add_view(name, value, find_header_id(name)); }
  // A copy of a field of another map.
  void add_copy(const Header& field);

  // Replaces every field of that name by one (copied), which is never indexed if the first of them was.
  void set(std::string_view name, std::string_view value);
  void set(HeaderId id, std::string_view value);
  void set_view(HeaderId id, std::string_view value);

  // First field of that name, or nullptr.
  const Header* find(HeaderId id) const {
    const uint16_t at = first_[static_cast<size_t>(id)];
    return at == 0 ? nullptr : &fields_[at - 1];
  }
  const Header* find(std::string_view lower_case_name) const;
  // Value of the first field, or an empty view.
  std::string_view get(HeaderId id) const {
    const Header* h = find(id);
    return h == nullptr ? std::string_view{} : h->value;
  }
  std::string_view get(std::string_view lower_case_name) const {
    const Header* h = find(lower_case_name);
    return h == nullptr ? std::string_view{} : h->value;
  }
  // All values of a name joined by "," (RFC 9110 section 5.2); a single value is not copied.
  std::string_view get_all(std::string_view lower_case_name);
  bool has(HeaderId id) const { return first_[static_cast<size_t>(id)] != 0; }

  // Removes every field of that name; the number removed.
  size_t remove(HeaderId id);
  size_t remove(std::string_view lower_case_name);

  template <class F>
  void for_each(F&& f) const {
    for (uint32_t i = 0; i < count_; ++i)
      if (!fields_[i].removed) f(fields_[i]);
  }
  // Calls pred(header) for each field, removes those for which it is true.
  template <class F>
  void remove_if(F&& pred) {
    for (uint32_t i = 0; i < count_; ++i)
      if (!fields_[i].removed && pred(static_cast<const Header&>(fields_[i]))) remove_at(i);
  }

  // The first field of that name is never indexed from now on.
  void never_index(HeaderId id) {
    if (const uint16_t at = first_[static_cast<size_t>(id)]; at != 0) fields_[at - 1].never_indexed = true;
  }

  size_t size() const { return count_ - removed_; }
  size_t byte_size() const { return bytes_; }  // names and values, as RFC 9113 section 6.5.2 without the 32 a field
  bool overflowed() const { return overflowed_; }
  // For who makes values for this map in its arena and found the arena full.
  void mark_overflowed() { overflowed_ = true; }
  void clear();

 private:
  std::string_view arena_copy(std::string_view text);
  void remove_at(uint32_t index);
  bool grow();

  Arena* arena_;
  Header* fields_ = nullptr;
  uint32_t count_ = 0;
  uint32_t capacity_ = 0;
  uint32_t removed_ = 0;
  uint32_t bytes_ = 0;
  bool overflowed_ = false;
  uint16_t first_[kHeaderIdCount] = {};  // index + 1 of the first live field with that id; [kNone] is always 0
};

}  // namespace outrigger
