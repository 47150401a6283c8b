// status, watch: what the proxies of a control plane run.
//
// Thread rule: one thread.
// Use:  return status(out, {.control = "127.0.0.1:18000"});
#pragma once

#include <cstdint>
#include <string>

#include "output.h"

namespace outrigger::ctl {

struct StatusOptions {
  std::string control;                                     // address of outrigger-control
  std::string tls_ca, tls_cert, tls_key, tls_server_name;  // any of them: TLS; without tls_ca the system's roots
  std::string token_file;                                  // its first token is sent
  bool types = false;                                      // a row for each type of each proxy
  bool until_sync = false;  // watch: end when at least one proxy is there and all are in sync
  uint32_t timeout_s = 0;   // watch: end with kBad after so many seconds; 0: never
};

int status(const Output& out, const StatusOptions& options);
int watch(const Output& out, const StatusOptions& options);

}  // namespace outrigger::ctl
