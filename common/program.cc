// SPDX-License-Identifier: Apache-2.0
#include "common/program.h"

#include <fmt/format.h>
#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <exception>

namespace conclave {

int FailProgram(std::string_view program, int exit_code, std::string message) {
  for (size_t at = 0; (at = message.find('\n', at)) != message.npos;) message.replace(at, 1, " | ");
  fmt::print(stderr, "{}: {}\n", program, message);
  return exit_code;
}

int RunProgram(CLI::App* app, int argc, char** argv, const std::string* log_level, const std::function<int()>& run) {
  const std::string& name = app->get_name();
  try {
    app->parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) return app->exit(error);  // --help, --version
    return FailProgram(name, kExitUsage, fmt::format("{}; see --help", error.what()));
  }
  spdlog::set_default_logger(spdlog::stderr_color_mt(name));
  spdlog::set_level(spdlog::level::from_str(*log_level));
  try {
    return run();
  } catch (const std::exception& error) {
    return FailProgram(name, kExitFailed, error.what());
  }
}

}  // namespace conclave
