// SPDX-License-Identifier: Apache-2.0
// The sampler against its own specification written plainly: sort everything, in double.
#include <cmath>
#include <numeric>
#include <random>
#include <set>

#include "common/hash.h"
#include "engine/sampler/sampler.h"
#include "tests/testing/status_matchers.h"

namespace conclave::engine {
namespace {

// The probability of each token after all filters.
std::vector<double> Reference(const std::vector<float>& logits, const SamplerParams& p) {
  const size_t n = logits.size();
  const double max = *std::max_element(logits.begin(), logits.end());
  std::vector<double> weight(n);
  for (size_t i = 0; i < n; ++i) weight[i] = std::exp((static_cast<double>(logits[i]) - max) / p.temperature);
  std::vector<size_t> order(n);
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return logits[a] > logits[b]; });
  if (p.top_k > 0) order.resize(std::min(n, static_cast<size_t>(p.top_k)));
  double total = 0;
  for (const size_t i : order) total += weight[i];
  double sum = 0;
  std::vector<double> probability(n, 0);
  for (const size_t i : order) {
    if (sum >= static_cast<double>(p.top_p) * total) break;
    sum += weight[i];
    if (weight[i] >= static_cast<double>(p.min_p)) probability[i] = weight[i];
  }
  const double kept = std::accumulate(probability.begin(), probability.end(), 0.0);
  for (double& x : probability) x /= kept;
  return probability;
}

std::vector<SamplerParams> Settings() {
  return {{},
          {.temperature = 0.7f},
          {.temperature = 1.8f},
          {.top_k = 1},
          {.top_k = 7},
          {.temperature = 0.9f, .top_k = 40},
          {.top_p = 0.5f},
          {.top_p = 0.95f},
          {.temperature = 1.5f, .top_p = 0.8f},
          {.min_p = 0.05f},
          {.min_p = 0.5f},
          {.top_k = 20, .top_p = 0.9f, .min_p = 0.02f},
          {.temperature = 0.6f, .top_p = 0.9f, .min_p = 0.1f},
          {.top_k = 1000000, .top_p = 0.3f}};
}

std::vector<float> RandomLogits(size_t size, std::mt19937_64* random) {
  std::normal_distribution<float> normal(0.0f, 2.5f);
  std::vector<float> logits(size);
  for (float& x : logits) x = normal(*random);
  return logits;
}

// Draw by draw: the token whose cumulative probability, in the order of ids, first exceeds the uniform number, unless
// that number is within rounding of a boundary.
TEST(SamplerDistributionTest, EveryDrawIsTheReferences) {
  constexpr uint64_t kSeed = 2024;
  RecordProperty("seed", std::to_string(kSeed));
  std::mt19937_64 random(kSeed);
  int draws = 0, on_boundary = 0;
  for (const size_t size : {size_t{1}, size_t{2}, size_t{37}, size_t{256}, size_t{700}, size_t{5000}}) {
    for (const SamplerParams& p : Settings()) {
      const std::vector<float> logits = RandomLogits(size, &random);
      const std::vector<double> probability = Reference(logits, p);
      SamplerWorkspace workspace;
      for (uint64_t position = 0; position < 200; ++position) {
        const auto output = SampleToken(
            {.logits = logits, .params = &p, .seed = kSeed, .candidate = 3, .position = position}, &workspace);
        ASSERT_OK(output);
        const double uniform = PhiloxUniform(kSeed, 3, position);
        double low = 0;
        for (TokenId t = 0; t < output->token; ++t) low += probability[static_cast<size_t>(t)];
        const double high = low + probability[static_cast<size_t>(output->token)];
        ASSERT_GT(probability[static_cast<size_t>(output->token)], 0)
            << "token " << output->token << " of " << size << ", temperature " << p.temperature << " top_k " << p.top_k
            << " top_p " << p.top_p << " min_p " << p.min_p;
        ASSERT_GE(uniform, low - 1e-6);
        ASSERT_LT(uniform, high + 1e-6);
        ++draws;
        on_boundary += uniform < low || uniform >= high;
      }
    }
  }
  EXPECT_LT(on_boundary, draws / 1000);
}

TEST(SamplerDistributionTest, TiesAtTheFiltersKeepTheLowestIds) {
  const std::vector<float> logits = {0, 1, 1, 0, 1, 1, 0};
  std::vector<std::pair<SamplerParams, std::vector<TokenId>>> cases = {{{.top_k = 2}, {1, 2}},
                                                                       {{.top_k = 3}, {1, 2, 4}},
                                                                       {{.top_k = 5}, {0, 1, 2, 4, 5}},
                                                                       {{.top_p = 0.3f}, {1, 2}},
                                                                       {{.top_p = 0.19f}, {1}}};
  for (const auto& [params, expected] : cases) {
    std::set<TokenId> seen;
    SamplerWorkspace workspace;
    for (uint64_t i = 0; i < 400; ++i) {
      seen.insert(SampleToken({.logits = logits, .params = &params, .position = i}, &workspace)->token);
    }
    EXPECT_EQ(std::vector<TokenId>(seen.begin(), seen.end()), expected) << params.top_k << " " << params.top_p;
  }
}

// Pearson's chi-square over draws at a fixed seed: below the 99.9 % quantile, by Wilson and Hilferty's approximation
// df * (1 - 2 / (9 df) + 3.09 * sqrt(2 / (9 df)))^3.
TEST(SamplerDistributionTest, FrequenciesFollowTheFormula) {
  constexpr uint64_t kSeed = 7;
  RecordProperty("seed", std::to_string(kSeed));
  std::mt19937_64 random(kSeed);
  constexpr int kDraws = 40000;
  for (const SamplerParams& p : Settings()) {
    const std::vector<float> logits = RandomLogits(30, &random);
    const std::vector<double> probability = Reference(logits, p);
    std::vector<int> count(logits.size(), 0);
    SamplerWorkspace workspace;
    for (int i = 0; i < kDraws; ++i) {
      // Half the draws vary the candidate and half the position: both must be independent.
      const auto position = static_cast<uint64_t>(i / 2), candidate = static_cast<uint64_t>(i % 2);
      const auto output = SampleToken({.logits = logits,
                                       .params = &p,
                                       .seed = kSeed,
                                       .candidate = candidate == 0 ? 0 : position,
                                       .position = candidate == 0 ? position : 1000000},
                                      &workspace);
      ASSERT_OK(output);
      ++count[static_cast<size_t>(output->token)];
    }
    double chi_square = 0, rare_expected = 0, rare_count = 0;
    int df = -1;
    for (size_t i = 0; i < logits.size(); ++i) {
      const double expected = probability[i] * kDraws;
      if (expected == 0) {
        ASSERT_EQ(count[i], 0);
        continue;
      }
      if (expected < 5) {  // pooled, as the test wants
        rare_expected += expected;
        rare_count += count[i];
        continue;
      }
      chi_square += (count[i] - expected) * (count[i] - expected) / expected;
      ++df;
    }
    if (rare_expected >= 5) {
      chi_square += (rare_count - rare_expected) * (rare_count - rare_expected) / rare_expected;
      ++df;
    }
    if (df < 1) continue;
    const double h = 2.0 / (9.0 * df);
    EXPECT_LT(chi_square, df * std::pow(1 - h + 3.09 * std::sqrt(h), 3)) << "df " << df << " top_k " << p.top_k;
  }
}

}  // namespace
}  // namespace conclave::engine
