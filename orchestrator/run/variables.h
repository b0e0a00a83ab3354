// SPDX-License-Identifier: Apache-2.0
// What expressions and prompts read, made from a run's values. Private to this folder.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/jinja/jinja.h"
#include "orchestrator/run/machine.h"
#include "orchestrator/run/values.h"

namespace conclave::orchestrator {

// Reads a run for its expressions. Refers to everything it is given.
class Variables {
 public:
  Variables(const CompiledGraph& graph, const RunSpec& spec, const RunValues& values);

  // The inputs of the graph that the node is in, defaults filled in, as template variables.
  const std::vector<std::pair<std::string, jinja::Value>>& InputsAt(int32_t node) const;
  // What a call gives its graph for inputs.
  absl::StatusOr<std::vector<std::pair<std::string, jinja::Value>>> Arguments(const CompiledNode& call) const;
  // Round of the loop around the node, in its graph; 0 outside loops.
  int32_t RoundAt(int32_t node) const;

  // A condition at `node`; `round` and `votes_of` as they are there. Errors name the node and the expression.
  absl::StatusOr<bool> Test(int32_t node, const char* field, const Expression& expression, int32_t round,
                            int32_t votes_of) const;
  // The weight of an utterance at a pick, its worth at a speak; never negative, never not-a-number.
  absl::StatusOr<double> Weigh(int32_t node, const char* field, const Utterance& utterance) const;
  // Whether the `where` of a pick or judge lets it take part.
  absl::StatusOr<bool> TakesPart(int32_t node, const Utterance& utterance) const;
  // What an EXACT check expects.
  absl::StatusOr<std::string> Expected(int32_t check) const;

 private:
  jinja::Value Votes(int32_t node, bool sure) const;
  jinja::Value AboutNode(const CompiledNode& node) const;
  using Entries = std::vector<std::pair<std::string, jinja::Value>>;
  Entries AboutJudgements(int32_t judge, const Assessment& said) const;
  // What has become of an utterance that others work on.
  void AddWork(const CompiledNode& node, const Utterance& utterance, Entries* entries) const;
  // By id: whether the judge accepted something made from it, or the last item of a new plan of it.
  std::vector<bool> Proved(int32_t judge) const;
  jinja::Value AboutUtterance(int32_t node, const Expression& expression, const Utterance& utterance) const;
  double MemberWeight(const Utterance& utterance) const;
  // INVALID_ARGUMENT 'node "x": field "source": why'.
  absl::Status Failed(int32_t node, const char* field, const std::string& source, const absl::Status& why) const;

  const CompiledGraph& graph_;
  const RunSpec& spec_;
  const RunValues& values_;
  std::vector<std::pair<std::string, jinja::Value>> inputs_;
};

// Counts and hashes the messages of a prompt that is complete.
void Seal(Prompt* prompt);

// Makes the prompts of one run of a node. Texts that readers share are made once.
class PromptBuilder {
 public:
  // `seats`: who speaks or judges there. Refers to everything it is given.
  PromptBuilder(const CompiledGraph& graph, const RunSpec& spec, const RunValues& values, const Variables& variables,
                uint64_t question, int32_t node, const std::vector<int32_t>& seats);

  // For one slot; the same pointer as for the slot before when the prompt is the same.
  absl::StatusOr<std::shared_ptr<const Prompt>> Build(const Slot& slot);

 private:
  struct Key {
    int32_t member = -1, sample = -1, subject = -1;
    friend bool operator==(const Key&, const Key&) = default;
  };
  jinja::Value Seen(size_t sees_index, const Slot& slot);
  jinja::Value SeenAnew(const CompiledSees& sees, const Slot& slot) const;
  jinja::Value Entry(const CompiledSees& sees, const Utterance& utterance, int32_t index) const;
  bool IsAbout(const CompiledSees& sees, const Utterance& utterance, int32_t subject) const;
  bool IsShown(const CompiledSees& sees, const Slot& slot, const Utterance& utterance) const;
  // Whether the writer sits where the reader's kind of `among` looks.
  bool IsAmong(const CompiledSees& sees, const Slot& slot, const Utterance& utterance) const;
  // What the call is about, or those compared, by their names in prompts.
  void AddCandidates(const Slot& slot, std::vector<std::pair<std::string, jinja::Value>>* entries) const;
  std::vector<std::pair<std::string, jinja::Value>> About(const Utterance& utterance) const;
  const Utterance& Subject(const Slot& slot) const;
  static void Converse(const Utterance& utterance, Prompt* prompt);
  absl::Status AddMessage(const char* role, const char* field, const PromptTemplate& source,
                          const jinja::Value& context, Prompt* prompt) const;

  const CompiledNode& node_;
  const RunSpec& spec_;
  const RunValues& values_;
  const Variables& variables_;
  const uint64_t question_;
  const std::vector<int32_t>& seats_;
  std::vector<jinja::Value> shared_seen_;  // by sees, for those that are the same for every reader
  Key last_key_;
  std::shared_ptr<const Prompt> last_;
};

}  // namespace conclave::orchestrator
