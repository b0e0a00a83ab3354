// SPDX-License-Identifier: Apache-2.0
// The scheduler drives a simulated engine: real page pool and block tables, a memory that is written and copied as the
// plans say, and a "model" whose next token is a hash of everything the block table shows it. So a wrong page, a lost
// copy or a stale prefix changes the text, and text must not depend on limits, company or preemption.
#include "engine/sched/scheduler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>

#include "common/hash.h"
#include "engine/kv/block_table.h"

namespace conclave::engine {
namespace {

struct Job {
  int32_t start_step = 0;
  int32_t priority = 0;
  std::vector<int32_t> prompt;
  int32_t output_tokens = 1;
  int32_t samples = 1;
};

class Simulation {
 public:
  struct Sequence {
    size_t job;
    int32_t sample;
    SequenceView view;
    BlockTable table;
    std::vector<int32_t> tokens;
    std::vector<PageKey> keys;
    bool waiting = true, done = false;
    int32_t followers = 0;
    int32_t first_moved_step = -1;
  };

  Simulation(const StepLimits& limits, int32_t pages, std::vector<Job> jobs)
      : limits_(limits),
        scheduler_(limits),
        pool_(pages, limits.page_tokens),
        memory_(size_t{1} * pages * limits.page_tokens, -1),
        jobs_(std::move(jobs)) {}

  // Runs until every job is done. Fails the test if a step does nothing while there is something to do.
  void Run(int32_t steps_max = 100000) {
    for (step_ = 0; step_ < steps_max; ++step_) {
      bool all_started = true;
      for (size_t job = 0; job < jobs_.size(); ++job) {
        if (jobs_[job].start_step == step_) Start(job);
        all_started = all_started && jobs_[job].start_step <= step_;
      }
      const bool any_left = std::any_of(sequences_.begin(), sequences_.end(), [](const auto& s) { return !s->done; });
      if (!any_left && all_started) break;
      if (any_left) Step();
      if (testing::Test::HasFatalFailure()) return;
    }
    ASSERT_LT(step_, steps_max) << "not finished";
    EXPECT_EQ(pool_.available(), pool_.num_pages());
  }

  // The text of one sample.
  std::vector<int32_t> Output(size_t job, int32_t sample) const {
    for (const auto& s : sequences_) {
      if (s->job == job && s->sample == sample) {
        return std::vector<int32_t>(s->tokens.begin() + jobs_[job].prompt.size(), s->tokens.end());
      }
    }
    return {};
  }
  int32_t FirstMoved(size_t job) const {
    for (const auto& s : sequences_) {
      if (s->job == job && s->sample == 0) return s->first_moved_step;
    }
    return -1;
  }
  int64_t tokens_computed() const { return tokens_computed_; }
  int32_t preemptions() const { return preemptions_; }
  int32_t steps() const { return step_; }

 private:
  void Start(size_t job) {
    const int32_t forked = std::min(jobs_[job].samples, limits_.sequences_max) - 1;
    for (int32_t sample = 0; sample < jobs_[job].samples; ++sample) {
      if (sample > 0 && sample <= forked) continue;  // appear when the trunk is there
      Add(job, sample).followers = sample == 0 ? forked : 0;
    }
  }

  Sequence& Add(size_t job, int32_t sample) {
    auto s = std::make_unique<Sequence>();
    s->job = job;
    s->sample = sample;
    s->tokens = jobs_[job].prompt;
    s->view.arrival = job << 8 | static_cast<uint64_t>(sample);
    s->view.priority = jobs_[job].priority;
    sequences_.push_back(std::move(s));
    return *sequences_.back();
  }

  void Step() {
    std::vector<Sequence*> running, waiting;
    std::vector<SequenceView> running_views, waiting_views;
    std::vector<uint8_t> published;
    for (int32_t page = 0; page < pool_.num_pages(); ++page) published.push_back(pool_.published(page) ? 1 : 0);
    for (const auto& s : sequences_) {
      if (s->done) continue;
      ExtendPageKeys(root_, s->tokens, limits_.page_tokens, &s->keys);
      SequenceView view = s->view;
      view.known_tokens = static_cast<int32_t>(s->tokens.size());
      view.logits_from = view.known_tokens - 1;
      view.followers = s->followers;
      view.keys = s->keys;
      if (s->waiting) {
        const PagePool::Hit hit = pool_.Probe(s->keys);
        view.cached_pages = hit.pages;
        view.cached_unreferenced = hit.unreferenced;
        view.computed_tokens = std::min(hit.pages * limits_.page_tokens, view.known_tokens - 1);
        waiting.push_back(s.get());
        waiting_views.push_back(view);
      } else {
        view.computed_tokens = s->table.tokens();
        view.pages = s->table.pages();
        running.push_back(s.get());
        running_views.push_back(view);
      }
    }
    StepPlan plan;
    scheduler_.Plan({running_views, waiting_views, pool_.available(), pool_.references(), published}, &plan);
    ASSERT_FALSE(plan.empty()) << "step " << step_ << ": " << running.size() << " running, " << waiting.size()
                               << " waiting, nothing moves";
    Execute(plan, running, waiting);
  }

  void Execute(const StepPlan& plan, const std::vector<Sequence*>& running, const std::vector<Sequence*>& waiting) {
    for (const int32_t i : plan.preempted) {
      running[i]->table.Release(&pool_);
      running[i]->waiting = true;
      ++preemptions_;
    }
    std::vector<std::pair<Sequence*, int32_t>> work;
    for (const StepPlan::Work& w : plan.running) work.emplace_back(running[w.sequence], w.tokens);
    for (const StepPlan::Work& w : plan.admitted) {
      Sequence* s = waiting[w.sequence];
      s->waiting = false;
      s->table.AcquirePrefix(&pool_, s->keys, static_cast<int32_t>(s->tokens.size()) - 1);
      work.emplace_back(s, w.tokens);
    }
    for (const int32_t i : plan.overtaken_running) ++running[i]->view.overtaken;
    for (const int32_t i : plan.overtaken_waiting) ++waiting[i]->view.overtaken;

    int32_t tokens = 0, rows = 0;
    std::vector<PageCopy> copies;
    for (auto [s, count] : work) {
      ASSERT_GT(count, 0);
      tokens += count;
      s->table.Append(&pool_, count, &copies);
      ASSERT_LE(s->table.tokens(), static_cast<int32_t>(s->tokens.size()));
      if (s->table.tokens() == static_cast<int32_t>(s->tokens.size())) ++rows;
      if (s->first_moved_step < 0) s->first_moved_step = step_;
    }
    tokens_computed_ += tokens;
    ASSERT_LE(tokens, limits_.step_tokens_max);
    ASSERT_LE(rows, limits_.logit_rows_max);
    for (const PageCopy& copy : copies) {
      std::copy_n(memory_.begin() + copy.from * limits_.page_tokens, limits_.page_tokens,
                  memory_.begin() + copy.to * limits_.page_tokens);
    }
    for (auto [s, count] : work) {
      for (int32_t i = s->table.tokens() - count; i < s->table.tokens(); ++i) {
        memory_[s->table.Slot(pool_, i)] = s->tokens[i];
      }
    }
    for (auto [s, count] : work) {
      s->table.PublishFull(&pool_, s->keys);
      if (s->table.tokens() == static_cast<int32_t>(s->tokens.size())) Sample(s);
    }
    int32_t num_running = 0;
    for (const auto& s : sequences_) num_running += !s->done && !s->waiting ? 1 : 0;
    ASSERT_LE(num_running, limits_.sequences_max);
  }

  void Sample(Sequence* s) {
    for (int32_t sample = 1; sample <= s->followers; ++sample) {
      auto fork = std::make_unique<Sequence>();
      fork->job = s->job;
      fork->sample = sample;
      fork->view = s->view;
      fork->view.arrival += sample;
      fork->tokens = s->tokens;
      fork->keys = s->keys;
      fork->waiting = false;
      fork->first_moved_step = step_;
      fork->table = s->table.Fork(&pool_);
      forks_.push_back(std::move(fork));
    }
    s->followers = 0;
    NextToken(s);
    while (!forks_.empty()) {
      sequences_.push_back(std::move(forks_.back()));
      forks_.pop_back();
      NextToken(sequences_.back().get());
    }
  }

  // A hash of all that attention would see, and of the sample index.
  void NextToken(Sequence* s) {
    uint64_t hash = Mix64(s->sample);
    for (int32_t i = 0; i < s->table.tokens(); ++i) hash = Mix64(hash ^ memory_[s->table.Slot(pool_, i)]);
    s->tokens.push_back(static_cast<int32_t>(hash % 1000));
    if (s->tokens.size() == jobs_[s->job].prompt.size() + jobs_[s->job].output_tokens) {
      s->table.Release(&pool_);
      s->done = true;
    }
  }

  const StepLimits limits_;
  Scheduler scheduler_;
  PagePool pool_;
  std::vector<int32_t> memory_;
  std::vector<Job> jobs_;
  const PageKey root_ = RootPageKey("model", 0, "");
  std::vector<std::unique_ptr<Sequence>> sequences_, forks_;
  int32_t step_ = 0;
  int64_t tokens_computed_ = 0;
  int32_t preemptions_ = 0;
};

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
