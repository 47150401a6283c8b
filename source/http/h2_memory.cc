#include "http/h2_memory.h"

#include <sanitizer/asan_interface.h>

#include <bit>
#include <cstdint>
#include <cstring>
#include <new>

namespace outrigger::http {
namespace {

// Sizes are powers of two and their halves-between, 32 bytes to 4 KiB; larger chunks (tables, a session's frame buffer)
// come once in a connection's life and are the heap's.
constexpr size_t kHeader = 16;  // keeps malloc's alignment
constexpr size_t kClasses = 16;
constexpr size_t kKeepBytes = 256 * 1024;  // free, of each class
constexpr size_t kLargest = 4096;

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
  uint64_t size_class;  // kClasses: the heap's
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
