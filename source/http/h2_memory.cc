#include "http/h2_memory.h"

#include <sanitizer/asan_interface.h>
#include <sys/mman.h>
#include <unistd.h>

#include <bit>
#include <cstdint>
#include <cstring>
#include <new>
#include <vector>

#include "base/check.h"

namespace outrigger::http {
namespace {

// Sizes: 32 to 128 bytes by 16, then four for each doubling, and one for what every connection has, an nghttp2_session
// of 2,928 bytes. Larger chunks (tables that have grown, long values) are rare, and the heap's.
constexpr size_t kLargest = 4096;
constexpr size_t kSession = 2944;
constexpr size_t kClasses = 28;
constexpr size_t kHeap = kClasses;
constexpr size_t kShared = kClasses + 1;
constexpr size_t kKeepBytes = 256 * 1024;  // free, of each class
// What session_new asks for, once: a frame of the size that any peer takes, its head, and a byte of padding's length.
constexpr size_t kFrameBuffer = 16 * 1024 + 9 + 1;
constexpr size_t kPage = 4096;           // 256 buckets of the table of streams
constexpr size_t kRegion = 1024 * 1024;  // of pages, in a mapping
constexpr size_t kPagesKept = 64;        // free ones that keep their memory

#if defined(__SANITIZE_ADDRESS__)
constexpr bool kPoisons = true;
#elif defined(__has_feature)
constexpr bool kPoisons = __has_feature(address_sanitizer);
#else
constexpr bool kPoisons = false;
#endif

size_t class_of(size_t bytes) {
  if (bytes <= 128) return bytes <= 32 ? 0 : (bytes - 17) / 16;
  if (bytes > 2560 && bytes <= kSession) return kClasses - 1;
  const auto power = static_cast<size_t>(std::bit_width(bytes - 1));  // bytes <= 1 << power
  return (power - 8) * 4 + ((bytes - 1) >> (power - 3)) + 3;
}
size_t size_of(size_t index) {
  if (index == kClasses - 1) return kSession;
  if (index < 7) return 32 + 16 * index;
  return (5 + (index - 7) % 4) << (5 + (index - 7) / 4);
}

// The head of a chunk. Behind it nothing needs more than 8 bytes of alignment.
struct Chunk {
  uint64_t word;  // usable bytes << 8 | class
  size_t size_class() const { return word & 0xFF; }
  size_t bytes() const { return word >> 8; }
  Chunk* next() const {
    Chunk* at;
    std::memcpy(&at, this + 1, sizeof(at));
    return at;
  }
  void set_next(Chunk* at) { std::memcpy(this + 1, &at, sizeof(at)); }
};
static_assert(sizeof(Chunk) == 8);

// What is used after it was given back is to be seen by AddressSanitizer; without it, these do nothing.
void poison(Chunk& chunk) { ASAN_POISON_MEMORY_REGION(&chunk + 1, chunk.bytes()); }
void unpoison(Chunk& chunk) { ASAN_UNPOISON_MEMORY_REGION(&chunk + 1, chunk.bytes()); }

Chunk* new_chunk(size_t size_class, size_t bytes) {
  auto* const chunk = static_cast<Chunk*>(::operator new(sizeof(Chunk) + bytes));
  chunk->word = bytes << 8 | size_class;
  return chunk;
}

// Where the kernel's pages are larger, it would take the neighbours too.
bool give_back(void* page) {
  static const bool alone = ::sysconf(_SC_PAGESIZE) == static_cast<long>(kPage);
  return alone && ::madvise(page, kPage, MADV_DONTNEED) == 0;
}

// Pages of zeroes. What was mapped stays mapped as long as the thread; free ones beyond kPagesKept hold no memory.
class Pages {
 public:
  Pages() = default;
  Pages(const Pages&) = delete;
  Pages& operator=(const Pages&) = delete;
  ~Pages() {
    for (char* const region : regions_) {
      ASAN_UNPOISON_MEMORY_REGION(region, kRegion);
      ::munmap(region, kRegion);
    }
  }
  void* take() {
    if (!used_.empty()) {
      void* const page = used_.back();
      used_.pop_back();
      ASAN_UNPOISON_MEMORY_REGION(page, kPage);
      return std::memset(page, 0, kPage);
    }
    if (fresh_.empty() && !map()) return nullptr;
    void* const page = fresh_.back();
    fresh_.pop_back();
    ASAN_UNPOISON_MEMORY_REGION(page, kPage);
    return page;
  }
  void give(void* page) {
    const bool fresh = used_.size() >= kPagesKept && give_back(page);
    ASAN_POISON_MEMORY_REGION(page, kPage);
    (fresh ? fresh_ : used_).push_back(page);
  }
  size_t resident() const {
    size_t count = 0;
    for (char* const region : regions_) count += resident(region, kRegion);
    for (void* const page : used_) count -= resident(page, kPage);
    return count;
  }

 private:
  static size_t resident(void* at, size_t bytes) {
    unsigned char in[kRegion / kPage] = {};
    CHECK(::mincore(at, bytes, in) == 0);
    size_t count = 0;
    for (const unsigned char one : in) count += one & 1;
    return count;
  }
  bool map() {
    void* const region = ::mmap(nullptr, kRegion, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (region == MAP_FAILED) return false;
    ::madvise(region, kRegion, MADV_NOHUGEPAGE);
    regions_.push_back(static_cast<char*>(region));
    const size_t all = regions_.size() * (kRegion / kPage);
    fresh_.reserve(all);
    used_.reserve(all);
    for (size_t at = kRegion; at > 0; at -= kPage) fresh_.push_back(regions_.back() + at - kPage);
    return true;
  }
  std::vector<char*> regions_;
  std::vector<void*> fresh_, used_;  // zeroes; not
};

}  // namespace

struct H2Lists {
  Pages pages;
  Chunk* frame_buffer = nullptr;
  H2Memory* framing = nullptr;  // whose the frame buffer is now
  Chunk* free[kClasses] = {};
  uint32_t count[kClasses] = {};

  ~H2Lists() {
    for (Chunk* list : free) {
      while (list != nullptr) {
        unpoison(*list);
        Chunk* const next = list->next();
        ::operator delete(list);
        list = next;
      }
    }
    if (frame_buffer == nullptr) return;
    unpoison(*frame_buffer);
    ::operator delete(frame_buffer);
  }
  static H2Lists& local() {
    static thread_local H2Lists lists;
    return lists;
  }

  void* allocate(size_t bytes) {
    if (bytes > kLargest) return new_chunk(kHeap, bytes) + 1;
    const size_t index = class_of(bytes);
    Chunk* const chunk = free[index];
    if (chunk == nullptr) return new_chunk(index, size_of(index)) + 1;
    unpoison(*chunk);
    free[index] = chunk->next();
    --count[index];
    return chunk + 1;
  }
  void give(void* at) {
    Chunk* const chunk = static_cast<Chunk*>(at) - 1;
    const size_t index = chunk->size_class();
    if (index == kShared) return;
    if (index == kHeap || count[index] * chunk->bytes() >= kKeepBytes) return ::operator delete(chunk);
    chunk->set_next(free[index]);
    poison(*chunk);
    free[index] = chunk;
    ++count[index];
  }
  Chunk* shared_frame_buffer() {
    if (frame_buffer == nullptr) frame_buffer = new_chunk(kShared, kFrameBuffer);
    return frame_buffer;
  }
};

struct H2Functions {
  static H2Memory& self(void* user) { return *static_cast<H2Memory*>(user); }
  static void* allocate(size_t bytes, void* user) {
    H2Memory& memory = self(user);
    if (bytes != kFrameBuffer || !memory.may_borrow_) [[likely]]
      return memory.lists_.allocate(bytes);
    CHECK(memory.lists_.framing == &memory);
    memory.may_borrow_ = false;
    return memory.lists_.shared_frame_buffer() + 1;
  }
  static void free(void* at, void* user) {
    if (at == nullptr) return;
    H2Memory& memory = self(user);
    if (at != memory.table_) [[likely]]
      return memory.lists_.give(at);
    memory.table_ = nullptr;
    memory.lists_.pages.give(at);
  }
  static void* allocate_zeroes(size_t count, size_t bytes, void* user) {
    H2Memory& memory = self(user);
    bytes *= count;
    if (bytes == kPage && memory.table_ == nullptr) {
      memory.table_ = memory.lists_.pages.take();
      if (memory.table_ != nullptr) return memory.table_;
    }
    return std::memset(memory.lists_.allocate(bytes), 0, bytes);
  }
  static void* resize(void* at, size_t bytes, void* user) {
    if (at == nullptr) return allocate(bytes, user);
    const size_t room = at == self(user).table_ ? kPage : (static_cast<Chunk*>(at) - 1)->bytes();
    if (bytes <= room) return at;
    void* const bigger = allocate(bytes, user);
    std::memcpy(bigger, at, room);
    free(at, user);
    return bigger;
  }
};

H2Memory::H2Memory() : lists_(H2Lists::local()) {}

nghttp2_mem H2Memory::functions() {
  return {this, H2Functions::allocate, H2Functions::free, H2Functions::allocate_zeroes, H2Functions::resize};
}

H2Memory::Framing::Framing(H2Memory& memory) : memory_(memory), before_(memory.lists_.framing) {
  CHECK(before_ == nullptr || before_ == &memory);
  memory.lists_.framing = &memory;
  if (kPoisons) unpoison(*memory.lists_.shared_frame_buffer());
}

H2Memory::Framing::~Framing() {
  memory_.lists_.framing = before_;
  if (before_ != nullptr) return;
  memory_.may_borrow_ = false;
  if (!kPoisons) return;
  Chunk& buffer = *memory_.lists_.shared_frame_buffer();
  std::memset(&buffer + 1, 0xA5, kFrameBuffer);  // nghttp2, which is not instrumented, would send garbage
  poison(buffer);
}

bool H2Memory::rest() {
  static constexpr unsigned char kZeroes[kPage] = {};
  if (table_ == nullptr) return true;
  if (std::memcmp(table_, kZeroes, kPage) != 0) return false;
  give_back(table_);
  return true;
}

void* h2_allocate(size_t bytes) { return H2Lists::local().allocate(bytes); }
void h2_free(void* at) {
  if (at != nullptr) H2Lists::local().give(at);
}
size_t h2_resident_tables() { return H2Lists::local().pages.resident(); }

}  // namespace outrigger::http
