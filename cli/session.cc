// SPDX-License-Identifier: Apache-2.0
#include "cli/session.h"

#include <fmt/format.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <thread>

#include "cli/command.h"
#include "cli/engine_flags.h"
#include "common/bounded_queue.h"
#include "common/mutex.h"
#include "common/status.h"
#include "orchestrator/backend/router.h"
#include "orchestrator/fleet/launcher.h"
#include "orchestrator/fleet/run_builder.h"
#include "orchestrator/run/executor.h"
#include "orchestrator/store/sqlite_store.h"

namespace conclave::cli {
namespace {

using deliberation::v1::Event;
using deliberation::v1::RunFinished;
using deliberation::v1::RunRequest;
using orchestrator::Executor;
using orchestrator::RunObserver;

std::atomic<bool> stop_requested{false};

void OnSignal(int) {
  if (stop_requested.exchange(true)) _exit(kFailed);
}

// A directory that goes with the process.
class TemporaryDirectory {
 public:
  TemporaryDirectory() {
    std::string name = (std::filesystem::temp_directory_path() / "conclave-XXXXXX").string();
    if (mkdtemp(name.data()) != nullptr) path_ = name;
  }
  ~TemporaryDirectory() {
    std::error_code ignored;
    if (!path_.empty()) std::filesystem::remove_all(path_, ignored);
  }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

// Hands a run's events over to the thread that waits for them.
class QueueObserver final : public RunObserver {
 public:
  struct Message {
    std::shared_ptr<const Event> event;  // null: the end
    absl::Status end;
  };
  void OnEvent(const std::shared_ptr<const Event>& event) override { queue_.TryPush({event, absl::OkStatus()}); }
  void OnEnd(const absl::Status& status) override { queue_.TryPush({nullptr, status}); }
  BoundedQueue<Message>& queue() { return queue_; }

 private:
  BoundedQueue<Message> queue_{1 << 20};
};

// Keeps a run's events until its end.
class RecordObserver final : public RunObserver {
 public:
  using Done = std::function<void(absl::Status, experiment::RunRecord)>;
  explicit RecordObserver(Done done) : done_(std::move(done)) {}
  void OnEvent(const std::shared_ptr<const Event>& event) override {
    if (event->sequence_number() > 0) record_.events.push_back(*event);
  }
  void OnEnd(const absl::Status& status) override { done_(status, std::move(record_)); }

 private:
  const Done done_;
  experiment::RunRecord record_;
};

double Seconds(const google::protobuf::Timestamp& t) { return static_cast<double>(t.seconds()) + 1e-9 * t.nanos(); }

void SetSeconds(experiment::RunRecord* record) {
  if (record->events.empty()) return;
  record->seconds = Seconds(record->events.back().time()) - Seconds(record->events.front().time());
}

}  // namespace

class Session::Impl final : public experiment::Deliberator {
 public:
  absl::Status Open(const SessionFlags& flags, orchestrator::LoadedFleet fleet) {
    fleet_ = std::move(fleet);
    const std::string graphs = flags.graphs.empty() ? DefaultGraphsDirectory() : flags.graphs;
    ASSIGN_OR_RETURN(library_, orchestrator::GraphLibrary::Open(graphs));
    for (const std::string& name : flags.graphs_needed) RETURN_IF_ERROR(library_->Find(name).status());
    std::string store = flags.store;
    if (store.empty()) {
      temporary_ = std::make_unique<TemporaryDirectory>();
      store = temporary_->path() + "/store.sqlite";
    }
    orchestrator::SqliteOptions sqlite;
    sqlite.path = store;
    ASSIGN_OR_RETURN(store_, orchestrator::OpenSqliteStore(sqlite));
    orchestrator::LaunchOptions options;
    options.worker_binary = flags.worker_binary.empty() ? BinaryDirectory() + "/conclave-worker" : flags.worker_binary;
    options.cores = static_cast<int32_t>(std::thread::hardware_concurrency());
    ASSIGN_OR_RETURN(launched_, orchestrator::LaunchedFleet::Launch(fleet_, options));
    const auto workers = launched_->workers();
    if (!workers.empty()) {
      fmt::print(stderr, "started {} worker{} for the length of this command\n", workers.size(),
                 workers.size() == 1 ? "" : "s");
    }
    orchestrator::ExecutorOptions executor;
    executor.store = store_.get();
    executor.backend = &launched_->backend();
    ASSIGN_OR_RETURN(executor_, Executor::Start(executor));
    return absl::OkStatus();
  }

  absl::Status OpenStored(const SessionFlags& flags) {
    if (!std::filesystem::exists(flags.store)) return NotFound("{}: no such file", flags.store);
    orchestrator::SqliteOptions sqlite;
    sqlite.path = flags.store;
    ASSIGN_OR_RETURN(store_, orchestrator::OpenSqliteStore(sqlite));
    ASSIGN_OR_RETURN(nobody_, orchestrator::NewRouter({}, {}));
    orchestrator::ExecutorOptions executor;
    executor.store = store_.get();
    executor.backend = nobody_.get();
    ASSIGN_OR_RETURN(executor_, Executor::Start(executor));
    return absl::OkStatus();
  }

  ~Impl() override {
    if (executor_ != nullptr) executor_->Stop();
  }

  absl::StatusOr<RunFinished> Run(const RunRequest& request, const std::function<void(const Event&)>& on_event,
                                  const std::atomic<bool>& stop) {
    ASSIGN_OR_RETURN(orchestrator::NewRun run, Build(request));
    auto observer = std::make_shared<QueueObserver>();
    auto run_id = std::make_shared<std::string>();
    executor_->StartRun(std::move(run), observer, [observer, run_id](absl::StatusOr<orchestrator::StartedRun> started) {
      if (!started.ok()) {
        observer->OnEnd(started.status());
      } else {
        *run_id = started->run_id;
      }
    });
    RunFinished last;
    bool cancelled = false;
    while (true) {
      for (QueueObserver::Message& message : observer->queue().WaitAndDrain(absl::Milliseconds(100))) {
        if (message.event == nullptr) {
          if (!message.end.ok()) return message.end;
          return last;
        }
        on_event(*message.event);
        if (message.event->has_run_started()) id_ = message.event->run_id();
        if (message.event->has_run_finished()) last = message.event->run_finished();
      }
      if (stop && !cancelled && !id_.empty()) {
        cancelled = true;
        executor_->CancelRun(id_, [](const absl::StatusOr<deliberation::v1::RunState>&) {});
      }
    }
  }

  std::string Members() const {
    std::string text;
    const auto names = fleet_.MemberNames();
    for (size_t i = 0; i < names.size() && i < 3; ++i) text += (i > 0 ? ", " : "") + names[i];
    if (names.size() > 3) text += fmt::format(" and {} more", names.size() - 3);
    return text;
  }

  // ---- Deliberator
  void Start(const RunRequest& request, std::function<void(absl::Status)> done) override {
    auto run = Build(request);
    if (!run.ok()) return done(run.status());
    const std::string& id = request.request_id();
    auto observer =
        std::make_shared<RecordObserver>([this, id, done](const absl::Status& status, experiment::RunRecord record) {
          if (status.ok()) Keep(id, std::move(record));
          done(status);
          Forget(id);
        });
    executor_->StartRun(*std::move(run), observer,
                        [this, observer, done](absl::StatusOr<orchestrator::StartedRun> started) {
                          if (!started.ok()) return done(started.status());
                          if (started->existing)
                            executor_->Watch(started->run_id, 0, /*stream_tokens=*/false, observer);
                        });
  }

  absl::StatusOr<experiment::RunRecord> Read(const std::string& request_id) override {
    {
      MutexLock lock(&mutex_);
      if (const auto it = fresh_.find(request_id); it != fresh_.end()) return it->second;
    }
    ASSIGN_OR_RETURN(const orchestrator::StoredRun stored, executor_->FindRequest(request_id));
    if (!stored.finished) return FailedPrecondition("run {} has not ended", stored.run_id);
    experiment::RunRecord record;
    ASSIGN_OR_RETURN(record.events, executor_->ReadEvents(stored.run_id, 0, stored.last_sequence_number));
    SetSeconds(&record);
    return record;
  }

  void Stop() override { executor_->Stop(); }

 private:
  absl::StatusOr<orchestrator::NewRun> Build(const RunRequest& request) {
    orchestrator::NewRun run;
    if (request.has_graph()) {
      ASSIGN_OR_RETURN(run.graph, library_->Compile(request.graph()));
    } else {
      ASSIGN_OR_RETURN(run.graph, library_->Find(request.graph_name()));
    }
    ASSIGN_OR_RETURN(
        run.spec, orchestrator::BuildRunSpec(*run.graph, request, fleet_.Bindings(), launched_->backend().Describe()));
    run.request = request;
    return run;
  }

  // A run's record is at hand while its end is told, so that grading it reads no disk.
  void Keep(const std::string& id, experiment::RunRecord record) {
    SetSeconds(&record);
    MutexLock lock(&mutex_);
    fresh_[id] = std::move(record);
  }
  void Forget(const std::string& id) {
    MutexLock lock(&mutex_);
    fresh_.erase(id);
  }

  orchestrator::LoadedFleet fleet_;
  std::unique_ptr<TemporaryDirectory> temporary_;
  std::unique_ptr<orchestrator::GraphLibrary> library_;
  std::unique_ptr<orchestrator::Store> store_;
  std::unique_ptr<orchestrator::LaunchedFleet> launched_;
  std::unique_ptr<orchestrator::Backend> nobody_;  // of a session that only reads
  std::unique_ptr<Executor> executor_;
  std::string id_;
  Mutex mutex_;
  std::map<std::string, experiment::RunRecord> fresh_ ABSL_GUARDED_BY(mutex_);
};

void SessionFlags::Add(CLI::App* command, bool with_store) {
  auto* fleet_option = command->add_option("--fleet", fleet, "Fleet file: who can answer");
  auto* model_option = command->add_option("--model", model, "One GGUF file in every seat, instead of a fleet");
  fleet_option->excludes(model_option);
  command->add_option("--graphs", graphs, "Directory of graphs and roles; default: the shipped ones");
  command->add_option("--worker-binary", worker_binary, "conclave-worker; default: beside this program");
  if (with_store) command->add_option("--store", store, "Keep the run in this SQLite file");
}

const std::atomic<bool>& StopFlag() {
  std::signal(SIGINT, OnSignal);
  std::signal(SIGTERM, OnSignal);
  return stop_requested;
}

absl::StatusOr<std::unique_ptr<Session>> Session::Open(const SessionFlags& flags) {
  const std::string home = ExpandHome("~/").substr(0, ExpandHome("~/").size() - 1);
  if (!flags.model.empty()) {
    deliberation::v1::Fleet fleet;
    auto* member = fleet.add_member();
    member->set_name("model");
    member->mutable_model()->set_path(ExpandHome(flags.model));
    ASSIGN_OR_RETURN(auto checked, orchestrator::CheckFleet(std::move(fleet), "--model", "", home));
    return Open(flags, std::move(checked));
  }
  if (flags.fleet.empty())
    return InvalidArgument("nobody to ask: name a --fleet FILE, or a --model FILE.gguf for every seat");
  ASSIGN_OR_RETURN(auto fleet, orchestrator::LoadFleet(flags.fleet, home));
  return Open(flags, std::move(fleet));
}

absl::StatusOr<std::unique_ptr<Session>> Session::Open(const SessionFlags& flags, orchestrator::LoadedFleet fleet) {
  auto impl = std::make_unique<Impl>();
  RETURN_IF_ERROR(impl->Open(flags, std::move(fleet)));
  return std::unique_ptr<Session>(new Session(std::move(impl)));
}

absl::StatusOr<std::unique_ptr<Session>> Session::OpenStored(const SessionFlags& flags) {
  auto impl = std::make_unique<Impl>();
  RETURN_IF_ERROR(impl->OpenStored(flags));
  return std::unique_ptr<Session>(new Session(std::move(impl)));
}

Session::Session(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Session::~Session() = default;

absl::StatusOr<RunFinished> Session::Run(const RunRequest& request, const std::function<void(const Event&)>& on_event,
                                         const std::atomic<bool>& stop) {
  return impl_->Run(request, on_event, stop);
}
experiment::Deliberator& Session::deliberator() { return *impl_; }
std::string Session::Members() const { return impl_->Members(); }

absl::StatusOr<deliberation::v1::Binding> ParseBinding(const std::string& argument) {
  const size_t equals = argument.find('=');
  if (equals == argument.npos || equals == 0 || equals + 1 == argument.size()) {
    return InvalidArgument("--bind {}: ROLE=MEMBER or ROLE=MEMBER,MEMBER is needed", argument);
  }
  deliberation::v1::Binding binding;
  binding.set_name(argument.substr(0, equals));
  for (size_t begin = equals + 1; begin <= argument.size();) {
    const size_t comma = std::min(argument.find(',', begin), argument.size());
    if (comma > begin) binding.add_members(argument.substr(begin, comma - begin));
    begin = comma + 1;
  }
  return binding;
}

std::string BinaryDirectory() {
  std::error_code error;
  const auto path = std::filesystem::read_symlink("/proc/self/exe", error);
  return error ? "." : path.parent_path().string();
}

std::string DefaultGraphsDirectory() {
  const std::string installed = BinaryDirectory() + "/../share/conclave/graphs";
  return std::filesystem::is_directory(installed) ? installed : std::string(CONCLAVE_GRAPHS_DIR);
}

}  // namespace conclave::cli
