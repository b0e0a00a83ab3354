// SPDX-License-Identifier: Apache-2.0
// Against what the models' own tokenizers give: ../shared/data/tokenizer (the tests of llama.cpp, made with the
// original Hugging Face tokenizers).
#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>

#include <nlohmann/json.hpp>

#include "engine/format/gguf.h"
#include "engine/tokenizer/read_tokenizer.h"
#include "tests/testing/shared_data.h"
#include "tests/testing/status_matchers.h"

namespace conclave::engine {
namespace {

std::unique_ptr<Tokenizer> Load(const std::string& path) {
  const auto file = GgufFile::Open(path);
  EXPECT_OK(file);
  if (!file.ok()) return nullptr;
  auto tokenizer = ReadTokenizer(**file);
  EXPECT_OK(tokenizer) << path;
  return tokenizer.ok() ? *std::move(tokenizer) : nullptr;
}

std::vector<TokenId> Encode(const Tokenizer& tokenizer, std::string_view text) {
  const auto ids = tokenizer.Encode(text, Tokenizer::Special::kAsText, Tokenizer::AddBos::kNo);
  EXPECT_OK(ids);
  return ids.ok() ? *ids : std::vector<TokenId>();
}

// The vectors whose vocabulary is here and of a kind this room reads (bert-bge is WordPiece).
TEST(TokenizerGoldenTest, SharedVectors) {
  SKIP_WITHOUT_SHARED(vectors, "data/tokenizer/llama_cpp_vectors.jsonl");
  const std::string directory = conclave::testing::SharedPath("data/tokenizer/llama.cpp");
  std::map<std::string, std::unique_ptr<Tokenizer>> tokenizers;
  std::map<std::string, int> passed;
  std::ifstream in(vectors);
  for (std::string line; std::getline(in, line);) {
    const auto row = nlohmann::json::parse(line);
    const auto name = row["vocab"].get<std::string>();
    const std::string path = directory + "/" + name + ".gguf";
    if (!std::filesystem::exists(path)) continue;
    if (!tokenizers.contains(name)) tokenizers[name] = Load(path);
    ASSERT_NE(tokenizers[name], nullptr);
    const auto text = row["text"].get<std::string>();
    EXPECT_EQ(Encode(*tokenizers[name], text), row["ids"].get<std::vector<TokenId>>()) << name << ": " << row["text"];
    ++passed[name];
  }
  int total = 0;
  for (const auto& [name, count] : passed) total += count;
  RecordProperty("vectors", total);
  std::printf("checked %d vectors of %zu vocabularies\n", total, passed.size());
  EXPECT_EQ(passed.size(), 5u);
  EXPECT_EQ(total, 5 * 47);
}

// The same as .inp and .out files: texts between separator lines, ids one text a line.
TEST(TokenizerGoldenTest, InputAndOutputFiles) {
  SKIP_WITHOUT_SHARED(directory, "data/tokenizer/llama.cpp");
  int checked = 0;
  for (const auto& entry : std::filesystem::directory_iterator(directory)) {
    if (entry.path().extension() != ".gguf") continue;
    const std::string path = entry.path().string();
    std::ifstream in(path + ".inp"), out(path + ".out");
    std::stringstream input;
    input << in.rdbuf();
    const auto tokenizer = Load(path);
    ASSERT_NE(tokenizer, nullptr);
    constexpr std::string_view kSeparator = "\n__ggml_vocab_test__\n";
    const std::string text = input.str();
    size_t begin = 0;
    for (std::string line; std::getline(out, line);) {
      const size_t end = std::min(text.find(kSeparator, begin), text.size());
      std::istringstream numbers(line);
      const std::vector<TokenId> expected((std::istream_iterator<TokenId>(numbers)), {});
      EXPECT_EQ(Encode(*tokenizer, text.substr(begin, end - begin)), expected) << path << " line " << checked;
      begin = std::min(end + kSeparator.size(), text.size());
      ++checked;
    }
  }
  std::printf("checked %d texts\n", checked);
  EXPECT_GE(checked, 5 * 46);
}

// Ids from Hugging Face tokenizers 0.23 with SmolLM2's vocabulary, merges and pre-tokenizer (digits, then byte level).
TEST(TokenizerGoldenTest, SmolLm2) {
  const std::string path = conclave::testing::CachedModelPath("SmolLM2-135M-Instruct.Q4_1.gguf");
  if (path.empty()) GTEST_SKIP() << "needs ~/.cache/conclave/SmolLM2-135M-Instruct.Q4_1.gguf (see deploy/demo)";
  const auto tokenizer = Load(path);
  ASSERT_NE(tokenizer, nullptr);
  const std::vector<std::pair<std::string, std::vector<TokenId>>> cases = {
      {"What is 12 + 30? It's 42.", {1780, 314, 216, 33, 34, 1232, 216, 35, 32, 47, 657, 506, 216, 36, 34, 30}},
      {"\n\n\tdef f(x):\n        return x**2  # ok\n",
       {1116, 197, 1604, 275, 24, 104, 727, 448, 1003, 1792, 828, 34, 216, 907, 10907, 198}},
      {"Caf\xc3\xa9 \xe6\xbc\xa2\xe5\xad\x97 \xf0\x9f\x98\x80 \xd9\x85\xd8\xb1\xd8\xad\xd8\xa8\xd8\xa7",
       {51, 1939, 2756, 17097, 137, 112, 36518, 40303, 218, 36395, 20602, 44626, 31462, 10805}},
      {"I'LL don't  we've   ", {57, 23, 16421, 1326, 982, 216, 392, 3543, 333}},
      {"<|im_end|> </s> 3.14159,2^10=1024", {44, 108, 306, 79, 486, 108, 46, 22577, 99, 46, 216, 35, 30, 33,
                                             36, 33,  37,  41, 28,  34,  78, 33,    32, 45, 33,  32, 34, 36}},
      {"    \n \n  x", {289, 198, 3717, 216, 1792}},
      {"\xc2\xa0\xe3\x80\x80"
       "e\xcc\x81 \xd9\xa0\xc2\xbd",
       {15442, 12109, 218, 85, 151, 219, 216, 164, 250, 16738}},
      {"Janet\xe2\x80\x99s ducks lay 16 eggs per day.",
       {14247, 305, 417, 99, 26077, 2060, 216, 33, 38, 5246, 567, 1194, 30}},
  };
  for (const auto& [text, ids] : cases) EXPECT_EQ(Encode(*tokenizer, text), ids) << text;
}

}  // namespace
}  // namespace conclave::engine
