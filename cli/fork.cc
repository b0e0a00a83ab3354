// SPDX-License-Identifier: Apache-2.0
// `conclave fork`: a past run that goes on otherwise.
#include <fmt/format.h>

#include <cstdio>
#include <nlohmann/json.hpp>

#include "cli/command.h"
#include "cli/live_view.h"
#include "cli/past_run.h"
#include "cli/remote_session.h"
#include "cli/session.h"
#include "common/clock.h"
#include "common/file.h"
#include "common/status.h"
#include "orchestrator/run/fork.h"

namespace conclave::cli {
namespace {

using deliberation::v1::Event;

struct Arguments {
  std::string run;
  SessionFlags session;
  Output output;
  int64_t at_event = 0;
  std::vector<std::string> prompts, members;
};

// "A=B" of a repeated flag.
absl::StatusOr<std::pair<std::string, std::string>> SplitPair(const char* flag, const std::string& argument) {
  const size_t equals = argument.find('=');
  if (equals == argument.npos || equals == 0 || equals + 1 == argument.size()) {
    return UsageError(fmt::format("{} {}: NAME=VALUE is needed", flag, argument));
  }
  return std::pair(argument.substr(0, equals), argument.substr(equals + 1));
}

absl::StatusOr<orchestrator::ForkChange> ChangeOf(const Arguments& a) {
  orchestrator::ForkChange change;
  change.at_event = a.at_event;
  for (const std::string& argument : a.prompts) {
    ASSIGN_OR_RETURN(const auto pair, SplitPair("--prompt", argument));
    ASSIGN_OR_RETURN(change.prompts[pair.first], ReadFile(pair.second));
  }
  for (const std::string& argument : a.members) {
    ASSIGN_OR_RETURN(const auto pair, SplitPair("--member", argument));
    change.members[pair.first] = orchestrator::RunMember{pair.second, 1.0, {}};
  }
  return change;
}

int Fork(const Arguments& a) {
  const std::atomic<bool>& stop = StopFlag();
  if (!a.session.HasMembers())
    return Report(UsageError("nobody to ask: name a --fleet FILE, or a --model FILE.gguf for every seat"));
  const auto change = ChangeOf(a);
  if (!change.ok()) return Report(change.status());
  auto past = OpenPastRun(a.session.store, a.run);
  if (!past.ok()) return Report(past.status());
  const std::string run_id = "runs/" + FreshRequestId().substr(0, 32);
  auto ops = orchestrator::ForkRun(past->record, *change, run_id, Clock::System().UnixNs());
  if (!ops.ok()) return Report(ops.status());
  if (const absl::Status written = WriteAndWait(past->store.get(), *std::move(ops)).status; !written.ok()) {
    return Report(written);
  }
  past->store.reset();  // the session opens it
  auto session = Session::Open(a.session);
  if (!session.ok()) return Report(session.status());
  LiveView view(stdout, {a.output.colour(), a.output.live(), TerminalWidth(stdout), 12});
  const auto finished = (*session)->Follow(
      run_id,
      [&](const Event& event) {
        if (!a.output.json) view.OnEvent(event);
      },
      stop);
  if (!finished.ok()) return Report(finished.status());
  if (a.output.json) {
    const nlohmann::ordered_json json = {{"run", run_id},
                                         {"state", deliberation::v1::RunState_Name(finished->state())},
                                         {"answer", finished->answer()},
                                         {"text", finished->text()}};
    std::printf("%s\n", json.dump(2, ' ', false, nlohmann::json::error_handler_t::replace).c_str());
  } else {
    fmt::print("kept as {}\n", run_id);
  }
  return finished->state() == deliberation::v1::RUN_STATE_SUCCEEDED ? kOk : kFailed;
}

}  // namespace

void AddFork(CLI::App* app, Chosen* chosen) {
  auto* command = app->add_subcommand("fork", "A past run from one of its events on, with another prompt or member");
  command->footer(
      "Example: conclave fork last --at 40 --prompt critique=sharper.jinja --store runs.sqlite --fleet F\n"
      "     or: conclave fork last --at 1 --member m03=m07 --store runs.sqlite --fleet F\n"
      "What was said up to that event stands and is not asked again; a change that reaches further back is refused.");
  auto a = std::make_shared<Arguments>();
  command->add_option("RUN", a->run, "A run's id, or last")->required();
  command->add_option("--at", a->at_event, "The last event that stands; 0: from the beginning")->required();
  command->add_option("--prompt", a->prompts,
                      "NODE=FILE (repeatable): the task that the node's role has from there on");
  command->add_option("--member", a->members, "A=B (repeatable): B takes the seats of A");
  a->session.Add(command, /*with_store=*/true);
  command->get_option("--store")->required()->description("The SQLite file that the run is kept in");
  AddOutputFlags(command, &a->output);
  command->callback([=] { chosen->action = [=] { return Fork(*a); }; });
}

}  // namespace conclave::cli
