// SPDX-License-Identifier: Apache-2.0
// `conclave`, the command line: flags and wiring only.
#include <fmt/format.h>

#include <csignal>
#include <cstdio>
#include <string>
#include <string_view>
#include <vector>

#include "cli/command.h"
#include "protos/textproto.h"

namespace {

std::string UnknownCommand(const CLI::App& app, const char* name) {
  std::vector<std::string> names;
  for (const CLI::App* command : app.get_subcommands(nullptr)) names.push_back(command->get_name());
  const std::string_view near = conclave::Nearest(name, names);
  return near.empty() ? fmt::format("there is no command \"{}\"", name)
                      : fmt::format("there is no command \"{}\"; is \"{}\" meant?", name, near);
}

}  // namespace

int main(int argc, char** argv) {
  using conclave::cli::Chosen;
  std::signal(SIGPIPE, SIG_IGN);
  CLI::App app{
      "Conclave runs a group of language models as one deliberating body, and measures it against a single large "
      "model."};
  app.set_version_flag("--version", "conclave 0.1.0");
  app.require_subcommand(1);
  app.footer("First try: conclave ask \"What is 17 * 23?\" --model ~/.cache/conclave/SmolLM2-135M-Instruct.Q4_1.gguf");

  Chosen chosen;
  conclave::cli::AddAsk(&app, &chosen);
  conclave::cli::AddRun(&app, &chosen);
  conclave::cli::AddReplay(&app, &chosen);
  conclave::cli::AddFork(&app, &chosen);
  conclave::cli::AddUp(&app, &chosen);
  conclave::cli::AddExperiment(&app, &chosen);
  conclave::cli::AddRegrade(&app, &chosen);
  conclave::cli::AddReport(&app, &chosen);
  conclave::cli::AddCompare(&app, &chosen);
  conclave::cli::AddRoofline(&app, &chosen);
  conclave::cli::AddImport(&app, &chosen);
  conclave::cli::AddMerge(&app, &chosen);
  conclave::cli::AddGraph(&app, &chosen);
  conclave::cli::AddGenerate(&app, &chosen);
  conclave::cli::AddModels(&app, &chosen);
  conclave::cli::AddBench(&app, &chosen);
  conclave::cli::AddItems(&app, &chosen);
  conclave::cli::AddInspect(&app, &chosen);

  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) return app.exit(error);  // --help, --version
    std::string command = "conclave";
    for (const CLI::App* sub = &app; !sub->get_subcommands().empty();) {
      sub = sub->get_subcommands().front();
      command += " " + sub->get_name();
    }
    std::string what = error.what();
    if (app.get_subcommands().empty() && argc > 1 && argv[1][0] != '-') what = UnknownCommand(app, argv[1]);
    std::fprintf(stderr, "conclave: %s; see %s --help\n", what.c_str(), command.c_str());
    return conclave::cli::kUsage;
  }
  return chosen.action ? chosen.action() : conclave::cli::kUsage;
}
