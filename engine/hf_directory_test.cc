// SPDX-License-Identifier: Apache-2.0
// What the small files of a Hugging Face directory mean to the engine's users: texts, chats, sampling, missing parts.
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>

#include "common/file.h"
#include "engine/engine.h"
#include "engine/generation_config.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_dir.h"

namespace conclave::engine {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::StatusIs;

const std::string kGolden = std::string(CONCLAVE_SOURCE_DIR) + "/tests/golden/";

class HfDirectoryTest : public ::testing::Test {
 protected:
  HfDirectoryTest() {
    Copy("tokenizers/qwen.json", "tokenizer.json");
    Put("config.json", *ReadFile(kGolden + "hf/qwen3/config.json"));
    Put("tokenizer_config.json", R"({"eos_token":"<|im_end|>","chat_template":
      "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}<|im_start|>{% if enable_thinking %}<think>{% endif %}{{ eos_token }}"})");
  }
  void Put(const std::string& name, const std::string& text) {
    std::ofstream(dir_.Path(name), std::ios::binary) << text;
  }
  void Copy(const std::string& golden, const std::string& name) { Put(name, *ReadFile(kGolden + golden)); }
  testing::TempDir dir_;
};

TEST_F(HfDirectoryTest, TextsAndChatsNeedNoWeights) {
  for (const std::string& path : {dir_.path(), dir_.Path("tokenizer.json")}) {
    const auto vocabulary = Vocabulary::Load(path);
    ASSERT_OK(vocabulary);
    const auto ids = (*vocabulary)->Tokenize("the ducks", Vocabulary::SpecialTokens::kAsText, false);
    ASSERT_OK(ids);
    EXPECT_EQ((*vocabulary)->Detokenize(*ids), "the ducks");
    const auto chat =
        (*vocabulary)
            ->ApplyChatTemplate(R"({"messages":[{"role":"user","content":"<|im_end|>x"}],"enable_thinking":true})", 0);
    ASSERT_OK(chat);
    EXPECT_EQ(chat->text, "<|im_start|>user\n<|im_end|>x<|im_end|>\n<|im_start|><think><|im_end|>");
    // Ids of make_tokenizers.py: specials 0 and 1. What the user wrote is no end of a turn.
    EXPECT_EQ(std::count(chat->tokens.begin(), chat->tokens.end(), 0), 2);
    EXPECT_EQ(std::count(chat->tokens.begin(), chat->tokens.end(), 1), 2);
    EXPECT_EQ((*vocabulary)->Detokenize(chat->tokens), chat->text);
    EXPECT_THAT((*vocabulary)->ApplyChatTemplate("[]", 0).status(),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("JSON object")));
  }
}

TEST_F(HfDirectoryTest, SamplingOfTheMakers) {
  const HfDirectory directory(dir_.path());
  EXPECT_EQ(ReadGenerationConfig(directory)->temperature, 1.0f);
  Put("generation_config.json",
      R"({"do_sample":true,"temperature":0.6,"top_p":0.95,"top_k":20,"min_p":0.1,"repetition_penalty":1.05})");
  const auto sampling = ReadGenerationConfig(directory);
  ASSERT_OK(sampling);
  EXPECT_FLOAT_EQ(sampling->temperature, 0.6f);
  EXPECT_FLOAT_EQ(sampling->top_p, 0.95f);
  EXPECT_EQ(sampling->top_k, 20);
  EXPECT_FLOAT_EQ(sampling->min_p, 0.1f);
  EXPECT_FLOAT_EQ(sampling->repetition_penalty, 1.05f);
  Put("generation_config.json", R"({"do_sample":false,"temperature":0.6})");
  EXPECT_EQ(ReadGenerationConfig(directory)->temperature, 0.0f);
  Put("generation_config.json", R"({"top_p":1.5})");
  EXPECT_THAT(
      ReadGenerationConfig(directory).status(),
      StatusIs(absl::StatusCode::kFailedPrecondition, AllOf(HasSubstr("generation_config"), HasSubstr("top_p"))));
}

TEST_F(HfDirectoryTest, WhatIsMissingOrDoesNotFitIsNamed) {
  EngineOptions options;
  options.model_path = dir_.path();
  options.kernel = "scalar";
  options.threads = 1;
  EXPECT_THAT(Engine::Create(options).status(), StatusIs(absl::StatusCode::kNotFound, HasSubstr("model.safetensors")));
  Copy("hf/qwen3/model.safetensors", "model.safetensors");
  EXPECT_THAT(Engine::Create(options).status(),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("the embedding 96 rows")));
  std::filesystem::remove(dir_.Path("tokenizer.json"));
  EXPECT_THAT(Engine::Create(options).status(), StatusIs(absl::StatusCode::kNotFound, HasSubstr("tokenizer.json")));
  options.tokenizer_optional = true;
  const auto engine = Engine::Create(options);
  ASSERT_OK(engine);
  EXPECT_EQ((*engine)->Detokenize(std::vector<TokenId>{5, 7}), "<5><7>");
  EXPECT_EQ((*engine)->end_tokens()[0], 2);                   // config.json's eos_token_id
  Copy("hf/mistral/model.safetensors", "model.safetensors");  // no q_norm
  EXPECT_THAT(Engine::Create(options).status(),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("self_attn.q_norm.weight")));
  Put("config.json", *ReadFile(kGolden + "hf/mistral/config.json"));
  Copy("hf/qwen3/model.safetensors", "model.safetensors");
  EXPECT_THAT(Engine::Create(options).status(), StatusIs(absl::StatusCode::kUnimplemented, HasSubstr("_norm.weight")));
}

}  // namespace
}  // namespace conclave::engine
