// SPDX-License-Identifier: Apache-2.0
// A plan must attend every token to exactly the positions it may see, each once, whatever is shared or split, within
// the room that was provided for it.
#include "engine/ops/cuda/step_plan.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>

#include "engine/ops/ops_fixture.h"

namespace conclave::engine::cuda {
namespace {

using testing::TestBatch;

constexpr int32_t kPage = 32;

struct Sequence {
  int32_t position, count;
  std::vector<int32_t> pages;
};

TestBatch BatchOf(const std::vector<Sequence>& sequences) {
  TestBatch batch;
  for (const Sequence& s : sequences) batch.Add(s.position, s.count, s.pages, kPage);
  return batch;
}

// `shared` pages of a trunk, then pages of its own, enough for `length` positions.
std::vector<int32_t> Table(int32_t trunk, int32_t shared, int32_t own, int32_t length) {
  std::vector<int32_t> pages;
  for (int32_t i = 0; i < (length + kPage - 1) / kPage; ++i) pages.push_back(i < shared ? trunk + i : own + i);
  return pages;
}

void CheckCoverage(const StepBatch& batch, const PlanShape& shape, const StepPlan& plan) {
  const int32_t group = shape.query_heads / shape.kv_heads;
  // Per row: positions attended, and partial rows written.
  std::map<int32_t, std::vector<int>> seen;
  std::map<int64_t, int> written;
  std::map<int32_t, std::vector<int64_t>> partials_of;  // row: partial rows
  for (const auto* items : {&plan.narrow, &plan.wide, &plan.trunk}) {
    for (const AttentionItem& item : *items) {
      ASSERT_LE(item.rows, items == &plan.narrow  ? kRowsOfNarrowItem
                           : items == &plan.trunk ? kRowsOfTrunkItem
                                                  : kRowsOfWideItem);
      ASSERT_EQ(item.kv_begin % kPositionsOfTile, 0);
      for (int32_t row = item.first_row; row < item.first_row + item.rows; ++row) {
        const int32_t token = plan.order[static_cast<size_t>(row / group)];
        auto& positions = seen[row];
        positions.resize(static_cast<size_t>(batch.positions[token]) + 1);
        int32_t s = 0;
        while (batch.q_indptr[s + 1] <= token) ++s;
        if (items == &plan.trunk) {
          ASSERT_LE(item.kv_end, batch.positions[token]);  // nothing is masked
        }
        for (int32_t p = item.kv_begin; p < std::min(item.kv_end, batch.positions[token] + 1); ++p) {
          ++positions[static_cast<size_t>(p)];
          ASSERT_EQ(batch.pages[item.pages_at + p / kPage], batch.pages[batch.page_indptr[s] + p / kPage]);
        }
        if (item.partial < 0) continue;
        for (int32_t g = 0; g < shape.kv_heads; ++g) {
          const int64_t at = int64_t{item.partial} + row - item.first_row + int64_t{g} * item.partial_rows;
          ASSERT_LT(at, plan.partial_rows);
          ASSERT_EQ(++written[at], 1);
          if (g == 0) partials_of[row].push_back(at);
        }
      }
    }
  }
  ASSERT_LE(plan.partial_rows, shape.partial_rows_max);
  ASSERT_EQ(seen.size(), batch.tokens.size() * static_cast<size_t>(group));
  for (const auto& [row, positions] : seen) {
    for (size_t p = 0; p < positions.size(); ++p) ASSERT_EQ(positions[p], 1) << "row " << row << " position " << p;
    const int32_t token = plan.order[static_cast<size_t>(row / group)];
    std::vector<int64_t> merged;
    for (int32_t i = plan.merge_of_token[token]; i < plan.merge_of_token[token + 1]; ++i) {
      merged.push_back(plan.merges[2 * i] + row % group);
    }
    std::vector<int64_t> expected = partials_of[row];
    std::sort(expected.begin(), expected.end());
    ASSERT_EQ(merged, expected);
  }
}

PlanShape ShapeFor(const Ops::StepLimits& limits, int32_t kv_heads, int32_t multiprocessors) {
  return {limits.query_heads, kv_heads, kPage, multiprocessors, PartialRowsMax(limits, multiprocessors), true};
}

void Check(const std::vector<Sequence>& sequences, int32_t query_heads, int32_t kv_heads, StepPlan* plan) {
  const TestBatch batch = BatchOf(sequences);
  const auto count = static_cast<int32_t>(sequences.size());
  const Ops::StepLimits limits = {static_cast<int32_t>(batch.tokens.size()), count,
                                  static_cast<int32_t>(batch.pages.size()), query_heads, count};
  const PlanShape shape = ShapeFor(limits, kv_heads, 132);
  PlanStep(batch.batch(), shape, plan);
  CheckCoverage(batch.batch(), shape, *plan);
  ASSERT_LE(plan->offsets.words, WordsMax(limits, shape));
  std::vector<int32_t> words(static_cast<size_t>(plan->offsets.words), -1);
  WriteStep(batch.batch(), *plan, words.data());
  EXPECT_EQ(words[static_cast<size_t>(plan->offsets.positions)], batch.positions[0]);
  EXPECT_EQ(words[static_cast<size_t>(plan->offsets.pages)], batch.pages[0]);
}

TEST(StepPlan, CoversRandomBatchesExactlyOnce) {
  std::mt19937 rng(11);
  const auto pick = [&rng](int32_t low, int32_t high) {
    return std::uniform_int_distribution<int32_t>(low, high)(rng);
  };
  for (int round = 0; round < 60; ++round) {
    std::vector<Sequence> sequences;
    const int32_t count = pick(1, 20);
    for (int32_t s = 0; s < count; ++s) {
      const int32_t shared = pick(0, 3) == 0 ? 0 : pick(1, 40);
      const int32_t position = pick(0, 1) == 0 ? pick(0, 60) : pick(0, 5000);
      const int32_t tokens = pick(0, 3) > 0 ? 1 : pick(1, 300);
      sequences.push_back({position, tokens, Table(pick(0, 1) * 1000, shared, 10000 * (s + 1), position + tokens)});
    }
    // Shared pages may hold new tokens in this test; a scheduler never plans that, the planner must not mind.
    const int32_t kv_heads = pick(1, 3), group = pick(1, 9);
    StepPlan plan;
    ASSERT_NO_FATAL_FAILURE(Check(sequences, kv_heads * group, kv_heads, &plan)) << "round " << round;
  }
}

TEST(StepPlan, BranchesReadTheirTrunkOnce) {
  std::vector<Sequence> sequences;
  for (int32_t s = 0; s < 32; ++s) sequences.push_back({4100 + s, 1, Table(0, 128, 1000 * (s + 1), 4200)});
  StepPlan plan;
  ASSERT_NO_FATAL_FAILURE(Check(sequences, 64, 8, &plan));
  // 32 tokens x 8 heads of a group = 256 rows: 2 tiles pass over the trunk, each position once per tile.
  int64_t trunk = 0, suffixes = 0;
  for (const AttentionItem& item : plan.trunk) trunk += item.kv_end - item.kv_begin;
  for (const AttentionItem& item : plan.narrow) suffixes += item.kv_end - item.kv_begin;
  EXPECT_EQ(trunk, 2 * 4096);
  EXPECT_LE(plan.trunk.size() * 8, 132u);  // one block per multiprocessor
  EXPECT_GE(plan.trunk.size() * 8, 120u);
  EXPECT_TRUE(plan.wide.empty());
  EXPECT_EQ(suffixes, 32 * 5 + 31 * 32 / 2);
}

TEST(StepPlan, FewSharersUseNarrowAndWideItems) {
  for (const int32_t count : {2, 3, 8, 9}) {
    std::vector<Sequence> sequences;
    for (int32_t s = 0; s < count; ++s) sequences.push_back({4100 + s, 1, Table(0, 128, 1000 * (s + 1), 4200)});
    StepPlan plan;
    ASSERT_NO_FATAL_FAILURE(Check(sequences, 64, 8, &plan));
    EXPECT_EQ(plan.wide.empty(), count == 2 || count == 9) << count;
    EXPECT_EQ(plan.trunk.empty(), count < 9) << count;  // more than 64 rows
  }
}

TEST(StepPlan, OneLongSequenceFillsTheDevice) {
  StepPlan plan;
  ASSERT_NO_FATAL_FAILURE(Check({{32767, 1, Table(0, 0, 1, 32768)}}, 64, 8, &plan));
  EXPECT_GE(plan.narrow.size() * 8, 264u);  // two blocks per multiprocessor at least
}

// Per token, what its sequence wants; 0 where the step says nothing.
TEST(StepPlan, ExpertsPerTokenGoWithTheSequences) {
  const TestBatch batch = BatchOf({{0, 3, {0}}, {5, 1, {1}}, {0, 2, {2}}});
  const PlanShape shape = ShapeFor({6, 3, 3, 4, 3}, 2, 132);
  const int32_t wanted[] = {8, 1, 4};
  StepBatch step = batch.batch();
  for (const bool given : {true, false}) {
    step.experts_per_token = given ? std::span<const int32_t>(wanted) : std::span<const int32_t>();
    StepPlan plan;
    PlanStep(step, shape, &plan);
    std::vector<int32_t> words(static_cast<size_t>(plan.offsets.words), -1);
    WriteStep(step, plan, words.data());
    const auto first = words.begin() + plan.offsets.experts;
    EXPECT_EQ(std::vector<int32_t>(first, first + 6),
              given ? (std::vector<int32_t>{8, 8, 8, 1, 4, 4}) : (std::vector<int32_t>(6, 0)));
  }
}

TEST(StepPlan, StepsOfLikeSizeShareAKey) {
  StepPlan a, b, c;
  Check({{200, 1, Table(0, 0, 1, 256)}}, 8, 2, &a);
  Check({{201, 1, Table(0, 0, 7, 256)}}, 8, 2, &b);
  Check({{201, 2, Table(0, 0, 7, 256)}}, 8, 2, &c);
  EXPECT_EQ(a.key, b.key);
  EXPECT_FALSE(a.key == c.key);
}

}  // namespace
}  // namespace conclave::engine::cuda
