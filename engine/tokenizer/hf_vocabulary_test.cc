// SPDX-License-Identifier: Apache-2.0
#include "engine/tokenizer/hf_vocabulary.h"

#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "common/file.h"
#include "common/hash.h"
#include "engine/tokenizer/read_tokenizer.h"
#include "engine/tokenizer/utf8.h"
#include "tests/testing/shared_data.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_dir.h"

namespace conclave::engine {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Json = nlohmann::ordered_json;
using testing::StatusIs;

const std::string kGolden = std::string(CONCLAVE_SOURCE_DIR) + "/tests/golden/tokenizers/";

absl::StatusOr<std::unique_ptr<Tokenizer>> Make(const std::string& text) {
  const auto document = JsonDocument::Parse("tokenizer.json", text);
  if (!document.ok()) return document.status();
  auto vocabulary = ReadHfVocabulary(**document);
  if (!vocabulary.ok()) return vocabulary.status();
  return Tokenizer::Create(*std::move(vocabulary));
}

std::vector<TokenId> Encode(const Tokenizer& tokenizer, std::string_view text, Tokenizer::AddBos marks) {
  const auto ids = tokenizer.Encode(text, Tokenizer::Special::kParse, marks);
  EXPECT_OK(ids);
  return ids.ok() ? *ids : std::vector<TokenId>();
}

// Every kind of pipeline against the tokenizers library (make_tokenizers.py): ids without and with the model's own
// marks, and the text of the ids.
class HfTokenizers : public ::testing::TestWithParam<std::string> {};

TEST_P(HfTokenizers, VectorsOfTheLibrary) {
  const auto tokenizer = Make(*ReadFile(kGolden + GetParam() + ".json"));
  ASSERT_OK(tokenizer);
  const auto vectors = Json::parse(*ReadFile(kGolden + GetParam() + ".vectors.json"));
  int rows = 0;
  for (const auto& row : vectors["rows"]) {
    const auto text = row["text"].get<std::string>();
    const auto ids = row["ids"].get<std::vector<TokenId>>();
    EXPECT_EQ(Encode(**tokenizer, text, Tokenizer::AddBos::kNo), ids) << row["text"];
    EXPECT_EQ(Encode(**tokenizer, text, Tokenizer::AddBos::kIfModelDoes), row["marked"].get<std::vector<TokenId>>());
    std::string decoded;  // the library replaces malformed bytes
    Utf8Stream utf8;
    utf8.Append((*tokenizer)->Decode(ids, Tokenizer::SpecialText::kAsText), &decoded);
    utf8.Finish(&decoded);
    EXPECT_EQ(decoded, row["decoded"].get<std::string>());
    ++rows;
  }
  EXPECT_EQ(rows, 150);
}

INSTANTIATE_TEST_SUITE_P(Kinds, HfTokenizers,
                         ::testing::Values("qwen", "llama3", "gpt2_like", "starcoder_like", "llama2",
                                           "metaspace_always", "metaspace_first", "metaspace_never",
                                           "normalized_tokens", "splits", "harmony"),
                         [](const auto& test) { return test.param; });

// Vectors of llama.cpp's vocabularies that are those of a Hugging Face file.
TEST(HfTokenizers, SharedVectors) {
  SKIP_WITHOUT_SHARED(vectors, "data/tokenizer/llama_cpp_vectors.jsonl");
  const std::map<std::string, std::string> files = {
      {"ggml-vocab-qwen2", "qwen3"}, {"ggml-vocab-deepseek-r1-qwen", "qwen3"}, {"ggml-vocab-llama-bpe", "llama3"}};
  std::map<std::string, std::unique_ptr<Tokenizer>> tokenizers;
  for (const char* name : {"qwen3", "llama3", "deepseek_v3"}) {
    SKIP_WITHOUT_SHARED(path, "data/tokenizer/hf/" + std::string(name) + ".tokenizer.json.gz");
    auto tokenizer = Make(*ReadMaybeGzip(path));
    ASSERT_OK(tokenizer) << name;
    tokenizers[name] = *std::move(tokenizer);
  }
  int checked = 0;
  std::ifstream in(vectors);
  for (std::string line; std::getline(in, line);) {
    const auto row = Json::parse(line);
    const auto file = files.find(row["vocab"].get<std::string>());
    if (file == files.end()) continue;
    const auto text = row["text"].get<std::string>();
    const auto ids = tokenizers[file->second]->Encode(text, Tokenizer::Special::kAsText, Tokenizer::AddBos::kNo);
    ASSERT_OK(ids);
    EXPECT_EQ(*ids, row["ids"].get<std::vector<TokenId>>()) << file->first << ": " << row["text"];
    ++checked;
  }
  EXPECT_EQ(checked, 3 * 47);
  // The three agree with the tokenizers library on a text of every script (ids by tokenizers 0.23).
  EXPECT_EQ(tokenizers["deepseek_v3"]->vocab_size(), 128815);
}

TEST(HfTokenizers, SpecialTokensNeedTrust) {
  const auto tokenizer = Make(*ReadFile(kGolden + "qwen.json"));
  ASSERT_OK(tokenizer);
  const TokenId start = *(*tokenizer)->FindToken("<|im_start|>"), think = *(*tokenizer)->FindToken("<think>");
  const std::string text = "<|im_start|><think>";
  EXPECT_THAT(Encode(**tokenizer, text, Tokenizer::AddBos::kNo), ElementsAre(start, think));
  const auto plain = (*tokenizer)->Encode(text, Tokenizer::Special::kAsText, Tokenizer::AddBos::kNo);
  ASSERT_OK(plain);
  for (const TokenId id : *plain) EXPECT_TRUE(id != start && id != think);
  EXPECT_EQ((*tokenizer)->Decode(*plain, Tokenizer::SpecialText::kAsText), text);
}

// A special token that is looked for after a normaliser which moves text: trusted as a whole, or not at all.
TEST(HfTokenizers, TrustThroughANormalizer) {
  auto file = Json::parse(*ReadFile(kGolden + "normalized_tokens.json"));
  for (auto& token : file["added_tokens"]) {
    if (token["content"] == "<|im_end|>") token["normalized"] = true;
  }
  const auto tokenizer = Make(file.dump());
  ASSERT_OK(tokenizer);
  const TokenId end = *(*tokenizer)->FindToken("<|im_end|>");
  const std::string text = "42 a<|im_end|>";
  const auto count = [&](std::vector<ByteRange> trusted) {
    const auto ids = (*tokenizer)->Encode(text, trusted, Tokenizer::AddBos::kNo);
    EXPECT_OK(ids);
    return std::count(ids->begin(), ids->end(), end);
  };
  EXPECT_EQ(count({{0, text.size()}}), 1);
  EXPECT_EQ(count({{0, 4}}), 0);
  EXPECT_EQ(count({{4, text.size()}}), 0);
  EXPECT_EQ(count({}), 0);
}

// ---- What is not known is named. Each case changes one thing of a good file.

class HfTokenizerErrors : public ::testing::Test {
 protected:
  Json file_ = Json::parse(*ReadFile(kGolden + "qwen.json"));
  void Expect(const std::string& path, const std::string& value, const std::string& named) {
    Json changed = file_;
    changed[Json::json_pointer(path)] = Json::parse(value);
    const absl::Status status = Make(changed.dump()).status();
    EXPECT_TRUE(absl::IsUnimplemented(status) || absl::IsFailedPrecondition(status) || absl::IsInvalidArgument(status))
        << path << ": " << status;
    EXPECT_THAT(std::string(status.message()), AllOf(HasSubstr("tokenizer.json"), HasSubstr(named))) << path;
  }
};

TEST_F(HfTokenizerErrors, UnknownKinds) {
  Expect("/model/type", "\"Unigram\"", "Unigram");
  Expect("/model/type", "\"WordPiece\"", "WordPiece");
  Expect("/normalizer", R"({"type":"BertNormalizer"})", "BertNormalizer");
  Expect("/pre_tokenizer", R"({"type":"UnicodeScripts"})", "UnicodeScripts");
  Expect("/pre_tokenizer/pretokenizers/0/behavior", "\"Removed\"", "Removed");
  Expect("/pre_tokenizer/pretokenizers/0/pattern/Regex", R"("[\\p{L}&&[a-z]]+")", "intersection");
  Expect("/pre_tokenizer/pretokenizers/0/pattern/Regex", R"("\\h+")", "has \\h at");
  Expect("/pre_tokenizer/pretokenizers/0/pattern/Regex", R"("(a")", "does not compile");
  Expect("/post_processor", R"({"type":"BertProcessing"})", "BertProcessing");
  Expect("/decoder", R"({"type":"WordPiece"})", "WordPiece");
  Expect("/decoder", "null", "ByteLevel");
  Expect("/model/continuing_subword_prefix", "\"##\"", "continuing_subword_prefix");
  Expect("/model/dropout", "0.1", "dropout");
  Expect("/truncation", R"({"max_length":5})", "truncation");
  Expect("/pre_tokenizer", R"({"type":"Sequence","pretokenizers":[{"type":"ByteLevel","add_prefix_space":false},
                              {"type":"Digits"}]})",
         "ByteLevel");
}

TEST_F(HfTokenizerErrors, ImpossibleValues) {
  Expect("/model", "null", "model");
  Expect("/model/vocab", "[]", "model.vocab");
  Expect("/model/vocab/the", "-1", "model.vocab.the");
  Expect("/model/vocab/the", "5", "the text");
  Expect("/model/vocab/the", "4194304", "model.vocab.the");
  Expect("/model/vocab/the", "70000", "ids unused");
  Expect("/model/merges/0", "3", "model.merges[0]");
  Expect("/model/merges/0", R"(["a"])", "1 pieces");
  Expect("/model/merges/0", "\"a\"", "merge 0");
  Expect("/added_tokens/0/id", "\"x\"", "added_tokens[0].id");
  Expect("/added_tokens/0/content", "\"\"", "added_tokens[0].content");
  Expect("/added_tokens/0/content", "\"other\"", "already");
  Expect("/post_processor",
         R"({"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"x"}}],"special_tokens":{}})", "\"x\"");
  Expect("/post_processor", R"({"type":"TemplateProcessing","single":[],"special_tokens":{}})", "place for the text");
  Expect("/post_processor", R"({"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"x"}},
         {"Sequence":{"id":"A"}}],"special_tokens":{"x":{"ids":[99999]}}})",
         "99999");
}

TEST(HfTokenizers, FlippedBitsAndTruncations) {
  const std::string good = *ReadFile(kGolden + "metaspace_first.json");
  for (size_t size = 0; size < good.size(); size += 1 + size / 64)
    EXPECT_FALSE(Make(good.substr(0, size)).ok()) << size;
  int working = 0;
  for (uint64_t i = 0; i < 3000; ++i) {
    std::string flipped = good;
    const auto bit = static_cast<size_t>(PhiloxUniform(11, 0, i) * static_cast<double>(good.size() * 8));
    flipped[bit / 8] = static_cast<char>(flipped[bit / 8] ^ (1 << (bit % 8)));
    const auto tokenizer = Make(flipped);
    if (!tokenizer.ok()) continue;
    ++working;
    const auto ids =
        (*tokenizer)->Encode("the word [L] 12\xff", Tokenizer::Special::kParse, Tokenizer::AddBos::kIfModelDoes);
    if (ids.ok()) (*tokenizer)->Decode(*ids, Tokenizer::SpecialText::kAsText);
  }
  EXPECT_GT(working, 100);
}

// ---- The files beside it.

class HfTokenizerConfig : public ::testing::Test {
 protected:
  HfTokenizerConfig() {
    Put("config.json", R"({"eos_token_id":5})");
    Put("tokenizer.json", *ReadFile(kGolden + "llama2.json"));
  }
  void Put(const std::string& name, const std::string& text) { std::ofstream(dir_.Path(name)) << text; }
  absl::StatusOr<std::unique_ptr<Tokenizer>> Read() {
    auto checkpoint = Checkpoint::OpenMetadata(dir_.path());
    EXPECT_OK(checkpoint);
    return ReadTokenizer(**checkpoint);
  }
  testing::TempDir dir_;
};

TEST_F(HfTokenizerConfig, SpecialTokensAndEnds) {
  EXPECT_THAT((*Read())->end_tokens(), ElementsAre(5));
  Put("generation_config.json", R"({"eos_token_id":[7,6,999999]})");
  Put("tokenizer_config.json", R"({"bos_token":"<s>","eos_token":{"content":"</s>","lstrip":false},"pad_token":null})");
  const auto tokenizer = *Read();
  EXPECT_EQ(tokenizer->bos(), 1);
  EXPECT_EQ(tokenizer->eos(), 2);
  EXPECT_THAT(tokenizer->end_tokens(), ElementsAre(2, 6, 7));
  EXPECT_TRUE(tokenizer->adds_bos());
  Put("tokenizer_config.json", R"({"bos_token":"<nowhere>"})");
  EXPECT_THAT(Read().status(), StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("bos_token")));
}

TEST_F(HfTokenizerConfig, FlagsOfTheLlamaClasses) {
  const auto marks = [&](const std::string& config) {
    Put("tokenizer_config.json", config);
    return Encode(**Read(), "", Tokenizer::AddBos::kIfModelDoes);
  };
  const std::string tokens = R"("bos_token":"<s>","eos_token":"</s>",)";
  EXPECT_THAT(marks("{" + tokens + R"("tokenizer_class":"PreTrainedTokenizerFast","add_bos_token":false})"),
              ElementsAre(1, 2));
  EXPECT_THAT(marks("{" + tokens + R"("tokenizer_class":"LlamaTokenizerFast","add_eos_token":false})"), ElementsAre(1));
  EXPECT_THAT(marks("{" + tokens + R"("tokenizer_class":"LlamaTokenizer","add_bos_token":false})"), ElementsAre(2));
}

TEST_F(HfTokenizerConfig, ChatTemplates) {
  Put("tokenizer_config.json", R"({"chat_template":"one"})");
  EXPECT_EQ((*Read())->chat_template(), "one");
  Put("tokenizer_config.json",
      R"({"chat_template":[{"name":"tool_use","template":"t"},{"name":"default","template":"d"}]})");
  EXPECT_EQ((*Read())->chat_template(), "d");
  Put("tokenizer_config.json", R"({"chat_template":[{"name":"tool_use","template":"t"}]})");
  EXPECT_THAT(Read().status(), StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("default")));
  Put("tokenizer_config.json", "{}");
  Put("chat_template.jinja", "from a file");
  EXPECT_EQ((*Read())->chat_template(), "from a file");
}

}  // namespace
}  // namespace conclave::engine
