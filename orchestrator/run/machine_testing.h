// SPDX-License-Identifier: Apache-2.0
// Driving machines in tests: a fleet of names, a scripted way to answer, and an arrival order drawn from a seed.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "orchestrator/graph/compile.h"
#include "orchestrator/run/machine.h"
#include "orchestrator/run/replay.h"

namespace conclave::orchestrator {

// The roles that machine tests use: "say" (answers, prompt shows question and what it sees), "note" (plain text),
// "check" (verdict, prompt shows the candidate), "order" (ranking behind "BEST:", prompt shows the candidates). "mend"
// and "rule" are as "say" and "check", and ask once more where nothing can be read; "rule" has a constraint.
const RoleLibrary& TestRoles();
// Compiles or aborts with the errors.
std::shared_ptr<const CompiledGraph> MustCompile(std::string_view text);
// All names of the graph resolved against `members`, with a question; weights and costs as given.
RunSpec SpecFor(const CompiledGraph& graph, const std::vector<std::string>& members, uint64_t seed = 0);

// What becomes of a call.
struct Reply {
  enum class Kind { kText, kLose, kLoseForGood, kHang } kind = Kind::kText;
  std::string text;
  int64_t output_tokens = 10;
  double p_true = 0.5;
  std::optional<TokenTrace> trace = {};
};
using Answerer = std::function<Reply(const CallSpec&)>;

// Runs a machine to its end, or until nothing but hanging calls is left.
struct RunLog {
  std::vector<deliberation::v1::Event> events;  // numbered
  std::vector<Input> inputs;                    // in the order fed
  std::vector<StoredMachineInput> stored;       // those of them that are no events
  std::unique_ptr<Machine> machine;
  int64_t prompt_tokens = 0, output_tokens = 0, calls = 0;  // what the members reported

  const deliberation::v1::RunFinished& finished() const;
  // The NodeFinished of that path; aborts when there is none.
  const deliberation::v1::NodeFinished& node(std::string_view path) const;
  std::vector<const deliberation::v1::CallFinished*> calls_of(std::string_view path) const;
};

struct DriveOptions {
  uint64_t arrival_seed = 0;  // order in which answers arrive; 0: first come first served
  int64_t cancel_after = -1;  // CancelRequested once so many inputs were fed
  int64_t expire_after = -1;  // WallTimeExpired likewise
};
RunLog Drive(std::shared_ptr<const CompiledGraph> graph, RunSpec spec, const Answerer& answer,
             const DriveOptions& options = {});
// Goes on with a machine and what it still asks for.
void DriveOn(RunLog* log, Output out, const Answerer& answer, const DriveOptions& options);

}  // namespace conclave::orchestrator
