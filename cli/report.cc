// SPDX-License-Identifier: Apache-2.0
// `conclave report`: writes report.html of a run directory from what is stored.
#include "orchestrator/experiment/report/report.h"

#include <cstdio>

#include "cli/command.h"
#include "common/status.h"

namespace conclave::cli {

void AddReport(CLI::App* app, Chosen* chosen) {
  auto* command = app->add_subcommand("report", "Write report.html of a run directory; no inference");
  command->footer("Example: conclave report runs/gsm8k");
  auto directory = std::make_shared<std::string>();
  command->add_option("DIR", *directory, "The run directory")->required();
  command->callback([=] {
    chosen->action = [=]() -> int {
      const auto path = report::WriteReport(*directory);
      if (!path.ok()) return Report(path.status());
      std::printf("%s\n", path->c_str());
      return kOk;
    };
  });
}

}  // namespace conclave::cli
