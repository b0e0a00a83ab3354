// SPDX-License-Identifier: Apache-2.0
// A simulated engine that the scheduler drives: real page pool and block tables, a memory that is written and copied as
// the plans say, and a "model" whose next token is a hash of everything the block table shows it. So a wrong page, a
// lost copy or a stale prefix changes the text.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <vector>

#include "common/hash.h"
#include "engine/kv/block_table.h"
#include "engine/sched/scheduler.h"

namespace conclave::engine {

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
  Prefix PrefixOf(const Sequence& s) const { return {root_, s.keys, s.tokens}; }
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
    for (int32_t page = 0; page < pool_.num_pages(); ++page) published.push_back(pool_.full_published(page) ? 1 : 0);
    for (const auto& s : sequences_) {
      if (s->done) continue;
      ExtendPageKeys(root_, s->tokens, limits_.page_tokens, &s->keys);
      SequenceView view = s->view;
      view.known_tokens = static_cast<int32_t>(s->tokens.size());
      view.logits_from = view.known_tokens - 1;
      view.followers = s->followers;
      view.prefix = PrefixOf(*s);
      if (s->waiting) {
        const PagePool::Hit hit = pool_.Probe(PrefixOf(*s).First(s->tokens.size() - 1));
        view.cached_unreferenced = hit.unreferenced;
        view.computed_tokens = hit.tokens;
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
      running[i]->table.PublishTail(&pool_, PrefixOf(*running[i]));
      running[i]->table.Release(&pool_);
      running[i]->waiting = true;
      ++preemptions_;
    }
    std::vector<std::pair<Sequence*, int32_t>> work;
    for (const StepPlan::Work& w : plan.running) work.emplace_back(running[w.sequence], w.tokens);
    for (const StepPlan::Work& w : plan.admitted) {
      Sequence* s = waiting[w.sequence];
      s->waiting = false;
      s->table.AcquirePrefix(&pool_, PrefixOf(*s).First(s->tokens.size() - 1));
      work.emplace_back(s, w.tokens);
    }
    // Those admitted append first.
    std::rotate(work.begin(), work.begin() + std::ssize(plan.running), work.end());
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
      s->table.PublishFull(&pool_, PrefixOf(*s));
      if (s->tokens.size() == jobs_[s->job].prompt.size() || count > 1) s->table.PublishTail(&pool_, PrefixOf(*s));
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
      s->table.PublishTail(&pool_, PrefixOf(*s));
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

}  // namespace conclave::engine
