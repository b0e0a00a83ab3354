// SPDX-License-Identifier: Apache-2.0
// `conclave up`: a fleet's workers and orchestrator on this machine until Ctrl-C. `conclave models`: who would answer.
#include <fmt/format.h>
#include <unistd.h>

#include <nlohmann/json.hpp>
#include <optional>
#include <thread>

#include "cli/command.h"
#include "cli/engine_flags.h"
#include "cli/session.h"
#include "common/status.h"
#include "orchestrator/client/orchestrator_client.h"
#include "orchestrator/fleet/launcher.h"
#include "orchestrator/service/serve_flags.h"

namespace conclave::cli {
namespace {

struct Arguments {
  std::string fleet, worker_binary, orchestrator_binary;
  OrchestratorFlags orchestrator;  // who answers `models`
  orchestrator::ServeFlags serve;  // what `up` hands on:
  std::vector<CLI::Option*> serve_options;
  Output output;
};

// Runs conclave-orchestrator in this process's place: it starts the workers, prints addresses and stops all on Ctrl-C.
absl::Status Up(const Arguments& a) {
  const std::string binary =
      a.orchestrator_binary.empty() ? BinaryDirectory() + "/conclave-orchestrator" : a.orchestrator_binary;
  std::vector<std::string> words = {binary, "--fleet", a.fleet};
  if (a.serve.graphs.empty()) words.insert(words.end(), {"--graphs", DefaultGraphsDirectory()});
  const std::vector<std::string> given = orchestrator::WordsOf(a.serve_options);
  words.insert(words.end(), given.begin(), given.end());
  std::vector<char*> argv;
  argv.reserve(words.size() + 1);
  for (const std::string& word : words) argv.push_back(const_cast<char*>(word.c_str()));
  argv.push_back(nullptr);
  execv(argv[0], argv.data());
  return NotFound("{}: cannot be run; name it by --orchestrator-binary", binary);
}

struct Served {
  std::string name, backend, location;
  bool available = false;
  std::optional<inference::v1::Model> model;
};

absl::StatusOr<std::vector<Served>> MembersOfFleet(const Arguments& a) {
  const std::string home = ExpandHome("~/").substr(0, ExpandHome("~/").size() - 1);
  ASSIGN_OR_RETURN(const auto fleet, orchestrator::LoadFleet(a.fleet, home));
  orchestrator::LaunchOptions options;
  options.worker_binary = a.worker_binary.empty() ? BinaryDirectory() + "/conclave-worker" : a.worker_binary;
  options.variable = EnvironmentVariable;
  options.cores = static_cast<int32_t>(std::thread::hardware_concurrency());
  ASSIGN_OR_RETURN(const auto launched, orchestrator::LaunchedFleet::Launch(fleet, options));
  std::vector<Served> members;
  for (orchestrator::MemberFacts& facts : launched->backend().Describe()) {
    members.push_back({facts.name, facts.backend, facts.location, facts.available, std::move(facts.model)});
  }
  return members;
}

absl::StatusOr<std::vector<Served>> MembersOfOrchestrator(const std::string& address, const rpc::TlsFiles& tls) {
  orchestrator::ClientOptions options;
  options.tls = tls;
  ASSIGN_OR_RETURN(const auto client, orchestrator::OrchestratorClient::Connect(address, options));
  std::vector<Served> members;
  for (const auto& m : client->members()) {
    members.push_back({m.name(), m.backend(), m.location(), m.available(), std::nullopt});
    if (m.has_model()) members.back().model = m.model();
  }
  return members;
}

absl::Status Models(const Arguments& a) {
  SessionFlags named;
  named.fleet = a.fleet;
  named.orchestrator = a.orchestrator;
  const std::string address = named.OrchestratorAddress();
  if (address.empty() && a.fleet.empty()) {
    return UsageError("whose members? name a --fleet FILE or a serving --orchestrator ADDRESS");
  }
  ASSIGN_OR_RETURN(const std::vector<Served> members,
                   address.empty() ? MembersOfFleet(a) : MembersOfOrchestrator(address, a.orchestrator.tls));
  nlohmann::ordered_json json = nlohmann::ordered_json::array();
  for (const Served& served : members) {
    json.push_back({{"name", served.name},
                    {"backend", served.backend},
                    {"location", served.location},
                    {"available", served.available}});
    if (served.model) {
      const auto& m = *served.model;
      json.back().update({{"model", m.name()},
                          {"family", m.family()},
                          {"quantization", m.quantization()},
                          {"parameters", m.total_parameter_count()},
                          {"context_tokens", m.context_token_count()}});
    }
    if (a.output.json) continue;
    fmt::print("{:<28} {:<9} {:<22} {}\n", served.name, served.backend, served.location,
               served.model
                   ? fmt::format("{}, {}, {:.1f} M parameters", served.model->name(), served.model->quantization(),
                                 1e-6 * static_cast<double>(served.model->total_parameter_count()))
                   : std::string());
  }
  if (a.output.json) fmt::print("{}\n", json.dump(2));
  return absl::OkStatus();
}

}  // namespace

void AddUp(CLI::App* app, Chosen* chosen) {
  auto* command = app->add_subcommand("up", "Start a fleet's workers and orchestrator here; Ctrl-C stops them");
  command->footer("Example: conclave up fleet.textproto --http 127.0.0.1:8080");
  auto a = std::make_shared<Arguments>();
  command->add_option("FLEET", a->fleet, "Fleet file")->required();
  command->add_option("--orchestrator-binary", a->orchestrator_binary,
                      "conclave-orchestrator; default: beside this program");
  a->serve_options = a->serve.Add(command);
  command->callback([=] { chosen->action = [=] { return Report(Up(*a)); }; });
}

void AddModels(CLI::App* app, Chosen* chosen) {
  auto* command = app->add_subcommand("models", "The members of a fleet, or of an orchestrator, and what they serve");
  command->footer("Example: conclave models --fleet fleet.textproto");
  auto a = std::make_shared<Arguments>();
  auto* fleet = command->add_option("--fleet", a->fleet, "Fleet file");
  a->orchestrator.Add(command)->excludes(fleet);
  command->add_option("--worker-binary", a->worker_binary, "conclave-worker; default: beside this program");
  AddOutputFlags(command, &a->output);
  command->callback([=] { chosen->action = [=] { return Report(Models(*a)); }; });
}

}  // namespace conclave::cli
