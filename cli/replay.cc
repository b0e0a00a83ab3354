// SPDX-License-Identifier: Apache-2.0
// `conclave replay`: a past run once more, from its record or by its members.
#include <fmt/format.h>

#include <cstdio>
#include <nlohmann/json.hpp>

#include "cli/command.h"
#include "cli/past_run.h"
#include "cli/session.h"
#include "common/status.h"
#include "orchestrator/run/fork.h"

namespace conclave::cli {
namespace {

using deliberation::v1::Event;

constexpr int64_t kListedRuns = 100;

struct Arguments {
  std::string run;
  SessionFlags session;
  Output output;
};

void PrintDivergence(const orchestrator::Divergence& d, const Output& output) {
  if (output.json) {
    const nlohmann::ordered_json json = {{"same", false},
                                         {"event", d.event},
                                         {"node", d.node_path},
                                         {"member", d.key.member()},
                                         {"sample", d.key.sample()},
                                         {"what", d.what},
                                         {"byte", d.at_byte},
                                         {"word", d.at_word},
                                         {"recorded", d.recorded},
                                         {"now", d.now}};
    std::printf("%s\n", json.dump(2, ' ', false, nlohmann::json::error_handler_t::replace).c_str());
    return;
  }
  fmt::print("first divergence: event {}", d.event);
  if (!d.node_path.empty()) fmt::print(", {} by {} (sample {})", d.node_path, d.key.member(), d.key.sample());
  fmt::print(": {}", d.what);
  if (d.at_word > 0) fmt::print(" at byte {}, word {}", d.at_byte, d.at_word);
  fmt::print("\n  recorded: {}\n  now:      {}\n", d.recorded, d.now);
}

int ListRuns(const Arguments& a) {
  auto store = OpenPastStore(a.session.store);
  if (!store.ok()) return Report(store.status());
  const auto listed = ListPastRuns(**store, kListedRuns);
  if (!listed.ok()) return Report(listed.status());
  std::fputs(listed->c_str(), stdout);
  return kOk;
}

int Replay(const Arguments& a) {
  const std::atomic<bool>& stop = StopFlag();
  if (a.run.empty()) return ListRuns(a);
  auto past = OpenPastRun(a.session.store, a.run);
  if (!past.ok()) return Report(past.status());
  past->store.reset();
  orchestrator::RunRecord& record = past->record;
  const auto resumed = orchestrator::Replay(record.graph, record.spec, record.events, record.inputs);
  if (!resumed.ok()) {
    Report(resumed.status());
    return kFailed;
  }
  fmt::print(a.output.json ? stderr : stdout, "{}: {} events from its record, as they were{}\n", past->stored.run_id,
             record.events.size(), past->stored.finished ? "" : "; it has not ended");
  if (!a.session.HasMembers()) return kOk;

  SessionFlags flags = a.session;
  flags.store.clear();  // what is said again is compared, not kept
  auto session = Session::Open(flags);
  if (!session.ok()) return Report(session.status());
  orchestrator::NewRun run{record.graph, record.spec, record.request};
  run.spec.run_id.clear();
  run.request.clear_request_id();
  std::vector<Event> now;
  const auto finished = (*session)->RunPrepared(
      std::move(run),
      [&](const Event& event) {
        if (event.sequence_number() > 0) now.push_back(event);
      },
      stop);
  if (!finished.ok()) return Report(finished.status());
  if (const auto divergence = orchestrator::FirstDivergence(record.events, now)) {
    PrintDivergence(*divergence, a.output);
    return kFailed;
  }
  if (a.output.json) {
    std::printf("{\"same\": true, \"events\": %zu}\n", now.size());
  } else {
    fmt::print("the members say the same again, word for word\n");
  }
  return kOk;
}

}  // namespace

void AddReplay(CLI::App* app, Chosen* chosen) {
  auto* command = app->add_subcommand("replay", "A past run once more, from its record or by its members");
  command->footer(
      "Example: conclave replay --store runs.sqlite                      lists the runs that are kept there\n"
      "         conclave replay last --store runs.sqlite                 follows the record, event by event\n"
      "         conclave replay last --store runs.sqlite --fleet F       asks the members again: same seeds, same "
      "words?\n"
      "Exit code 1 names the first event that differs, and in which word.");
  auto a = std::make_shared<Arguments>();
  command->add_option("RUN", a->run, "A run's id, or last; without one the runs are listed");
  a->session.Add(command, /*with_store=*/true);
  command->get_option("--store")->required()->description("The SQLite file that the run is kept in");
  AddOutputFlags(command, &a->output);
  command->callback([=] { chosen->action = [=] { return Replay(*a); }; });
}

}  // namespace conclave::cli
