#include "base/block.h"

#include <cstdlib>
#include <new>

#include "base/check.h"

namespace outrigger {
namespace {
int size_class(uint32_t capacity) { return capacity == Block::kSmall ? 0 : 1; }
}  // namespace

BlockPool& BlockPool::local() {
  static thread_local BlockPool pool;
  return pool;
}

BlockPool::~BlockPool() {
  for (Block* list : free_) {
    while (list != nullptr) {
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
  block->next = free_[c];
  free_[c] = block;
  ++free_count_[c];
}

}  // namespace outrigger
