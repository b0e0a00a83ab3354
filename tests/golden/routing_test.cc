// SPDX-License-Identifier: Apache-2.0
// Routing per request, end to end in the engine: what is refused, what shares a prefix, what is counted and charged.
#include <gtest/gtest.h>

#include <numeric>

#include "common/file.h"
#include "engine/engine.h"
#include "tests/golden/family_files.h"
#include "tests/testing/generation.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_dir.h"

namespace conclave::engine {
namespace {

using testing::FamilyCheckpoint;
using testing::Generation;
using ::testing::HasSubstr;
using testing::StatusIs;
using testing::TempDir;

// Three layers, the first dense; 16 experts of 3 x 32 x 32 weights, 4 per token, one shared.
class Routing : public ::testing::Test {
 protected:
  Routing() {
    const auto golden = nlohmann::json::parse(*ReadFile(CONCLAVE_SOURCE_DIR "/tests/golden/families.json"));
    for (const auto& golden_case : golden["cases"]) {
      if (golden_case["name"] != "deepseek_v3") continue;
      FamilyGguf(FamilyCheckpoint(golden_case), DType::kF32).Write(folder_.Path("m.gguf"));
    }
    prompt_ = golden["prompt"].get<std::vector<TokenId>>();
    EngineOptions options;
    options.model_path = folder_.Path("m.gguf");
    options.kernel = "scalar";
    options.threads = 1;
    options.kv_bytes = 4 << 20;
    engine_ = *Engine::Create(options);
  }

  static constexpr int64_t kExpertLayers = 2, kExperts = 16, kNative = 4, kExpertWeights = 3 * 32 * 32;

  GenerateRequest Request(int32_t top_k, int32_t output_tokens) const {
    GenerateRequest request;
    request.prompt = prompt_;
    request.sampling.temperature = 0;
    request.stopping.output_tokens_max = output_tokens;
    request.stopping.ignore_end_of_sequence = true;
    request.routing.top_k = top_k;
    return request;
  }
  std::shared_ptr<Generation> Submit(GenerateRequest request) const {
    auto generation = std::make_shared<Generation>();
    EXPECT_OK(engine_->Submit(std::move(request), generation));
    return generation;
  }
  Usage UsageOf(GenerateRequest request) const { return Submit(std::move(request))->Wait().usage(); }

  TempDir folder_;
  std::vector<TokenId> prompt_;
  std::unique_ptr<Engine> engine_;
};

TEST_F(Routing, MoreExpertsThanTheModelsOwnAreRefused) {
  for (const int32_t top_k : {-1, int32_t{kNative} + 1}) {
    EXPECT_THAT(engine_->Submit(Request(top_k, 1), std::make_shared<Generation>()),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("routing.top_k")));
    EXPECT_THAT(engine_->Routing(prompt_, {.top_k = top_k}),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("routing.top_k")));
  }
  for (const int32_t top_k : {1, int32_t{kNative}}) EXPECT_OK(Submit(Request(top_k, 1))->Wait().status());
}

TEST_F(Routing, APrefixIsSharedOnlyUnderTheSamePolicy) {
  const auto found = std::ssize(prompt_) - 1;  // the last one's logits are wanted
  EXPECT_EQ(UsageOf(Request(0, 1)).cached_prompt_tokens, 0);
  EXPECT_EQ(UsageOf(Request(0, 1)).cached_prompt_tokens, found);
  EXPECT_EQ(UsageOf(Request(kNative, 1)).cached_prompt_tokens, found) << "the model's own number is no other policy";
  EXPECT_EQ(UsageOf(Request(2, 1)).cached_prompt_tokens, 0);
  EXPECT_EQ(UsageOf(Request(2, 1)).cached_prompt_tokens, found);
  EXPECT_EQ(UsageOf(Request(3, 1)).cached_prompt_tokens, 0);
}

TEST_F(Routing, UsageCountsChosenExpertsOnly) {
  for (const int32_t top_k : {1, 2, 4}) {
    GenerateRequest one = Request(top_k, 1);
    one.prompt = {7};
    const Usage usage = UsageOf(one);
    EXPECT_EQ(usage.experts_activated, kExpertLayers * top_k);
    const int64_t fewer = kExpertLayers * (kNative - top_k) * kExpertWeights;
    EXPECT_EQ(usage.weight_bytes, engine_->info().weight_bytes_per_token - 4 * fewer);
    EXPECT_EQ(usage.flops,
              engine_->info().flops_per_token + engine_->info().attention_flops_per_token_and_position - 2 * fewer);
    EXPECT_EQ(UsageOf(Request(top_k, 3)).experts_activated, (70 + 2) * kExpertLayers * top_k);
  }
}

// By the shapes alone.
TEST_F(Routing, SizesOfTheModel) {
  const ModelInfo& info = engine_->info();
  const int64_t D = 32, V = 264;
  const int64_t attention = 32 * D + 32 + 4 * 16 * 32 + 40 * D + 32 + 4 * 24 * 32 + D * 4 * 16 + 2 * D;
  const int64_t sparse = 16 * D + 16 + 3 * 32 * D, dense = 3 * 64 * D;
  const int64_t active = 2 * V * D + D + 3 * attention + 2 * sparse + dense + kExpertLayers * kNative * kExpertWeights;
  EXPECT_EQ(info.params_active, active);
  EXPECT_EQ(info.params_total, active + kExpertLayers * (kExperts - kNative) * kExpertWeights);
  EXPECT_EQ(info.experts, kExperts);
  EXPECT_EQ(info.experts_per_token, kNative);
  EXPECT_EQ(info.attention_flops_per_token_and_position, 3 * 2 * 4 * (40 + 32));
}

TEST_F(Routing, CountersAgreeWithTheTrace) {
  const auto trace = engine_->Routing(prompt_, {.top_k = 3});
  ASSERT_OK(trace);
  ASSERT_EQ(trace->size(), 3u);
  std::vector<std::vector<int64_t>> expected(kExpertLayers, std::vector<int64_t>(kExperts, 0));
  for (size_t layer = 0; layer < trace->size(); ++layer) {
    ASSERT_EQ((*trace)[layer].size(), prompt_.size());
    for (const ExpertChoice& choice : (*trace)[layer]) {
      ASSERT_EQ(choice.experts.size(), layer == 0 ? 0u : 3u);
      for (const int32_t expert : choice.experts) ++expected[layer - 1][static_cast<size_t>(expert)];
    }
  }
  const ExpertCounts counts = engine_->expert_counts();
  EXPECT_EQ(counts.layer_ids, (std::vector<int32_t>{1, 2}));
  EXPECT_EQ(counts.counts, expected);
}

// Sequences of different policies share steps without touching one another.
TEST_F(Routing, PoliciesMixInOneStep) {
  std::vector<std::vector<TokenId>> alone;
  for (const int32_t top_k : {1, 2, 3, 4}) alone.push_back(Submit(Request(top_k, 20))->Wait().sample().tokens);
  EXPECT_NE(alone[0], alone[3]);
  std::vector<std::shared_ptr<Generation>> together;
  for (const int32_t top_k : {1, 2, 3, 4}) together.push_back(Submit(Request(top_k, 20)));
  for (size_t i = 0; i < alone.size(); ++i) EXPECT_EQ(together[i]->Wait().sample().tokens, alone[i]);
}

}  // namespace
}  // namespace conclave::engine
