// SPDX-License-Identifier: Apache-2.0
// Against what the models' own tokenizers give: ../shared/data/tokenizer (the tests of llama.cpp, made with the
// original Hugging Face tokenizers).
#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>

#include <nlohmann/json.hpp>

#include "engine/tokenizer/gguf_vocabulary.h"
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

}  // namespace
}  // namespace conclave::engine
