// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/run/executor.h"

#include <google/protobuf/util/time_util.h>
#include <sys/random.h>

#include <algorithm>
#include <set>
#include <thread>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "common/check.h"
#include "common/mutex.h"
#include "common/status.h"
#include "orchestrator/run/executor_loop.h"
#include "orchestrator/run/replay.h"
#include "orchestrator/run/run_record.h"
#include "orchestrator/run/stored_run.h"
#include "orchestrator/run/task_thread.h"

namespace conclave::orchestrator {
namespace {

namespace pb = ::conclave::deliberation::v1;
using google::protobuf::util::TimeUtil;

constexpr int64_t kPageEvents = 256;
constexpr int64_t kPageBytes = 1 << 20;

absl::Status Stopped() { return Unavailable("DRAINING: the orchestrator is stopping"); }

std::string MakeRunId() {
  uint64_t random[2] = {0, 0};
  CONCLAVE_CHECK(getrandom(random, sizeof(random), 0) == static_cast<ssize_t>(sizeof(random)));
  return fmt::format("runs/{:016x}{:016x}", random[0], random[1]);
}

absl::Status WhyNothingFollows(const Store& store, std::string_view run_id, int64_t sequence_number) {
  ASSIGN_OR_RETURN(const StoredRun stored, store.GetRun(run_id));
  if (sequence_number > stored.last_sequence_number) {
    return OutOfRange("{}: its last event is {}, {} was asked for", run_id, stored.last_sequence_number,
                      sequence_number);
  }
  if (stored.finished) return absl::OkStatus();
  return Unavailable("{} does not go on here; see the log of the orchestrator's start", run_id);
}

// What a stored run is when nobody runs it.
pb::Run RunOf(const StoredRun& stored) {
  pb::Run run;
  run.ParseFromString(stored.summary);
  run.set_run_id(stored.run_id);
  run.set_last_sequence_number(stored.last_sequence_number);
  if (!stored.finished && stored.last_sequence_number > 0) run.set_state(pb::RUN_STATE_RUNNING);
  return run;
}

}  // namespace

class Executor::Impl {
 public:
  explicit Impl(const ExecutorOptions& options) : options_(options), loop_(options, &queue_) {}

  absl::Status ResumeAll();
  void StartThreads() {
    if (options_.stepped) return;
    reader_.emplace();
    thread_ = std::thread([this] { LoopThread(); });
  }
  void Stop();
  bool Step();
  void Abandon() { queue_.Close(), reads_.Close(); }

  bool Post(Task task) { return queue_.Post(std::move(task)); }
  // For work that may wait for the store.
  bool PostRead(Task task) {
    return reader_.has_value() ? reader_->Post(std::move(task)) : reads_.Post(std::move(task));
  }
  bool stopped() const { return stop_requested_ && loop_.Idle(); }
  void Replay(const std::string& run_id, int64_t after, bool tokens, std::shared_ptr<RunObserver> observer,
              bool last_chance);
  void CancelStored(const std::string& run_id, const std::function<void(absl::StatusOr<pb::RunState>)>& done);

  const ExecutorOptions options_;
  TaskQueue queue_;
  ExecutorLoop loop_;                 // of thread_, once it runs
  TaskQueue reads_;                   // of a stepped executor
  std::optional<TaskThread> reader_;  // of others, once they have begun
  mutable Mutex mutex_;
  std::map<std::string, absl::Status> parked_ ABSL_GUARDED_BY(mutex_);
  Counts counts_ ABSL_GUARDED_BY(mutex_);

 private:
  struct Loaded {
    std::unique_ptr<ActiveRun> run;
    Output rest;
  };
  absl::StatusOr<Loaded> Load(const StoredRun& stored, const std::set<std::string>& members) const;
  bool Round(int64_t wait_ns);
  void LoopThread();

  bool stop_requested_ = false;  // of the loop
  std::thread thread_;
};

absl::StatusOr<Executor::Impl::Loaded> Executor::Impl::Load(const StoredRun& stored,
                                                            const std::set<std::string>& members) const {
  // Who is missing is said before anything big is read.
  ASSIGN_OR_RETURN(const DecodedRun decoded, DecodeRun(stored.run_id, stored.request));
  for (const RunMember& member : decoded.spec.members) {
    if (members.contains(member.name)) continue;
    return FailedPrecondition("member \"{}\" is not in this fleet; start with the fleet that the run began with",
                              member.name);
  }
  ASSIGN_OR_RETURN(RunRecord record, ReadRunRecord(*options_.store, stored));
  const std::vector<pb::Event>& events = record.events;
  ASSIGN_OR_RETURN(Resumed resumed,
                   conclave::orchestrator::Replay(record.graph, std::move(record.spec), events, record.inputs));

  Loaded out;
  out.rest = std::move(resumed.rest);
  if (out.rest.wall_time_ns.has_value() && !events.empty()) {
    // While somebody worked on it: from the first event to the last. The hours until --resume are no part of a run.
    const int64_t spent = TimeUtil::TimestampToNanoseconds(events.back().time()) -
                          TimeUtil::TimestampToNanoseconds(events.front().time());
    out.rest.wall_time_ns = std::clamp<int64_t>(*out.rest.wall_time_ns - spent, 0, *out.rest.wall_time_ns);
  }
  out.run = std::make_unique<ActiveRun>();
  out.run->id = stored.run_id;
  out.run->request = std::move(record.request);
  out.run->machine = std::move(resumed.machine);
  out.run->create_unix_ns = stored.create_unix_ns;
  out.run->last_assigned = stored.last_sequence_number;
  out.run->last_committed = stored.last_sequence_number;
  out.run->stream_tokens = out.run->request.stream_tokens();
  for (const StoredMachineInput& input : record.inputs) {
    out.run->cancel_requested |= std::holds_alternative<CancelRequested>(input.input);
  }
  return out;
}

absl::Status Executor::Impl::ResumeAll() {
  std::set<std::string> members;
  for (const MemberFacts& member : options_.backend->Describe()) members.insert(member.name);
  ASSIGN_OR_RETURN(const std::vector<StoredRun> unfinished, options_.store->UnfinishedRuns());
  for (const StoredRun& stored : unfinished) {
    absl::StatusOr<Loaded> loaded = Load(stored, members);
    if (loaded.ok()) {
      loop_.Adopt(std::move(loaded->run), std::move(loaded->rest));
      loop_.Flush();
    } else if (loaded.status().code() == absl::StatusCode::kDataLoss) {
      std::vector<WriteOp> end =
          EndWithoutMachine(*options_.store, stored, pb::RUN_STATE_FAILED, loaded.status(), options_.clock->UnixNs());
      RETURN_IF_ERROR(WriteAndWait(options_.store, std::move(end)).status);
    } else {
      MutexLock lock(&mutex_);
      parked_[stored.run_id] = Annotate(loaded.status(), stored.run_id);
    }
  }
  return absl::OkStatus();
}

// One turn of the loop; whether a task ran.
bool Executor::Impl::Round(int64_t wait_ns) {
  std::deque<Task> tasks = queue_.Take(wait_ns);
  for (Task& task : tasks) task();
  loop_.Tick();
  loop_.Flush();
  MutexLock lock(&mutex_);
  counts_ = {loop_.active_runs(), loop_.calls_in_flight()};
  return !tasks.empty();
}

void Executor::Impl::LoopThread() {
  while (!stopped()) Round(loop_.NextWakeNs());
  for (Task& task : queue_.Close()) task();
  loop_.EndObservers();
}

void Executor::Impl::Stop() {
  Post([this] {
    stop_requested_ = true;
    loop_.BeginStop();
  });
  if (thread_.joinable()) thread_.join();
  if (reader_.has_value()) reader_->Join();
}

bool Executor::Impl::Step() {
  bool ran = Round(0);
  if (stopped()) {
    for (Task& task : queue_.Close()) task();
    loop_.EndObservers();
    for (Task& read : reads_.Close()) read();
    return false;
  }
  for (Task& read : reads_.Take(0)) read(), ran = true;
  return ran || queue_.size() > 0;
}

void Executor::Impl::Replay(const std::string& run_id, int64_t after, bool tokens,
                            std::shared_ptr<RunObserver> observer, bool last_chance) {
  bool progress = false;
  while (true) {
    const auto page = ReadEventPage(*options_.store, run_id, after, kPageEvents, kPageBytes);
    if (!page.ok()) return observer->OnEnd(page.status());
    for (const pb::Event& event : *page) {
      observer->OnEvent(std::make_shared<const pb::Event>(event));
      after = event.sequence_number();
      progress = true;
      if (event.has_run_finished()) return observer->OnEnd(absl::OkStatus());
    }
    if (page->empty()) break;
  }
  if (last_chance && !progress)
    return observer->OnEnd(conclave::orchestrator::WhyNothingFollows(*options_.store, run_id, after));
  const bool posted = Post([this, run_id, after, tokens, observer] {
    const Attached attached = loop_.Attach(run_id, {observer, after, tokens});
    if (attached == Attached::kYes) return;
    // Behind: there is more to read. Not here: it may have ended since, then its last events are stored.
    const bool last = attached == Attached::kNotHere;
    if (!PostRead([=, this] { Replay(run_id, after, tokens, observer, last); })) observer->OnEnd(Stopped());
  });
  if (!posted) observer->OnEnd(Stopped());
}

void Executor::Impl::CancelStored(const std::string& run_id,
                                  const std::function<void(absl::StatusOr<pb::RunState>)>& done) {
  const absl::StatusOr<StoredRun> stored = options_.store->GetRun(run_id);
  if (!stored.ok()) return done(stored.status());
  if (stored->finished) return done(RunOf(*stored).state());
  bool parked = false;
  {
    MutexLock lock(&mutex_);
    parked = parked_.erase(run_id) > 0;
  }
  if (!parked) return done(Unavailable("run {} has only just begun or ended; try again", run_id));
  std::vector<WriteOp> end = EndWithoutMachine(*options_.store, *stored, pb::RUN_STATE_CANCELLED,
                                               Cancelled("cancelled"), options_.clock->UnixNs());
  const bool posted = Post([this, end = std::move(end), done]() mutable {
    loop_.EndStored(std::move(end),
                    [done](const absl::Status& status) { status.ok() ? done(pb::RUN_STATE_CANCELLED) : done(status); });
  });
  if (!posted) done(Stopped());
}

// ---- Executor

Executor::Executor(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Executor::~Executor() {
  if (impl_->options_.stepped) {
    impl_->Abandon();
  } else {
    Stop();
  }
}
void Executor::Stop() { impl_->Stop(); }
bool Executor::Step() { return impl_->Step(); }
int64_t Executor::NextWakeNs() const { return impl_->loop_.NextWakeNs(); }
bool Executor::stopped() const { return impl_->stopped(); }
void Executor::Poke() {
  impl_->Post([] {});
}

absl::StatusOr<std::unique_ptr<Executor>> Executor::Start(const ExecutorOptions& options) {
  std::unique_ptr<Executor> executor(new Executor(std::make_unique<Impl>(options)));
  // The loop's work, before its thread exists. What the store and the backend answer meanwhile waits in the queue.
  const absl::Status resumed = executor->impl_->ResumeAll();
  executor->impl_->StartThreads();
  RETURN_IF_ERROR(resumed);
  return executor;
}

void Executor::StartRun(NewRun run, std::shared_ptr<RunObserver> observer,
                        std::function<void(absl::StatusOr<StartedRun>)> done) {
  if (run.spec.run_id.empty()) run.spec.run_id = MakeRunId();
  auto active = std::make_unique<ActiveRun>();
  active->id = run.spec.run_id;
  CreateRun record;
  record.run_id = run.spec.run_id;
  record.request = EncodeRun(run.request, run.spec);
  record.graph_revision = run.graph->revision();
  record.graph = run.graph->canonical();
  record.request_id = run.request.request_id();
  record.request_hash = RequestHash(run.request);
  absl::StatusOr<std::unique_ptr<Machine>> machine = Machine::Create(run.graph, std::move(run.spec));
  if (!machine.ok()) return done(machine.status());
  active->machine = *std::move(machine);
  active->stream_tokens = run.request.stream_tokens();
  if (observer != nullptr) active->observers.push_back({std::move(observer), 0, active->stream_tokens});
  active->request = std::move(run.request);
  active->request.clear_graph_source();
  auto shared_done = std::make_shared<std::function<void(absl::StatusOr<StartedRun>)>>(std::move(done));
  const bool posted =
      impl_->Post([impl = impl_.get(), active = std::move(active), record = std::move(record), shared_done]() mutable {
        impl->loop_.Create(std::move(active), std::move(record), std::move(*shared_done));
      });
  if (!posted) (*shared_done)(Stopped());
}

void Executor::CancelRun(std::string run_id, std::function<void(absl::StatusOr<pb::RunState>)> done) {
  auto shared = std::make_shared<std::function<void(absl::StatusOr<pb::RunState>)>>(std::move(done));
  const bool posted = impl_->Post([impl = impl_.get(), run_id = std::move(run_id), shared] {
    if (impl->loop_.Cancel(run_id, shared.get())) return;
    if (!impl->PostRead([=] { impl->CancelStored(run_id, *shared); })) (*shared)(Stopped());
  });
  if (!posted) (*shared)(Stopped());
}

void Executor::GetRun(std::string run_id, std::function<void(absl::StatusOr<pb::Run>)> done) {
  auto shared = std::make_shared<std::function<void(absl::StatusOr<pb::Run>)>>(std::move(done));
  const bool posted = impl_->Post([impl = impl_.get(), run_id = std::move(run_id), shared] {
    if (std::optional<pb::Run> run = impl->loop_.Describe(run_id)) return (*shared)(*std::move(run));
    const bool reading = impl->PostRead([=] {
      const absl::StatusOr<StoredRun> stored = impl->options_.store->GetRun(run_id);
      stored.ok() ? (*shared)(RunOf(*stored)) : (*shared)(stored.status());
    });
    if (!reading) (*shared)(Stopped());
  });
  if (!posted) (*shared)(Stopped());
}

void Executor::Watch(std::string run_id, int64_t after_sequence_number, bool stream_tokens,
                     std::shared_ptr<RunObserver> observer) {
  Impl* impl = impl_.get();
  const bool posted = impl->PostRead([=, run_id = std::move(run_id)] {
    impl->Replay(run_id, after_sequence_number, stream_tokens, observer, /*last_chance=*/false);
  });
  if (!posted) observer->OnEnd(Stopped());
}

void Executor::Attach(std::string run_id, int64_t after_sequence_number, bool stream_tokens,
                      std::shared_ptr<RunObserver> observer, std::function<void(Attached)> done) {
  const bool posted = impl_->Post([=, impl = impl_.get(), run_id = std::move(run_id)] {
    done(impl->loop_.Attach(run_id, {observer, after_sequence_number, stream_tokens}));
  });
  if (!posted) done(Attached::kNotHere);
}

void Executor::Unwatch(std::shared_ptr<RunObserver> observer, std::function<void()> done) {
  const bool posted = impl_->Post([=, impl = impl_.get()] {
    impl->loop_.Detach(observer.get());
    if (done) done();
  });
  if (!posted && done) done();
}

absl::StatusOr<std::vector<pb::Event>> Executor::ReadEvents(std::string_view run_id, int64_t after_sequence_number,
                                                            int64_t count, int64_t bytes) const {
  return ReadEventPage(*impl_->options_.store, run_id, after_sequence_number, count, bytes);
}

absl::StatusOr<std::vector<Executor::ListedRun>> Executor::ListRuns(int64_t before_number, int64_t count) const {
  ASSIGN_OR_RETURN(const std::vector<StoredRun> stored, impl_->options_.store->ListRuns(before_number, count));
  std::vector<ListedRun> out;
  out.reserve(stored.size());
  for (const StoredRun& run : stored) out.push_back({run.number, RunOf(run)});
  return out;
}

absl::Status Executor::WhyNothingFollows(std::string_view run_id, int64_t sequence_number) const {
  return conclave::orchestrator::WhyNothingFollows(*impl_->options_.store, run_id, sequence_number);
}

absl::StatusOr<StoredRun> Executor::FindRequest(std::string_view request_id) const {
  return impl_->options_.store->FindRequest(request_id);
}

void Executor::OnReader(std::function<void()> read) {
  // Refused only after Stop: then here, so that whoever waits is answered.
  auto shared = std::make_shared<std::function<void()>>(std::move(read));
  if (!impl_->PostRead([shared] { (*shared)(); })) (*shared)();
}

Executor::Counts Executor::counts() const {
  MutexLock lock(&impl_->mutex_);
  return impl_->counts_;
}

std::vector<std::pair<std::string, absl::Status>> Executor::Parked() const {
  MutexLock lock(&impl_->mutex_);
  return {impl_->parked_.begin(), impl_->parked_.end()};
}

}  // namespace conclave::orchestrator
