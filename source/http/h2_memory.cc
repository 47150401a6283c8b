#include "http/h2_memory.h"

#include <sanitizer/asan_interface.h>
#include <sys/mman.h>

#include <bit>
#include <cstdint>
#include <cstring>
#include <new>
#include <vector>

namespace outrigger::http {
namespace {

// Sizes are powers of two and their halves-between, 32 bytes to 4 KiB. A session's frame buffer, for the largest frame
// that there may be, holds little but heads and control frames; it comes from pages that nothing else has touched, so
// that it takes memory only as far as it was written: from the heap it would be where somebody's large buffers were.
// Other large chunks (tables that have grown) are rare, and the heap's.
constexpr size_t kHeader = 16;  // keeps malloc's alignment
constexpr size_t kClasses = 16;
constexpr size_t kKeepBytes = 256 * 1024;  // free, of each class
constexpr size_t kLargest = 4096;
constexpr size_t kPaged = kClasses + 1;
constexpr size_t kPagedBytes = 20 * 1024;  // nghttp2 1.52 asks for 16,394
constexpr size_t kPagedAtOnce = 51;        // in a mapping: 1 MiB of addresses
constexpr size_t kPagedKept = 64;          // free ones that keep their memory

size_t class_of(size_t bytes) {
  if (bytes <= 32) return 0;
  const auto power = static_cast<size_t>(std::bit_width(bytes - 1));  // bytes <= 1 << power
  return (power - 6) * 2 + (bytes > (size_t{3} << (power - 2)) ? 2 : 1);
}
size_t size_of(size_t index) {
  if (index == 0) return 32;
  return index % 2 == 0 ? size_t{32} << (index / 2) : size_t{48} << (index / 2);
}

struct Chunk {
  uint64_t size_class;  // kClasses: the heap's; kPaged
  uint64_t bytes;       // usable
  Chunk* next() const {
    Chunk* at;
    std::memcpy(&at, this + 1, sizeof(at));
    return at;
  }
  void set_next(Chunk* at) { std::memcpy(this + 1, &at, sizeof(at)); }
};
static_assert(sizeof(Chunk) == kHeader);

// What is used after it was given back is to be seen by AddressSanitizer; without it, these do nothing.
void poison(Chunk& chunk) { ASAN_POISON_MEMORY_REGION(&chunk + 1, chunk.bytes); }
void unpoison(Chunk& chunk) { ASAN_UNPOISON_MEMORY_REGION(&chunk + 1, chunk.bytes); }

// Frame buffers. What was mapped stays mapped as long as the thread; free ones beyond kPagedKept give their memory
// back.
class Pages {
 public:
  Pages() = default;
  Pages(const Pages&) = delete;
  Pages& operator=(const Pages&) = delete;
  ~Pages() {
    for (void* const region : regions_) {
      ASAN_UNPOISON_MEMORY_REGION(region, kRegion);
      ::munmap(region, kRegion);
    }
  }
  Chunk* take() {
    if (free_.empty() && !map()) return nullptr;
    Chunk* const chunk = free_.back();
    free_.pop_back();
    ASAN_UNPOISON_MEMORY_REGION(chunk, kPagedBytes);
    chunk->size_class = kPaged;
    chunk->bytes = kPagedBytes - kHeader;
    return chunk;
  }
  void give(Chunk* chunk) {
    if (free_.size() >= kPagedKept) ::madvise(chunk, kPagedBytes, MADV_DONTNEED);
    ASAN_POISON_MEMORY_REGION(chunk, kPagedBytes);
    free_.push_back(chunk);
  }

 private:
  static constexpr size_t kRegion = kPagedAtOnce * kPagedBytes;
  bool map() {
    void* const region = ::mmap(nullptr, kRegion, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (region == MAP_FAILED) return false;
    ::madvise(region, kRegion, MADV_NOHUGEPAGE);
    regions_.push_back(region);
    free_.reserve(regions_.size() * kPagedAtOnce);
    for (size_t i = 0; i < kPagedAtOnce; ++i)
      free_.push_back(reinterpret_cast<Chunk*>(static_cast<char*>(region) + i * kPagedBytes));
    return true;
  }
  std::vector<void*> regions_;
  std::vector<Chunk*> free_;
};

struct Lists {
  Pages pages;
  Chunk* free[kClasses] = {};
  uint32_t count[kClasses] = {};
  ~Lists() {
    for (Chunk* list : free) {
      while (list != nullptr) {
        unpoison(*list);
        Chunk* const next = list->next();
        ::operator delete(list);
        list = next;
      }
    }
  }
  static Lists& local() {
    static thread_local Lists lists;
    return lists;
  }
};

void* resize(void* at, size_t bytes) {
  if (at == nullptr) return h2_allocate(bytes);
  const Chunk* const chunk = static_cast<Chunk*>(at) - 1;
  if (bytes <= chunk->bytes) return at;
  void* const bigger = h2_allocate(bytes);
  std::memcpy(bigger, at, chunk->bytes);
  h2_free(at);
  return bigger;
}

}  // namespace

void* h2_allocate(size_t bytes) {
  size_t index = kClasses;
  if (bytes <= kLargest) {
    index = class_of(bytes);
    bytes = size_of(index);
    Lists& lists = Lists::local();
    if (Chunk* const chunk = lists.free[index]; chunk != nullptr) {
      unpoison(*chunk);
      lists.free[index] = chunk->next();
      --lists.count[index];
      return chunk + 1;
    }
  } else if (bytes > kPagedBytes / 2 && bytes <= kPagedBytes - kHeader) {
    if (Chunk* const chunk = Lists::local().pages.take(); chunk != nullptr) return chunk + 1;
  }
  auto* const chunk = static_cast<Chunk*>(::operator new(kHeader + bytes));
  chunk->size_class = index;
  chunk->bytes = bytes;
  return chunk + 1;
}

void h2_free(void* at) {
  if (at == nullptr) return;
  Chunk* const chunk = static_cast<Chunk*>(at) - 1;
  const uint64_t index = chunk->size_class;
  Lists& lists = Lists::local();
  if (index == kPaged) return lists.pages.give(chunk);
  if (index == kClasses || lists.count[index] * chunk->bytes >= kKeepBytes) return ::operator delete(chunk);
  chunk->set_next(lists.free[index]);
  poison(*chunk);
  lists.free[index] = chunk;
  ++lists.count[index];
}

nghttp2_mem* h2_memory() {
  static nghttp2_mem memory{nullptr, [](size_t bytes, void*) { return h2_allocate(bytes); },
                            [](void* at, void*) { h2_free(at); },
                            [](size_t count, size_t bytes, void*) {
                              void* const at = h2_allocate(count * bytes);
                              std::memset(at, 0, count * bytes);
                              return at;
                            },
                            [](void* at, size_t bytes, void*) { return resize(at, bytes); }};
  return &memory;
}

}  // namespace outrigger::http
