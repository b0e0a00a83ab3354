// SPDX-License-Identifier: Apache-2.0
// A deliberation as a pure state machine.
//
//   Step(input) -> {events to commit, calls to dispatch, calls to cancel}
//
// There is no clock, no randomness, no I/O and no thread in here: the same graph, RunSpec and inputs give the same
// outputs, bit for bit, on any machine. So a run can be simulated, replayed and resumed from its events (replay.h).
//
// What the caller (the executor) does with an Output, in this order: commits `events` durably, numbering them in order;
// dispatches `calls`; cancels `cancel`; when `wall_time_ns` is set, arranges WallTimeExpired that long after the first
// event was committed; and TimerExpired for each of `timers`, counted from this output. Every dispatched call is
// answered by exactly one CallFinished or CallLost, cancelled ones included (a cancelled call that is never answered
// would leave the run unfinished). WallTimeExpired, CancelRequested and TimerExpired are no events: the executor stores
// them with the number of the last event before them, so that a replay can feed them at the same place.
//
// Not thread-safe; one thread drives a machine. A Machine shares its graph and owns everything else.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "conclave/deliberation/v1/deliberation.pb.h"
#include "conclave/deliberation/v1/graph.pb.h"
#include "conclave/deliberation/v1/role.pb.h"
#include "conclave/inference/v1/inference.pb.h"
#include "orchestrator/ledger/cost.h"
#include "orchestrator/pick/confidence.h"
#include "orchestrator/role/contract.h"

namespace conclave::orchestrator {

class CompiledGraph;  // orchestrator/graph/compiled_graph.h

// A call that is lost for a reason that may pass is tried again, with the same seed, this many times.
inline constexpr int kRetriesMax = 2;

// One member of the fleet, as far as a run cares.
struct RunMember {
  std::string name;
  double weight = 1;  // `member.weight` of weighted votes
  CostModel cost;     // for reservations; zeros where unknown
};

// A limit on the run besides the graph's own, e.g. {"request", ..} or {"experiment", what is left of it}.
struct NamedBudget {
  std::string name;
  deliberation::v1::Budget budget;
};

// Everything that decides how a run goes, besides the inputs of Step.
struct RunSpec {
  std::string run_id;
  std::map<std::string, std::string> inputs;  // values of the graph's inputs; missing ones take their defaults
  std::vector<RunMember> members;             // those that the binding names
  // As written in the graph -> indices into `members`, in speaking order. Every name that the graph uses is here and
  // maps to at least one member (ResolveBinding in graph/binding.h makes it, globs resolved).
  std::map<std::string, std::vector<int32_t>> binding;
  uint64_t seed = 0;
  std::vector<NamedBudget> budgets;
  deliberation::v1::SamplingDefaults sampling;  // over the nodes' and roles'
  std::string item_id;                          // for recorded members; plays no part in the machine
  // Of the result's text; the role of its node then has none. Null: none.
  std::shared_ptr<const deliberation::v1::OutputConstraint> result_constraint = nullptr;
  std::optional<int32_t> result_logprobs = std::nullopt;  // told with the result's text, so many of the best
};

// The messages of a call. Shared by all calls that send the same ones.
struct Prompt {
  std::vector<deliberation::v1::PromptMessage> messages;  // all plain text: nothing in it is a special token
  std::string sha256;                                     // of role and content of each message, NUL-separated
  int64_t bytes = 0;                                      // of all contents
};

// Compared continuations of a P(True) call: score = p(yes) / (p(yes) + p(no)).
struct PTrueSpec {
  std::string yes;
  std::string no;
};

// A call to dispatch.
struct CallSpec {
  uint32_t id = 0;  // within the run, dense from 0 in order of dispatch; the same in every replay
  std::string node_path;
  deliberation::v1::CallKey key;
  int32_t member_index = 0;  // into RunSpec::members
  std::string role;
  std::shared_ptr<const Prompt> prompt;
  // Run over node over role; max_output_tokens is always set (kDefaultOutputTokens when none of them says).
  std::shared_ptr<const deliberation::v1::SamplingDefaults> sampling;
  uint64_t seed = 0;                                             // in [0, 2^63)
  std::shared_ptr<const PTrueSpec> p_true;                       // set: nothing is generated
  bool token_trace = false;                                      // CallFinished::trace is wanted
  std::optional<int32_t> logprobs;                               // told with its text, so many of the best
  std::shared_ptr<const deliberation::v1::PartialText> partial;  // set: it goes on from here
  std::optional<uint32_t> beside;  // the straggler that this one is to overtake, on another worker
  std::shared_ptr<const deliberation::v1::OutputConstraint> constraint = nullptr;  // ? held to by members that can
};

// ---- Inputs.

// First, once.
struct Start {};

// A call ended well.
struct CallFinished {
  uint32_t call = 0;
  std::string text;
  std::optional<double> p_true;       // of a P(True) call
  std::optional<TokenTrace> trace;    // where it was asked for and the member could tell
  std::optional<std::string> answer;  // came beside the text (recorded members): read instead of the text
  inference::v1::FinishReason finish_reason = inference::v1::FINISH_REASON_STOP;
  inference::v1::Usage usage;
  bool estimated = false;
  std::string instance_id;
  std::string model_revision;
  int64_t latency_ns = 0;
  // Set by replay only: what the recorded event says was read from the text, so that a later version of an extractor
  // cannot change a run that has happened.
  bool from_record = false;
  std::optional<double> recorded_score;
  std::optional<double> recorded_confidence;
  std::vector<int32_t> recorded_ranking;
  std::optional<std::string> recorded_label;
  std::optional<TokenConfidence> recorded_token_confidence;
  std::vector<PlanItem> recorded_items;
  bool recorded_repair = false;
};

// A call ended otherwise: lost, refused, cancelled.
struct CallLost {
  uint32_t call = 0;
  absl::Status status;
  inference::v1::Usage usage = {};  // work done, as far as known
  bool retryable = false;
  deliberation::v1::PartialText partial = {};  // all that was said so far, where another attempt could go on from it
};

// The wall time of Output::wall_time_ns is over.
struct WallTimeExpired {};

// Somebody wants the run to end.
struct CancelRequested {};

// A timer of Output::timers ran out.
struct TimerExpired {
  uint32_t timer = 0;
};

using Input = std::variant<Start, CallFinished, CallLost, WallTimeExpired, CancelRequested, TimerExpired>;
// Those that are stored beside the events.
using StoredKind = std::variant<WallTimeExpired, CancelRequested, TimerExpired>;

// ---- Outputs.

struct Timer {
  uint32_t id = 0;  // within the run, dense from 0
  int64_t delay_ns = 0;
};

struct Output {
  // Without sequence_number and time. When the input was about a call, its CallFinished or CallLost comes first.
  std::vector<deliberation::v1::Event> events;
  std::vector<CallSpec> calls;
  std::vector<uint32_t> cancel;         // ids of calls whose end is still awaited
  std::optional<int64_t> wall_time_ns;  // only from Start
  std::vector<Timer> timers;
};

class Machine {
 public:
  // INVALID_ARGUMENT: an input that the graph does not know or that is missing, a name that is not bound, a member
  // index out of range, more calls in the worst case than kCallsPerRunMax (graph/limits.h).
  static absl::StatusOr<std::unique_ptr<Machine>> Create(std::shared_ptr<const CompiledGraph> graph, RunSpec spec);
  ~Machine();
  Machine(const Machine&) = delete;
  Machine& operator=(const Machine&) = delete;

  // Start first. An answer about a call that is not outstanding, an input before Start or after the end, is
  // FAILED_PRECONDITION and changes nothing: the caller may have raced with a cancellation and can ignore it.
  absl::StatusOr<Output> Step(Input input);

  // The last event, RunFinished, has been put out; no call is outstanding.
  bool finished() const;
  deliberation::v1::RunState state() const;
  // Work so far, of ended calls.
  const deliberation::v1::Ledger& ledger() const;
  // Answer of the run, once finished.
  const std::optional<std::string>& answer() const;
  const RunSpec& spec() const;
  const CompiledGraph& graph() const;

  // Calls dispatched and not answered, by id. Those for which `cancelled` is set need no answer from a member any more.
  struct Outstanding {
    CallSpec call;
    bool cancelled = false;
  };
  std::vector<Outstanding> OutstandingCalls() const;
  // Timers that were asked for, have not run out, and would still change something, by id. The others can be forgotten.
  std::vector<Timer> PendingTimers() const;
  // The outstanding call of that name, or nullopt.
  std::optional<uint32_t> FindOutstanding(std::string_view node_path, const deliberation::v1::CallKey& key) const;

 private:
  class Impl;
  explicit Machine(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace conclave::orchestrator
