// admin_get: one page of a running proxy's admin port.
//
// Thread rule: blocks; any thread.
// Use:  auto page = admin_get("127.0.0.1:9901", "/config_dump");  if (page) page->body;
#pragma once

#include <string>
#include <string_view>

#include "outrigger/result.h"

namespace outrigger::ctl {

struct Page {
  int status = 0;
  std::string body;
};

// `address`: "HOST:PORT", "http://HOST:PORT" or "unix:/PATH". Nothing for ten seconds is an error.
Result<Page> admin_get(std::string_view address, const std::string& target);
std::string percent_encoded(std::string_view text);

}  // namespace outrigger::ctl
