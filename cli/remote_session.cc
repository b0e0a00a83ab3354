// SPDX-License-Identifier: Apache-2.0
#include "cli/remote_session.h"

#include <fmt/format.h>
#include <sys/random.h>

#include <array>
#include <filesystem>
#include <map>
#include <utility>

#include "cli/session_observers.h"
#include "common/check.h"
#include "common/mutex.h"
#include "common/status.h"
#include "orchestrator/client/orchestrator_client.h"
#include "orchestrator/fleet/run_builder.h"

namespace conclave::cli {
namespace {

using deliberation::v1::RunRequest;
using orchestrator::OrchestratorClient;
using orchestrator::RunObserver;

constexpr int kRequestIdWords = 5;  // of 32 bits

bool IsPath(const std::string& graph) { return graph.find('/') != graph.npos || graph.ends_with(".textproto"); }

// A file's graph is sent; its roles are the orchestrator's. Roles of its own beside it would be left behind.
absl::Status CheckRoles(const std::string& path, const orchestrator::CompiledGraph& graph) {
  const std::filesystem::path beside = std::filesystem::path(path).parent_path() / "roles";
  for (const orchestrator::CompiledNode& node : graph.nodes()) {
    if (node.role == nullptr) continue;
    const std::filesystem::path own = beside / (node.role->proto.name() + ".textproto");
    if (!std::filesystem::exists(own)) continue;
    return InvalidArgument(
        "{}: node \"{}\": role \"{}\" is a file beside the graph, which cannot be sent; start the orchestrator with "
        "--graphs {}, or leave out --orchestrator",
        path, node.name, node.role->proto.name(), std::filesystem::path(path).parent_path().string());
  }
  return absl::OkStatus();
}

class RemoteSession final : public Session, public experiment::Deliberator {
 public:
  absl::Status Open(const SessionFlags& flags, const std::string& address) {
    const std::string graphs = flags.graphs.empty() ? DefaultGraphsDirectory() : flags.graphs;
    ASSIGN_OR_RETURN(library_, orchestrator::GraphLibrary::Open(graphs));
    for (const RunRequest& request : flags.requests_needed) {
      const std::string& name = request.graph_name();
      if (!IsPath(name)) continue;  // the orchestrator's own
      ASSIGN_OR_RETURN(const auto graph, library_->Find(name));
      RETURN_IF_ERROR(CheckRoles(name, *graph));
    }
    orchestrator::ClientOptions options;
    options.tls = flags.orchestrator.tls;
    auto client = OrchestratorClient::Connect(address, options);
    if (absl::IsUnavailable(client.status())) {
      return Unavailable("{}; start one with conclave up FLEET, or name a --fleet or --model instead",
                         Message(client.status()));
    }
    if (!client.ok()) return client.status();
    client_ = *std::move(client);
    fmt::print(stderr, "asking the orchestrator on {}, which has {} member{}\n", address, client_->members().size(),
               client_->members().size() == 1 ? "" : "s");
    return absl::OkStatus();
  }

  experiment::Deliberator& deliberator() override { return *this; }

  // ---- Deliberator
  void Start(const RunRequest& request, std::function<void(absl::Status)> done) override {
    Begin(request,
          std::make_shared<RecordObserver>(
              [this, id = request.request_id(), done](const absl::Status& status, const experiment::RunRecord& record) {
                if (!record.events.empty()) {
                  MutexLock lock(&mutex_);
                  run_ids_[id] = record.events.front().run_id();
                }
                done(status);
              }));
  }
  absl::StatusOr<experiment::RunRecord> Read(const std::string& request_id) override {
    std::string run_id;
    {
      MutexLock lock(&mutex_);
      const auto it = run_ids_.find(request_id);
      if (it == run_ids_.end()) return NotFound("no run was begun as {}", request_id);
      run_id = it->second;
    }
    const auto observer = std::make_shared<QueueObserver>();
    client_->Watch(run_id, 0, observer);
    experiment::RunRecord record;
    while (true) {
      for (const QueueObserver::Message& message : observer->queue().WaitAndDrain()) {
        if (message.event != nullptr) {
          record.events.push_back(*message.event);
          continue;
        }
        RETURN_IF_ERROR(message.end);
        RecordObserver::SetSeconds(&record);
        return record;
      }
    }
  }
  void Stop() override { client_->StopWatching(); }

 private:
  // ---- Session
  void Begin(const RunRequest& request, std::shared_ptr<RunObserver> observer) override {
    RunRequest sent = request;
    if (sent.request_id().empty()) sent.set_request_id(FreshRequestId());
    if (sent.has_graph_name() && IsPath(sent.graph_name())) {
      const auto graph = library_->Find(sent.graph_name());
      if (!graph.ok()) return observer->OnEnd(graph.status());
      *sent.mutable_graph() = (*graph)->proto();
    }
    client_->Run(std::move(sent), std::move(observer));
  }
  void Cancel(const std::string& run_id) override {
    client_->Cancel(run_id, [](const absl::Status& status) {
      if (!status.ok()) fmt::print(stderr, "conclave: cannot be cancelled: {}\n", Message(status));
    });
  }

  std::unique_ptr<orchestrator::GraphLibrary> library_;
  Mutex mutex_;
  std::map<std::string, std::string> run_ids_ ABSL_GUARDED_BY(mutex_);  // by request id
  std::unique_ptr<OrchestratorClient> client_;                          // ends first: its streams call the above
};

}  // namespace

absl::StatusOr<std::unique_ptr<Session>> OpenRemoteSession(const SessionFlags& flags, const std::string& address) {
  auto session = std::make_unique<RemoteSession>();
  RETURN_IF_ERROR(session->Open(flags, address));
  return session;
}

std::string FreshRequestId() {
  std::array<uint32_t, kRequestIdWords> random{};
  CONCLAVE_CHECK(getrandom(random.data(), sizeof(random), 0) == static_cast<ssize_t>(sizeof(random)));
  std::string id;
  for (const uint32_t word : random) id += fmt::format("{:08x}", word);
  return id;
}

}  // namespace conclave::cli
