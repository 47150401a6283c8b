// FakeStream: the StreamHandle of filter unit tests. StreamHandle's methods are defined here at link time, in place of
// proxy::Stream's, so this file belongs to filters_test alone.
//
// Thread rule: one thread.
// Use:  FakeStream stream({{":path", "/"}, {"x-api-key", "k"}});  stream.run(config);
// EXPECT_EQ(stream.replied().status, 401);
#pragma once

#include <cstdint>
#include <initializer_list>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "outrigger/filter.h"

namespace outrigger::test {

class FakeStream : public StreamHandle {
 public:
  using Fields = std::initializer_list<std::pair<std::string_view, std::string_view>>;

  explicit FakeStream(Fields request = {}, size_t arena_limit = Arena::kDefaultLimit);
  ~FakeStream();

  // Makes the filter and gives it the request's head. If it replies itself, the reply's head goes through its response
  // hook, as in the proxy.
  Verdict run(const FilterConfig& config);
  // For tests that call the filter's hooks themselves.
  Filter& make(const FilterConfig& config);
  HeaderMap& set_response(Fields response);
  std::string take_added() { return std::exchange(added_, Buffer()).to_string(); }
  // The upstream's answer, through the filter's response hook.
  void respond(Fields response);
  // Another request of the same connection: forgets everything but the per-route configs.
  void next(Fields request);

  struct Replied {
    uint16_t status = 0;  // 0: no reply of the filter's own
    std::string body, details;
    uint32_t flags = 0;
    int grpc_status = -1;
  };
  const Replied& replied() const { return replied_; }
  bool passed() const { return verdict_ == Verdict::kContinue; }

  // Values of a name, joined by "|"; "<absent>" if there is none.
  std::string request(std::string_view name) { return joined(*request_, name); }
  std::string response(std::string_view name) { return joined(*response_, name); }

  // What StreamHandle answers with.
  std::map<uint16_t, std::vector<const FilterPart*>> route_configs;  // least specific first
  const void* matched_route = nullptr;
  int64_t now = 1'000'000'000'000;
  uint64_t random_value = 0;
  uint32_t worker = 0;
  StreamInfo stream_info;

 private:
  friend class outrigger::StreamHandle;
  static std::string joined(HeaderMap& headers, std::string_view name);
  void destroy_filter();

  Arena arena_;
  std::optional<HeaderMap> request_, response_;  // in the arena
  bool has_response_ = false;
  Filter* filter_ = nullptr;
  Verdict verdict_ = Verdict::kContinue;
  Replied replied_;
  Buffer added_;
};

// Heap allocations (operator new) of this thread so far.
uint64_t heap_allocations();

}  // namespace outrigger::test
