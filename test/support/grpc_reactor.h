// ReactorInTurn: a server's reactor on bytes that holds a mutex while it is called. gRPC calls it from different
// threads, one after the other, but ThreadSanitizer does not see gRPC's order: Debian's library is not instrumented. It
// sees the mutex.
//
// Thread rule: gRPC's threads; on_cancel() too comes in turn. It deletes itself when gRPC is done.
// Use:  class Echo : public ReactorInTurn { public: Echo() { begin([this] { StartRead(&in_); }); }   ...
#pragma once

#include <grpcpp/generic/async_generic_service.h>

#include <mutex>

namespace outrigger::test {

class ReactorInTurn : public grpc::ServerGenericBidiReactor {
 public:
  void OnReadDone(bool ok) final {
    const std::lock_guard lock(mutex_);
    on_read(ok);
  }
  void OnWriteDone(bool ok) final {
    const std::lock_guard lock(mutex_);
    on_written(ok);
  }
  void OnCancel() final {
    const std::lock_guard lock(mutex_);
    on_cancel();
  }
  void OnDone() final {
    { const std::lock_guard lock(mutex_); }
    delete this;
  }

 protected:
  // Last in the constructor: what starts the first operation, or ends the call.
  template <class F>
  void begin(F&& start) {
    const std::lock_guard lock(mutex_);
    start();
  }
  virtual void on_read(bool ok) = 0;
  virtual void on_written(bool) {}
  virtual void on_cancel() {}

 private:
  std::mutex mutex_;
};

}  // namespace outrigger::test
