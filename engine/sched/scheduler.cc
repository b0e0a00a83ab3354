// SPDX-License-Identifier: Apache-2.0
#include "engine/sched/scheduler.h"

#include <algorithm>
#include <numeric>
#include <tuple>

#include "common/check.h"

namespace conclave::engine {
namespace {

int32_t PagesFor(int32_t tokens, int32_t page_tokens) { return (tokens + page_tokens - 1) / page_tokens; }

int32_t Missing(const SequenceView& s) { return s.known_tokens - s.computed_tokens; }

bool Starving(const SequenceView& s) { return s.overtaken >= kOvertakenMax; }

// Smaller is better.
std::tuple<bool, bool, int32_t, uint64_t> Rank(const SequenceView& s) {
  return {s.paused, !Starving(s), Starving(s) ? 0 : -s.priority, s.arrival};
}

// Indices of `sequences`, best rank first.
void SortByRank(std::span<const SequenceView> sequences, std::vector<int32_t>* order) {
  order->resize(sequences.size());
  std::iota(order->begin(), order->end(), 0);
  std::sort(order->begin(), order->end(),
            [sequences](int32_t a, int32_t b) { return Rank(sequences[a]) < Rank(sequences[b]); });
}

bool Decoding(const SequenceView& s) { return Missing(s) == 1; }

}  // namespace

Scheduler::Scheduler(const StepLimits& limits) : limits_(limits) {
  CONCLAVE_CHECK(limits.page_tokens > 0 && limits.sequences_max > 0);
  CONCLAVE_CHECK(limits.sequences_max < limits.step_tokens_max && limits.sequences_max < limits.logit_rows_max);
}

void Scheduler::Plan(const SchedulerState& state, StepPlan* plan) {
  Reset(state, plan);
  PlanDecodes();
  PlanPrefills();
  PlanAdmissions();
  CountOvertaken();
}

void Scheduler::Reset(const SchedulerState& state, StepPlan* plan) {
  state_ = &state;
  plan_ = plan;
  plan->preempted.clear();
  plan->running.clear();
  plan->admitted.clear();
  plan->overtaken_running.clear();
  plan->overtaken_waiting.clear();
  tokens_left_ = limits_.step_tokens_max;
  rows_left_ = limits_.logit_rows_max;
  pages_left_ = state.pages_available;
  references_.clear();
  coming_.clear();
  coming_after_.clear();
  granted_.assign(state.running.size(), 0);
  preempted_.assign(state.running.size(), 0);

  slots_used_ = 0;
  for (const SequenceView& s : state.running) slots_used_ += 1 + s.followers;

  SortByRank(state.running, &ranked_running_);
  SortByRank(state.waiting, &ranked_waiting_);
}

void Scheduler::PlanDecodes() {
  for (const int32_t i : ranked_running_) {
    const SequenceView& s = state_->running[i];
    if (s.paused || !Decoding(s)) continue;
    while (preempted_[i] == 0 && PagesNeeded(s, 1) > pages_left_ && PreemptLast(i)) {
    }
    if (preempted_[i] != 0 || PagesNeeded(s, 1) > pages_left_) continue;
    Take(s, 1);
    granted_[i] = 1;
    plan_->running.push_back({i, 1});
  }
}

void Scheduler::PlanPrefills() {
  for (const int32_t i : ranked_running_) {
    const SequenceView& s = state_->running[i];
    if (s.paused || Decoding(s) || preempted_[i] != 0) continue;
    int32_t tokens = Fit(s, Missing(s));
    // Nothing else moves, so room must be made or nothing ever will.
    while (tokens == 0 && plan_->running.empty() && PreemptLast(i)) tokens = Fit(s, Missing(s));
    if (tokens == 0) continue;
    Take(s, tokens);
    granted_[i] = tokens;
    plan_->running.push_back({i, tokens});
  }
}

void Scheduler::PlanAdmissions() {
  // After a preemption the pool is full: whoever came in now would be thrown out next.
  if (!plan_->preempted.empty() || state_->waiting.empty()) return;
  for (size_t i = 0; i < state_->running.size(); ++i) {
    const SequenceView& s = state_->running[i];
    if (s.paused || Decoding(s)) continue;
    NoteComing(s);
  }
  for (const int32_t i : ranked_waiting_) {
    const SequenceView& s = state_->waiting[i];
    if (s.paused || NextIsComing(s)) continue;
    if (!Admit(s, i)) break;
  }
}

void Scheduler::NoteComing(const SequenceView& s) {
  const size_t page_tokens = limits_.page_tokens;
  for (size_t page = s.computed_tokens / page_tokens; page * page_tokens < s.prefix.tokens.size(); ++page) {
    const size_t begin = page * page_tokens;
    const auto [after, first] = coming_after_.try_emplace(s.prefix.Parent(page), -1);
    coming_.push_back(
        {s.prefix.tokens.subspan(begin, std::min(page_tokens, s.prefix.tokens.size() - begin)), after->second});
    after->second = static_cast<int32_t>(coming_.size()) - 1;
  }
}

bool Scheduler::NextIsComing(const SequenceView& s) const {
  if (s.prefix.tokens.empty() || s.computed_tokens >= s.logits_from) return false;
  const int32_t page = s.computed_tokens / limits_.page_tokens, begin = page * limits_.page_tokens;
  const auto after = coming_after_.find(s.prefix.Parent(page));
  if (after == coming_after_.end()) return false;
  const auto wanted = s.prefix.tokens.subspan(begin, std::min(limits_.page_tokens, s.logits_from - begin));
  for (int32_t i = after->second; i >= 0; i = coming_[i].next) {
    if (begin + CommonTokens(coming_[i].tokens, wanted) > s.computed_tokens) return true;
  }
  return false;
}

bool Scheduler::Admit(const SequenceView& s, int32_t index) {
  const bool alone = plan_->empty();
  if (slots_used_ + 1 + s.followers > limits_.sequences_max) return false;
  // Room for all that it knows and one token more, for a page of its own per follower, and for what the running ones
  // will want: else it would be admitted only to be preempted. When nothing else can move, what there is must do.
  const int32_t wanted = PagesNeeded(s, Missing(s) + 1) + s.cached_unreferenced + s.followers + PagesCommitted();
  if (!alone && wanted > pages_left_) return false;
  if (s.cached_unreferenced > pages_left_) return false;
  pages_left_ -= s.cached_unreferenced;
  const int32_t tokens = Fit(s, Missing(s));
  if (tokens == 0) {
    pages_left_ += s.cached_unreferenced;
    return false;
  }
  Take(s, tokens);
  slots_used_ += 1 + s.followers;
  plan_->admitted.push_back({index, tokens});
  NoteComing(s);
  return true;
}

void Scheduler::CountOvertaken() {
  uint64_t latest = 0;  // of those that move
  for (const StepPlan::Work& work : plan_->running) latest = std::max(latest, state_->running[work.sequence].arrival);
  for (const StepPlan::Work& work : plan_->admitted) latest = std::max(latest, state_->waiting[work.sequence].arrival);
  for (size_t i = 0; i < state_->running.size(); ++i) {
    const SequenceView& s = state_->running[i];
    if (granted_[i] == 0 && !s.paused && s.arrival < latest)
      plan_->overtaken_running.push_back(static_cast<int32_t>(i));
  }
  for (const int32_t i : ranked_waiting_) {
    const SequenceView& s = state_->waiting[i];
    const bool admitted = std::any_of(plan_->admitted.begin(), plan_->admitted.end(),
                                      [i](const StepPlan::Work& work) { return work.sequence == i; });
    if (!admitted && !s.paused && s.arrival < latest) plan_->overtaken_waiting.push_back(i);
  }
}

bool Scheduler::PreemptLast(int32_t keep) {
  for (auto it = ranked_running_.rbegin(); it != ranked_running_.rend(); ++it) {
    if (preempted_[*it] != 0 || granted_[*it] != 0) continue;
    if (*it == keep && plan_->running.empty()) return false;
    preempted_[*it] = 1;
    plan_->preempted.push_back(*it);
    for (const int32_t page : state_->running[*it].pages) Unreference(page);
    return *it != keep;
  }
  return false;
}

int32_t Scheduler::Fit(const SequenceView& s, int32_t tokens) const {
  tokens = std::min(tokens, tokens_left_);
  const int32_t rows = LogitRows(s, tokens);
  if (rows > rows_left_) tokens -= rows - rows_left_;
  // Pages: the largest count that needs no more than there are. Needs grow by one per page_tokens tokens.
  while (tokens > 0 && PagesNeeded(s, tokens) > pages_left_) {
    const int32_t over = PagesNeeded(s, tokens) - pages_left_;
    const int32_t into_last_page = (s.computed_tokens + tokens - 1) % limits_.page_tokens + 1;
    tokens -= into_last_page + (over - 1) * limits_.page_tokens;
  }
  return std::max(tokens, 0);
}

int32_t Scheduler::PagesNeeded(const SequenceView& s, int32_t tokens) const {
  const bool is_waiting = s.pages.empty();
  const int32_t held =
      is_waiting ? PagesFor(s.computed_tokens, limits_.page_tokens) : static_cast<int32_t>(s.pages.size());
  const int32_t writing = s.computed_tokens / limits_.page_tokens;
  int32_t copies = 0;
  if (writing < held) {  // into a page that is there: copied first if another sequence may read it
    copies = is_waiting || References(s.pages[writing]) > 1 || state_->page_published[s.pages[writing]] != 0 ? 1 : 0;
  }
  return std::max(0, PagesFor(s.computed_tokens + tokens, limits_.page_tokens) - held) + copies;
}

void Scheduler::Take(const SequenceView& s, int32_t tokens) {
  tokens_left_ -= tokens;
  rows_left_ -= LogitRows(s, tokens);
  pages_left_ -= PagesNeeded(s, tokens);
  const int32_t writing = s.computed_tokens / limits_.page_tokens;
  if (writing < static_cast<int32_t>(s.pages.size())) {
    const int32_t page = s.pages[writing];
    if (References(page) > 1 || state_->page_published[page] != 0) Unreference(page);
  }
}

int32_t Scheduler::LogitRows(const SequenceView& s, int32_t tokens) const {
  return std::max(0, s.computed_tokens + tokens - std::max(s.computed_tokens, s.logits_from));
}

int32_t Scheduler::References(int32_t page) const {
  const auto it = references_.find(page);
  return it == references_.end() ? state_->page_references[page] : it->second;
}

void Scheduler::Unreference(int32_t page) {
  const int32_t left = References(page) - 1;
  references_[page] = left;
  if (left == 0) ++pages_left_;
}

int32_t Scheduler::PagesCommitted() const {
  int32_t pages = 0;
  for (size_t i = 0; i < state_->running.size(); ++i) {
    const SequenceView& s = state_->running[i];
    pages += 1 + s.followers + PagesNeeded(s, Missing(s)) - (granted_[i] > 0 ? PagesNeeded(s, granted_[i]) : 0);
  }
  for (const StepPlan::Work& work : plan_->admitted) {
    const SequenceView& s = state_->waiting[work.sequence];
    pages += 1 + s.followers + PagesNeeded(s, Missing(s)) - PagesNeeded(s, work.tokens);
  }
  return pages;
}

}  // namespace conclave::engine
