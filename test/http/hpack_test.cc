// HPACK: the examples of RFC 7541, and nghttp2 as another opinion, both ways.
#include "http/hpack.h"

#include <gtest/gtest.h>

#include <random>
#include <string>

#include "http/hpack_huffman.h"
#include "support/hpack_peer.h"

namespace outrigger::http {
namespace {

using test::hpack::Deflater;
using test::hpack::Fields;
using test::hpack::Inflater;

std::string hex(std::string_view digits) {
  std::string out;
  std::string pair;
  for (const char c : digits) {
    if (c == ' ') continue;
    pair += c;
    if (pair.size() == 2) out += static_cast<char>(std::stoi(pair, nullptr, 16)), pair.clear();
  }
  return out;
}

// Decodes a section in parts of `step` bytes, as CONTINUATION frames may cut it.
struct Decoding {
  HpackDecoder decoder;
  std::vector<bool> good;

  bool take(std::string_view block, Fields& fields, size_t step = SIZE_MAX) {
    decoder.begin();
    good.clear();
    size_t begin = 0;
    for (size_t end = 0; end < block.size();) {
      end = step < block.size() - end ? end + step : block.size();
      // A copy of its own: whoever reads behind it is seen.
      const std::vector<uint8_t> part(block.begin() + static_cast<ptrdiff_t>(begin),
                                      block.begin() + static_cast<ptrdiff_t>(end));
      const uint8_t* at = part.data();
      HpackField field;
      HpackDecoder::Got got;
      while ((got = decoder.next(at, part.data() + part.size(), field)) == HpackDecoder::Got::kField) {
        EXPECT_TRUE(field.id == HeaderId::kNone || field.name == header_name(field.id));
        EXPECT_EQ(field.id, find_header_id(field.name));
        fields.emplace_back(field.name, field.value);
        good.push_back(field.good);
      }
      if (got == HpackDecoder::Got::kError) return false;
      if (got == HpackDecoder::Got::kMore && end == block.size()) return false;
      begin += static_cast<size_t>(at - part.data());
    }
    return true;
  }
};

std::string encode(HpackEncoder& encoder, const Fields& fields) {
  HpackOutput out;
  encoder.begin(out);
  for (const auto& [name, value] : fields) encoder.add(out, find_header_id(name), name, value);
  return {out.data(), out.size()};
}

// RFC 7541 appendices C.2 to C.6. C.5 and C.6 have tables of 256 bytes; here a size update says so.
TEST(Hpack, ExamplesOfTheRfc) {
  struct Section {
    const char* bytes;
    Fields fields;
  };
  const Fields first{{":method", "GET"}, {":scheme", "http"}, {":path", "/"}, {":authority", "www.example.com"}};
  Fields second = first;
  second.emplace_back("cache-control", "no-cache");
  const Fields third{{":method", "GET"},
                     {":scheme", "https"},
                     {":path", "/index.html"},
                     {":authority", "www.example.com"},
                     {"custom-key", "custom-value"}};
  const std::string date = "Mon, 21 Oct 2013 20:13:21 GMT", later = "Mon, 21 Oct 2013 20:13:22 GMT";
  const Fields moved{
      {":status", "302"}, {"cache-control", "private"}, {"date", date}, {"location", "https://www.example.com"}};
  Fields kept = moved;
  kept[0].second = "307";
  const Fields found{{":status", "200"},
                     {"cache-control", "private"},
                     {"date", later},
                     {"location", "https://www.example.com"},
                     {"content-encoding", "gzip"},
                     {"set-cookie", "foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1"}};
  const std::vector<std::vector<Section>> conversations = {
      {{"400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572", {{"custom-key", "custom-header"}}}},
      {{"040c 2f73 616d 706c 652f 7061 7468", {{":path", "/sample/path"}}}},
      {{"1008 7061 7373 776f 7264 0673 6563 7265 74", {{"password", "secret"}}}},
      {{"82", {{":method", "GET"}}}},
      {{"8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d", first},
       {"8286 84be 5808 6e6f 2d63 6163 6865", second},
       {"8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65", third}},
      {{"8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff", first},
       {"8286 84be 5886 a8eb 1064 9cbf", second},
       {"8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf", third}},
      {{"3fe101 4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 "
        "3120"
        "474d 546e 1768 7474 7073 3a2f 2f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
        moved},
       {"4803 3330 37c1 c0bf", kept},
       {"88c1 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3220 474d 54c0 5a04 677a 6970 7738 666f"
        "6f3d 4153 444a 4b48 514b 425a 584f 5157 454f 5049 5541 5851 5745 4f49 553b 206d 6178 2d61 6765 3d33 3630 303b"
        "2076 6572 7369 6f6e 3d31",
        found}},
      {{"3fe101 4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b ff6e 919d 29ad "
        "1718"
        "63c7 8f0b 97c8 e9ae 82ae 43d3",
        moved},
       {"4883 640e ffc1 c0bf", kept},
       {"88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab 77ad 94e7 821d d7f2 e6c7 b335"
        "dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 3160 65c0 03ed 4ee5 b106 3d50 07",
        found}},
  };
  for (size_t i = 0; i < conversations.size(); ++i) {
    for (const size_t step : {size_t{1}, size_t{3}, SIZE_MAX}) {
      Decoding decoding;
      for (const Section& section : conversations[i]) {
        Fields fields;
        EXPECT_TRUE(decoding.take(hex(section.bytes), fields, step)) << i;
        EXPECT_EQ(fields, section.fields) << i;
      }
    }
  }
}

TEST(Hpack, WhatIsNoHpackIsRefused) {
  for (const char* bytes : {
           "80",                       // index 0
           "be",                       // an index behind the static table, where nothing is
           "ff ff ff ff ff 7f",        // ... far behind
           "7f ff ff ff ff ff 01",     // an integer of too many bytes
           "82 20",                    // a size update that is not at the beginning
           "3f e2 1f",                 // 4097 bytes of table
           "00 81 ff 01 61",           // a name of padding only, too long
           "00 01 61 81 00",           // padding that is not ones
           "00 01 61 84 ff ff ff ff",  // the code of EOS
           "00 01 61 82 1f ff",        // padding of 11 bits: 'a' has five
           "00 7f ff ff ff ff 0f",     // a name of 4 GiB
           "40 01",                    // cut in the name
           "40 01 61",                 // cut before the value
           "40 01 61 05 61",           // cut in the value
           "7e 01 61",                 // a name by index, where nothing is
       }) {
    Decoding decoding;
    Fields fields;
    EXPECT_FALSE(decoding.take(hex(bytes), fields)) << bytes;
  }
}

TEST(Hpack, FieldsAreCheckedOnceAndWhatWasFoundIsKept) {
  Decoding decoding;
  Fields fields;
  const auto literal = [](std::string_view name, std::string_view value) {
    return std::string("\x40") + static_cast<char>(name.size()) + std::string(name) + static_cast<char>(value.size()) +
           std::string(value);
  };
  const std::vector<std::tuple<std::string, std::string, bool>> rows = {
      {"x-good", "fine", true},  {"x-tab", "a\tb", true},   {"x-empty", "", true},     {"x-high", "\xc3\xa9", true},
      {"X-Upper", "1", false},   {"x y", "1", false},       {"", "1", false},          {":unknown", "1", false},
      {"x-lf", "a\nb", false},   {"x-del", "a\x7f", false}, {"x-before", " a", false}, {"x-after", "a\t", false},
      {"cookie", "a\rb", false}, {":path", "/", true},      {"accept", "*/*", true}};
  std::string block;
  for (const auto& [name, value, good] : rows) block += literal(name, value);
  for (size_t i = rows.size(); i > 0; --i) block += static_cast<char>(0x80 | (61 + i));
  ASSERT_TRUE(decoding.take(block, fields));
  ASSERT_EQ(fields.size(), 2 * rows.size());
  for (size_t i = 0; i < fields.size(); ++i) {
    const auto& [name, value, good] = rows[i % rows.size()];
    EXPECT_EQ(fields[i], (std::pair{name, value})) << i;
    EXPECT_EQ(decoding.good[i], good) << name;
  }
}

// Section 4.4: the name may lie in the entry that has to go for the new one.
TEST(Hpack, AnEntryMayBeNamedAfterOneThatItDrivesOut) {
  Decoding decoding;
  Fields fields;
  const std::string name(100, 'n');
  const auto named = [](size_t size) {
    std::string out = hex("7e 7f");  // the newest entry's name
    for (size -= 127; size >= 128; size >>= 7) out += static_cast<char>(size % 128 + 128);
    return out + static_cast<char>(size);
  };
  ASSERT_TRUE(decoding.take(hex("40 64") + name + hex("01 61"), fields));
  ASSERT_TRUE(decoding.take(named(3964) + std::string(3964, 'v'), fields));  // exactly the table
  ASSERT_TRUE(decoding.take(hex("be"), fields));
  EXPECT_EQ(fields.back(), (std::pair{name, std::string(3964, 'v')}));
  ASSERT_TRUE(decoding.take(named(3965) + std::string(3965, 'w'), fields));  // a byte more than it
  EXPECT_EQ(fields.back(), (std::pair{name, std::string(3965, 'w')}));
  EXPECT_FALSE(decoding.take(hex("be"), fields));
}

TEST(Hpack, HuffmanGoesBothWays) {
  std::string all;
  for (int c = 0; c < 256; ++c) all += static_cast<char>(c);
  std::mt19937 random(7);
  for (int i = 0; i < 3000; ++i) {
    std::string text;
    for (size_t n = random() % 60; n > 0; --n) text += i % 2 == 0 ? all[random() % 256] : all[32 + random() % 95];
    if (i == 0) text = all;
    std::string coded(huffman_size(text), '\0');
    ASSERT_EQ(huffman_encode(text, coded.data()), coded.data() + coded.size());
    std::string back(huffman_room(coded.size()), '\0');
    size_t size = 0;
    ASSERT_TRUE(huffman_decode(coded, back.data(), size));
    ASSERT_EQ(back.substr(0, size), text);
    Decoding decoding;  // and as nghttp2 does, where it takes the code at all
    Fields fields;
    ASSERT_TRUE(decoding.take(Deflater().section({{"x", text}}), fields));
    ASSERT_EQ(fields, (Fields{{"x", text}}));
  }
}

class HpackOpinions : public ::testing::Test {
 protected:
  // Names and values that come again, and some that do not.
  Fields section() {
    static const std::vector<std::string> names = {
        ":method",  ":path",   ":status", "content-type", "x-request-id", "authorization",  "cookie",
        "x-custom", "x-other", "date",    "grpc-status",  "te",           "accept-encoding"};
    Fields out;
    for (size_t n = random() % 20; n > 0; --n) {
      std::string name = random() % 10 == 0 ? "x-" + std::to_string(random() % 500) : names[random() % names.size()];
      std::string value;
      switch (random() % 6) {
        case 0:
          value = std::string(random() % 3000, 'v');
          break;
        case 1:
          value = std::to_string(random());
          break;
        case 2:
          for (size_t i = random() % 40; i > 0; --i)
            value += static_cast<char>(random() % 5 == 0 ? 128 + random() % 128 : 32 + random() % 95);
          break;
        default:
          value = "a value that is one of a few: " + std::to_string(random() % 8);
      }
      if (name == ":method" && random() % 2 == 0) value = "GET";
      if (name == ":status" && random() % 2 == 0) value = "204";
      out.emplace_back(std::move(name), std::move(value));
    }
    return out;
  }
  std::mt19937 random{11};
};

TEST_F(HpackOpinions, NghttpReadsWhatWeWrite) {
  HpackEncoder encoder;
  Inflater inflater;
  size_t most = 0;
  for (int i = 0; i < 5000; ++i) {
    if (i % 500 == 499) {  // a limit of the peer's, and before the next section another one
      const auto limit = static_cast<uint32_t>(random() % 6000);
      encoder.set_limit(0);
      inflater.set_limit(0);
      encoder.set_limit(limit);
      inflater.set_limit(limit);
    }
    const Fields fields = section();
    Fields read;
    ASSERT_TRUE(inflater.take(encode(encoder, fields), read)) << i;
    ASSERT_EQ(read, fields) << i;
    most = std::max(most, inflater.table_entries());
  }
  EXPECT_GT(most, 20u);
}

TEST_F(HpackOpinions, WeReadWhatNghttpWrites) {
  Deflater deflater;
  Decoding decoding;
  for (int i = 0; i < 5000; ++i) {
    if (i % 500 == 499) deflater.set_limit(random() % 4097);
    const Fields fields = section();
    Fields read;
    ASSERT_TRUE(decoding.take(deflater.section(fields), read, i % 3 == 0 ? 1 + random() % 50 : SIZE_MAX)) << i;
    ASSERT_EQ(read, fields) << i;
  }
}

TEST(Hpack, ControlBytesNeverLeave) {
  HpackEncoder encoder;
  Inflater inflater;
  for (int i = 0; i < 3; ++i) {
    Fields read;
    ASSERT_TRUE(inflater.take(
        encode(encoder, {{"x-a", "b\r\nc: d"}, {":path", std::string("/\0", 2)}, {"authorization", "\x7f\t"}}), read));
    EXPECT_EQ(read, (Fields{{"x-a", "b  c: d"}, {":path", "/ "}, {"authorization", " \t"}}));
  }
}

// RFC 7541 section 7.1.3.
TEST(Hpack, WhatItsSenderWantsInNoTableIsInNone) {
  HpackDecoder decoder;
  decoder.begin();
  const std::string block = hex("82 10 0178 0161 11 0162 0f 2b 0163 00 0179 0164 40 017a 0165");
  const auto* at = reinterpret_cast<const uint8_t*>(block.data());
  const auto* const end = at + block.size();
  HpackEncoder encoder;
  HpackOutput out;
  encoder.begin(out);
  HpackField field;
  std::string never;
  while (decoder.next(at, end, field) == HpackDecoder::Got::kField) {
    never += field.never_indexed ? '1' : '0';
    encoder.add(out, field.id, field.name, field.value, field.never_indexed);
  }
  EXPECT_EQ(at, end);
  EXPECT_EQ(never, "011000");
  Inflater inflater;
  Fields read, wanted;
  ASSERT_TRUE(inflater.take({out.data(), out.size()}, read, &wanted));
  EXPECT_EQ(read,
            (Fields{{":method", "GET"}, {"x", "a"}, {":authority", "b"}, {"user-agent", "c"}, {"y", "d"}, {"z", "e"}}));
  EXPECT_EQ(wanted, (Fields{{"x", "a"}, {":authority", "b"}}));
  EXPECT_EQ(inflater.table_entries(), 3u);  // user-agent, y, z
}

TEST(Hpack, WhatComesAgainCostsAByteAndSecretsAreNeverIndexed) {
  HpackEncoder encoder;
  Inflater inflater;
  const Fields fields{{":method", "GET"},   {":path", "/a/b"},     {"authorization", "Bearer secret"},
                      {"cookie", "id=1"},   {"x-request-id", "5"}, {"user-agent", "a client"},
                      {"x-mesh", "a value"}};
  std::string block;
  Fields read, never;
  for (int i = 0; i < 3; ++i) {
    block = encode(encoder, fields);
    read.clear();
    never.clear();
    ASSERT_TRUE(inflater.take(block, read, &never));
    EXPECT_EQ(read, fields);
    EXPECT_EQ(never, (Fields{fields[2], fields[3]}));
  }
  // By index: the method, the agent, the mesh; a byte or two and the value: the others.
  EXPECT_EQ(block.size(), 3 + (2 + 4) + (3 + 13) + (3 + 4) + (3 + 1));
  EXPECT_EQ(inflater.table_entries(), 3u);  // x-request-id once, for its name
}

}  // namespace
}  // namespace outrigger::http
