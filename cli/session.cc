// SPDX-License-Identifier: Apache-2.0
#include "cli/session.h"

#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <filesystem>

#include "cli/command.h"
#include "cli/engine_flags.h"
#include "cli/local_session.h"
#include "cli/remote_session.h"
#include "cli/session_observers.h"
#include "common/status.h"

namespace conclave::cli {
namespace {

using deliberation::v1::Event;
using deliberation::v1::RunFinished;
using deliberation::v1::RunRequest;

std::atomic<bool> stop_requested{false};

void OnSignal(int) {
  if (stop_requested.exchange(true)) _exit(kFailed);
}

}  // namespace

CLI::Option* OrchestratorFlags::Add(CLI::App* command) {
  auto* option = command->add_option(
      "--orchestrator", address,
      fmt::format("HOST:PORT or unix:PATH of an orchestrator that already serves (conclave up prints it); default: ${}",
                  kOrchestratorVariable));
  option->check([](const std::string& text) {
    const auto parsed = rpc::ParseAddress(text);
    return parsed.ok() ? std::string() : std::string(Message(parsed.status()));
  });
  command->add_option("--tls-ca", tls.ca, "PEM authority of the orchestrator's certificate")->needs(option);
  command->add_option("--tls-cert", tls.certificate, "PEM certificate to show to it")->needs(option);
  command->add_option("--tls-key", tls.key, "PEM key of --tls-cert")->needs(option);
  return option;
}

void SessionFlags::Add(CLI::App* command, bool with_store) {
  auto* fleet_option = command->add_option("--fleet", fleet, "Fleet file: who can answer");
  auto* model_option = command->add_option("--model", model,
                                           "One GGUF file or Hugging Face directory in every seat, instead of a fleet");
  fleet_option->excludes(model_option);
  auto* orchestrator_option = orchestrator.Add(command);
  orchestrator_option->excludes(fleet_option)->excludes(model_option);
  command->add_option("--graphs", graphs, "Directory of graphs and roles; default: the shipped ones");
  command->add_option("--worker-binary", worker_binary, "conclave-worker; default: beside this program");
  if (with_store) {
    command->add_option("--store", store, "Keep the run in this SQLite file")->excludes(orchestrator_option);
  }
}

std::string SessionFlags::OrchestratorAddress() const {
  if (!orchestrator.address.empty() || !fleet.empty() || !model.empty()) return orchestrator.address;
  const char* named = std::getenv(kOrchestratorVariable);  // NOLINT(concurrency-mt-unsafe)
  return named == nullptr ? "" : named;
}

const std::atomic<bool>& StopFlag() {
  std::signal(SIGINT, OnSignal);
  std::signal(SIGTERM, OnSignal);
  return stop_requested;
}

absl::StatusOr<std::unique_ptr<Session>> Session::Open(const SessionFlags& flags) {
  if (const std::string address = flags.OrchestratorAddress(); !address.empty()) {
    return OpenRemoteSession(flags, address);
  }
  const std::string home = ExpandHome("~/").substr(0, ExpandHome("~/").size() - 1);
  if (!flags.model.empty()) {
    deliberation::v1::Fleet fleet;
    auto* member = fleet.add_member();
    member->set_name("model");
    member->mutable_model()->set_path(ExpandHome(flags.model));
    ASSIGN_OR_RETURN(auto checked, orchestrator::CheckFleet(std::move(fleet), "--model", "", home));
    return Open(flags, std::move(checked));
  }
  if (flags.fleet.empty()) {
    return UsageError(
        "nobody to ask: name a --fleet FILE, a --model FILE.gguf for every seat, or a serving --orchestrator ADDRESS");
  }
  ASSIGN_OR_RETURN(auto fleet, orchestrator::LoadFleet(flags.fleet, home));
  return Open(flags, std::move(fleet));
}

absl::StatusOr<std::unique_ptr<Session>> Session::Open(const SessionFlags& flags, orchestrator::LoadedFleet fleet) {
  return OpenLocalSession(flags, std::move(fleet));
}

absl::StatusOr<std::unique_ptr<Session>> Session::OpenStored(const SessionFlags& flags) {
  return OpenStoredSession(flags);
}

absl::StatusOr<RunFinished> Session::Run(const RunRequest& request, const std::function<void(const Event&)>& on_event,
                                         const std::atomic<bool>& stop) {
  const auto observer = std::make_shared<QueueObserver>();
  Begin(request, observer);
  return Await(observer.get(), on_event, stop);
}

absl::StatusOr<RunFinished> Session::RunPrepared(orchestrator::NewRun run,
                                                 const std::function<void(const Event&)>& on_event,
                                                 const std::atomic<bool>& stop) {
  const auto observer = std::make_shared<QueueObserver>();
  BeginPrepared(std::move(run), observer);
  return Await(observer.get(), on_event, stop);
}

absl::StatusOr<RunFinished> Session::Follow(const std::string& run_id,
                                            const std::function<void(const Event&)>& on_event,
                                            const std::atomic<bool>& stop) {
  const auto observer = std::make_shared<QueueObserver>();
  Watch(run_id, observer);
  return Await(observer.get(), on_event, stop);
}

void Session::BeginPrepared(orchestrator::NewRun, std::shared_ptr<orchestrator::RunObserver> observer) {
  observer->OnEnd(Unimplemented("a past run is repeated by members of this command's own; name --fleet or --model"));
}

void Session::Watch(const std::string&, std::shared_ptr<orchestrator::RunObserver> observer) {
  observer->OnEnd(Unimplemented("a past run goes on with members of this command's own; name --fleet or --model"));
}

absl::StatusOr<RunFinished> Session::Await(QueueObserver* observer, const std::function<void(const Event&)>& on_event,
                                           const std::atomic<bool>& stop) {
  RunFinished last;
  std::string run_id;
  bool cancelled = false;
  while (true) {
    for (const QueueObserver::Message& message : observer->queue().WaitAndDrain(absl::Milliseconds(100))) {
      if (message.event == nullptr) {
        if (!message.end.ok()) return message.end;
        return last;
      }
      on_event(*message.event);
      run_id = message.event->run_id();
      if (message.event->has_run_finished()) last = message.event->run_finished();
    }
    if (stop && !cancelled && !run_id.empty()) {
      cancelled = true;
      Cancel(run_id);
    }
  }
}

absl::StatusOr<deliberation::v1::Binding> ParseBinding(const std::string& argument) {
  const size_t equals = argument.find('=');
  if (equals == argument.npos || equals == 0 || equals + 1 == argument.size()) {
    return UsageError(fmt::format("--bind {}: ROLE=MEMBER or ROLE=MEMBER,MEMBER is needed", argument));
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
