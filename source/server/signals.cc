#include "server/signals.h"

#include "base/check.h"

namespace outrigger::server {

struct Signals::Handle {
  uv_signal_t signal;
  event::Loop* loop;
  std::function<void()> handler;
};

void Signals::on(int number, std::function<void()> handler) {
  auto* handle = new Handle{.signal = {}, .loop = &loop_, .handler = std::move(handler)};
  handle->signal.data = handle;
  CHECK(uv_signal_init(loop_.uv(), &handle->signal) == 0);
  const auto callback = [](uv_signal_t* signal, int) {
    auto* self = static_cast<Handle*>(signal->data);
    event::Turn turn(*self->loop);
    self->handler();
  };
  CHECK(uv_signal_start(&handle->signal, callback, number) == 0);
  handles_.push_back(handle);
}

Signals::~Signals() {
  for (Handle* handle : handles_) {
    uv_close(reinterpret_cast<uv_handle_t*>(&handle->signal),
             [](uv_handle_t* closed) { delete static_cast<Handle*>(closed->data); });
  }
}

}  // namespace outrigger::server
