// SPDX-License-Identifier: Apache-2.0
// Texts must not depend on limits, company or preemption (scheduler_testing.h), and each rule on a load made for it.
#include "engine/sched/scheduler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <set>

#include "common/hash.h"
#include "engine/sched/scheduler_testing.h"

namespace conclave::engine {
namespace {

// The same text from the definition: no pages, no scheduler.
std::vector<int32_t> Expected(const Job& job, int32_t sample) {
  std::vector<int32_t> tokens = job.prompt;
  for (int32_t i = 0; i < job.output_tokens; ++i) {
    uint64_t hash = Mix64(sample);
    for (int32_t token : tokens) hash = Mix64(hash ^ token);
    tokens.push_back(static_cast<int32_t>(hash % 1000));
  }
  return std::vector<int32_t>(tokens.begin() + job.prompt.size(), tokens.end());
}

constexpr StepLimits kSmall = {.step_tokens_max = 16, .sequences_max = 6, .logit_rows_max = 8, .page_tokens = 4};

std::vector<Job> RandomJobs(uint64_t seed, int32_t count) {
  std::mt19937_64 random(seed);
  const auto uniform = [&random](int32_t n) { return std::uniform_int_distribution<int32_t>(0, n - 1)(random); };
  std::vector<Job> jobs;
  for (int32_t i = 0; i < count; ++i) {
    Job job{.start_step = uniform(30), .priority = uniform(3) - 1, .prompt = {}, .output_tokens = 1 + uniform(25)};
    const int32_t shared = uniform(3) * 9;  // prefixes in common
    for (int32_t t = 0; t < shared; ++t) job.prompt.push_back(t);
    for (int32_t t = 1 + uniform(12); t > 0; --t) job.prompt.push_back(uniform(1000));
    job.samples = uniform(4) == 0 ? 1 + uniform(9) : 1;
    jobs.push_back(job);
  }
  return jobs;
}

TEST(Scheduler, EveryRequestFinishesWithItsOwnTextUnderRandomLoads) {
  int32_t preemptions = 0;
  for (uint64_t seed = 1; seed <= 60; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    const std::vector<Job> jobs = RandomJobs(seed, 30);
    // 16 pages just hold the longest sequence (18 + 12 + 25 tokens, and one page for a copy).
    for (const int32_t pages : {16, 40, 400}) {
      Simulation simulation(kSmall, pages, jobs);
      simulation.Run();
      for (size_t job = 0; job < jobs.size(); ++job) {
        for (int32_t sample = 0; sample < jobs[job].samples; ++sample) {
          ASSERT_EQ(simulation.Output(job, sample), Expected(jobs[job], sample))
              << pages << " pages, job " << job << ", sample " << sample;
        }
      }
      preemptions += simulation.preemptions();
      if (testing::Test::HasFatalFailure()) return;
    }
  }
  EXPECT_GT(preemptions, 100) << "the loads were meant to exhaust the pages";
}

TEST(Scheduler, SamplesComputeThePromptOnce) {
  Job job{.prompt = std::vector<int32_t>(101, 5), .output_tokens = 10, .samples = 5};
  Simulation simulation(kSmall, 400, {job});
  simulation.Run();
  // 101 prompt tokens once, then each sample computes all its output but the last token.
  EXPECT_EQ(simulation.tokens_computed(), 101 + 5 * 9);
}

TEST(Scheduler, MoreSamplesThanSlotsComputeAtMostTheLastPageAgain) {
  Job job{.prompt = std::vector<int32_t>(101, 5), .output_tokens = 10, .samples = 8};
  Simulation simulation(kSmall, 400, {job});
  simulation.Run();
  EXPECT_EQ(simulation.tokens_computed(), 101 + 8 * 9 + 2 * (101 - 100));
}

TEST(Scheduler, SimultaneousRequestsOverAColdTrunkComputeItOnce) {
  std::vector<Job> jobs(6);
  for (int32_t i = 0; i < 6; ++i) {
    jobs[i].prompt = std::vector<int32_t>(100, 5);
    jobs[i].prompt.push_back(i);
    jobs[i].output_tokens = 1;
  }
  Simulation simulation(kSmall, 400, jobs);
  simulation.Run();
  EXPECT_EQ(simulation.tokens_computed(), 100 + 6);
}

// Trees of prompts that part anywhere within pages: each token of the tree is computed once, whatever the order and the
// chunks in which they come, and of a prompt that is there already its last one.
TEST(Scheduler, SimultaneousPromptsComputeTheTokensOfTheirTrie) {
  for (uint64_t seed = 1; seed <= 100; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    std::mt19937_64 random(seed);
    const auto uniform = [&random](int32_t n) { return std::uniform_int_distribution<int32_t>(0, n - 1)(random); };
    std::vector<Job> jobs(1 + uniform(30));
    std::set<std::vector<int32_t>> trie, prompts;
    for (Job& job : jobs) {
      job.start_step = uniform(3) * uniform(6);
      const std::vector<int32_t>& other = jobs[uniform(static_cast<int32_t>(jobs.size()))].prompt;
      job.prompt.assign(other.begin(), other.begin() + uniform(static_cast<int32_t>(other.size()) + 1));
      for (int32_t t = 1 + uniform(20); t > 0; --t) job.prompt.push_back(2000 + uniform(2));
      for (size_t size = 1; size <= job.prompt.size(); ++size)
        trie.emplace(job.prompt.begin(), job.prompt.begin() + size);
      prompts.insert(job.prompt);
    }
    // Of a prompt that another begins with, the last token is computed for its logits, unless it comes first.
    int64_t ends_within = 0;
    for (const std::vector<int32_t>& prompt : prompts) {
      ends_within += std::any_of(prompts.begin(), prompts.end(), [&prompt](const std::vector<int32_t>& other) {
        return other.size() > prompt.size() && std::equal(prompt.begin(), prompt.end(), other.begin());
      });
    }
    const int64_t repeated = std::ssize(jobs) - std::ssize(prompts);
    Simulation simulation(kSmall, 2000, jobs);
    simulation.Run();
    EXPECT_GE(simulation.tokens_computed(), std::ssize(trie) + repeated);
    EXPECT_LE(simulation.tokens_computed(), std::ssize(trie) + repeated + ends_within);
    if (testing::Test::HasFailure()) return;
  }
}

TEST(Scheduler, ARequestOverHalfATrunkStartsAsSoonAsThatHalfIsThere) {
  std::vector<Job> jobs(2);
  jobs[0] = {.prompt = std::vector<int32_t>(160, 5), .output_tokens = 1};
  jobs[1] = {.prompt = std::vector<int32_t>(32, 5), .output_tokens = 1};
  jobs[1].prompt.push_back(6);
  Simulation simulation(kSmall, 400, jobs);
  simulation.Run();
  EXPECT_EQ(simulation.tokens_computed(), 160 + 1);
  EXPECT_LE(simulation.FirstMoved(1), 10) << "the whole trunk takes 10 steps";
}

TEST(Scheduler, DecodesAreNotDelayedByALongPrompt) {
  std::vector<Job> jobs(2);
  jobs[0] = {.prompt = {1, 2}, .output_tokens = 50};
  jobs[1] = {.start_step = 5, .prompt = std::vector<int32_t>(600, 3), .output_tokens = 1};
  Simulation simulation(kSmall, 400, jobs);
  simulation.Run();
  // 15 prompt tokens a step beside the decode: 600 / 15 = 40 steps from step 5 on, and never a pause.
  EXPECT_LE(simulation.steps(), 52);
}

TEST(Scheduler, HigherPriorityGoesFirstThenOrderOfArrival) {
  std::vector<Job> jobs;
  for (int32_t i = 0; i < 12; ++i) {
    Job job{.priority = i >= 8 ? 1 : 0, .prompt = std::vector<int32_t>(16, 100 + i), .output_tokens = 4};
    jobs.push_back(job);
  }
  Simulation simulation(kSmall, 400, jobs);
  simulation.Run();
  std::vector<size_t> order(jobs.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return simulation.FirstMoved(a) < simulation.FirstMoved(b); });
  EXPECT_EQ(order, (std::vector<size_t>{8, 9, 10, 11, 0, 1, 2, 3, 4, 5, 6, 7}));
}

TEST(Scheduler, ALowPriorityRequestDoesNotStarve) {
  std::vector<Job> jobs;
  jobs.push_back({.priority = -1, .prompt = std::vector<int32_t>(40, 1), .output_tokens = 8});
  for (int32_t i = 0; i < 400; ++i) {  // a stream that alone keeps every slot busy
    jobs.push_back({.start_step = i / 2, .prompt = {i, 2, 3, 4, 5, 6}, .output_tokens = 8});
  }
  Simulation simulation(kSmall, 60, jobs);
  simulation.Run();
  EXPECT_LE(simulation.FirstMoved(0), kOvertakenMax + 20);
}

TEST(Scheduler, APausedSequenceGetsNothingAndIsPreemptedFirst) {
  Scheduler scheduler(kSmall);
  const std::vector<int32_t> pages_a = {0}, pages_b = {1};
  std::vector<SequenceView> running(2);
  for (SequenceView& s : running) s.known_tokens = 5, s.computed_tokens = 4, s.logits_from = 4;
  running[0].arrival = 1, running[0].paused = true, running[0].pages = pages_a;
  running[1].arrival = 2, running[1].pages = pages_b;
  const std::vector<int32_t> references = {1, 1};
  const std::vector<uint8_t> published = {0, 0};
  StepPlan plan;
  scheduler.Plan({running, {}, 1, references, published}, &plan);
  EXPECT_TRUE(plan.preempted.empty());
  ASSERT_EQ(plan.running.size(), 1u);
  EXPECT_EQ(plan.running[0].sequence, 1);
  scheduler.Plan({running, {}, 0, references, published}, &plan);
  EXPECT_EQ(plan.preempted, std::vector<int32_t>{0});
  ASSERT_EQ(plan.running.size(), 1u);
}

}  // namespace
}  // namespace conclave::engine
