// Block, BlockPool: recycled memory for buffers and arenas, in two sizes. Blocks are reference-counted without atomics
// and stay on their thread; a thread's free blocks are kept up to a cap, the rest goes back to the heap.
//
// Thread rule: each thread has its own pool (BlockPool::local()).
// Use:  Block* b = BlockPool::local().acquire(Block::kSmall);  ...  b->release();
#pragma once

#include <cstddef>
#include <cstdint>

namespace outrigger {

struct Block {
  static constexpr uint32_t kSmall = 16 * 1024 - 64;  // usable bytes
  static constexpr uint32_t kLarge = 64 * 1024 - 64;  // one read of a socket

  uint32_t refs = 1;
  uint32_t capacity = 0;  // kSmall or kLarge
  uint32_t used = 0;      // bytes handed out from the front (buffers and arenas append here)
  Block* next = nullptr;  // arenas and the pool chain blocks

  char* data() { return reinterpret_cast<char*>(this) + kHeader; }
  void retain() { ++refs; }
  void release();

  static constexpr size_t kHeader = 32;
};
static_assert(sizeof(Block) <= Block::kHeader);

class BlockPool {
 public:
  static BlockPool& local();
  ~BlockPool();

  // A block with one reference and used == 0.
  Block* acquire(uint32_t capacity);
  void give_back(Block* block);

  size_t blocks_in_use() const { return in_use_; }
  size_t blocks_free() const { return free_count_[0] + free_count_[1]; }

 private:
  static constexpr uint32_t kKeep[2] = {256, 32};  // free blocks kept: 4 MiB, 2 MiB
  Block* free_[2] = {nullptr, nullptr};
  uint32_t free_count_[2] = {0, 0};
  size_t in_use_ = 0;
};

inline void Block::release() {
  if (--refs == 0) BlockPool::local().give_back(this);
}

}  // namespace outrigger
