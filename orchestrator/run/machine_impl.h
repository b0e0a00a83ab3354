// SPDX-License-Identifier: Apache-2.0
// The parts of a run's state machine; private to this folder.
//   machine.cc          inputs, outputs, the end of a run
//   machine_flow.cc     which node runs when: sequences, loops, branches
//   machine_calls.cc    slots, the queue before the budget, answers
//   machine_late.cc     losses, stragglers, the quorum, timers
//   machine_waves.cc    slots asked for wave by wave, until they are settled
//   machine_assess.cc   what nodes make of utterances: judge, check, pick
//   machine_plan.cc     items of a plan
//   machine_repair.cc   outputs that could not be read, asked for once more
//   machine_budget.cc   budgets within budgets: what fits, what has run out
//   machine_search.cc   where a search goes on, and who does it
//   machine_compare.cc  judges that compare: who is shown beside whom, what an order is worth
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "orchestrator/graph/compiled_graph.h"
#include "orchestrator/ledger/budget.h"
#include "orchestrator/role/json_output.h"
#include "orchestrator/run/machine.h"
#include "orchestrator/run/values.h"
#include "orchestrator/run/variables.h"

namespace conclave::orchestrator {

// At most the largest number there is.
int64_t Nanoseconds(const google::protobuf::Duration& duration);

class Machine::Impl {
 public:
  Impl(std::shared_ptr<const CompiledGraph> graph, RunSpec spec);
  absl::Status Validate();
  absl::StatusOr<Output> Step(Input input);

  bool finished() const { return stage_ == Stage::kFinished; }
  deliberation::v1::RunState state() const;
  const deliberation::v1::Ledger& ledger() const { return ledger_; }
  const std::optional<std::string>& answer() const { return answer_; }
  const RunSpec& spec() const { return spec_; }
  const CompiledGraph& graph() const { return *graph_; }
  std::vector<Outstanding> OutstandingCalls() const;
  std::optional<uint32_t> FindOutstanding(std::string_view node_path, const deliberation::v1::CallKey& key) const;
  std::vector<Timer> PendingTimers() const;

 private:
  // kEnding: how the run ends is decided, and only answers of cancelled calls are awaited.
  enum class Stage : uint8_t { kNew, kRunning, kEnding, kFinished };

  struct Call {
    int32_t node = kNoNode;
    int32_t slot = 0;
    CallSpec spec;               // emptied when the call has ended
    std::vector<int32_t> shown;  // of a comparison: subjects, as shown
    int32_t about = -1;          // id of the utterance that it is about
    int32_t allowance = -1;      // the innermost that it is charged to
    Amount reserved;
    bool open = false;
    bool cancelled = false;  // its answer is of no use any more
  };
  struct Alarm {
    enum class What : uint8_t { kHedge, kClose, kWallTime } what = What::kHedge;
    int32_t node = kNoNode;
    int64_t begun = 0;  // of the node then
    int64_t delay_ns = 0;
    bool expired = false;
  };
  // The budget of one run of a called graph.
  struct Allowance {
    int32_t node = kNoNode;  // the call
    int32_t outer = -1;      // the allowance around it
    BudgetAccount account;
    bool exhausted = false;
    std::vector<int32_t> best;  // utterances of the last node in it that had an answer
  };
  struct Ending {
    deliberation::v1::RunState state = deliberation::v1::RUN_STATE_SUCCEEDED;
    absl::Status status;
    std::string text;
    bool best_effort = false;
  };

  // ---- machine.cc
  deliberation::v1::Event* AddEvent(const std::string& node_path);
  void Begin();
  absl::Status Check(const Input& input) const;
  void EndSuccessfully();
  void End(deliberation::v1::RunState state, absl::Status status);
  void Fail(const absl::Status& status) { End(deliberation::v1::RUN_STATE_FAILED, status); }
  void PutRunFinished();
  void OnWallTime();
  void SettleStep();

  // ---- machine_budget.cc
  void OpenAllowance(const CompiledNode& call);
  // The innermost that a node is in, -1: only the run's own.
  int32_t AllowanceAt(int32_t node) const;
  // Whether nothing more is asked there.
  bool RanOut(int32_t allowance) const;
  // Sets what the call may need aside everywhere. False: it waits for calls under way, or its budget has just run out.
  enum class Fit : uint8_t { kYes, kLater, kNever };
  Fit Reserve(const Call& call);
  void Settle(const Call& call, const Amount& used);
  // Says that a budget ran out, once, and ends the run or its calls. -1: the run's own.
  void Exhaust(int32_t allowance, const Exhausted& exhausted);
  // Calls under way would go on past the limit: they are given up, and the graph ends with what there is.
  void GiveUp(int32_t allowance);
  bool IsIn(int32_t allowance, int32_t outer) const;
  void OnCallWallTime(const CompiledNode& call);

  // ---- machine_flow.cc
  void StartSequence(int32_t sequence, const std::string& prefix);
  void Advance(int32_t sequence);
  void SequenceDone(int32_t sequence);
  void StartNode(const CompiledNode& node);
  void ClearContents(int32_t container);
  void StartLoop(const CompiledNode& node);
  void NextRound(const CompiledNode& node);
  void CountUnchanged(NodeState* state) const;
  static void Remember(const CompiledNode& node, NodeState* state);
  void RoundDone(const CompiledNode& node);
  void StartBranch(const CompiledNode& node);
  void ArmDone(const CompiledNode& node);
  void StartCalled(const CompiledNode& node);
  void CalledDone(const CompiledNode& node);
  deliberation::v1::NodeFinished* FinishNode(const CompiledNode& node);
  void PutNodeStarted(const CompiledNode& node, size_t calls);
  void PutVotes(std::span<const VoteGroup> groups, deliberation::v1::NodeFinished* finished) const;

  // ---- machine_calls.cc
  void StartCalls(const CompiledNode& node);
  absl::StatusOr<std::vector<Slot>> SpeakSlots(const CompiledNode& node);
  absl::StatusOr<std::vector<Slot>> JudgeSlots(const CompiledNode& node);
  absl::StatusOr<std::vector<Slot>> SlotsOf(const CompiledNode& node);
  void EnqueueAll(const CompiledNode& node, PromptBuilder* prompts);
  void Enqueue(const CompiledNode& node, int32_t slot, std::shared_ptr<const Prompt> prompt);
  bool IsResultSpoken(const CompiledNode& node) const;
  std::shared_ptr<const deliberation::v1::OutputConstraint> ConstraintOf(const CompiledNode& node) const;
  Amount Reservation(const CallSpec& call) const;
  void Dispatch();
  void CancelCalls(std::optional<int32_t> of_node);
  void CancelSlots(int32_t of_node, int32_t begin, int32_t end);
  void OnFinished(CallFinished& input);
  void Charge(Call* call, const inference::v1::Usage& usage, bool discarded, bool estimated);
  Utterance MakeUtterance(const Call& call, CallFinished& input) const;
  void ReadAnswer(const CompiledNode& node, const std::optional<JsonOutput>& json, CallFinished& input,
                  Utterance* utterance) const;
  void ReadVerdict(const CompiledNode& node, const std::optional<JsonOutput>& json, bool by_probability,
                   const CallFinished& input, Utterance* utterance) const;
  void Resolve(int32_t node, int32_t slot, Slot::State state, int32_t utterance, int32_t count = 1);
  void CallsDone(const CompiledNode& node);

  // ---- machine_late.cc
  void OnLost(const CallLost& input);
  void DropWaiting(const Call& call);
  void SetAlarm(Alarm::What what, const CompiledNode& node, int64_t delay_ns);
  bool Matters(const Alarm& alarm) const;
  void OnTimer(uint32_t timer);
  // After an answer: whether stragglers are to be asked again now, or given up.
  void LookForStragglers(const CompiledNode& node);
  void Hedge(const CompiledNode& node);
  void Close(const CompiledNode& node);

  // ---- machine_waves.cc
  void StartLanes(const CompiledNode& node, PromptBuilder* prompts);
  void Launch(const CompiledNode& node, Lane* lane);
  // A slot has come to an end: looks at what is settled now, and asks for more where nothing is.
  void Commit(const CompiledNode& node, int32_t slot);
  void Settle(const CompiledNode& node, Lane* lane, int32_t begin, int32_t end);
  bool Rejects(const CompiledNode& node, const Slot& slot) const;
  static void NoteStop(const CompiledNode& node, NodeState* state);

  // ---- machine_assess.cc
  void FinishSpeak(const CompiledNode& node);
  void FinishJudge(const CompiledNode& node);
  void FinishAssessor(const CompiledNode& node, std::vector<Assessment> said);
  void RunCheck(const CompiledNode& node);
  absl::StatusOr<std::vector<int32_t>> Competitors(const CompiledNode& node) const;
  void RunPick(const CompiledNode& node);
  void Attach(int32_t utterance, Assessment assessment);

  // ---- machine_repair.cc
  bool WantsRepair(const Call& call, const Utterance& utterance, const std::vector<PlanItem>& items) const;
  // Asks the writer once more, with what it wrote before it. `call` has ended and loses its spec.
  void AskAgain(Call* call, const Utterance& unread);

  // ---- machine_plan.cc
  // Puts the items of a plan, which `whole` is, in its place; how many.
  int32_t AddItems(const Utterance& whole, const std::vector<PlanItem>& items);

  // ---- machine_search.cc
  void RunSearch(const CompiledNode& node, std::vector<int32_t> ids);
  // Who takes each of `subjects` utterances: indices into the node's members.
  absl::StatusOr<std::vector<size_t>> Assigned(const CompiledNode& node, int32_t subjects) const;

  // ---- machine_compare.cc
  std::vector<Slot> ComparisonSlots(const CompiledNode& node);
  void Deal(const CompiledNode& node, const Slot& judge, std::vector<int32_t> subjects, std::vector<Slot>* slots);
  void FinishComparisons(const CompiledNode& node);
  // What the words of a comparison say: subjects, the best first.
  std::vector<int32_t> ReadOrder(const Call& call, std::string_view text) const;

  const std::shared_ptr<const CompiledGraph> graph_;
  const RunSpec spec_;
  const uint64_t question_;
  RunValues values_;
  const Variables variables_;
  BudgetAccount account_;
  std::vector<std::vector<int32_t>> seats_;  // by node: members that speak or judge
  std::vector<std::shared_ptr<const deliberation::v1::SamplingDefaults>> sampling_;  // by node
  std::vector<std::shared_ptr<const PTrueSpec>> p_true_;                             // by node
  std::optional<NamedBudget> wall_time_;                                             // the shortest

  Stage stage_ = Stage::kNew;
  Output* out_ = nullptr;      // of the running Step
  std::deque<int32_t> work_;   // sequences to advance
  std::vector<bool> active_;   // by sequence: begun, not done
  std::deque<Call> queue_;     // waiting for the budget, first come first served
  std::vector<Call> calls_;    // dispatched, by id
  std::vector<Alarm> alarms_;  // by number
  std::deque<Allowance> allowances_;
  int32_t in_flight_ = 0;
  bool exhausted_ = false;  // the run's own budget
  bool ran_out_ = false;    // some budget
  deliberation::v1::Ledger ledger_;
  int32_t holes_ = 0;
  absl::Status last_loss_;
  std::vector<int32_t> best_;  // utterances of the last node that had an answer
  Ending ending_;
  std::optional<std::string> answer_;
};

}  // namespace conclave::orchestrator
