// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/run/variables.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "common/status.h"
#include "orchestrator/graph/compiled_graph.h"
#include "orchestrator/pick/stopping.h"

namespace conclave::orchestrator {
namespace {

using jinja::Value;
using Entries = std::vector<std::pair<std::string, Value>>;

std::string_view Head(std::string_view path) { return path.substr(0, path.find('.')); }

bool Contains(const std::vector<std::string>& paths, std::string_view path) {
  return std::find(paths.begin(), paths.end(), path) != paths.end();
}

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

Value Variables::Votes(int32_t node, bool sure) const {
  VoteSummary votes;
  double confidence = 0.5;  // of two answers that nobody has given yet
  if (node != kNoNode) {
    const std::vector<int32_t>& ids = values_.node(node).utterances;
    const std::vector<VoteGroup> groups = GroupVotes(BallotsOf(values_, ids));
    votes = SummarizeVotes(groups, ids.size());
    if (sure && !groups.empty()) {
      confidence = MajorityConfidence(groups[0].count, groups.size() > 1 ? groups[1].count : 0);
    }
  }
  return Value::Object({{"total", Value::Int(votes.total)},
                        {"count", Value::Int(votes.count)},
                        {"distinct", Value::Int(votes.distinct)},
                        {"top", Value::Float(votes.top)},
                        {"margin", Value::Float(votes.margin)},
                        {"sure", Value::Float(confidence)},
                        {"unchanged", Value::Int(node == kNoNode ? 0 : values_.node(node).unchanged)}});
}

absl::Status Variables::Failed(int32_t node, const char* field, const std::string& source,
                               const absl::Status& why) const {
  return InvalidArgument("node \"{}\": {} \"{}\": {}", graph_.node(node).name, field, source, Message(why));
}

// What conditions read of a judge, a check, or a speak that gives labels.
Value Variables::AboutNode(const CompiledNode& node) const {
  const NodeState& state = values_.node(node.index);
  if (node.kind != NodeKind::kSpeak) {
    return Value::Object({{"mean_score", Value::Float(state.mean_score)},
                          {"accepted", Value::Int(state.accepted)},
                          {"judgements", Value::Int(state.judgements)},
                          {"passes", Value::Int(state.passes)},
                          {"fails", Value::Int(state.fails)},
                          {"passed", Value::Float(state.passed)}});
  }
  std::vector<Ballot> ballots;
  for (const int32_t id : state.utterances) {
    const std::optional<std::string>& label = values_.utterance(id).label;
    Ballot& ballot = ballots.emplace_back();
    ballot.has_answer = label.has_value();
    if (label.has_value()) ballot.answer = *label;
  }
  const std::vector<VoteGroup> groups = GroupVotes(ballots);
  if (groups.empty()) return Value::Object({});
  return Value::Object({{"label", Value::String(groups.front().answer)}});
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
      entries.emplace_back("votes", Votes(votes_of, Contains(expression.paths(), "votes.sure")));
    } else if (head == "inputs") {
      entries.emplace_back("inputs", Value::Object(inputs_));
    } else if (const CompiledNode* read = graph_.Find(head); read != nullptr) {
      entries.emplace_back(head, AboutNode(*read));
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
  if (Contains(expression.paths(), "likelihood") || expression.Reads("token_confidence")) {
    const TokenConfidence sure = utterance.token_confidence.value_or(TokenConfidence());
    entries.emplace_back("likelihood", Value::Float(sure.token_count == 0 ? 0 : std::exp(sure.mean_logprob)));
    entries.emplace_back("token_confidence", Value::Object({{"mean", Value::Float(sure.mean)},
                                                            {"tail", Value::Float(sure.tail)},
                                                            {"lowest", Value::Float(sure.lowest)},
                                                            {"bottom", Value::Float(sure.bottom)}}));
  }
  entries.emplace_back("own_score", Value::Float(utterance.score.value_or(0)));
  for (const std::string& path : expression.paths()) {
    const std::string_view head = Head(path);
    if (std::any_of(entries.begin(), entries.end(), [&](const auto& entry) { return entry.first == head; })) continue;
    if (const CompiledNode* assessor = graph_.Find(head); assessor != nullptr) {
      const Assessment* found = utterance.By(assessor->index);
      entries.emplace_back(head, AboutJudgements(assessor->index, found == nullptr ? Assessment() : *found));
    }
  }
  return Value::Object(std::move(entries));
}

// What one judge or check said of one utterance.
Value Variables::AboutJudgements(int32_t judge, const Assessment& said) const {
  // Judgements may have been judged themselves.
  double lowest = 1;
  int32_t valid = 0, valid_at_lowest = 0;
  for (const int32_t id : said.judgements) {
    const Utterance& judgement = values_.utterance(id);
    const double score = judgement.score.value_or(1);
    if (score < lowest) lowest = score, valid_at_lowest = 0;
    const auto accepts = [&](const Assessment& meta) { return graph_.node(meta.node).of == judge && meta.Accepted(); };
    if (!std::any_of(judgement.assessments.begin(), judgement.assessments.end(), accepts)) continue;
    ++valid;
    if (score == lowest) ++valid_at_lowest;
  }
  return Value::Object({{"mean_score", Value::Float(said.MeanScore())},
                        {"accepts", Value::Int(said.accepts)},
                        {"rejects", Value::Int(said.rejects)},
                        {"wins", Value::Int(said.wins)},
                        {"shown", Value::Int(said.scored)},
                        {"lowest", Value::Float(lowest)},
                        {"valid", Value::Int(valid)},
                        {"valid_at_lowest", Value::Int(valid_at_lowest)},
                        {"passed", Value::Int(said.passed ? 1 : 0)}});
}

absl::StatusOr<double> Variables::Weigh(int32_t node, const char* field, const Utterance& utterance) const {
  const std::optional<Expression>& expression = graph_.node(node).expression;
  double weight = MemberWeight(utterance);
  if (expression.has_value()) {
    absl::StatusOr<Value> value = expression->Evaluate(AboutUtterance(*expression, utterance));
    if (!value.ok()) return Failed(node, field, expression->source(), value.status());
    if (value->IsUndefined() || value->IsNone()) return 0.0;
    if (!value->IsNumber()) {
      return Failed(node, field, expression->source(),
                    InvalidArgument("gives a {}; a {} is a number", value->TypeName(), field));
    }
    weight = value->AsDouble();
  }
  return weight > 0 ? weight : 0.0;
}

absl::StatusOr<bool> Variables::TakesPart(int32_t node, const Utterance& utterance) const {
  const std::optional<Expression>& where = graph_.node(node).where;
  if (!where.has_value()) return true;
  const absl::StatusOr<Value> value = where->Evaluate(AboutUtterance(*where, utterance));
  if (!value.ok()) return Failed(node, "where", where->source(), value.status());
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
