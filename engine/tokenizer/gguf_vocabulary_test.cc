// SPDX-License-Identifier: Apache-2.0
#include "engine/tokenizer/gguf_vocabulary.h"

#include <nlohmann/json.hpp>

#include "common/file.h"
#include "engine/tokenizer/read_tokenizer.h"
#include "tests/testing/gguf_writer.h"
#include "tests/testing/status_matchers.h"

namespace conclave::engine {
namespace {

using conclave::testing::GgufWriter;
using conclave::testing::StatusIs;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::StartsWith;

std::vector<std::string> Tokens() { return {"<unk>", "<s>", "</s>", "a", "b", "ab"}; }
std::vector<int32_t> Types() { return {2, 3, 3, 1, 1, 1}; }

GgufWriter SentencePiece() {
  GgufWriter w;
  w.Add("tokenizer.ggml.model", "llama").AddArray("tokenizer.ggml.tokens", Tokens());
  w.AddArray("tokenizer.ggml.scores", std::vector<float>{0, 0, 0, -3, -2, -1});
  w.AddArray("tokenizer.ggml.token_type", Types()).Add("tokenizer.ggml.unknown_token_id", 0u);
  return w;
}
GgufWriter ByteLevel() {
  GgufWriter w;
  w.Add("tokenizer.ggml.model", "gpt2").AddArray("tokenizer.ggml.tokens", Tokens());
  w.AddArray("tokenizer.ggml.merges", std::vector<std::string>{"a b"});
  return w;
}

absl::StatusOr<std::unique_ptr<Tokenizer>> Read(const GgufWriter& writer) {
  const std::string bytes = writer.Build();
  const auto file = GgufFile::Parse("t.gguf", std::as_bytes(std::span(bytes)));
  EXPECT_OK(file);
  if (!file.ok()) return file.status();
  return ReadTokenizer(**file);  // copies what it keeps
}

auto Invalid(std::string_view detail) {
  return StatusIs(absl::StatusCode::kFailedPrecondition,
                  AllOf(StartsWith("MODEL_FILE_INVALID t.gguf: "), HasSubstr(std::string(detail))));
}

TEST(GgufVocabularyTest, ReadsSentencePieceWithItsDefaults) {
  GgufWriter w = SentencePiece();
  w.Add("tokenizer.ggml.bos_token_id", 1u).Add("tokenizer.ggml.eos_token_id", 2u);
  w.Add("tokenizer.ggml.padding_token_id", 0xffffffffu).Add("tokenizer.chat_template", "{{ x }}");
  const auto t = Read(w);
  ASSERT_OK(t);
  EXPECT_TRUE((*t)->adds_bos());
  EXPECT_TRUE((*t)->vocabulary().add_space_prefix);
  EXPECT_EQ((*t)->eos(), 2);
  EXPECT_EQ((*t)->vocabulary().padding, std::nullopt);
  EXPECT_EQ((*t)->chat_template(), "{{ x }}");
}

TEST(GgufVocabularyTest, ReadsByteLevelWithItsDefaults) {
  GgufWriter w = ByteLevel();
  w.Add("tokenizer.ggml.pre", "llama-bpe").Add("tokenizer.ggml.bos_token_id", 1u);
  const auto t = Read(w);
  ASSERT_OK(t);
  EXPECT_TRUE((*t)->adds_bos());
  EXPECT_EQ((*t)->chat_template(), "");
  w.Add("tokenizer.ggml.add_bos_token", false);
  EXPECT_FALSE((*Read(w))->adds_bos());
}

TEST(GgufVocabularyTest, RefusesUnknownModelsAndSplits) {
  EXPECT_THAT(Read(GgufWriter()), Invalid("key \"tokenizer.ggml.model\" (string) is missing"));
  EXPECT_THAT(Read(GgufWriter().Add("tokenizer.ggml.model", "bert")), Invalid("is \"bert\"; supported are"));
  EXPECT_THAT(Read(ByteLevel().Add("tokenizer.ggml.pre", "new-thing")), Invalid("unknown pre-tokenizer \"new-thing\""));
}

// CVE-2025-52566 and its kin: counts that contradict one another.
TEST(GgufVocabularyTest, RefusesCountsThatDisagree) {
  GgufWriter w;
  w.Add("tokenizer.ggml.model", "llama").AddArray("tokenizer.ggml.tokens", Tokens());
  EXPECT_THAT(Read(w), Invalid("\"tokenizer.ggml.token_type\" is missing"));
  w.AddArray("tokenizer.ggml.token_type", std::vector<int32_t>{1, 1});
  w.AddArray("tokenizer.ggml.scores", std::vector<float>{0, 0});
  EXPECT_THAT(Read(w), Invalid("2 token types for 6 tokens"));
  EXPECT_THAT(Read(GgufWriter(ByteLevel()).AddArray("tokenizer.ggml.token_type", std::vector<int32_t>{1, -1})),
              Invalid("holds -1 for token 1"));
  GgufWriter none;
  none.Add("tokenizer.ggml.model", "gpt2").AddArray("tokenizer.ggml.tokens", std::vector<std::string>{});
  none.AddArray("tokenizer.ggml.merges", std::vector<std::string>{});
  EXPECT_THAT(Read(none), Invalid("0 tokens"));
}

TEST(GgufVocabularyTest, RefusesIdsOutsideTheVocabulary) {
  EXPECT_THAT(Read(SentencePiece().Add("tokenizer.ggml.eos_token_id", 6u)), Invalid("the eos token is 6"));
  EXPECT_THAT(Read(SentencePiece().Add("tokenizer.ggml.eos_token_id", uint32_t{1} << 31)), Invalid("eos_token_id"));
  EXPECT_THAT(Read(SentencePiece().Add("tokenizer.ggml.bos_token_id", int32_t{-7})), Invalid("holds -7"));
  EXPECT_THAT(Read(SentencePiece().Add("tokenizer.ggml.bos_token_id", "one")), Invalid("is string"));
}

// gpt-oss's splits by name, over the small vocabulary that the tokenizers library was asked with (make_tokenizers.py).
TEST(GgufVocabularyTest, Gpt4oSplitsAsTheTokenizersLibraryDoes) {
  const std::string golden = std::string(CONCLAVE_SOURCE_DIR) + "/tests/golden/tokenizers/harmony";
  const auto source = nlohmann::json::parse(*ReadFile(golden + ".json"));
  const nlohmann::json& vocabulary = source["model"]["vocab"];
  std::vector<std::string> tokens(vocabulary.size()), merges;
  for (const auto& [token, id] : vocabulary.items()) tokens[id.get<size_t>()] = token;
  for (const auto& merge : source["model"]["merges"]) {
    merges.push_back(merge[0].get<std::string>() + " " + merge[1].get<std::string>());
  }
  std::vector<int32_t> types(tokens.size(), 1);
  for (const auto& added : source["added_tokens"]) types[added["id"].get<size_t>()] = 3;
  GgufWriter w;
  w.Add("tokenizer.ggml.model", "gpt2").Add("tokenizer.ggml.pre", "gpt-4o").AddArray("tokenizer.ggml.tokens", tokens);
  w.AddArray("tokenizer.ggml.token_type", types).AddArray("tokenizer.ggml.merges", merges);
  const auto t = Read(w);
  ASSERT_OK(t);
  const auto vectors = nlohmann::json::parse(*ReadFile(golden + ".vectors.json"));
  for (const auto& row : vectors["rows"]) {
    const auto ids = (*t)->Encode(row["text"].get<std::string>(), Tokenizer::Special::kParse, Tokenizer::AddBos::kNo);
    ASSERT_OK(ids);
    EXPECT_EQ(*ids, row["ids"].get<std::vector<TokenId>>()) << row["text"];
  }
}

}  // namespace
}  // namespace conclave::engine
