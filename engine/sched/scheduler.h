// SPDX-License-Identifier: Apache-2.0
// Continuous batching with chunked prefill, as a pure function: what is running and waiting, and the limits of a step,
// give a plan. No clock, no randomness, no device, no side effects, so that it can be tested by simulation.
//
// Rules, in order:
//   1. Decode first: every running sequence that lacks one token gets it. If KV pages run out, the last in rank is
//      preempted: it gives its pages back and waits, to be computed again later.
//   2. Prefill: running sequences that lack more get chunks of what is left of the step, best rank first.
//   3. Admission, best rank first. A sequence whose next tokens a running one is about to compute waits for them and
//      takes them instead (simultaneous branches over a cold trunk prefill it once). Any other obstacle stops
//      admission, so that nothing overtakes the first in line for lack of room.
// Rank is priority, then order of arrival. A sequence that later ones overtook kOvertakenMax times goes before all
// others, waiting or running, until it ends, so that none starves.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "engine/kv/page_key.h"

namespace conclave::engine {

inline constexpr int32_t kOvertakenMax = 64;

// One sequence, running (holds pages) or waiting (holds none).
struct SequenceView {
  uint64_t arrival = 0;      // unique; earlier is smaller
  int32_t priority = 0;      // higher first
  bool paused = false;       // its reader is slow: keeps what it has, gets no tokens
  int32_t known_tokens = 0;  // prompt and output so far
  // Of these, stored in its pages; for a waiting one, what the prefix cache would give it. Less than known_tokens.
  int32_t computed_tokens = 0;
  int32_t logits_from = 0;          // first position whose logits are wanted
  int32_t followers = 0;            // sequences that fork from it when it has computed all it knows, each taking a slot
  Prefix prefix;                    // all its tokens and the keys of its full pages; no tokens: it shares nothing
  std::span<const int32_t> pages;   // running: its block table
  int32_t cached_unreferenced = 0;  // waiting: of the pages that the cache would give, those nobody else references
  int32_t overtaken = 0;            // steps in which a later one moved and it did not
};

struct SchedulerState {
  std::span<const SequenceView> running, waiting;  // any order
  int32_t pages_available = 0;                     // free or cached
  std::span<const int32_t> page_references;        // per page
  std::span<const uint8_t> page_published;         // per page: full ones
};

// REQUIRES: sequences_max < step_tokens_max, sequences_max < logit_rows_max.
struct StepLimits {
  int32_t step_tokens_max = 0;  // tokens of a step
  int32_t sequences_max = 0;    // running together
  int32_t logit_rows_max = 0;   // positions of a step whose logits are wanted
  int32_t page_tokens = 0;
};

// To be carried out in this order: preempt; admit (take cached pages); store and compute.
struct StepPlan {
  struct Work {
    int32_t sequence;  // index into running, or into waiting for an admission
    int32_t tokens;    // at least 1, from computed_tokens on
  };
  std::vector<int32_t> preempted;  // indices into running
  std::vector<Work> running;       // decode and prefill chunks
  std::vector<Work> admitted;
  std::vector<int32_t> overtaken_running, overtaken_waiting;  // indices: count one more

  bool empty() const { return running.empty() && admitted.empty(); }
};

// Fills `plan`, reusing its memory. Deterministic. Makes progress: if the first in rank is not paused, or nothing is
// paused and something is there, the plan is not empty, provided that each sequence alone fits into all the pages.
class Scheduler {
 public:
  explicit Scheduler(const StepLimits& limits);
  void Plan(const SchedulerState& state, StepPlan* plan);

 private:
  void Reset(const SchedulerState& state, StepPlan* plan);
  void PlanDecodes();
  void PlanPrefills();
  void PlanAdmissions();
  bool Admit(const SequenceView& s, int32_t index);
  void CountOvertaken();
  // Preempts the last in rank that this plan has not yet given tokens. False if that was `keep` itself, which is spared
  // if the plan is still empty.
  bool PreemptLast(int32_t keep);
  // The largest number of tokens, at most `tokens`, that budget, logit rows and pages allow.
  int32_t Fit(const SequenceView& s, int32_t tokens) const;
  int32_t PagesNeeded(const SequenceView& s, int32_t tokens) const;
  void Take(const SequenceView& s, int32_t tokens);
  int32_t LogitRows(const SequenceView& s, int32_t tokens) const;
  int32_t References(int32_t page) const;
  void Unreference(int32_t page);
  void NoteComing(const SequenceView& s);  // what it still has to compute of what it knows
  bool NextIsComing(const SequenceView& s) const;
  // Pages that running sequences will want before those that are waiting.
  int32_t PagesCommitted() const;

  const StepLimits limits_;
  // Scratch of one Plan call; members only so that their memory is reused.
  const SchedulerState* state_ = nullptr;
  StepPlan* plan_ = nullptr;
  int32_t tokens_left_ = 0, rows_left_ = 0, pages_left_ = 0, slots_used_ = 0;
  std::vector<int32_t> ranked_running_, ranked_waiting_;  // indices, best first; paused running ones last
  std::vector<int32_t> granted_;                          // per running sequence: tokens of this step
  std::vector<uint8_t> preempted_;                        // per running sequence
  absl::flat_hash_map<int32_t, int32_t> references_;      // pages whose count this plan changes
  // What is about to be published: pages' tokens, in lists of those that follow the same page.
  struct Coming {
    std::span<const int32_t> tokens;
    int32_t next;  // index into coming_; -1: the last
  };
  std::vector<Coming> coming_;
  absl::flat_hash_map<PageKey, int32_t> coming_after_;
};

}  // namespace conclave::engine
