// SPDX-License-Identifier: Apache-2.0
// Long and hostile texts: no recursion, no quadratic time. A quadratic method would take minutes here, far beyond the
// test's own timeout; nothing is measured.
#include <atomic>
#include <random>
#include <thread>

#include <fmt/format.h>

#include "engine/format/gguf.h"
#include "engine/tokenizer/byte_level.h"
#include "engine/tokenizer/read_tokenizer.h"
#include "tests/testing/shared_data.h"
#include "tests/testing/status_matchers.h"

namespace conclave::engine {
namespace {

using conclave::testing::StatusIs;
using AddBos = Tokenizer::AddBos;
using Special = Tokenizer::Special;
using SpecialText = Tokenizer::SpecialText;

std::unique_ptr<Tokenizer> MakeByteLevel(std::string pre) {
  VocabularyData v;
  v.source = "test";
  v.pre = std::move(pre);
  for (int b = 0; b < 256; ++b) {
    const char byte = static_cast<char>(b);
    v.tokens.push_back(EncodeByteLevel(std::string_view(&byte, 1)));
  }
  // Runs of one character merge in doublings, as in real vocabularies.
  for (const std::string letter : {"a", "\xc4\x8a", "\xc4\xa0"}) {  // a, newline, space
    std::string run = letter;
    for (int i = 0; i < 6; ++i) {
      v.merges.push_back(run + " " + run);
      run += run;
      v.tokens.push_back(run);
    }
  }
  v.types.assign(v.tokens.size(), TokenType::kNormal);
  for (const std::string text : {"<|im_end|>", "<", "<|", "<|i", "<|im_end|"}) {
    v.tokens.push_back(text);
    v.types.push_back(text == "<|im_end|>" ? TokenType::kControl : TokenType::kUserDefined);
  }
  auto tokenizer = Tokenizer::Create(std::move(v));
  EXPECT_OK(tokenizer);
  return *std::move(tokenizer);
}

std::unique_ptr<Tokenizer> MakeSentencePiece() {
  VocabularyData v;
  v.source = "test";
  v.model = TokenizerModel::kSentencePieceBpe;
  v.add_space_prefix = true;
  for (int b = 0; b < 256; ++b) {
    v.tokens.push_back(fmt::format("<0x{:02X}>", b));
    v.types.push_back(TokenType::kByte);
  }
  for (const std::string letter : {"a", "\n", "\xe2\x96\x81"}) {
    std::string run = letter;
    for (int i = 0; i < 6; ++i) {
      v.tokens.push_back(run);
      v.types.push_back(TokenType::kNormal);
      run += run;
    }
  }
  for (size_t i = 0; i < v.tokens.size(); ++i) v.scores.push_back(-static_cast<float>(i));
  auto tokenizer = Tokenizer::Create(std::move(v));
  EXPECT_OK(tokenizer);
  return *std::move(tokenizer);
}

std::string Repeat(std::string_view text, size_t count) {
  std::string out;
  for (size_t i = 0; i < count; ++i) out += text;
  return out;
}

void ExpectRoundTrip(const Tokenizer& tokenizer, std::string_view text) {
  const auto ids = tokenizer.Encode(text, Special::kAsText, AddBos::kNo);
  ASSERT_OK(ids);
  EXPECT_TRUE(tokenizer.Decode(*ids, SpecialText::kAsText) == text) << "text of " << text.size() << " bytes";
}

TEST(TokenizerLimitsTest, LongRunsOfOneThing) {
  const std::vector<std::string> texts = {
      Repeat("a", 100'000),       Repeat("\n", 100'000),     Repeat(" \n", 100'000),
      Repeat(" ", 100'000),       Repeat("\r\n\t ", 50'000), Repeat("7", 100'000),
      Repeat("!", 100'000),       Repeat("<|im_en", 50'000), Repeat("\xe6\xbc\xa2", 100'000),
      Repeat("'", 100'000),       Repeat("\xff", 100'000),   Repeat("A", 1'000'000) + "b",
      Repeat("<|im_end|", 50'000)};
  for (const char* pre :
       {"gpt-2", "smollm", "llama-bpe", "qwen2", "tekken", "gpt-4o", "deepseek-v3", "default", "bloom"}) {
    const auto tokenizer = MakeByteLevel(pre);
    for (const std::string& text : texts) ExpectRoundTrip(*tokenizer, text);
  }
  const auto sentence_piece = MakeSentencePiece();
  for (const std::string& text : texts) ExpectRoundTrip(*sentence_piece, text);
}

TEST(TokenizerLimitsTest, RefusesTextBeyondItsLimit) {
  const auto tokenizer = MakeByteLevel("gpt-2");
  const std::string text(kEncodeTextBytesMax + 1, 'a');
  EXPECT_THAT(tokenizer->Encode(text, Special::kAsText, AddBos::kNo), StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST(TokenizerLimitsTest, RandomBytesRoundTrip) {
  constexpr uint64_t kSeed = 99;
  RecordProperty("seed", std::to_string(kSeed));
  std::mt19937_64 random(kSeed);
  const auto byte_level = MakeByteLevel("llama-bpe");
  const auto sentence_piece = MakeSentencePiece();
  for (int round = 0; round < 500; ++round) {
    std::string text(random() % 200, '\0');
    for (char& c : text) c = static_cast<char>(random() % 3 == 0 ? random() % 256 : "a \n<|im_end|>"[random() % 13]);
    ExpectRoundTrip(*byte_level, text);
    if (text.find("\xe2\x96\x81") == std::string::npos) ExpectRoundTrip(*sentence_piece, text);
  }
}

TEST(TokenizerLimitsTest, ThreadsShareOneTokenizer) {
  const auto tokenizer = MakeByteLevel("llama-bpe");
  const std::string text = Repeat("aaa bb 123 \xc3\xa9\n\n", 500);
  const auto expected = *tokenizer->Encode(text, Special::kAsText, AddBos::kNo);
  std::atomic<int> wrong = 0;
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      for (int round = 0; round < 20; ++round) {
        const auto ids = tokenizer->Encode(text, Special::kAsText, AddBos::kNo);
        if (!ids.ok() || *ids != expected) ++wrong;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong.load(), 0);
}

// The real vocabulary: text of every kind comes back as it was.
TEST(TokenizerLimitsTest, SmolLm2RoundTrip) {
  const std::string path = conclave::testing::CachedModelPath("SmolLM2-135M-Instruct.Q4_1.gguf");
  if (path.empty()) GTEST_SKIP() << "needs ~/.cache/conclave/SmolLM2-135M-Instruct.Q4_1.gguf (see deploy/demo)";
  const auto file = GgufFile::Open(path);
  ASSERT_OK(file);
  const auto tokenizer = ReadTokenizer(**file);
  ASSERT_OK(tokenizer);
  EXPECT_EQ((*tokenizer)->vocab_size(), 49152);
  ExpectRoundTrip(**tokenizer,
                  "What is 12 + 30? It's 42.\n\n\tCaf\xc3\xa9 <|im_end|> \xe6\xbc\xa2\xe5\xad\x97 \xf0\x9f\x98\x80");
  ExpectRoundTrip(**tokenizer, Repeat("a", 100'000));
  ExpectRoundTrip(**tokenizer, Repeat("\n", 100'000));
  EXPECT_EQ(*(*tokenizer)->Encode("<|im_start|>user\n", Special::kParse, AddBos::kIfModelDoes),
            (std::vector<TokenId>{1, 4093, 198}));
  EXPECT_TRUE((*tokenizer)->IsEnd(2));
}

}  // namespace
}  // namespace conclave::engine
