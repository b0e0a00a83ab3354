// SPDX-License-Identifier: Apache-2.0
// `conclave up`: a fleet's workers and orchestrator on this machine until Ctrl-C. `conclave models`: who would answer.
#include <fmt/format.h>
#include <unistd.h>

#include <nlohmann/json.hpp>
#include <thread>

#include "cli/command.h"
#include "cli/engine_flags.h"
#include "cli/session.h"
#include "common/status.h"
#include "orchestrator/fleet/launcher.h"

namespace conclave::cli {
namespace {

struct Arguments {
  std::string fleet, worker_binary, orchestrator_binary;
  Output output;
};

// Runs conclave-orchestrator in this process's place: it starts the workers, prints addresses and stops all on Ctrl-C.
absl::Status Up(const Arguments& a) {
  const std::string binary =
      a.orchestrator_binary.empty() ? BinaryDirectory() + "/conclave-orchestrator" : a.orchestrator_binary;
  const std::string graphs = DefaultGraphsDirectory();
  const std::vector<std::string> words = {binary, "--fleet", a.fleet, "--graphs", graphs};
  std::vector<char*> argv;
  for (const std::string& word : words) argv.push_back(const_cast<char*>(word.c_str()));
  argv.push_back(nullptr);
  execv(argv[0], argv.data());
  return NotFound("{}: cannot be run; name it by --orchestrator-binary", binary);
}

absl::Status Models(const Arguments& a) {
  const std::string home = ExpandHome("~/").substr(0, ExpandHome("~/").size() - 1);
  ASSIGN_OR_RETURN(const auto fleet, orchestrator::LoadFleet(a.fleet, home));
  orchestrator::LaunchOptions options;
  options.worker_binary = a.worker_binary.empty() ? BinaryDirectory() + "/conclave-worker" : a.worker_binary;
  options.cores = static_cast<int32_t>(std::thread::hardware_concurrency());
  ASSIGN_OR_RETURN(const auto launched, orchestrator::LaunchedFleet::Launch(fleet, options));
  nlohmann::ordered_json json = nlohmann::ordered_json::array();
  for (const orchestrator::MemberFacts& facts : launched->backend().Describe()) {
    json.push_back({{"name", facts.name},
                    {"backend", facts.backend},
                    {"location", facts.location},
                    {"available", facts.available}});
    if (facts.model) {
      const auto& m = *facts.model;
      json.back().update({{"model", m.name()},
                          {"family", m.family()},
                          {"quantization", m.quantization()},
                          {"parameters", m.total_parameter_count()},
                          {"context_tokens", m.context_token_count()}});
    }
    if (a.output.json) continue;
    fmt::print("{:<28} {:<9} {:<22} {}\n", facts.name, facts.backend, facts.location,
               facts.model
                   ? fmt::format("{}, {}, {:.1f} M parameters", facts.model->name(), facts.model->quantization(),
                                 1e-6 * static_cast<double>(facts.model->total_parameter_count()))
                   : std::string());
  }
  if (a.output.json) fmt::print("{}\n", json.dump(2));
  return absl::OkStatus();
}

}  // namespace

void AddUp(CLI::App* app, Chosen* chosen) {
  auto* command = app->add_subcommand("up", "Start a fleet's workers and orchestrator here; Ctrl-C stops them");
  command->footer("Example: conclave up fleet.textproto");
  auto a = std::make_shared<Arguments>();
  command->add_option("FLEET", a->fleet, "Fleet file")->required();
  command->add_option("--orchestrator-binary", a->orchestrator_binary,
                      "conclave-orchestrator; default: beside this program");
  command->callback([=] { chosen->action = [=] { return Report(Up(*a)); }; });
}

void AddModels(CLI::App* app, Chosen* chosen) {
  auto* command = app->add_subcommand("models", "The members of a fleet and what they serve");
  command->footer("Example: conclave models --fleet fleet.textproto");
  auto a = std::make_shared<Arguments>();
  command->add_option("--fleet", a->fleet, "Fleet file")->required();
  command->add_option("--worker-binary", a->worker_binary, "conclave-worker; default: beside this program");
  AddOutputFlags(command, &a->output);
  command->callback([=] { chosen->action = [=] { return Report(Models(*a)); }; });
}

}  // namespace conclave::cli
