// SPDX-License-Identifier: Apache-2.0
// Runs arms x items x replicates, and turns what was committed into a run directory. Everything is in the store; the
// exports can be written again from it at any time, without inference.
#pragma once

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <tuple>
#include <vector>

#include "absl/status/statusor.h"
#include "common/clock.h"
#include "conclave/deliberation/v1/deliberation.pb.h"
#include "conclave/deliberation/v1/fleet.pb.h"
#include "orchestrator/experiment/benchmark/item.h"
#include "orchestrator/experiment/deliberator.h"
#include "orchestrator/experiment/grade/grader.h"
#include "orchestrator/experiment/summary.h"
#include "orchestrator/experiment/votes.h"

namespace conclave::experiment {

struct ArmPlan {
  std::string name;
  deliberation::v1::RunRequest
      request;  // graph, bindings, sampling, budget; inputs, seed and ids are filled in per run
  bool generated = false;
};

// Verdicts set by hand, by (arm, item, replicate).
using Verdicts = std::map<std::tuple<std::string, std::string, int32_t>, OutcomeKind>;

struct Plan {
  Declaration declaration;
  std::vector<benchmark::Item> items;
  std::vector<ArmPlan> arms;
  std::shared_ptr<const grade::Grader> grader;
  std::vector<std::string> group;  // members described together; empty: all whose own answers are known for every item
  int32_t concurrency = 4;
  deliberation::v1::Budget budget;                             // of the whole; see spending.h
  std::map<std::string, deliberation::v1::Price> prices = {};  // of members; empty: nothing is priced
  Verdicts verdicts = {};                                      // over the grader's, see annotations.h
  std::vector<std::string> notes = {};                         // for the reader of the summary
};

// One run of the plan.
struct RunKey {
  size_t arm = 0, item = 0;
  int32_t replicate = 0;
};

// "arm/item/replicate", hashed: the idempotency key of a run within the experiment's store.
std::string RequestId(const Plan& plan, const RunKey& key);

// The request of one run. Its seed depends on (experiment seed, item, replicate) only: arms share random numbers.
deliberation::v1::RunRequest RequestFor(const Plan& plan, const RunKey& key);

// The verdict on a run and its cost.
Outcome OutcomeOf(const Plan& plan, const RunKey& key, const RunRecord& record);

// The same with what each of its calls said, graded.
struct Graded {
  Outcome outcome;
  // As RunVotes.
  std::vector<Vote> votes;
  std::vector<Stage> stages;
  Talk talk;
};
Graded GradeRun(const Plan& plan, const RunKey& key, const RunRecord& record);

struct Progress {
  size_t done = 0, total = 0;
  struct Arm {
    size_t done = 0, correct = 0, failed = 0;
  };
  std::vector<Arm> arms;
  double output_tokens = 0;
};

// Runs everything that is not done yet, `concurrency` at a time, item by item over all arms. `on_progress` is called
// from one thread at a time after each run. Returns "" when all is done, or which part of the plan's budget was used up
// before: no further run was then begun, those in flight ended (or, when time was up, were stopped and can go on
// later). CANCELLED when `stop` turned true, else the first error that is not a run's own failure. Thread: blocks the
// caller.
absl::StatusOr<std::string> RunAll(const Plan& plan, Deliberator& deliberator, const std::atomic<bool>& stop,
                                   const Clock& clock, const std::function<void(const Progress&)>& on_progress);

// Writes items.jsonl, outcomes.jsonl, votes.jsonl, transcripts.jsonl and summary.json to `directory` from the finished
// runs, in the plan's order; runs that are not there are left out. Needs `directory` to exist.
absl::Status Export(const Plan& plan, Deliberator& deliberator, const std::string& directory);

}  // namespace conclave::experiment
