#include "fake_stream.h"

#include <cstdlib>
#include <new>

#include "base/check.h"

namespace {
thread_local uint64_t allocations = 0;
void* counted(size_t size, size_t align) {
  ++allocations;
  void* at = align <= alignof(std::max_align_t) ? std::malloc(size)
                                                : std::aligned_alloc(align, (size + align - 1) / align * align);
  if (at == nullptr) std::abort();
  return at;
}
}  // namespace

void* operator new(size_t size) { return counted(size, 1); }
void* operator new[](size_t size) { return counted(size, 1); }
void* operator new(size_t size, std::align_val_t align) { return counted(size, static_cast<size_t>(align)); }
void* operator new[](size_t size, std::align_val_t align) { return counted(size, static_cast<size_t>(align)); }
void* operator new(size_t size, const std::nothrow_t&) noexcept { return counted(size, 1); }
void* operator new[](size_t size, const std::nothrow_t&) noexcept { return counted(size, 1); }
void operator delete(void* at) noexcept { std::free(at); }
void operator delete[](void* at) noexcept { std::free(at); }
void operator delete(void* at, size_t) noexcept { std::free(at); }
void operator delete[](void* at, size_t) noexcept { std::free(at); }
void operator delete(void* at, std::align_val_t) noexcept { std::free(at); }
void operator delete[](void* at, std::align_val_t) noexcept { std::free(at); }
void operator delete(void* at, size_t, std::align_val_t) noexcept { std::free(at); }
void operator delete[](void* at, size_t, std::align_val_t) noexcept { std::free(at); }

namespace outrigger {

using test::FakeStream;

namespace {
FakeStream& fake(StreamHandle& handle) { return static_cast<FakeStream&>(handle); }
const FakeStream& fake(const StreamHandle& handle) { return static_cast<const FakeStream&>(handle); }
}  // namespace

StreamInfo& StreamHandle::info() { return fake(*this).stream_info; }
Arena& StreamHandle::arena() { return fake(*this).arena_; }
HeaderMap& StreamHandle::request_headers() { return *fake(*this).request_; }
HeaderMap* StreamHandle::response_headers() {
  FakeStream& stream = fake(*this);
  return stream.has_response_ ? &*stream.response_ : nullptr;
}

void StreamHandle::reply(const LocalReply& reply) {
  FakeStream& stream = fake(*this);
  CHECK(stream.replied_.status == 0);
  CHECK(reply.status >= 200);
  stream.replied_ = {reply.status, std::string(reply.body), std::string(reply.details), reply.flags, reply.grpc_status};
  stream.stream_info.response_flags |= reply.flags;
  stream.has_response_ = true;
  stream.response_->add(HeaderId::kStatus, std::to_string(reply.status));
  stream.response_->add(HeaderId::kContentType, "text/plain");
  if (reply.edit) reply.edit(*stream.response_);
}

void StreamHandle::resume_request(Filter&) {}
void StreamHandle::resume_response(Filter&) {}
void StreamHandle::add_data(Buffer&& data) { fake(*this).added_.append(std::move(data)); }
GrpcCall* StreamHandle::begin_call(std::string_view, GrpcCallHandler&, const GrpcCallOptions&) {
  CHECK(false);  // calls are tested with a data plane
  __builtin_unreachable();
}
void StreamHandle::clear_route() { fake(*this).matched_route = nullptr; }

const FilterPart* StreamHandle::route_config(uint16_t filter_id) const {
  const auto& configs = fake(*this).route_configs;
  const auto it = configs.find(filter_id);
  return it == configs.end() || it->second.empty() ? nullptr : it->second.back();
}
void StreamHandle::for_each_route_config(uint16_t filter_id, const std::function<void(const FilterPart&)>& f) const {
  const auto& configs = fake(*this).route_configs;
  if (const auto it = configs.find(filter_id); it != configs.end())
    for (const FilterPart* part : it->second) f(*part);
}
const void* StreamHandle::route() const { return fake(*this).matched_route; }
int64_t StreamHandle::now_ns() const { return fake(*this).now; }
uint64_t StreamHandle::random() { return fake(*this).random_value; }
uint32_t StreamHandle::worker_index() const { return fake(*this).worker; }

}  // namespace outrigger

namespace outrigger::test {

uint64_t heap_allocations() { return allocations; }

FakeStream::FakeStream(Fields request, size_t arena_limit) : arena_(arena_limit) {
  request_.emplace(arena_);
  response_.emplace(arena_);
  for (const auto& [name, value] : request) request_->add(name, value);
}

FakeStream::~FakeStream() { destroy_filter(); }

void FakeStream::destroy_filter() {
  if (filter_ == nullptr) return;
  filter_->on_finish();
  filter_->~Filter();
  filter_ = nullptr;
}

Filter& FakeStream::make(const FilterConfig& config) {
  filter_ = config.create(*this);
  CHECK(filter_ != nullptr);
  return *filter_;
}

HeaderMap& FakeStream::set_response(Fields response) {
  for (const auto& [name, value] : response) response_->add(name, value);
  has_response_ = true;
  return *response_;
}

Verdict FakeStream::run(const FilterConfig& config) {
  make(config);
  verdict_ = filter_->on_request_headers(*request_, true);
  if (has_response_) CHECK(filter_->on_response_headers(*response_, true) == Verdict::kContinue);
  CHECK(has_response_ == (verdict_ == Verdict::kPause));
  return verdict_;
}

void FakeStream::respond(Fields response) {
  set_response(response);
  CHECK(filter_->on_response_headers(*response_, true) == Verdict::kContinue);
}

void FakeStream::next(Fields request) {
  destroy_filter();
  request_.reset();
  response_.reset();
  arena_.reset();
  request_.emplace(arena_);
  response_.emplace(arena_);
  has_response_ = false;
  replied_ = {};
  stream_info.response_flags = 0;
  stream_info.client_name = {};
  for (const auto& [name, value] : request) request_->add(name, value);
}

std::string FakeStream::joined(HeaderMap& headers, std::string_view name) {
  std::string out;
  bool any = false;
  headers.for_each([&](const Header& header) {
    if (header.name != name) return;
    if (any) out += '|';
    out += header.value;
    any = true;
  });
  return any ? out : "<absent>";
}

}  // namespace outrigger::test
