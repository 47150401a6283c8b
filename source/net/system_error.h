// system_error: an errno or libuv status as an Error.
//
// Thread rule: any thread.
// Use:  if (bind(...) != 0) return tl::unexpected(system_error(-errno, "binding " + address.str()));
#pragma once

#include <string>

#include "outrigger/result.h"

namespace outrigger::net {

// `status` is negative (-errno, which is what libuv uses too). The detail is "doing what: why".
Error system_error(int status, const std::string& doing);

}  // namespace outrigger::net
