// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/run/executor_loop.h"

#include <google/protobuf/util/time_util.h>

#include <algorithm>
#include <utility>

#include "common/check.h"
#include "common/status.h"
#include "orchestrator/run/stored_run.h"

namespace conclave::orchestrator {
namespace {

namespace pb = ::conclave::deliberation::v1;
using google::protobuf::util::TimeUtil;

constexpr int64_t kStoreRetryNs = 1'000'000'000;
// Deltas are for the eye and are not stored: when the loop is this far behind, they are dropped.
constexpr size_t kQueuedTasksForDeltasMax = 65'536;

// An event that the store would not take keeps everything but the words of its prompt, whose hash stays.
void FitEvent(pb::Event* event) {
  if (static_cast<int64_t>(event->ByteSizeLong()) <= kEventBytesMax || !event->has_call_finished()) return;
  for (pb::PromptMessage& message : *event->mutable_call_finished()->mutable_prompt()) {
    message.set_content(fmt::format("[{} bytes, not stored]", message.content().size()));
  }
}

absl::Status StoreIsDead() { return DataLoss("STORE_IO: the store cannot be written any more"); }

Input ToInput(uint32_t call, CallOutcome outcome, int64_t latency_ns) {
  if (!outcome.status.ok()) {
    return CallLost{call, std::move(outcome.status), std::move(outcome.usage), outcome.retryable,
                    std::move(outcome.partial)};
  }
  CallFinished finished;
  finished.call = call;
  finished.text = std::move(outcome.text);
  finished.p_true = outcome.p_true;
  finished.trace = std::move(outcome.trace);
  finished.answer = std::move(outcome.answer);
  finished.finish_reason = outcome.finish_reason;
  finished.usage = std::move(outcome.usage);
  finished.estimated = outcome.estimated;
  finished.instance_id = std::move(outcome.instance_id);
  finished.model_revision = std::move(outcome.model_revision);
  finished.latency_ns = latency_ns;
  return finished;
}

}  // namespace

void ExecutorLoop::OnDone(CallId id, CallOutcome outcome) {
  queue_->Post([this, id, outcome = std::move(outcome)]() mutable { HandleDone(id, std::move(outcome)); });
}

void ExecutorLoop::OnDelta(CallId id, CallDelta delta) {
  // The text is known at the end of the call, log-probabilities are not.
  if (delta.logprobs.empty() && queue_->size() > kQueuedTasksForDeltasMax) return;
  queue_->Post([this, id, delta = std::move(delta)]() mutable { HandleDelta(id, std::move(delta)); });
}

ActiveRun* ExecutorLoop::Find(const std::string& run_id) {
  const auto it = runs_.find(run_id);
  return it == runs_.end() ? nullptr : it->second.get();
}

void ExecutorLoop::Create(std::unique_ptr<ActiveRun> run, CreateRun record,
                          std::function<void(absl::StatusOr<StartedRun>)> done) {
  if (stopping_) return done(Unavailable("DRAINING: the orchestrator is stopping"));
  if (dead_) return done(StoreIsDead());
  if (active_runs() >= options_.active_runs_max) {
    return done(ResourceExhausted("OVERLOADED: {} runs are active, at most {}; try again later", active_runs(),
                                  options_.active_runs_max));
  }
  ++creating_;
  run->create_unix_ns = options_.clock->UnixNs();
  record.create_unix_ns = run->create_unix_ns;
  record.summary = Summary(*run).SerializeAsString();
  std::vector<WriteOp> ops;
  ops.emplace_back(std::move(record));
  auto begin = [this, run = std::shared_ptr<ActiveRun>(std::move(run)), done = std::move(done)](WriteResult result) {
    queue_->Post([this, run, done, result = std::move(result)] {
      --creating_;
      if (!result.status.ok()) {
        done(result.status);
        if (result.status.code() == absl::StatusCode::kDataLoss) Fail(result.status);  // it writes nothing any more
        return;
      }
      if (!result.existing_run_id.empty()) return done(StartedRun{result.existing_run_id, /*existing=*/true});
      auto owned = std::make_unique<ActiveRun>(std::move(*run));
      ActiveRun* active = owned.get();
      runs_[active->id] = std::move(owned);
      done(StartedRun{active->id, /*existing=*/false});
      if (!stopping_) Apply(active, conclave::orchestrator::Start{});
    });
  };
  options_.store->Write(std::move(ops), std::move(begin));
}

void ExecutorLoop::Adopt(std::unique_ptr<ActiveRun> run, Output rest) {
  ActiveRun* active = run.get();
  runs_[active->id] = std::move(run);
  Take(active, std::move(rest));
}

void ExecutorLoop::Apply(ActiveRun* run, Input input) {
  absl::StatusOr<Output> output = run->machine->Step(std::move(input));
  if (output.ok()) Take(run, *std::move(output));  // otherwise an answer that nobody waits for any more
}

void ExecutorLoop::RecordAndApply(ActiveRun* run, StoredKind input) {
  current_.ops.emplace_back(RecordInput{run->id, run->last_assigned, EncodeInput(input)});
  std::visit([&](auto i) { Apply(run, i); }, input);
}

void ExecutorLoop::Take(ActiveRun* run, Output output) {
  if (output.wall_time_ns.has_value()) run->wall_deadline_ns = Now() + *output.wall_time_ns;
  for (const Timer& timer : output.timers) run->timers[timer.id] = Now() + timer.delay_ns;
  Effects effects;
  effects.run_id = run->id;
  effects.calls = std::move(output.calls);
  effects.cancel = std::move(output.cancel);
  if (!output.events.empty()) {
    AppendEvents append{run->id, run->last_assigned + 1, {}};
    const auto time = TimeUtil::NanosecondsToTimestamp(options_.clock->UnixNs());
    for (pb::Event& event : output.events) {
      event.set_sequence_number(++run->last_assigned);
      event.set_run_id(run->id);
      *event.mutable_time() = time;
      FitEvent(&event);
      append.events.push_back(EncodeEvent(event));
      effects.events.push_back(std::make_shared<const pb::Event>(std::move(event)));
    }
    current_.ops.emplace_back(std::move(append));
  }
  if (run->machine->finished()) {
    effects.finished = true;
    run->wall_deadline_ns.reset();
    run->timers.clear();
    pb::Run summary = Summary(*run);
    summary.set_last_sequence_number(run->last_assigned);
    *summary.mutable_end_time() = TimeUtil::NanosecondsToTimestamp(options_.clock->UnixNs());
    if (!effects.events.empty()) summary.set_message(effects.events.back()->run_finished().message());
    current_.ops.emplace_back(UpdateRun{run->id, summary.SerializeAsString(), /*finished=*/true});
  }
  current_.effects.push_back(std::move(effects));
}

pb::Run ExecutorLoop::Summary(const ActiveRun& run) const {
  pb::Run out;
  out.set_run_id(run.id);
  out.set_state(run.last_assigned == 0 ? pb::RUN_STATE_PENDING : run.machine->state());
  out.set_graph(run.machine->graph().name());
  for (const auto& [name, value] : run.machine->spec().inputs) (*out.mutable_inputs())[name] = value;
  if (run.machine->answer().has_value()) out.set_answer(*run.machine->answer());
  *out.mutable_ledger() = run.machine->ledger();
  out.set_last_sequence_number(run.last_committed);
  *out.mutable_create_time() = TimeUtil::NanosecondsToTimestamp(run.create_unix_ns);
  return out;
}

// ---- Commit, then act

void ExecutorLoop::Flush() {
  if (current_.empty() || dead_) return;
  Batch batch = std::exchange(current_, {});
  const int64_t ticket = next_ticket_++;
  if (stalled_.empty()) {
    Submit(ticket, std::move(batch));
  } else {
    stalled_.emplace(ticket, std::move(batch));
  }
}

void ExecutorLoop::Submit(int64_t ticket, Batch batch) {
  std::vector<WriteOp> ops = std::move(batch.ops);
  in_flight_.emplace(ticket, std::move(batch));
  options_.store->Write(std::move(ops), [this, ticket](WriteResult result) {
    queue_->Post([this, ticket, result = std::move(result)]() mutable { OnWritten(ticket, std::move(result)); });
  });
}

void ExecutorLoop::OnWritten(int64_t ticket, WriteResult result) {
  const auto it = in_flight_.find(ticket);
  CONCLAVE_CHECK(it != in_flight_.end());
  Batch batch = std::move(it->second);
  in_flight_.erase(it);
  if (result.status.ok()) {
    for (Effects& effects : batch.effects) Run(std::move(effects));
    if (stalled_.empty() || stalled_.begin()->first > ticket) {
      for (const auto& acknowledge : batch.acknowledge) acknowledge();
    } else if (!batch.acknowledge.empty()) {
      stalled_[ticket].acknowledge = std::move(batch.acknowledge);  // of what waits for room before it
    }
    return;
  }
  const bool full = Message(result.status).starts_with("STORE_FULL");
  // A batch behind one that did not fit is refused too, because its events do not follow the last ones.
  const bool behind = !stalled_.empty() && result.status.code() == absl::StatusCode::kFailedPrecondition;
  if (!full && !behind) return Fail(result.status);
  batch.ops = std::move(result.batch);
  stalled_.emplace(ticket, std::move(batch));
  retry_ns_ = Now() + kStoreRetryNs;
}

void ExecutorLoop::Fail(const absl::Status& status) {
  if (std::exchange(dead_, true)) return;
  if (options_.on_fatal) options_.on_fatal(status);
}

void ExecutorLoop::Run(Effects effects) {
  ActiveRun* run = Find(effects.run_id);
  CONCLAVE_CHECK(run != nullptr);
  for (const auto& event : effects.events) {
    run->last_committed = event->sequence_number();
    for (const ActiveRun::Observer& observer : run->observers) {
      if (event->sequence_number() > observer.after) observer.observer->OnEvent(event);
    }
  }
  for (CallSpec& call : effects.calls) Dispatch(run, std::move(call));
  for (const uint32_t call : effects.cancel) {
    if (const auto it = run->calls.find(call); it != run->calls.end()) options_.backend->Cancel(it->second);
  }
  if (!effects.finished) return;
  const std::vector<ActiveRun::Observer> observers = std::move(run->observers);
  runs_.erase(effects.run_id);
  for (const ActiveRun::Observer& observer : observers) observer.observer->OnEnd(absl::OkStatus());
}

void ExecutorLoop::Dispatch(ActiveRun* run, CallSpec call) {
  if (stopping_) return;
  const RunSpec& spec = run->machine->spec();
  CallRequest request;
  request.id = next_call_++;
  request.member = spec.members[static_cast<size_t>(call.member_index)].name;
  request.item_id = spec.item_id;
  request.sample = call.key.sample();
  request.prompt = call.prompt->messages;
  request.seed = call.seed;
  request.sampling = *call.sampling;
  if (call.p_true != nullptr) request.p_true = PTrueContinuations{call.p_true->yes, call.p_true->no};
  request.token_trace = call.token_trace;
  request.logprobs = call.logprobs;
  request.partial = std::move(call.partial);
  if (call.beside.has_value()) {
    if (const auto it = run->calls.find(*call.beside); it != run->calls.end()) request.beside = it->second;
  }
  request.constraint = std::move(call.constraint);
  request.now_unix_seconds = run->create_unix_ns / 1'000'000'000;
  request.stream_tokens = run->stream_tokens;
  for (const ActiveRun::Observer& observer : run->observers) request.stream_tokens |= observer.tokens;

  run->calls[call.id] = request.id;
  RunningCall running{.run_id = run->id, .call = call.id, .start_ns = Now(), .node_path = {}, .key = {}};
  if (request.stream_tokens) {
    running.node_path = std::move(call.node_path);
    running.key = std::move(call.key);
  }
  calls_.emplace(request.id, std::move(running));
  options_.backend->Start(std::move(request), this);
}

void ExecutorLoop::HandleDone(CallId id, CallOutcome outcome) {
  const auto it = calls_.find(id);
  CONCLAVE_CHECK_MSG(it != calls_.end(), "a backend ended a call twice");
  const RunningCall call = std::move(it->second);
  calls_.erase(it);
  ActiveRun* run = Find(call.run_id);
  if (run == nullptr || dead_) return;
  run->calls.erase(call.call);
  // While stopping, what fails does so because of it: the call is made again at the next start.
  if (stopping_ && !outcome.status.ok()) return;
  Apply(run, ToInput(call.call, std::move(outcome), Now() - call.start_ns));
}

void ExecutorLoop::HandleDelta(CallId id, CallDelta delta) {
  const auto it = calls_.find(id);
  if (it == calls_.end()) return;
  ActiveRun* run = Find(it->second.run_id);
  if (run == nullptr) return;
  auto event = std::make_shared<pb::Event>();
  event->set_run_id(run->id);
  event->set_node_path(it->second.node_path);
  *event->mutable_token_delta()->mutable_key() = it->second.key;
  event->mutable_token_delta()->set_text(std::move(delta.text));
  event->mutable_token_delta()->set_token_count(delta.token_count);
  for (auto& place : delta.logprobs) *event->mutable_token_delta()->add_logprobs() = std::move(place);
  for (const ActiveRun::Observer& observer : run->observers) {
    if (observer.tokens) observer.observer->OnEvent(event);
  }
}

// ---- From outside

bool ExecutorLoop::Cancel(const std::string& run_id, std::function<void(absl::StatusOr<pb::RunState>)>* done) {
  ActiveRun* run = Find(run_id);
  if (run == nullptr || dead_) return false;
  if (!run->cancel_requested && !run->machine->finished()) {
    run->cancel_requested = true;
    RecordAndApply(run, CancelRequested{});
  }
  // Behind everything written so far, hence behind the first request too.
  current_.acknowledge.push_back([done = std::move(*done), state = run->machine->state()] { done(state); });
  return true;
}

void ExecutorLoop::EndStored(std::vector<WriteOp> end, std::function<void(absl::Status)> done) {
  if (dead_) return done(StoreIsDead());
  for (WriteOp& op : end) current_.ops.push_back(std::move(op));
  current_.acknowledge.push_back([done = std::move(done)] { done(absl::OkStatus()); });
}

std::optional<pb::Run> ExecutorLoop::Describe(const std::string& run_id) const {
  const auto it = runs_.find(run_id);
  if (it == runs_.end()) return std::nullopt;
  return Summary(*it->second);
}

Executor::Attached ExecutorLoop::Attach(const std::string& run_id, ActiveRun::Observer observer) {
  ActiveRun* run = Find(run_id);
  if (run == nullptr) return Executor::Attached::kNotHere;
  if (run->last_committed > observer.after) return Executor::Attached::kBehind;
  run->observers.push_back(std::move(observer));
  return Executor::Attached::kYes;
}

void ExecutorLoop::Detach(const RunObserver* observer) {
  for (auto& [id, run] : runs_) {
    std::erase_if(run->observers, [&](const ActiveRun::Observer& o) { return o.observer.get() == observer; });
  }
}

// ---- Time

void ExecutorLoop::TickTimers(ActiveRun* run, int64_t now_ns) {
  std::vector<uint32_t> due;
  for (const auto& [id, at_ns] : run->timers) {
    if (at_ns <= now_ns) due.push_back(id);
  }
  for (const uint32_t id : due) {
    run->timers.erase(id);
    const std::vector<Timer> pending = run->machine->PendingTimers();
    const bool matters =
        std::any_of(pending.begin(), pending.end(), [id](const Timer& timer) { return timer.id == id; });
    if (matters) RecordAndApply(run, TimerExpired{id});
  }
}

void ExecutorLoop::Tick() {
  const int64_t now = Now();
  for (auto& [id, run] : runs_) {
    if (!run->timers.empty() && !stopping_) TickTimers(run.get(), now);
    if (!run->wall_deadline_ns.has_value() || *run->wall_deadline_ns > now || stopping_) continue;
    run->wall_deadline_ns.reset();
    RecordAndApply(run.get(), WallTimeExpired{});
  }
  if (stalled_.empty() || !in_flight_.empty() || now < retry_ns_) return;
  for (auto& [ticket, batch] : std::exchange(stalled_, {})) Submit(ticket, std::move(batch));
}

int64_t ExecutorLoop::NextWakeNs() const {
  int64_t next = -1;
  const auto consider = [&](int64_t at) { next = next < 0 ? at : std::min(next, at); };
  for (const auto& [id, run] : runs_) {
    if (run->wall_deadline_ns.has_value()) consider(*run->wall_deadline_ns);
    for (const auto& [timer, at_ns] : run->timers) consider(at_ns);
  }
  if (!stalled_.empty() && in_flight_.empty()) consider(retry_ns_);  // else the answer to what is in flight comes first
  return next < 0 ? -1 : std::max<int64_t>(0, next - Now());
}

void ExecutorLoop::BeginStop() {
  stopping_ = true;
  std::vector<CallId> running;
  for (const auto& [id, call] : calls_) running.push_back(id);
  for (const CallId id : running) options_.backend->Cancel(id);
}

void ExecutorLoop::EndObservers() {
  for (auto& [id, run] : runs_) {
    for (const ActiveRun::Observer& observer : std::exchange(run->observers, {})) {
      observer.observer->OnEnd(Unavailable("DRAINING: run {} goes on when the orchestrator starts again", id));
    }
  }
}

}  // namespace conclave::orchestrator
