#include "base/block.h"

#include <sanitizer/asan_interface.h>

#include <cstdlib>
#include <new>

#include "base/check.h"

namespace outrigger {
namespace {
int size_class(uint32_t capacity) { return capacity == Block::kSmall ? 0 : 1; }

// What is used after it was given back is to be seen by AddressSanitizer; without it, these do nothing.
void poison(Block& block) { ASAN_POISON_MEMORY_REGION(block.data(), block.capacity); }
void unpoison(Block& block) { ASAN_UNPOISON_MEMORY_REGION(block.data(), block.capacity); }
}  // namespace

BlockPool& BlockPool::local() {
  static thread_local BlockPool pool;
  return pool;
}

BlockPool::~BlockPool() {
  for (Block* list : free_) {
    while (list != nullptr) {
      unpoison(*list);
      Block* next = list->next;
      std::free(list);
      list = next;
    }
  }
}

Block* BlockPool::acquire(uint32_t capacity) {
  CHECK(capacity == Block::kSmall || capacity == Block::kLarge);
  const int c = size_class(capacity);
  ++in_use_;
  if (Block* block = free_[c]; block != nullptr) {
    unpoison(*block);
    free_[c] = block->next;
    --free_count_[c];
    block->refs = 1;
    block->used = 0;
    block->next = nullptr;
    return block;
  }
  void* memory = std::malloc(Block::kHeader + capacity);
  CHECK(memory != nullptr);
  Block* block = new (memory) Block;
  block->capacity = capacity;
  return block;
}

void BlockPool::give_back(Block* block) {
  const int c = size_class(block->capacity);
  --in_use_;
  if (free_count_[c] >= kKeep[c]) {
    std::free(block);
    return;
  }
  poison(*block);
  block->next = free_[c];
  free_[c] = block;
  ++free_count_[c];
}

}  // namespace outrigger
