#include "outrigger/arena.h"

#include <cstring>

#include "base/block.h"
#include "base/check.h"

namespace outrigger {

void* Arena::allocate_slow(size_t size, size_t align) {
  CHECK(align <= 16);
  if (size + align > Block::kLarge) return nullptr;  // nothing in a stream is that large
  const uint32_t capacity = size + align > Block::kSmall ? Block::kLarge : Block::kSmall;
  if (reserved_ + capacity > limit_) return nullptr;
  Block* block = BlockPool::local().acquire(capacity);
  reserved_ += capacity;
  block->next = blocks_;
  blocks_ = block;
  cursor_ = reinterpret_cast<uintptr_t>(block->data());
  end_ = cursor_ + capacity;
  return try_allocate(size, align);
}

std::string_view Arena::copy(std::string_view text) {
  if (text.empty()) return {"", 0};  // needs no memory, so never passes the limit
  char* at = static_cast<char*>(try_allocate(text.size(), 1));
  if (at == nullptr) return {};
  std::memcpy(at, text.data(), text.size());
  return {at, text.size()};
}

void Arena::take(Arena& other) {
  if (other.blocks_ == nullptr) return;
  if (blocks_ == nullptr) {
    cursor_ = other.cursor_;
    end_ = other.end_;
    blocks_ = other.blocks_;
  } else {  // behind ours, whose newest block goes on being filled
    Block* last = blocks_;
    while (last->next != nullptr) last = last->next;
    last->next = other.blocks_;
  }
  reserved_ += other.reserved_;
  other.blocks_ = nullptr;
  other.cursor_ = other.end_ = 0;
  other.reserved_ = 0;
}

void Arena::reset() {
  while (blocks_ != nullptr) {
    Block* next = blocks_->next;
    blocks_->release();
    blocks_ = next;
  }
  cursor_ = end_ = 0;
  reserved_ = 0;
}

}  // namespace outrigger
