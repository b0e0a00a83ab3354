// SPDX-License-Identifier: Apache-2.0
// The inbox and the turn. What a step's results mean for requests is in step_results.cc.
#include "engine/step_loop.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "common/check.h"
#include "common/status.h"

namespace conclave::engine {

StepLoop::StepLoop(const StepLoopOptions& options, const CostModel& costs, RankGroup* model, const Clock* clock)
    : options_(options),
      costs_(costs),
      model_(model),
      clock_(clock),
      scheduler_({.step_tokens_max = options.step_tokens_max,
                  .sequences_max = options.sequences_max,
                  .logit_rows_max = options.logit_rows_max,
                  .page_tokens = options.page_tokens}),
      pool_(options.kv_pages, options.page_tokens),
      batch_(options.step_tokens_max, options.sequences_max,
             options.sequences_max * (options.context_tokens / options.page_tokens + 1), options.logit_rows_max),
      logits_(model->host_logits()),
      expert_counters_(model->spec().num_expert_layers(),
                       model->spec().experts ? model->spec().experts->router.experts : 0) {
  if (model->spec().experts) {
    const size_t choices = static_cast<size_t>(model->spec().num_expert_layers()) * options.step_tokens_max *
                           static_cast<size_t>(model->spec().experts->router.top_k);
    expert_ids_.reserve(choices);
    expert_weights_.reserve(choices);
  }
  for (auto* list : {&running_, &waiting_, &admitted_}) list->reserve(options.sequences_max);
  work_.reserve(options.sequences_max);
  copies_.reserve(options.sequences_max);
  PublishLoad();
}

StepLoop::~StepLoop() {
  {
    MutexLock lock(&mutex_);
    stop_ = true;
    wake_.SignalAll();
  }
  if (thread_.joinable()) thread_.join();
}

void StepLoop::Start() {
  thread_ = std::thread([this] { Run(); });
}

absl::StatusOr<RequestId> StepLoop::Submit(std::unique_ptr<Request> request) {
  MutexLock lock(&mutex_);
  RETURN_IF_ERROR(fault_);
  if (draining_ || stop_) return Unavailable("DRAINING: this engine takes no new requests; send it elsewhere");
  if (waiting_requests_ >= options_.queue_requests_max) {
    return ResourceExhausted("OVERLOADED: {} requests are waiting, the limit is {}; retry later", waiting_requests_,
                             options_.queue_requests_max);
  }
  ++waiting_requests_;
  ++open_requests_;
  waiting_tokens_ += request->prompt_tokens;
  request->id = next_id_++;
  request->submitted_ns = clock_->NowNs();
  const RequestId id = request->id;
  arrived_.push_back(std::move(request));
  wake_.Signal();
  return id;
}

void StepLoop::Cancel(RequestId id) {
  MutexLock lock(&mutex_);
  controls_.push_back({Control::Kind::kCancel, id});
  wake_.Signal();
}

void StepLoop::Resume(RequestId id) {
  MutexLock lock(&mutex_);
  controls_.push_back({Control::Kind::kResume, id});
  wake_.Signal();
}

void StepLoop::Unpin(PinId id) {
  MutexLock lock(&mutex_);
  controls_.push_back({Control::Kind::kUnpin, id});
  wake_.Signal();
}

void StepLoop::Drain() {
  MutexLock lock(&mutex_);
  draining_ = true;
}

bool StepLoop::idle() const {
  MutexLock lock(&mutex_);
  return open_requests_ == 0;
}

EngineLoad StepLoop::load() const {
  MutexLock lock(&mutex_);
  EngineLoad load = load_;
  load.waiting_requests = waiting_requests_;
  load.waiting_tokens = waiting_tokens_;
  load.draining = draining_;
  return load;
}

void StepLoop::Run() {
  while (TakeInbox()) {
    DropExpired();
    Sweep();
    MakePlan();
    nothing_moves_ = plan_.empty() && plan_.preempted.empty();
    CONCLAVE_CHECK_MSG(!nothing_moves_ || requests_.empty() || AnyPaused(), "the scheduler left runnable work");
    if (!nothing_moves_) CarryOut();
    Sweep();
    PublishLoad();
  }
  EndAll(Unavailable("SHUTTING_DOWN: the engine was stopped"));
  Sweep();
  for (auto& [id, table] : pins_) ReleasePin(&table);
  pins_.clear();
  PublishLoad();
}

int64_t StepLoop::WaitNs() const {
  int64_t nearest = std::numeric_limits<int64_t>::max();
  for (const auto& [id, request] : requests_) {
    if (request->deadline_ns > 0) nearest = std::min(nearest, request->deadline_ns);
  }
  if (nearest == std::numeric_limits<int64_t>::max()) return nearest;
  return std::max<int64_t>(0, nearest - clock_->NowNs());
}

bool StepLoop::TakeInbox() {
  std::vector<std::unique_ptr<Request>> arrived;
  std::vector<Control> controls;
  {
    MutexLock lock(&mutex_);
    while ((requests_.empty() || nothing_moves_) && arrived_.empty() && controls_.empty() && !stop_) {
      const int64_t wait_ns = WaitNs();
      if (wait_ns == std::numeric_limits<int64_t>::max()) {
        wake_.Wait(&mutex_);
      } else if (wait_ns == 0 || !wake_.WaitWithTimeout(&mutex_, wait_ns)) {
        break;  // a deadline
      }
    }
    arrived.swap(arrived_);
    controls.swap(controls_);
    if (stop_) {
      for (auto& request : arrived) Accept(std::move(request));
      return false;
    }
  }
  for (auto& request : arrived) Accept(std::move(request));
  for (const Control& control : controls) Apply(control);
  return true;
}

void StepLoop::Accept(std::unique_ptr<Request> request) {
  request->open_sequences = 0;
  for (auto& sequence : request->sequences) {
    request->open_sequences += 1 + static_cast<int32_t>(sequence->followers.size());
    sequence->arrival = request->id << 8 | static_cast<uint64_t>(sequence->index);
    for (auto& follower : sequence->followers) {
      follower->arrival = request->id << 8 | static_cast<uint64_t>(follower->index);
    }
    waiting_.push_back(std::move(sequence));
  }
  request->sequences.clear();
  requests_.emplace(request->id, std::move(request));
}

void StepLoop::Apply(const Control& control) {
  if (control.kind == Control::Kind::kUnpin) return ApplyUnpin(control.id);
  const auto it = requests_.find(control.id);
  if (it == requests_.end()) return;
  switch (control.kind) {
    case Control::Kind::kCancel:
      ++totals_.requests_cancelled;
      return EndRequest(it->second.get(), FinishReason::kCancelled, Cancelled("the request was cancelled"));
    case Control::Kind::kResume:
      it->second->paused = false;
      return;
    case Control::Kind::kUnpin:
      return;  // of no request
  }
}

void StepLoop::ApplyUnpin(PinId id) {
  const auto pin = pins_.find(id);
  if (pin == pins_.end()) return;
  ReleasePin(&pin->second);
  pins_.erase(pin);
}

void StepLoop::DropExpired() {
  int64_t now_ns = 0;
  std::vector<Request*> expired;
  for (const auto& [id, request] : requests_) {
    if (request->deadline_ns <= 0) continue;
    if (now_ns == 0) now_ns = clock_->NowNs();
    if (request->deadline_ns <= now_ns) expired.push_back(request.get());
  }
  for (Request* request : expired) {
    EndRequest(request, FinishReason::kCancelled, DeadlineExceeded("the request's deadline has passed"));
  }
}

bool StepLoop::AnyPaused() const {
  return std::any_of(requests_.begin(), requests_.end(), [](const auto& entry) { return entry.second->paused; });
}

// What may come from the cache: logits are wanted from there on.
Prefix StepLoop::ReusablePrefix(const Sequence& sequence) {
  return sequence.prefix().First(static_cast<size_t>(sequence.logits_from));
}

// All that is computed of it stays to be found.
void StepLoop::ReleasePages(Sequence* sequence) {
  if (options_.prefix_reuse) {
    sequence->table.PublishFull(&pool_, sequence->prefix());
    sequence->table.PublishTail(&pool_, sequence->prefix());
  }
  sequence->table.Release(&pool_);
}

SequenceView StepLoop::View(const Sequence& sequence) const {
  SequenceView view;
  view.arrival = sequence.arrival;
  view.priority = sequence.request->priority;
  view.paused = sequence.request->paused;
  view.known_tokens = sequence.known();
  view.logits_from = sequence.logits_from;
  view.followers = static_cast<int32_t>(sequence.followers.size());
  if (options_.prefix_reuse) view.prefix = sequence.prefix();
  view.overtaken = sequence.overtaken;
  return view;
}

void StepLoop::MakePlan() {
  running_views_.clear();
  waiting_views_.clear();
  for (const auto& sequence : running_) {
    SequenceView view = View(*sequence);
    view.computed_tokens = sequence->table.tokens();
    view.pages = sequence->table.pages();
    running_views_.push_back(view);
  }
  // With every slot taken nothing can be admitted, so the cache need not be asked.
  const bool full = static_cast<int32_t>(running_.size()) >= options_.sequences_max;
  for (size_t i = 0; !full && i < waiting_.size(); ++i) {
    const Sequence& sequence = *waiting_[i];
    SequenceView view = View(sequence);
    if (options_.prefix_reuse) {
      const PagePool::Hit hit = pool_.Probe(ReusablePrefix(sequence));
      view.computed_tokens = hit.tokens;
      view.cached_unreferenced = hit.unreferenced;
    }
    waiting_views_.push_back(view);
  }
  scheduler_.Plan({.running = running_views_,
                   .waiting = waiting_views_,
                   .pages_available = pool_.available(),
                   .page_references = pool_.references(),
                   .page_published = pool_.full_published()},
                  &plan_);
}

void StepLoop::CarryOut() {
  const int64_t now_ns = clock_->NowNs();
  PreparePlannedWork(now_ns);
  if (work_.empty()) return;
  batch_.Clear();
  for (Work& work : work_) {
    const Sequence& sequence = *work.sequence;
    work.logit_rows = batch_.Add(pool_, sequence.table, sequence.tokens, work.tokens, sequence.logits_from,
                                 sequence.request->experts_per_token);
  }
  const size_t logits = static_cast<size_t>(batch_.num_logit_rows()) * model_->spec().vocab;
  absl::Status status = model_->Step(copies_, batch_.batch(), logits_.first(logits));
  if (status.ok()) status = TakeRouting();
  if (!status.ok()) {
    const absl::Status fault = Unavailable("DEVICE_FAULT: {}; restart the process", Message(status));
    {
      MutexLock lock(&mutex_);
      fault_ = fault;
    }
    return EndAll(fault);
  }
  ++totals_.steps;
  AccountStep();
  const int64_t done_ns = clock_->NowNs();
  int32_t row = 0, token = 0;
  for (const Work& work : work_) {
    if (work.sequence->request->routing != nullptr) TraceRouting(work, token);
    Harvest(work, row, done_ns);
    row += work.logit_rows;
    token += work.tokens;
  }
}

void StepLoop::PreparePlannedWork(int64_t now_ns) {
  work_.clear();
  copies_.clear();
  for (const int32_t i : plan_.overtaken_running) ++running_[i]->overtaken;
  for (const int32_t i : plan_.overtaken_waiting) ++waiting_[i]->overtaken;
  for (const StepPlan::Work& work : plan_.running) work_.push_back({running_[work.sequence].get(), work.tokens, 0});

  // Pages first go back, then prefixes are taken from the cache, and only then is anything new allocated: else the
  // allocations could evict what the plan counts on finding.
  for (const int32_t i : plan_.preempted) Preempt(std::move(running_[i]));
  std::erase(running_, nullptr);
  const size_t admitted = work_.size();
  for (const StepPlan::Work& work : plan_.admitted) {
    work_.push_back({waiting_[work.sequence].get(), work.tokens, 0});
    Admit(std::move(waiting_[work.sequence]), now_ns);
  }
  std::erase(waiting_, nullptr);
  // Those admitted first: they may copy the beginning of a page that a running one writes.
  const std::span<const Work> all(work_);
  for (const auto& part : {all.subspan(admitted), all.first(admitted)}) {
    for (const Work& work : part) work.sequence->table.Append(&pool_, work.tokens, &copies_);
  }
}

void StepLoop::Preempt(std::unique_ptr<Sequence> sequence) {
  ++totals_.preemptions;
  ReleasePages(sequence.get());
  // Its positions will be scored again.
  sequence->score.logprob = 0;
  sequence->score.token_logprobs.clear();
  sequence->score.greedy = true;
  waiting_.push_back(std::move(sequence));
}

void StepLoop::Admit(std::unique_ptr<Sequence> sequence, int64_t now_ns) {
  if (options_.prefix_reuse) sequence->table.AcquirePrefix(&pool_, ReusablePrefix(*sequence));
  Request* request = sequence->request;
  if (!request->started) {
    request->started = true;
    request->started_ns = now_ns;
    request->usage.queue_ns = now_ns - request->submitted_ns;
    request->usage.prompt_tokens = request->prompt_tokens;
    request->usage.cached_prompt_tokens = std::min(sequence->table.tokens(), request->prompt_tokens);
    const int64_t cached = request->usage.cached_prompt_tokens;
    request->usage.saved_flops = costs_.Flops(cached, cached, 0) +
                                 costs_.ExpertFlops(cached * request->experts_per_token * expert_counters_.layers());
    totals_.prompt_tokens += request->usage.prompt_tokens;
    totals_.cached_prompt_tokens += request->usage.cached_prompt_tokens;
    {
      MutexLock lock(&mutex_);
      --waiting_requests_;
      waiting_tokens_ -= request->prompt_tokens;
    }
    if (request->sink != nullptr) {
      request->sink->OnStarted(request->usage.prompt_tokens, request->usage.cached_prompt_tokens);
    }
  }
  running_.push_back(std::move(sequence));
}

void StepLoop::PublishLoad() {
  totals_.running_sequences = static_cast<int32_t>(running_.size());
  totals_.kv_pages_used = pool_.num_pages() - pool_.available();
  totals_.kv_pages_total = pool_.num_pages();
  totals_.kv_pages_pinned = pool_.num_pinned();
  totals_.kv_page_tokens = pool_.page_tokens();
  MutexLock lock(&mutex_);
  load_ = totals_;
}

}  // namespace conclave::engine
