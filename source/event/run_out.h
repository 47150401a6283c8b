// run_out: the end of a loop that has been stopped.
//
// Thread rule: the loop's thread.
// Use:  loop.run();   worker.shutdown();   run_out(loop, [&] { return worker.downstream_connections() > 0; });
#pragma once

#include <uv.h>

#include "event/loop.h"

namespace outrigger::event {

// Turns the loop until busy() is false and every handle that was closed has had its last callback.
template <class Busy>
void run_out(Loop& loop, Busy&& busy) {
  const auto closing = [&loop] {
    bool any = false;
    uv_walk(
        loop.uv(), [](uv_handle_t* handle, void* found) { *static_cast<bool*>(found) |= uv_is_closing(handle) != 0; },
        &any);
    return any;
  };
  while (busy() || closing()) {
    loop.post([] {});
    loop.run_once();
  }
}

}  // namespace outrigger::event
