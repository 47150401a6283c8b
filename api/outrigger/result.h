// Result<T>: the answer of everything that can fail because of the world. Our own mistakes are CHECKs (base/check.h).
//
// Thread rule: values; no shared state.
// Use:  Result<Address> a = Address::parse(text);  if (!a) return tl::unexpected(a.error());
//       or, inside a function that itself returns Result:  TRY(auto address, Address::parse(text));
#pragma once

#include <cstdint>
#include <string>
#include <tl/expected.hpp>
#include <utility>

namespace outrigger {

enum class Errc : uint8_t {
  kInvalidArgument,  // config or input that does not parse or is out of range
  kNotFound,
  kProtocol,     // the peer broke its protocol
  kRefused,      // connection refused
  kReset,        // connection reset or closed early
  kTimeout,      // a deadline of ours passed
  kOverflow,     // one of our limits was reached
  kUnavailable,  // no host, not ready, shutting down
  kIo,           // any other system error
};

enum class Origin : uint8_t { kDownstream, kUpstream, kLocal };

struct Error {
  Errc code = Errc::kIo;
  Origin origin = Origin::kLocal;
  bool retryable = false;
  std::string detail;  // what, where and what to do, for a person

  bool operator==(const Error&) const = default;
};

template <class T>
using Result = tl::expected<T, Error>;

inline tl::unexpected<Error> fail(Errc code, std::string detail, Origin origin = Origin::kLocal,
                                  bool retryable = false) {
  return tl::unexpected<Error>(Error{code, origin, retryable, std::move(detail)});
}

}  // namespace outrigger

#define OUTRIGGER_CONCAT_INNER(a, b) a##b
#define OUTRIGGER_CONCAT(a, b) OUTRIGGER_CONCAT_INNER(a, b)
#define OUTRIGGER_TRY_IMPL(tmp, decl, expr)                \
  auto tmp = (expr);                                       \
  if (!tmp) return tl::unexpected(std::move(tmp.error())); \
  decl = std::move(*tmp)
// TRY(declaration, expression): passes an error up, else binds the value.
#define TRY(decl, expr) OUTRIGGER_TRY_IMPL(OUTRIGGER_CONCAT(try_result_, __LINE__), decl, expr)
// TRY_VOID(expression): passes an error up.
#define TRY_VOID(expr)                                                                               \
  do {                                                                                               \
    if (auto try_result = (expr); !try_result) return tl::unexpected(std::move(try_result.error())); \
  } while (0)
