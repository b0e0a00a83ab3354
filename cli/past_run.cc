// SPDX-License-Identifier: Apache-2.0
#include "cli/past_run.h"

#include <fmt/format.h>

#include <filesystem>
#include <utility>

#include "common/status.h"
#include "orchestrator/store/sqlite_store.h"

namespace conclave::cli {

namespace {
constexpr size_t kQuestionBytes = 60;
constexpr int64_t kNamedRuns = 10;
}  // namespace

absl::StatusOr<std::string> ListPastRuns(const orchestrator::Store& store, int64_t count) {
  ASSIGN_OR_RETURN(const std::vector<orchestrator::StoredRun> runs, store.ListRuns(0, count));
  std::string out;
  for (const orchestrator::StoredRun& run : runs) {
    deliberation::v1::Run summary;
    summary.ParseFromString(run.summary);
    const auto question = summary.inputs().find("question");
    std::string asked = question == summary.inputs().end() ? "" : question->second.substr(0, kQuestionBytes);
    for (char& c : asked) c = c == '\n' ? ' ' : c;
    out += fmt::format("{}  {}  {}  {} events  {}\n", run.run_id,
                       deliberation::v1::RunState_Name(summary.state()).substr(sizeof("RUN_STATE_") - 1),
                       summary.graph(), run.last_sequence_number, asked);
  }
  return out;
}

absl::StatusOr<std::unique_ptr<orchestrator::Store>> OpenPastStore(const std::string& store) {
  if (!std::filesystem::exists(store)) {
    return NotFound("{}: no such file; name the --store that the run was kept in", store);
  }
  return orchestrator::OpenSqliteStore({.path = store});
}

absl::StatusOr<PastRun> OpenPastRun(const std::string& store, const std::string& run) {
  PastRun past;
  ASSIGN_OR_RETURN(past.store, OpenPastStore(store));
  std::string id = run.starts_with("runs/") ? run : "runs/" + run;
  if (run == "last") {
    ASSIGN_OR_RETURN(const std::vector<orchestrator::StoredRun> newest, past.store->ListRuns(0, 1));
    if (newest.empty()) return NotFound("{}: no run is kept there", store);
    id = newest[0].run_id;
  }
  absl::StatusOr<orchestrator::StoredRun> stored = past.store->GetRun(id);
  if (!stored.ok()) {
    ASSIGN_OR_RETURN(const std::string listed, ListPastRuns(*past.store, kNamedRuns));
    return NotFound("{}: no run \"{}\"; the newest are\n{}", store, run, listed);
  }
  past.stored = *std::move(stored);
  ASSIGN_OR_RETURN(past.record, orchestrator::ReadRunRecord(*past.store, past.stored));
  return past;
}

}  // namespace conclave::cli
