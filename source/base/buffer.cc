#include "outrigger/buffer.h"

#include <algorithm>
#include <cstring>

#include "base/block.h"
#include "base/check.h"

namespace outrigger {

void Buffer::append(std::string_view text) {
  while (!text.empty()) {
    const size_t n = std::min<size_t>(text.size(), kMaxReserve);
    std::memcpy(reserve(n), text.data(), n);
    commit(n);
    text.remove_prefix(n);
  }
}

void Buffer::append(Buffer&& other) {
  if (empty()) {
    clear();
    take(other);
    return;
  }
  for (const Slice& slice : other) append_shared(slice.block, slice.data, slice.size);
  other.clear();
}

void Buffer::append_shared(Block* block, const char* data, size_t size) {
  if (size < kCopyLimit) {
    append(std::string_view(data, size));
    return;
  }
  block->retain();
  push(Slice{block, data, static_cast<uint32_t>(size)});
  size_ += size;
}

char* Buffer::reserve(size_t want) {
  CHECK(want <= kMaxReserve);
  if (tail_ > head_) {
    Slice& last = slices_[tail_ - 1];
    Block* block = last.block;
    // Only the sole owner of a block may grow into it, and only where the slice ends at the block's used mark.
    if (block->refs == 1 && last.data + last.size == block->data() + block->used &&
        block->capacity - block->used >= want)
      return block->data() + block->used;
  }
  Block* block = BlockPool::local().acquire(Block::kSmall);
  push(Slice{block, block->data(), 0});
  return block->data();
}

void Buffer::commit(size_t bytes) {
  Slice& last = slices_[tail_ - 1];
  last.size += static_cast<uint32_t>(bytes);
  last.block->used += static_cast<uint32_t>(bytes);
  size_ += bytes;
  if (last.size == 0) {
    last.block->release();
    --tail_;
  }
}

void Buffer::consume(size_t bytes) {
  CHECK(bytes <= size_);
  size_ -= bytes;
  while (bytes > 0) {
    Slice& first = slices_[head_];
    if (first.size > bytes) {
      first.data += bytes;
      first.size -= static_cast<uint32_t>(bytes);
      break;
    }
    bytes -= first.size;
    first.block->release();
    ++head_;
  }
  if (size_ == 0) clear();
}

void Buffer::move_front(size_t bytes, Buffer& to) {
  CHECK(bytes <= size_);
  if (bytes == size_) {
    to.append(std::move(*this));
    return;
  }
  size_t left = bytes;
  for (uint32_t i = head_; left > 0; ++i) {
    const size_t n = std::min<size_t>(left, slices_[i].size);
    to.append_shared(slices_[i].block, slices_[i].data, n);
    left -= n;
  }
  consume(bytes);
}

void Buffer::clear() {
  for (uint32_t i = head_; i < tail_; ++i) slices_[i].block->release();
  if (slices_ != inline_) delete[] slices_;
  slices_ = inline_;
  head_ = tail_ = 0;
  capacity_ = kInline;
  size_ = 0;
}

void Buffer::compact() {
  bool thin = false;
  for (const Slice& slice : *this) thin = thin || slice.size * 2 < slice.block->capacity;
  if (!thin) return;
  Buffer out;
  for (const Slice& slice : *this) {
    if (slice.size * 2 < slice.block->capacity) {
      out.append(slice.view());
    } else {
      out.append_shared(slice.block, slice.data, slice.size);
    }
  }
  *this = std::move(out);
}

std::string Buffer::to_string() const {
  std::string out;
  out.reserve(size_);
  for (const Slice& slice : *this) out += slice.view();
  return out;
}

void Buffer::take(Buffer& other) {
  if (other.slices_ == other.inline_) {
    std::memcpy(inline_, other.inline_, sizeof(inline_));
    slices_ = inline_;
  } else {
    slices_ = other.slices_;
  }
  head_ = other.head_;
  tail_ = other.tail_;
  capacity_ = other.capacity_;
  size_ = other.size_;
  other.slices_ = other.inline_;
  other.head_ = other.tail_ = 0;
  other.capacity_ = kInline;
  other.size_ = 0;
}

void Buffer::push(Slice slice) {
  if (tail_ == capacity_) grow();
  slices_[tail_++] = slice;
}

void Buffer::grow() {
  const uint32_t count = tail_ - head_;
  if (head_ >= capacity_ / 2) {  // room at the front: slide down
    std::memmove(slices_, slices_ + head_, count * sizeof(Slice));
  } else {
    Slice* bigger = new Slice[capacity_ * 2];
    std::memcpy(bigger, slices_ + head_, count * sizeof(Slice));
    if (slices_ != inline_) delete[] slices_;
    slices_ = bigger;
    capacity_ *= 2;
  }
  head_ = 0;
  tail_ = count;
}

}  // namespace outrigger
