#include "http/h2_memory.h"

#include <sanitizer/asan_interface.h>

#include <bit>
#include <cstdint>
#include <cstring>
#include <new>

namespace outrigger::http {
namespace {

// Sizes: 32 to 128 bytes by 16, then four for each doubling. The largest is for what of a frame has come so far; what
// is larger (values of several frames) is rare, and the heap's.
constexpr size_t kLargest = 16 * 1024;
constexpr size_t kClasses = 35;
constexpr size_t kHeap = kClasses;
constexpr size_t kKeepBytes = 256 * 1024;  // free, of each class

size_t class_of(size_t bytes) {
  if (bytes <= 128) return bytes <= 32 ? 0 : (bytes - 17) / 16;
  const auto power = static_cast<size_t>(std::bit_width(bytes - 1));  // bytes <= 1 << power
  return (power - 8) * 4 + ((bytes - 1) >> (power - 3)) + 3;
}
size_t size_of(size_t index) {
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

struct Lists {
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

}  // namespace

void* h2_allocate(size_t bytes) {
  if (bytes > kLargest) return new_chunk(kHeap, bytes) + 1;
  Lists& lists = Lists::local();
  const size_t index = class_of(bytes);
  Chunk* const chunk = lists.free[index];
  if (chunk == nullptr) return new_chunk(index, size_of(index)) + 1;
  unpoison(*chunk);
  lists.free[index] = chunk->next();
  --lists.count[index];
  return chunk + 1;
}

void h2_free(void* at) {
  if (at == nullptr) return;
  Lists& lists = Lists::local();
  Chunk* const chunk = static_cast<Chunk*>(at) - 1;
  const size_t index = chunk->size_class();
  if (index == kHeap || lists.count[index] * chunk->bytes() >= kKeepBytes) return ::operator delete(chunk);
  chunk->set_next(lists.free[index]);
  poison(*chunk);
  lists.free[index] = chunk;
  ++lists.count[index];
}

}  // namespace outrigger::http
