// SPDX-License-Identifier: Apache-2.0
#include "cli/local_session.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <map>
#include <thread>

#include "cli/command.h"
#include "cli/session_observers.h"
#include "common/mutex.h"
#include "common/status.h"
#include "orchestrator/backend/router.h"
#include "orchestrator/fleet/launcher.h"
#include "orchestrator/fleet/run_builder.h"
#include "orchestrator/run/executor.h"
#include "orchestrator/store/sqlite_store.h"

namespace conclave::cli {
namespace {

using deliberation::v1::RunRequest;
using orchestrator::Executor;
using orchestrator::RunObserver;

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

class LocalSession final : public Session, public experiment::Deliberator {
 public:
  absl::Status Open(const SessionFlags& flags, orchestrator::LoadedFleet fleet) {
    fleet_ = std::move(fleet);
    const std::string graphs = flags.graphs.empty() ? DefaultGraphsDirectory() : flags.graphs;
    ASSIGN_OR_RETURN(library_, orchestrator::GraphLibrary::Open(graphs));
    const std::vector<orchestrator::MemberFacts> declared = orchestrator::DeclaredMembers(fleet_);
    for (const RunRequest& request : flags.requests_needed) {
      ASSIGN_OR_RETURN(const auto graph, library_->Find(request.graph_name()));
      RETURN_IF_ERROR(orchestrator::BuildRunSpec(*graph, request, fleet_.Bindings(), declared).status());
    }
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
    options.variable = EnvironmentVariable;
    options.on_worker_end = [](const std::string& what) { fmt::print(stderr, "{}\n", what); };
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

  ~LocalSession() override {
    if (executor_ != nullptr) executor_->Stop();
  }

  experiment::Deliberator& deliberator() override { return *this; }

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
    RecordObserver::SetSeconds(&record);
    return record;
  }

  void Stop() override { executor_->Stop(); }

 private:
  // ---- Session
  void Begin(const RunRequest& request, std::shared_ptr<RunObserver> observer) override {
    auto run = Build(request);
    if (!run.ok()) return observer->OnEnd(run.status());
    executor_->StartRun(*std::move(run), observer, [observer](const absl::StatusOr<orchestrator::StartedRun>& started) {
      if (!started.ok()) observer->OnEnd(started.status());
    });
  }
  void BeginPrepared(orchestrator::NewRun run, std::shared_ptr<RunObserver> observer) override {
    executor_->StartRun(std::move(run), observer, [observer](const absl::StatusOr<orchestrator::StartedRun>& started) {
      if (!started.ok()) observer->OnEnd(started.status());
    });
  }
  void Watch(const std::string& run_id, std::shared_ptr<RunObserver> observer) override {
    executor_->Watch(run_id, 0, /*stream_tokens=*/true, std::move(observer));
  }
  void Cancel(const std::string& run_id) override {
    executor_->CancelRun(run_id, [](const absl::StatusOr<deliberation::v1::RunState>&) {});
  }

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
  Mutex mutex_;
  std::map<std::string, experiment::RunRecord> fresh_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace

absl::StatusOr<std::unique_ptr<Session>> OpenLocalSession(const SessionFlags& flags, orchestrator::LoadedFleet fleet) {
  auto session = std::make_unique<LocalSession>();
  RETURN_IF_ERROR(session->Open(flags, std::move(fleet)));
  return session;
}

absl::StatusOr<std::unique_ptr<Session>> OpenStoredSession(const SessionFlags& flags) {
  auto session = std::make_unique<LocalSession>();
  RETURN_IF_ERROR(session->OpenStored(flags));
  return session;
}

}  // namespace conclave::cli
