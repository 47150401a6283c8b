// Buffer: a chain of slices of recycled, reference-counted blocks. Bodies travel through the proxy as Buffers: moving
// and appending one Buffer to another shares blocks and copies no byte (slices under kCopyLimit bytes are gathered
// into the tail block instead, which is cheaper than another iovec).
//
// Thread rule: a Buffer and its blocks stay on the thread that made them (block counts are not atomic).
// Use:  out.append(body);  out.append("text");  for (auto s : out.slices()) ...
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace outrigger {

struct Block;  // base/block.h

class Buffer {
 public:
  static constexpr size_t kCopyLimit = 1024;  // bytes; slices smaller than this are copied when appended

  struct Slice {
    Block* block;
    const char* data;
    uint32_t size;
    std::string_view view() const { return {data, size}; }
  };

  Buffer() = default;
  explicit Buffer(std::string_view text) { append(text); }
  ~Buffer() { clear(); }
  Buffer(Buffer&& other) noexcept { take(other); }
  Buffer& operator=(Buffer&& other) noexcept {
    if (this != &other) {
      clear();
      take(other);
    }
    return *this;
  }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;

  size_t size() const { return size_; }
  bool empty() const { return size_ == 0; }

  // Copies `text` to the end.
  void append(std::string_view text);
  // Moves all of `other` to the end; `other` is empty afterwards.
  void append(Buffer&& other);
  // Shares bytes that lie inside `block` (kCopyLimit or more; fewer are copied).
  void append_shared(Block* block, const char* data, size_t size);
  // Room for at least `want` contiguous bytes (want <= kMaxReserve) at the end; commit(n) makes n of them part of the
  // buffer.
  static constexpr size_t kMaxReserve = 8 * 1024;
  char* reserve(size_t want);
  void commit(size_t bytes);

  // Removes `bytes` from the front (bytes <= size()).
  void consume(size_t bytes);
  // Moves the first `bytes` (<= size()) to the end of `to`.
  void move_front(size_t bytes, Buffer& to);
  void clear();

  // Slices in order. The array is valid until the next change of the buffer.
  const Slice* begin() const { return slices_ + head_; }
  const Slice* end() const { return slices_ + tail_; }
  size_t slice_count() const { return tail_ - head_; }

  // Copies thinly used blocks' bytes together, so that a waiting buffer pins no more than about twice its size.
  void compact();

  // The whole contents, copied (tests, small admin bodies).
  std::string to_string() const;

 private:
  static constexpr uint32_t kInline = 4;
  void take(Buffer& other);
  void push(Slice slice);
  void grow();

  Slice* slices_ = inline_;
  uint32_t head_ = 0;
  uint32_t tail_ = 0;
  uint32_t capacity_ = kInline;
  size_t size_ = 0;
  Slice inline_[kInline];
};

}  // namespace outrigger
