// SPDX-License-Identifier: Apache-2.0
#include "engine/tokenizer/stream_decoder.h"

#include <random>

#include "engine/tokenizer/byte_level.h"
#include "engine/tokenizer/utf8.h"
#include "tests/testing/status_matchers.h"

namespace conclave::engine {
namespace {

// Expected values: Python's bytes.decode("utf-8", errors="replace").
TEST(Utf8StreamTest, ReplacesLikePython) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"abc", "abc"},
      {"h\xc3\xa9", "h\xc3\xa9"},
      {"\xff", "\xef\xbf\xbd"},
      {"\xc0\xaf", "\xef\xbf\xbd\xef\xbf\xbd"},                                  // overlong
      {"\xe2\x82", "\xef\xbf\xbd"},                                              // cut short: one
      {"\xe2\x82z", "\xef\xbf\xbdz"},                                            // broken off: one
      {"\xed\xa0\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"},                  // a surrogate: three
      {"\xf0\x9f\x98\x80", "\xf0\x9f\x98\x80"},                                  // U+1F600
      {"\xf4\x90\x80\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"},  // beyond U+10FFFF
      {"\xf0\x9f\x98", "\xef\xbf\xbd"},
      {"\x80\x80", "\xef\xbf\xbd\xef\xbf\xbd"},
      {"\xf0\x9f\xc3\xa9", "\xef\xbf\xbd\xc3\xa9"},
  };
  for (const auto& [bytes, expected] : cases) {
    Utf8Stream stream;
    std::string out;
    stream.Append(bytes, &out);
    stream.Finish(&out);
    EXPECT_EQ(out, expected) << ::testing::PrintToString(bytes);
  }
}

TEST(Utf8StreamTest, HowTheBytesArriveDoesNotMatter) {
  constexpr uint64_t kSeed = 5;
  RecordProperty("seed", std::to_string(kSeed));
  std::mt19937_64 random(kSeed);
  for (int round = 0; round < 2000; ++round) {
    std::string bytes;
    for (int i = 0; i < 12; ++i) {
      // Mostly bytes of multi-byte characters, so that they meet in all ways.
      bytes.push_back(static_cast<char>(random() % 4 == 0 ? random() % 256 : 0x80 + random() % 128));
    }
    Utf8Stream whole;
    std::string expected;
    whole.Append(bytes, &expected);
    whole.Finish(&expected);
    Utf8Stream parts;
    std::string out;
    for (const char b : bytes) {
      parts.Append(std::string_view(&b, 1), &out);
      ASSERT_LE(parts.pending_bytes(), 3u);
    }
    parts.Finish(&out);
    ASSERT_EQ(out, expected) << ::testing::PrintToString(bytes);
  }
}

TEST(ByteLevelTest, AlphabetIsABijection) {
  std::string all;
  for (int b = 0; b < 256; ++b) all.push_back(static_cast<char>(b));
  EXPECT_EQ(DecodeByteLevel(EncodeByteLevel(all)), all);
  EXPECT_EQ(EncodeByteLevel(" \n"), "\xc4\xa0\xc4\x8a");  // U+0120 U+010A
  EXPECT_EQ(DecodeByteLevel(" "), std::nullopt);
  EXPECT_EQ(DecodeByteLevel("\xe6\xbc\xa2"), std::nullopt);
}

class StreamDecoderTest : public ::testing::Test {
 protected:
  StreamDecoderTest() {
    VocabularyData v;
    v.source = "test";
    v.pre = "gpt-2";
    for (int b = 0; b < 256; ++b) {
      const char byte = static_cast<char>(b);
      v.tokens.push_back(EncodeByteLevel(std::string_view(&byte, 1)));
    }
    v.tokens.emplace_back("<|im_end|>");
    v.types.assign(256, TokenType::kNormal);
    v.types.push_back(TokenType::kControl);
    auto tokenizer = Tokenizer::Create(std::move(v));
    EXPECT_OK(tokenizer);
    tokenizer_ = *std::move(tokenizer);
  }
  std::unique_ptr<Tokenizer> tokenizer_;
};

TEST_F(StreamDecoderTest, EmitsWholeCharactersOnly) {
  StreamDecoder decoder(tokenizer_.get());
  std::string out;
  decoder.Append(0xF0, &out);
  decoder.Append(0x9F, &out);
  decoder.Append(0x98, &out);
  EXPECT_EQ(out, "");
  decoder.Append(0x80, &out);
  EXPECT_EQ(out, "\xf0\x9f\x98\x80");
  decoder.Append(256, &out);  // a control token shows nothing
  decoder.Append(9999, &out);
  decoder.Append(-1, &out);
  decoder.Append('a', &out);
  decoder.Append(0xC3, &out);
  EXPECT_EQ(out,
            "\xf0\x9f\x98\x80"
            "a");
  decoder.Finish(&out);
  EXPECT_EQ(out,
            "\xf0\x9f\x98\x80"
            "a\xef\xbf\xbd");
}

}  // namespace
}  // namespace conclave::engine
