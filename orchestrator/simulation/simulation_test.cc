// SPDX-License-Identifier: Apache-2.0
// Thousands of worlds in which everything goes wrong that a seed can think of. A seed beyond them that found something
// once stays in kFound.
#include "orchestrator/simulation/simulation.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

namespace conclave::orchestrator {
namespace {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || !defined(NDEBUG)
constexpr uint64_t kSeeds = 250;
#else
constexpr uint64_t kSeeds = 5'000;
#endif

TEST(Simulation, NothingIsLostRepeatedOrOverspent) {
  SimReport sum;
  int failures = 0;
  for (uint64_t seed = 1; seed <= kSeeds && failures < 5; ++seed) {
    const SimReport report = Simulate(seed);
    for (const std::string& violation : report.violations) {
      ADD_FAILURE() << "seed " << seed << ": " << violation;
      ++failures;
    }
    sum += report;
  }
  const std::string summary = Describe(sum);
  fmt::print("{}\n", summary);
  // The faults are not idle: every kind happens often.
  const auto often = static_cast<int64_t>(kSeeds / 50);
  for (const int64_t count :
       {sum.kills, sum.stops, sum.reconnects, sum.worker_faults, sum.calls_lost, sum.retries, sum.cancelled,
        sum.exhausted, sum.undisturbed, sum.hedges, sum.continued, sum.repairs, sum.lacking}) {
    EXPECT_GT(count, often) << summary;
  }
}

constexpr uint64_t kFound[] = {6'169};

TEST(Simulation, WhatFoundSomethingOnceIsLookedAtAgain) {
  for (const uint64_t seed : kFound) {
    const SimReport report = Simulate(seed);
    for (const std::string& violation : report.violations) ADD_FAILURE() << "seed " << seed << ": " << violation;
  }
}

TEST(Simulation, TheSameSeedGivesTheSameLog) {
  for (uint64_t seed = 1; seed <= 100; ++seed) {
    const SimReport first = Simulate(seed), second = Simulate(seed);
    EXPECT_EQ(first.log_hash, second.log_hash) << "seed " << seed;
    EXPECT_EQ(first.log_hash.empty(), !first.violations.empty());
  }
  EXPECT_NE(Simulate(1).log_hash, Simulate(2).log_hash);
}

}  // namespace
}  // namespace conclave::orchestrator
