// SPDX-License-Identifier: Apache-2.0
// Internal to the engine: the step thread. It owns scheduler, KV pages, model and device; everyone else posts to its
// inbox. One turn: take what arrived, plan, forward, sample, report.
#pragma once

#include <atomic>
#include <memory>
#include <thread>
#include <unordered_map>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "common/clock.h"
#include "common/mutex.h"
#include "engine/costs.h"
#include "engine/engine.h"
#include "engine/kv/page_pool.h"
#include "engine/rank_group.h"
#include "engine/request.h"
#include "engine/routing/expert_counters.h"
#include "engine/sched/scheduler.h"
#include "engine/step_batch.h"

namespace conclave::engine {

struct StepLoopOptions {
  int32_t step_tokens_max, sequences_max, logit_rows_max;
  int32_t kv_pages, page_tokens;
  int32_t context_tokens;
  int32_t queue_requests_max;
  int32_t pinned_pages_max;
  bool prefix_reuse = true;
};

class StepLoop {
 public:
  // `model` outlives the loop. Start() begins the thread; the destructor ends all requests with UNAVAILABLE.
  StepLoop(const StepLoopOptions& options, const CostModel& costs, RankGroup* model, const Clock* clock);
  ~StepLoop();
  void Start();

  // ---- Any thread.

  // Gives the request its id. RESOURCE_EXHAUSTED OVERLOADED, UNAVAILABLE DRAINING or DEVICE_FAULT.
  absl::StatusOr<RequestId> Submit(std::unique_ptr<Request> request);
  void Cancel(RequestId id);
  void Resume(RequestId id);
  void Unpin(PinId id);
  void Drain();
  bool idle() const;
  EngineLoad load() const;
  std::vector<int64_t> expert_counts() const { return expert_counters_.Snapshot(); }

 private:
  struct Control {
    enum class Kind : uint8_t { kCancel, kResume, kUnpin } kind;
    RequestId id;
  };
  // A sequence's part of the step being carried out.
  struct Work {
    Sequence* sequence;
    int32_t tokens;
    int32_t logit_rows;
  };

  // ---- The step thread only.
  void Run();
  // Waits while there is nothing to do. False when the loop must end.
  bool TakeInbox();
  int64_t WaitNs() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Accept(std::unique_ptr<Request> request);
  void Apply(const Control& control);
  void ApplyUnpin(PinId id);
  void DropExpired();
  bool AnyPaused() const;
  void MakePlan();
  SequenceView View(const Sequence& sequence) const;
  static Prefix ReusablePrefix(const Sequence& sequence);
  void ReleasePages(Sequence* sequence);
  void CarryOut();
  void PreparePlannedWork(int64_t now_ns);
  void Preempt(std::unique_ptr<Sequence> sequence);
  void Admit(std::unique_ptr<Sequence> sequence, int64_t now_ns);
  // Fetches what the step's tokens were routed to.
  absl::Status TakeRouting();
  void AccountStep();
  void AccountExperts();
  void TraceRouting(const Work& work, int32_t first_token);
  void Harvest(const Work& work, int32_t first_row, int64_t now_ns);
  void HarvestGenerate(Sequence* sequence, std::span<const float> logits, int64_t now_ns);
  void SampleNext(Sequence* sequence, std::span<const float> logits, int64_t now_ns);
  void HarvestScore(const Work& work, int32_t first_row);
  void HarvestLogits(const Work& work, int32_t first_row);
  // Keeps all of a computed prompt, or leaves it to the cache where the pages are too few.
  absl::Status KeepPinned(const Sequence& sequence);
  void ReleasePin(BlockTable* table);
  std::span<const float> LogitRow(int32_t row) const;
  void FinishSequence(Sequence* sequence);
  // Ends every sequence of the request with `reason` and the request with `status`.
  void EndRequest(Request* request, FinishReason reason, const absl::Status& status);
  void FinishRequest(Request* request, const absl::Status& status);
  void Report(Request* request, const absl::Status& status);
  void EndAll(const absl::Status& status);
  void Sweep();
  void PublishLoad();

  const StepLoopOptions options_;
  const CostModel costs_;
  RankGroup* const model_;
  const Clock* const clock_;

  mutable Mutex mutex_;
  CondVar wake_;
  std::vector<std::unique_ptr<Request>> arrived_ ABSL_GUARDED_BY(mutex_);
  std::vector<Control> controls_ ABSL_GUARDED_BY(mutex_);
  RequestId next_id_ ABSL_GUARDED_BY(mutex_) = 1;
  bool stop_ ABSL_GUARDED_BY(mutex_) = false;
  bool draining_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Status fault_ ABSL_GUARDED_BY(mutex_);
  int32_t waiting_requests_ ABSL_GUARDED_BY(mutex_) = 0;  // submitted and not yet started
  int64_t waiting_tokens_ ABSL_GUARDED_BY(mutex_) = 0;    // of their prompts
  int32_t open_requests_ ABSL_GUARDED_BY(mutex_) = 0;
  EngineLoad load_ ABSL_GUARDED_BY(mutex_) = {};

  // The step thread's.
  Scheduler scheduler_;
  PagePool pool_;
  StepBatchBuilder batch_;
  StepPlan plan_;
  std::unordered_map<RequestId, std::unique_ptr<Request>> requests_;
  std::unordered_map<PinId, BlockTable> pins_;
  std::vector<std::unique_ptr<Sequence>> running_, waiting_;
  std::vector<SequenceView> running_views_, waiting_views_;
  std::vector<std::unique_ptr<Sequence>> admitted_;  // scratch of a step
  std::vector<Work> work_;
  std::vector<PageCopy> copies_;
  const std::span<float> logits_;  // [O, V], the model's
  ExpertCounters expert_counters_;
  std::vector<int32_t> expert_ids_;    // of the last step, [expert layers, T, k]
  std::vector<float> expert_weights_;  // the same, if a trace was asked for
  SamplerWorkspace sampler_workspace_;
  bool nothing_moves_ = false;  // the last plan was empty: wait for news
  EngineLoad totals_ = {};

  std::thread thread_;
};

}  // namespace conclave::engine
