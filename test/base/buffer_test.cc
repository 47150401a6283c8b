#include "outrigger/buffer.h"

#include <gtest/gtest.h>

#include <random>
#include <string>

#include "base/block.h"

namespace outrigger {
namespace {

std::string pattern(size_t size, int seed = 0) {
  std::string s(size, '\0');
  for (size_t i = 0; i < size; ++i) s[i] = static_cast<char>('a' + (i * 7 + i / 97 + static_cast<size_t>(seed)) % 26);
  return s;
}

class BufferTest : public ::testing::Test {
 protected:
  ~BufferTest() override { EXPECT_EQ(BlockPool::local().blocks_in_use(), before_); }
  Block* block(size_t size, int seed = 0) {
    Block* b = BlockPool::local().acquire(Block::kLarge);
    const std::string text = pattern(size, seed);
    text.copy(b->data(), size);
    b->used = static_cast<uint32_t>(size);
    return b;
  }

 private:
  size_t before_ = BlockPool::local().blocks_in_use();
};

TEST_F(BufferTest, AppendsAndConsumes) {
  Buffer b("hello ");
  b.append("world");
  EXPECT_EQ(b.size(), 11u);
  EXPECT_EQ(b.slice_count(), 1u);
  b.consume(6);
  EXPECT_EQ(b.to_string(), "world");
  b.consume(5);
  EXPECT_TRUE(b.empty());
  EXPECT_EQ(b.slice_count(), 0u);
  b.append("");
  EXPECT_TRUE(b.empty());
}

TEST_F(BufferTest, LongTextSpansBlocks) {
  const std::string text = pattern(100'000);
  Buffer b(text);
  EXPECT_TRUE(b.to_string() == text);
  EXPECT_GT(b.slice_count(), 4u);  // beyond the inline slices
}

TEST_F(BufferTest, MovingSharesAndEmptiesTheSource) {
  Buffer a(pattern(5000)), b(pattern(5000, 1));
  const char* bytes = b.begin()->data;
  a.append(std::move(b));
  EXPECT_TRUE(b.empty());
  EXPECT_TRUE(a.to_string() == pattern(5000) + pattern(5000, 1));
  EXPECT_EQ((a.end() - 1)->data, bytes);  // not copied
  Buffer c(std::move(a));
  EXPECT_TRUE(a.empty());
  a.append("again");
  EXPECT_EQ(a.to_string(), "again");
  c = std::move(a);
  EXPECT_EQ(c.to_string(), "again");
}

TEST_F(BufferTest, SmallSharesAreCopiedLargeOnesAreNot) {
  Block* source = block(4000);
  Buffer b("x");
  b.append_shared(source, source->data(), Buffer::kCopyLimit - 1);
  EXPECT_EQ(source->refs, 1u);
  EXPECT_EQ(b.slice_count(), 1u);
  b.append_shared(source, source->data(), Buffer::kCopyLimit);
  EXPECT_EQ(source->refs, 2u);
  EXPECT_EQ(b.slice_count(), 2u);
  source->release();
}

TEST_F(BufferTest, ASharedBlockIsNeverWrittenTo) {
  Block* source = block(2000);
  const std::string original = pattern(2000);
  Buffer a, b;
  a.append_shared(source, source->data(), 2000);
  b.append_shared(source, source->data(), 2000);
  a.append("tail");  // two own the block: the tail goes elsewhere
  source->release();
  b.append("other");
  EXPECT_TRUE(a.to_string() == original + "tail");
  EXPECT_TRUE(b.to_string() == original + "other");
}

TEST_F(BufferTest, AnEarlierSliceOfABlockDoesNotGrowOverALaterOne) {
  Block* source = block(4000);
  Buffer early, late;
  early.append_shared(source, source->data(), 2000);
  late.append_shared(source, source->data() + 2000, 2000);
  source->release();
  Buffer first;
  first.append(std::move(early));
  late.clear();  // the block's only owner is `first`, whose slice ends before the used mark
  first.append("more");
  EXPECT_TRUE(first.to_string() == pattern(2000) + "more");
}

TEST_F(BufferTest, ReserveAndCommit) {
  Buffer b;
  char* at = b.reserve(Buffer::kMaxReserve);
  b.commit(0);  // nothing after all
  EXPECT_TRUE(b.empty());
  EXPECT_EQ(b.slice_count(), 0u);
  at = b.reserve(10);
  std::string("0123456789").copy(at, 10);
  b.commit(4);
  at = b.reserve(2);
  std::string("ab").copy(at, 2);
  b.commit(2);
  EXPECT_EQ(b.to_string(), "0123ab");
  EXPECT_EQ(b.slice_count(), 1u);
}

TEST_F(BufferTest, MoveFront) {
  Buffer a(pattern(40'000)), b("start ");
  a.move_front(0, b);
  EXPECT_EQ(b.size(), 6u);
  a.move_front(17'001, b);
  EXPECT_TRUE(b.to_string() == "start " + pattern(40'000).substr(0, 17'001));
  EXPECT_TRUE(a.to_string() == pattern(40'000).substr(17'001));
  a.move_front(a.size(), b);
  EXPECT_TRUE(a.empty());
  EXPECT_TRUE(b.to_string() == "start " + pattern(40'000));
}

TEST_F(BufferTest, CompactFreesThinlyUsedBlocks) {
  Buffer b;
  std::string expected;
  const size_t before = BlockPool::local().blocks_in_use();
  for (int i = 0; i < 50; ++i) {
    Block* source = block(1500, i);
    b.append_shared(source, source->data(), 1500);
    source->release();
    expected += pattern(1500, i);
  }
  EXPECT_EQ(BlockPool::local().blocks_in_use() - before, 50u);  // 3.2 MB for 75 kB
  b.compact();
  EXPECT_LE(BlockPool::local().blocks_in_use() - before, 8u);
  EXPECT_TRUE(b.to_string() == expected);
}

TEST_F(BufferTest, BlocksAreRecycled) {
  { Buffer warm(pattern(60'000)); }
  const size_t free_before = BlockPool::local().blocks_free();
  EXPECT_GT(free_before, 0u);
  for (int i = 0; i < 100; ++i) Buffer again(pattern(60'000));
  EXPECT_EQ(BlockPool::local().blocks_free(), free_before);
}

// A queue used as one: bytes in at the back, out at the front, against a string that does the same.
TEST_F(BufferTest, AgreesWithAString) {
  std::mt19937 random(7);
  Buffer b;
  std::string s;
  for (int i = 0; i < 20'000; ++i) {
    const size_t n = random() % 3000;
    switch (random() % 6) {
      case 0:
        b.append(pattern(n, i));
        s += pattern(n, i);
        break;
      case 1: {
        Block* source = block(n + 1, i);
        b.append_shared(source, source->data() + 1, n);
        s += pattern(n + 1, i).substr(1);
        source->release();
        break;
      }
      case 2: {
        Buffer other(pattern(n, i));
        b.append(std::move(other));
        s += pattern(n, i);
        break;
      }
      case 3: {
        Buffer front;
        const size_t take = std::min(s.size(), n);
        b.move_front(take, front);
        ASSERT_TRUE(front.to_string() == s.substr(0, take));
        s.erase(0, take);
        break;
      }
      case 4:
        if (i % 16 == 0) b.compact();
        break;
      default: {
        const size_t take = std::min(s.size(), n * 2);
        b.consume(take);
        s.erase(0, take);
      }
    }
    ASSERT_EQ(b.size(), s.size());
    if (i % 64 == 0) {
      ASSERT_TRUE(b.to_string() == s) << i;
    }
  }
}

}  // namespace
}  // namespace outrigger
