#include "http/h1_parser.h"

#include <random>

#include "http/h1_rows.h"
#include "http/h1_scan.h"
#include "support/naive_h1.h"

namespace outrigger::http {
namespace {

std::vector<Row> all_rows() {
  std::vector<Row> rows = request_rows();
  for (Row& row : response_rows()) rows.push_back(std::move(row));
  return rows;
}

bool matches(const Row& row, const std::string& got) {
  if (row.expect.rfind("FAULT", 0) != 0) return got == row.expect;
  const std::string last = row.expect + "\n";
  return got.size() >= last.size() && got.compare(got.size() - last.size(), last.size(), last) == 0;
}

TEST(H1Parser, EveryRow) {
  for (const Row& row : all_rows()) {
    const std::string got = transcript({row.input}, row.options);
    EXPECT_TRUE(matches(row, got)) << row.name << "\nexpected: " << row.expect.substr(0, 500)
                                   << "\ngot: " << got.substr(0, 500);
  }
}

TEST(H1Parser, EveryRowCutInTwoAnywhere) {
  for (const Row& row : all_rows()) {
    const std::string whole = transcript({row.input}, row.options);
    const std::string_view in = row.input;
    for (size_t cut = 0; cut <= in.size(); ++cut)
      ASSERT_EQ(transcript({in.substr(0, cut), in.substr(cut)}, row.options), whole) << row.name << " cut at " << cut;
  }
}

TEST(H1Parser, EveryRowByteByByteAndInThrees) {
  for (const Row& row : all_rows()) {
    const std::string whole = transcript({row.input}, row.options);
    for (const size_t step : {size_t{1}, size_t{3}}) {
      std::vector<std::string_view> pieces;
      for (size_t at = 0; at < row.input.size(); at += step)
        pieces.push_back(std::string_view(row.input).substr(at, step));
      ASSERT_EQ(transcript(pieces, row.options), whole) << row.name << " in steps of " << step;
    }
  }
}

TEST(H1Parser, AgreesWithTheNaiveParserOnEveryRow) {
  for (const Row& row : all_rows())
    EXPECT_EQ(comparable(transcript({row.input}, row.options)), comparable(NaiveH1(row.input, row.options).run()))
        << row.name;
}

TEST(H1Parser, AgreesWithTheNaiveParserOnMutations) {
  const std::vector<Row> rows = all_rows();
  std::mt19937_64 random(20240607);
  const auto pick = [&](size_t n) { return static_cast<size_t>(random() % n); };
  static const std::string kSpice[] = {"\r\n",
                                       "\n",
                                       "\r",
                                       " ",
                                       "\t",
                                       ":",
                                       ",",
                                       ";",
                                       "0",
                                       "5",
                                       "a",
                                       std::string(1, '\0'),
                                       "\x7f",
                                       "\xff",
                                       "#",
                                       "chunked",
                                       "Content-Length: 3\r\n",
                                       "Transfer-Encoding: chunked\r\n",
                                       "Host: b\r\n",
                                       "Connection: close\r\n",
                                       "HTTP/1.1",
                                       "\r\n\r\n",
                                       "0\r\n\r\n",
                                       "te: trailers\r\n",
                                       "x-y: z\r\n",
                                       "http://",
                                       "[",
                                       "%",
                                       "GET / HTTP/1.1\r\n"};
  for (int i = 0; i < 150'000; ++i) {
    const Row& row = rows[pick(rows.size())];
    std::string text = row.input.size() > 600 ? row.input.substr(0, 600) : row.input;
    for (size_t edits = 1 + pick(3); edits > 0; --edits) {
      const size_t at = pick(text.size() + 1);
      switch (pick(5)) {
        case 0:
          text.insert(at, kSpice[pick(std::size(kSpice))]);
          break;
        case 1:
          text.erase(at, 1 + pick(3));
          break;
        case 2:
          if (at < text.size()) text[at] = static_cast<char>(random());
          break;
        case 3:
          text.insert(at, text.substr(pick(text.size() + 1), pick(24)));
          break;
        default:
          if (at < text.size()) text.replace(at, 1, kSpice[pick(std::size(kSpice))]);
          break;
      }
    }
    TranscriptOptions options = row.options;
    if (pick(8) == 0) options.h1.accept_http_10 = true;
    if (pick(8) == 0) options.h1.enable_trailers = true;
    if (pick(8) == 0) options.h1.max_head_bytes = static_cast<uint32_t>(20 + pick(100));
    const std::string whole = transcript({text}, options);
    ASSERT_EQ(comparable(whole), comparable(NaiveH1(text, options).run())) << "input: " << testing::PrintToString(text);
    const size_t cut = pick(text.size() + 1);
    ASSERT_EQ(transcript({std::string_view(text).substr(0, cut), std::string_view(text).substr(cut)}, options), whole)
        << "cut at " << cut << ": " << testing::PrintToString(text);
  }
}

TEST(H1Parser, LargeHeadsInPieces) {
  const size_t blocks = BlockPool::local().blocks_in_use();
  std::string text = "GET / HTTP/1.1\r\nHost: a\r\n";
  std::string expect = "HEAD 1.1 keep\n:method=GET\n:path=/\n:authority=a\n";
  for (int i = 0; i < 50; ++i) {
    text += "x-" + std::to_string(i) + ": " + std::string(1000, 'v') + "\r\n";
    expect += "x-" + std::to_string(i) + "=" + std::string(1000, 'v') + "\n";
  }
  text += "\r\n";
  expect += "END\n";
  for (const size_t step : {size_t{1}, size_t{7}, size_t{1000}, size_t{16384}, size_t{40000}, text.size()}) {
    std::vector<std::string_view> pieces;
    for (size_t at = 0; at < text.size(); at += step) pieces.push_back(std::string_view(text).substr(at, step));
    EXPECT_TRUE(transcript(pieces, {}) == expect) << step;
  }
  EXPECT_EQ(BlockPool::local().blocks_in_use(), blocks);
}

TEST(H1Parser, TheLargestHeadFitsABlock) {
  H1Options h1;
  h1.max_head_bytes = 1u << 30;
  const std::string start = "GET / HTTP/1.1\r\nHost: a\r\nx: ";
  const std::string good = start + std::string(H1Parser::kMaxHeadBytes - start.size() - 4, 'v') + "\r\n\r\n";
  TranscriptOptions options;
  options.h1 = h1;
  EXPECT_NE(transcript({good}, options).find("END\n"), std::string::npos);
  EXPECT_NE(transcript({good.substr(0, 1), good.substr(1)}, options).find("END\n"), std::string::npos);
  EXPECT_EQ(transcript({start + std::string(H1Parser::kMaxHeadBytes, 'v')}, options),
            "FAULT 431 http1.headers_too_large\n");
}

// A head in one piece costs no block of the parser's; one in pieces costs one until it is parsed.
TEST(H1Parser, OwnsABlockOnlyWhileAHeadIsIncomplete) {
  const H1Options options;
  H1Parser parser(H1Parser::Kind::kRequest, options);
  Arena arena;
  H1Message message;
  const std::string text = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
  const char* at = text.data();
  EXPECT_EQ(parser.next(at, text.data() + text.size()), H1Parser::Event::kHead);
  EXPECT_FALSE(parser.owns_block());
  ASSERT_TRUE(parser.parse_head(arena, message));
  EXPECT_EQ(parser.next(at, at), H1Parser::Event::kEnd);
  parser.reset();
  at = text.data();
  EXPECT_EQ(parser.next(at, text.data() + 20), H1Parser::Event::kNeedMore);
  EXPECT_TRUE(parser.owns_block());
  EXPECT_TRUE(parser.head_incomplete());
  EXPECT_EQ(parser.next(at, text.data() + text.size()), H1Parser::Event::kHead);
  ASSERT_TRUE(parser.parse_head(arena, message));
  EXPECT_FALSE(parser.owns_block());
  EXPECT_FALSE(parser.head_incomplete());
}

// A full arena is a limit like any other, and nothing is delivered.
TEST(H1Parser, AFullArenaIsAFault) {
  const H1Options options;
  const std::string text = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
  for (const size_t leave : {size_t{0}, text.size(), text.size() + 400}) {
    H1Parser parser(H1Parser::Kind::kRequest, options);
    Arena arena(Block::kSmall);
    arena.try_allocate(Block::kSmall - 16 - leave, 1);
    H1Message message;
    const char* at = text.data();
    ASSERT_EQ(parser.next(at, text.data() + text.size()), H1Parser::Event::kHead);
    EXPECT_FALSE(parser.parse_head(arena, message));
    EXPECT_EQ(parser.fault().status, 431);
  }
}

TEST(H1Scan, FindsEveryControlByteAtEveryPlace) {
  for (size_t size = 1; size <= 50; ++size) {
    for (size_t at = 0; at < size; ++at) {
      for (int c = 0; c < 256; ++c) {
        const std::unique_ptr<char[]> text(new char[size]);
        std::memset(text.get(), 'x', size);
        text[at] = static_cast<char>(c);
        const char* const end = text.get() + size;
        const bool control = (c < 0x20 && c != '\t') || c == 0x7f;
        ASSERT_EQ(find_control(text.get(), end, text.get()), control ? text.get() + at : end)
            << size << " " << at << " " << c;
        ASSERT_EQ(find_control(text.get() + at, end, text.get()), control ? text.get() + at : end);
        const bool ends_target = c <= 0x20 || c >= 0x7f || c == '#';
        ASSERT_EQ(find_target_end(text.get(), end, text.get()), ends_target ? text.get() + at : end);
      }
    }
  }
}

}  // namespace
}  // namespace outrigger::http
