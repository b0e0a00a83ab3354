// SPDX-License-Identifier: Apache-2.0
// conclave-orchestrator: runs, their store and their fleet, served over gRPC. Flags and wiring only.
#include <spdlog/spdlog.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cctype>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <thread>

#include "common/file.h"
#include "common/program.h"
#include "common/signals.h"
#include "common/status.h"
#include "orchestrator/door/door.h"
#include "orchestrator/fleet/fleet_file.h"
#include "orchestrator/fleet/launcher.h"
#include "orchestrator/fleet/run_builder.h"
#include "orchestrator/run/executor.h"
#include "orchestrator/service/serve_flags.h"
#include "orchestrator/service/server.h"
#include "orchestrator/store/sqlite_store.h"

namespace {

namespace fs = std::filesystem;
namespace orchestrator = ::conclave::orchestrator;

constexpr char kDescription[] =
    "Runs deliberations over a fleet and serves conclave.deliberation.v1. Prints one line on stdout when it serves:\n"
    "  serving conclave.deliberation.v1 on HOST:PORT\n"
    "with --http a second, \"serving http on HOST:PORT\", and logs to stderr. SIGTERM or SIGINT stops it: unfinished "
    "runs go on at the next start with the same store.";
constexpr char kExample[] =
    "Example:\n"
    "  conclave-orchestrator --fleet fleet.textproto --listen 127.0.0.1:50061 --store runs.sqlite\n"
    "Exit codes: 0 stopped, 1 failed, 2 usage, 65 a file is bad, 69 no worker reachable.";

constexpr int64_t kTokenBytesMax = 4 << 10;
constexpr int64_t kNsPerSecond = 1'000'000'000;

struct Flags : orchestrator::ServeFlags {
  std::string fleet;
};

int Fail(int exit_code, std::string message) {
  return conclave::FailProgram("conclave-orchestrator", exit_code, std::move(message));
}

int Fail(int exit_code, const absl::Status& status) {
  if (status.code() == absl::StatusCode::kUnavailable) exit_code = conclave::kExitNoWorker;
  return Fail(exit_code, std::string(conclave::Message(status)));
}

std::string Variable(const std::string& name) {
  const char* value = std::getenv(name.c_str());  // NOLINT(concurrency-mt-unsafe)
  return value == nullptr ? "" : value;
}

std::string Home() { return Variable("HOME"); }

// Installed: ../share/conclave/graphs. Built: the checkout above build/PRESET/bin.
std::string FindGraphs(const fs::path& program) {
  for (const fs::path& candidate :
       {program / "../share/conclave/graphs", program / "../../../graphs", program / "../../graphs"}) {
    if (fs::is_directory(candidate / "roles")) return candidate.lexically_normal().string();
  }
  return "";
}

void FillDefaults(const orchestrator::LoadedFleet& fleet, Flags* flags) {
  const fs::path program = fs::read_symlink("/proc/self/exe").parent_path();
  const auto& declared = fleet.fleet.orchestrator();
  if (flags->listen.empty()) flags->listen = declared.listen().empty() ? "127.0.0.1:0" : declared.listen();
  if (flags->store.empty()) flags->store = declared.store();
  if (flags->store.empty()) {
    const fs::path folder = fs::path(Home()) / ".cache" / "conclave";
    std::error_code ignored;
    fs::create_directories(folder, ignored);
    flags->store = (folder / "conclave.sqlite").string();
  }
  if (flags->graphs.empty()) flags->graphs = FindGraphs(program);
  if (flags->worker_binary.empty()) flags->worker_binary = (program / "conclave-worker").string();
}

// What the door of --http needs of the flags, checked; listens nowhere without it.
absl::StatusOr<orchestrator::DoorOptions> DoorOf(const Flags& flags) {
  orchestrator::DoorOptions door;
  door.listen = flags.http;
  door.plaintext = flags.server.plaintext;
  door.tls = flags.http_tls;
  if (flags.http.empty()) return door;
  RETURN_IF_ERROR(orchestrator::Door::Check(door));
  if (!flags.http_token_file.empty()) {
    ASSIGN_OR_RETURN(door.token, conclave::ReadFile(flags.http_token_file, kTokenBytesMax));
    while (!door.token.empty() && std::isspace(static_cast<unsigned char>(door.token.back())) != 0)
      door.token.pop_back();
    if (door.token.empty()) return conclave::InvalidArgument("{}: holds no token", flags.http_token_file);
  }
  return door;
}

// The door, or null where it listens nowhere.
absl::StatusOr<std::unique_ptr<orchestrator::Door>> OpenDoor(orchestrator::DoorOptions options,
                                                             const orchestrator::OpenAi::Options& openai) {
  if (options.listen.empty()) return std::unique_ptr<orchestrator::Door>();
  options.openai = openai;
  return orchestrator::Door::Start(options);
}

orchestrator::LaunchOptions HowToLaunch(const Flags& flags) {
  orchestrator::LaunchOptions launch;
  launch.worker_binary = flags.worker_binary;
  launch.variable = Variable;
  launch.on_worker_end = [](const std::string& what) { spdlog::warn("{}", what); };
  launch.cores = static_cast<int32_t>(std::max(1u, std::thread::hardware_concurrency()));
  return launch;
}

void AwaitSignal(conclave::TerminationSignals* signals) {
  std::optional<int> signal;
  while (!signal.has_value()) signal = signals->Wait(absl::InfiniteDuration());
  signals->EndServing();  // a second one ends it at once
  spdlog::info("signal {}: stopping", *signal);
}

int Run(Flags flags) {
  static auto* const signals = new conclave::TerminationSignals;  // never destroyed
  auto fleet = orchestrator::LoadFleet(flags.fleet, Home());
  if (!fleet.ok()) return Fail(conclave::kExitBadInput, fleet.status());
  FillDefaults(*fleet, &flags);
  flags.server.listen = flags.listen;
  if (flags.insecure_listen) flags.server.plaintext = conclave::rpc::PlaintextPolicy::kAnywhere;
  // Cheap mistakes before expensive loading.
  const auto credentials =
      conclave::rpc::ServerCredentials(flags.server.listen, flags.server.tls, flags.server.plaintext);
  if (!credentials.ok()) return Fail(conclave::kExitUsage, credentials.status());
  auto door_options = DoorOf(flags);
  if (!door_options.ok()) return Fail(conclave::kExitUsage, door_options.status());
  if (flags.graphs.empty())
    return Fail(conclave::kExitUsage, "the shipped graphs were not found; name their folder by --graphs");
  auto graphs = orchestrator::GraphLibrary::Open(flags.graphs);
  if (!graphs.ok()) return Fail(conclave::kExitBadInput, graphs.status());
  auto store = orchestrator::OpenSqliteStore({.path = flags.store});
  if (!store.ok()) return Fail(conclave::kExitBadInput, store.status());

  auto launched = orchestrator::LaunchedFleet::Launch(*fleet, HowToLaunch(flags));
  if (!launched.ok()) return Fail(conclave::kExitBadInput, launched.status());
  for (const orchestrator::LaunchedWorker& worker : (*launched)->workers()) {
    spdlog::info("worker {} on {} (process {})", worker.model_path, worker.address, worker.pid);
  }

  orchestrator::ExecutorOptions options;
  options.store = store->get();
  options.backend = &(*launched)->backend();
  options.on_fatal = [](const absl::Status& status) {
    // What was not acknowledged is not lost by ending; going on could only lose more.
    spdlog::critical("{}", conclave::Message(status));
    std::_Exit(conclave::kExitFailed);
  };
  auto executor = orchestrator::Executor::Start(options);
  if (!executor.ok()) return Fail(conclave::kExitFailed, executor.status());
  spdlog::info("store {}: {} runs resumed", flags.store, (*executor)->counts().active_runs);
  for (const auto& [run, why] : (*executor)->Parked()) spdlog::warn("not resumed: {}", conclave::Message(why));

  orchestrator::Service::Options service;
  service.executor = executor->get();
  service.backend = options.backend;
  service.graphs = graphs->get();
  service.bindings = fleet->Bindings();
  auto server = orchestrator::Server::Start(flags.server, std::move(service));
  if (!server.ok()) return Fail(conclave::kExitFailed, std::string(conclave::Message(server.status())));
  auto door = OpenDoor(*std::move(door_options), {.executor = executor->get(),
                                                  .backend = options.backend,
                                                  .graphs = graphs->get(),
                                                  .bindings = fleet->Bindings()});
  if (!door.ok()) return Fail(conclave::kExitFailed, std::string(conclave::Message(door.status())));
  if (flags.insecure_listen) spdlog::warn("--insecure-listen: prompts and answers cross the network in plaintext");
  signals->BeginServing();
  fmt::print("serving conclave.deliberation.v1 on {}\n", (*server)->address());
  if (*door != nullptr) fmt::print("serving http on {}\n", (*door)->address());
  std::fflush(stdout);
  spdlog::info("ask it: conclave ask \"..\" --orchestrator {0}, or set CONCLAVE_ORCHESTRATOR={0}",
               (*server)->address());

  AwaitSignal(signals);
  (*server)->BeginDrain();
  if (*door != nullptr) (*door)->Drain(flags.http_drain_seconds * kNsPerSecond);
  (*executor)->Stop();  // watchers are told; calls in flight end
  door->reset();
  server->reset();
  executor->reset();
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  Flags flags;
  CLI::App app(kDescription, "conclave-orchestrator");
  app.footer(kExample);
  app.set_version_flag("--version", std::string(CONCLAVE_VERSION));
  app.add_option("--fleet", flags.fleet, "Fleet file: who can answer")->required()->type_name("FILE");
  flags.Add(&app);
  return conclave::RunProgram(&app, argc, argv, &flags.log_level, [&flags] { return Run(std::move(flags)); });
}
