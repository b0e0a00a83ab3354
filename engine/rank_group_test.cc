// SPDX-License-Identifier: Apache-2.0
// Several ranks as one engine: what does not fit the ranks, how memory is shared out, and a rank that fails in the
// middle of a step.
#include "engine/rank_group.h"

#include <gtest/gtest.h>

#include "common/status.h"
#include "engine/loader.h"
#include "engine/request_builder.h"
#include "engine/step_loop.h"
#include "tests/testing/tiny_engine.h"

namespace conclave::engine {
namespace {

using ::testing::AllOf;
using testing::Generation;
using ::testing::HasSubstr;
using testing::StatusIs;
using testing::TempDir;
using testing::TinyEngine;
using testing::TinyModel;
using testing::TinyModelOptions;

TEST(Ranks, ThatTheModelCannotBeSplitOverAreAnError) {
  const TempDir folder;
  EngineOptions options = TinyEngine::Options();
  options.model_path = folder.Path("tiny.gguf");
  TinyModel().Write(options.model_path);
  const auto error = [&](int32_t ranks, const std::string& kernel) {
    options.ranks = ranks;
    options.kernel = kernel;
    return Engine::Create(options).status();
  };
  EXPECT_OK(error(4, "scalar"));
  EXPECT_THAT(error(0, "scalar"), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("ranks is 0")));
  EXPECT_THAT(error(3, "scalar"), StatusIs(absl::StatusCode::kInvalidArgument,
                                           AllOf(HasSubstr("ranks is 3"), HasSubstr("4 attention heads"))));
  EXPECT_THAT(error(2, "cuda"), StatusIs(absl::StatusCode::kUnimplemented, HasSubstr("ranks is 2")));
}

TEST(Ranks, ShareTheMemory) {
  EngineOptions options = TinyEngine::Options();
  options.context_tokens_max = 128;  // then there is more memory than pages are wanted
  const TinyModelOptions tiny = {.kv_heads = 4, .feed_forward = 64, .tied_head = false};
  const TinyEngine one(options, tiny);
  options.ranks = 2;
  const TinyEngine two(options, tiny);
  const MemoryPlan& plan = two->memory();
  ASSERT_EQ(plan.ranks.size(), 2u);
  EXPECT_EQ(plan.kv_pages, one->memory().kv_pages);
  EXPECT_EQ(plan.kv_bytes, one->memory().kv_bytes);
  EXPECT_EQ(two->info().kv_bytes_per_token, one->info().kv_bytes_per_token);
  // Each has the embedding and the gains, and half of the rest; of 261 rows of the head the first has one more.
  const int64_t replicated = 4 * (261 * 32 + 5 * 32), all = one->memory().weight_bytes;
  EXPECT_EQ(plan.ranks[0].weight_bytes - plan.ranks[1].weight_bytes, 4 * 32);
  EXPECT_EQ(plan.weight_bytes, all + replicated);
  for (const RankMemory& rank : plan.ranks) EXPECT_EQ(rank.kv_bytes, plan.kv_bytes / 2);
  EXPECT_EQ(plan.ranks[0].workspace_bytes + plan.ranks[1].workspace_bytes, plan.workspace_bytes);
  EXPECT_THAT(plan.ToString(), AllOf(HasSubstr("2 ranks"), HasSubstr("rank 0"), HasSubstr("rank 1")));
}

TEST(Ranks, LoadingTellsHowFarItIs) {
  std::vector<int64_t> told;
  EngineOptions options = TinyEngine::Options();
  options.ranks = 4;
  options.on_load = [&](int64_t bytes, int64_t) { told.push_back(bytes); };
  const TinyEngine engine(options);
  EXPECT_TRUE(std::is_sorted(told.begin(), told.end()));
  EXPECT_LT(told.front(), engine->info().weight_bytes / 8);
  EXPECT_EQ(told.back(), engine->info().weight_bytes);
}

// Batches, chunks, penalties and random numbers: everything but the sums is the engine's own.
TEST(Ranks, BatchesOfSampledTextEqualLoneRequests) {
  EngineOptions options = TinyEngine::Options();
  options.ranks = 2;
  options.step_tokens_max = 40;
  const TinyEngine shared(options), alone(options);
  std::vector<std::shared_ptr<Generation>> generations;
  for (uint64_t number = 0; number < 12; ++number) {
    generations.push_back(shared.Submit(TinyEngine::Request(number, 1 + 7 * static_cast<int32_t>(number), 12)));
  }
  for (uint64_t number = 0; number < 12; ++number) {
    EXPECT_EQ(generations[number]->Wait().sample().tokens,
              alone.Alone(TinyEngine::Request(number, 1 + 7 * static_cast<int32_t>(number), 12)))
        << number;
  }
}

// Fails in its collective number `fails_at`, counted from 0.
class Failing final : public Communicator {
 public:
  Failing(std::unique_ptr<Communicator> inner, int fails_at) : inner_(std::move(inner)), left_(fails_at) {}
  int32_t rank() const override { return inner_->rank(); }
  int32_t size() const override { return inner_->size(); }
  absl::Status AllReduceSum(const View& x) override {
    if (left_-- == 0) return Internal("the link is down");
    return inner_->AllReduceSum(x);
  }
  void Abort(const absl::Status& status) override { inner_->Abort(status); }

 private:
  const std::unique_ptr<Communicator> inner_;
  int left_;
};

// A rank fails in the first collective of the first step, in the middle of one, and steps later: requests in flight end
// with UNAVAILABLE and the cause, later ones are refused, and nobody waits for anybody.
TEST(Ranks, OneThatFailsInAStepEndsTheEngineCleanly) {
  const TempDir folder;
  EngineOptions options = TinyEngine::Options();
  options.model_path = folder.Path("tiny.gguf");
  TinyModel().Write(options.model_path);
  options.ranks = 4;
  for (const int32_t failing : {0, 1, 3}) {
    for (const int fails_at : {0, 2, 13}) {  // of 2 layers with 2 sums each
      const auto group = [&](int32_t ranks) {
        auto members = MakeInProcessGroup(ranks);
        auto& member = members[static_cast<size_t>(failing)];
        member = std::make_unique<Failing>(std::move(member), fails_at);
        return members;
      };
      const auto model = LoadModel(options, group);
      ASSERT_OK(model);
      const RequestLimits limits = {.context_tokens = (*model)->info.context_tokens,
                                    .sequences_max = options.sequences_max,
                                    .page_tokens = (*model)->step.page_tokens,
                                    .vocab = (*model)->info.vocab,
                                    .model_revision = {},
                                    .experts_per_token = 0};
      StepLoop loop((*model)->step, (*model)->costs, (*model)->group.get(), &Clock::System());
      loop.Start();
      const auto submit = [&](uint64_t number, const std::shared_ptr<Generation>& generation) {
        auto request = BuildGenerate(limits, *(*model)->tokenizer, TinyEngine::Request(number, 20, 30), generation);
        EXPECT_OK(request);
        return loop.Submit(*std::move(request)).status();
      };
      std::vector<std::shared_ptr<Generation>> generations;
      for (uint64_t number = 0; number < 3; ++number) {
        generations.push_back(std::make_shared<Generation>());
        // The fault may be there before the next is submitted.
        if (const absl::Status status = submit(number, generations.back()); !status.ok()) {
          EXPECT_THAT(status, StatusIs(absl::StatusCode::kUnavailable));
          generations.pop_back();
        }
      }
      ASSERT_FALSE(generations.empty());
      const std::string cause = fmt::format("rank {}: the link is down", failing);
      for (const auto& generation : generations) {
        EXPECT_THAT(generation->Wait().status(),
                    StatusIs(absl::StatusCode::kUnavailable, AllOf(HasSubstr("DEVICE_FAULT"), HasSubstr(cause))));
      }
      EXPECT_THAT(submit(9, std::make_shared<Generation>()),
                  StatusIs(absl::StatusCode::kUnavailable, HasSubstr(cause)));
    }
  }
}

}  // namespace
}  // namespace conclave::engine
