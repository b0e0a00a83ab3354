// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/run/variables.h"

#include <algorithm>
#include <utility>

#include "common/status.h"
#include "orchestrator/graph/compiled_graph.h"

namespace conclave::orchestrator {
namespace {

using jinja::Value;
using Entries = std::vector<std::pair<std::string, Value>>;

std::string_view Head(std::string_view path) { return path.substr(0, path.find('.')); }

}  // namespace

std::vector<Ballot> BallotsOf(const RunValues& values, const std::vector<int32_t>& ids) {
  std::vector<Ballot> ballots;
  ballots.reserve(ids.size());
  for (const int32_t id : ids) {
    const Utterance& utterance = values.utterance(id);
    Ballot& ballot = ballots.emplace_back();
    ballot.has_answer = utterance.answer.has_value();
    if (ballot.has_answer) ballot.answer = *utterance.answer;
    ballot.weight = 1;
    ballot.output_tokens = utterance.output_tokens;
  }
  return ballots;
}

Variables::Variables(const CompiledGraph& graph, const RunSpec& spec, const RunValues& values)
    : graph_(graph), spec_(spec), values_(values) {
  for (const deliberation::v1::Input& input : graph.proto().input()) {
    const auto given = spec.inputs.find(input.name());
    inputs_.emplace_back(input.name(),
                         Value::String(given == spec.inputs.end() ? input.default_value() : given->second));
  }
}

int32_t Variables::RoundAt(int32_t node) const {
  for (int32_t up = graph_.node(node).parent; up != kNoNode; up = graph_.node(up).parent) {
    if (graph_.node(up).kind == NodeKind::kLoop) return values_.node(up).round;
  }
  return 0;
}

Value Variables::Votes(int32_t node) const {
  VoteSummary votes;
  if (node != kNoNode) {
    const std::vector<int32_t>& ids = values_.node(node).utterances;
    votes = SummarizeVotes(GroupVotes(BallotsOf(values_, ids)), ids.size());
  }
  return Value::Object({{"total", Value::Int(votes.total)},
                        {"count", Value::Int(votes.count)},
                        {"distinct", Value::Int(votes.distinct)},
                        {"top", Value::Float(votes.top)},
                        {"margin", Value::Float(votes.margin)},
                        {"unchanged", Value::Int(node == kNoNode ? 0 : values_.node(node).unchanged)}});
}

absl::Status Variables::Failed(int32_t node, const char* field, const std::string& source,
                               const absl::Status& why) const {
  return InvalidArgument("node \"{}\": {} \"{}\": {}", graph_.node(node).name, field, source, Message(why));
}

absl::StatusOr<bool> Variables::Test(int32_t node, const char* field, const Expression& expression, int32_t round,
                                     int32_t votes_of) const {
  Entries entries;
  const auto has = [&](std::string_view name) {
    return std::any_of(entries.begin(), entries.end(), [&](const auto& entry) { return entry.first == name; });
  };
  for (const std::string& path : expression.paths()) {
    const std::string_view head = Head(path);
    if (has(head)) continue;
    if (head == "round") {
      entries.emplace_back("round", Value::Int(round));
    } else if (head == "votes") {
      entries.emplace_back("votes", Votes(votes_of));
    } else if (head == "inputs") {
      entries.emplace_back("inputs", Value::Object(inputs_));
    } else if (const CompiledNode* assessor = graph_.Find(head); assessor != nullptr) {
      const NodeState& state = values_.node(assessor->index);
      entries.emplace_back(head, Value::Object({{"mean_score", Value::Float(state.mean_score)},
                                                {"accepted", Value::Int(state.accepted)},
                                                {"judgements", Value::Int(state.judgements)},
                                                {"passed", Value::Float(state.passed)}}));
    }
  }
  absl::StatusOr<Value> value = expression.Evaluate(Value::Object(std::move(entries)));
  if (!value.ok()) return Failed(node, field, expression.source(), value.status());
  return value->Truthy();
}

double Variables::MemberWeight(const Utterance& utterance) const {
  return utterance.member < 0 ? 1 : spec_.members[static_cast<size_t>(utterance.member)].weight;
}

// What `weight` and `where` read of an utterance.
Value Variables::AboutUtterance(const Expression& expression, const Utterance& utterance) const {
  Entries entries;
  const std::string name =
      utterance.member < 0 ? std::string() : spec_.members[static_cast<size_t>(utterance.member)].name;
  entries.emplace_back(
      "member", Value::Object({{"name", Value::String(name)}, {"weight", Value::Float(MemberWeight(utterance))}}));
  entries.emplace_back("round", Value::Int(utterance.round));
  entries.emplace_back("text_length", Value::Int(static_cast<int64_t>(utterance.shown().size())));
  entries.emplace_back("confidence", Value::Float(utterance.confidence.value_or(0)));
  for (const std::string& path : expression.paths()) {
    const CompiledNode* assessor = graph_.Find(Head(path));
    if (assessor == nullptr) continue;
    const Assessment* found = utterance.By(assessor->index);
    const Assessment said = found == nullptr ? Assessment() : *found;
    entries.emplace_back(assessor->name, Value::Object({{"mean_score", Value::Float(said.MeanScore())},
                                                        {"accepts", Value::Int(said.accepts)},
                                                        {"rejects", Value::Int(said.rejects)},
                                                        {"wins", Value::Int(said.wins)},
                                                        {"shown", Value::Int(said.scored)},
                                                        {"passed", Value::Int(said.passed ? 1 : 0)}}));
  }
  return Value::Object(std::move(entries));
}

absl::StatusOr<double> Variables::Weigh(int32_t pick, const Utterance& utterance) const {
  const std::optional<Expression>& expression = graph_.node(pick).expression;
  double weight = MemberWeight(utterance);
  if (expression.has_value()) {
    absl::StatusOr<Value> value = expression->Evaluate(AboutUtterance(*expression, utterance));
    if (!value.ok()) return Failed(pick, "weight", expression->source(), value.status());
    if (value->IsUndefined() || value->IsNone()) return 0.0;
    if (!value->IsNumber()) {
      return Failed(pick, "weight", expression->source(),
                    InvalidArgument("gives a {}; a weight is a number", value->TypeName()));
    }
    weight = value->AsDouble();
  }
  return weight > 0 ? weight : 0.0;
}

absl::StatusOr<bool> Variables::Competes(int32_t pick, const Utterance& utterance) const {
  const std::optional<Expression>& where = graph_.node(pick).where;
  if (!where.has_value()) return true;
  const absl::StatusOr<Value> value = where->Evaluate(AboutUtterance(*where, utterance));
  if (!value.ok()) return Failed(pick, "where", where->source(), value.status());
  return value->Truthy();
}

absl::StatusOr<std::string> Variables::Expected(int32_t check) const {
  const CompiledNode& node = graph_.node(check);
  absl::StatusOr<std::string> text =
      node.expected->Render(Value::Object({{"inputs", Value::Object(inputs_)}, {"round", Value::Int(RoundAt(check))}}));
  if (!text.ok()) return Failed(check, "expected", "", text.status());
  return text;
}

}  // namespace conclave::orchestrator
