// ControlPlane: outrigger-control without its command line: a directory of resource files, watched, validated, and
// served to each group of proxies as one consistent set; who connects, acknowledges and refuses is logged.
//
// Thread rule: the loop's thread, on which stop() is called; gRPC's threads are inside AdsServer. Destroyed when the
// loop does not run any more.
// Use:  ControlPlane control({.config_dir = dir, .listen = "127.0.0.1:0"});
//       if (auto port = control.start(loop)) loop.run();   control.stop();
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "outrigger/control/ads_server.h"
#include "outrigger/result.h"

namespace outrigger::event {
class Loop;
}

namespace outrigger::control {

struct ControlOptions {
  std::string config_dir;
  std::string listen = "127.0.0.1:18000";
  std::string admin_address = {};  // "127.0.0.1:18001"; empty: no /ready and /metrics
  std::string token_file = {};     // bearer tokens, of which calls must have one; empty: they need none
  AdsServerOptions server = {};    // TLS and limits; the hooks are ours
};

class ControlPlane {
 public:
  explicit ControlPlane(ControlOptions options);
  ~ControlPlane();
  ControlPlane(const ControlPlane&) = delete;
  ControlPlane& operator=(const ControlPlane&) = delete;

  // Reads the directory once and logs what is wrong; true if nothing is. Not together with start().
  bool validate();
  // Loads, watches and listens; the port that it got. Refused: no such directory, an address that cannot be listened
  // on, certificates or tokens that are no good. Broken resource files are no reason: they are logged, and served when
  // they are mended.
  Result<uint16_t> start(event::Loop& loop);
  void stop();
  uint16_t admin_port() const;  // 0: none

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace outrigger::control
