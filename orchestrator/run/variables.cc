// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/run/variables.h"

#include <fmt/format.h>

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

const Entries& Variables::InputsAt(int32_t node) const {
  const int32_t scope = graph_.node(node).scope;
  return scope == kNoNode ? inputs_ : values_.node(scope).inputs;
}

absl::StatusOr<Entries> Variables::Arguments(const CompiledNode& call) const {
  const Entries& around = InputsAt(call.index);
  Entries inputs;
  for (const deliberation::v1::Input& input : call.called->input()) {
    const auto named = [&](const auto& entry) { return entry.first == input.name(); };
    const auto given = std::find_if(call.arguments.begin(), call.arguments.end(),
                                    [&](const CompiledArgument& argument) { return argument.name == input.name(); });
    if (given == call.arguments.end()) {
      const auto same = std::find_if(around.begin(), around.end(), named);
      inputs.emplace_back(input.name(), same == around.end() ? Value::String(input.default_value()) : same->second);
      continue;
    }
    Entries context = {{"inputs", Value::Object(around)}, {"round", Value::Int(RoundAt(call.index))}};
    for (const auto& [name, read] : given->nodes) {
      Entries said;
      if (const std::vector<int32_t>& ids = values_.node(read).utterances; !ids.empty()) {
        const Utterance& first = values_.utterance(ids.front());
        said.emplace_back("text", Value::String(std::string(first.shown())));
        if (first.answer.has_value()) said.emplace_back("answer", Value::String(*first.answer));
        if (!first.fields.IsMissing()) said.emplace_back("fields", first.fields);
      }
      context.emplace_back(name, Value::Object(std::move(said)));
    }
    absl::StatusOr<std::string> text = given->value.Render(Value::Object(std::move(context)));
    if (!text.ok()) {
      return InvalidArgument("node \"{}\": argument \"{}\": {}", call.full_name, input.name(), Message(text.status()));
    }
    inputs.emplace_back(input.name(), Value::String(*std::move(text)));
  }
  return inputs;
}

int32_t Variables::RoundAt(int32_t node) const {
  for (int32_t up = graph_.node(node).parent; up != graph_.node(node).scope; up = graph_.node(up).parent) {
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
  return InvalidArgument("node \"{}\": {} \"{}\": {}", graph_.node(node).full_name, field, source, Message(why));
}

// What conditions read of a judge, a check, or a speak that gives labels or fields.
Value Variables::AboutNode(const CompiledNode& node) const {
  const NodeState& state = values_.node(node.index);
  if (node.kind == NodeKind::kJudge || node.kind == NodeKind::kCheck) {
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
  Entries entries = {{"count", Value::Int(static_cast<int64_t>(state.utterances.size()))}};
  if (!groups.empty()) entries.emplace_back("label", Value::String(groups.front().answer));
  const auto read = std::find_if(state.utterances.begin(), state.utterances.end(),
                                 [this](int32_t id) { return !values_.utterance(id).fields.IsMissing(); });
  entries.emplace_back("fields", read == state.utterances.end() ? Value::Object({}) : values_.utterance(*read).fields);
  return Value::Object(std::move(entries));
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
      entries.emplace_back("inputs", Value::Object(InputsAt(node)));
    } else if (const CompiledNode* read = graph_.FindIn(graph_.node(node).scope, head); read != nullptr) {
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
Value Variables::AboutUtterance(int32_t node, const Expression& expression, const Utterance& utterance) const {
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
    if (const CompiledNode* assessor = graph_.FindIn(graph_.node(node).scope, head); assessor != nullptr) {
      const Assessment* found = utterance.By(assessor->index);
      Entries said = AboutJudgements(assessor->index, found == nullptr ? Assessment() : *found);
      const auto reads = [&](const char* part) {
        return Contains(expression.paths(), fmt::format("{}.{}", head, part));
      };
      if (reads("made") || reads("open") || reads("proved") || reads("ready") || reads("tried")) {
        AddWork(*assessor, utterance, &said);
      }
      entries.emplace_back(head, Value::Object(std::move(said)));
    }
  }
  return Value::Object(std::move(entries));
}

// What one judge or check said of one utterance.
Entries Variables::AboutJudgements(int32_t judge, const Assessment& said) const {
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
  return {{"mean_score", Value::Float(said.MeanScore())},
          {"accepts", Value::Int(said.accepts)},
          {"rejects", Value::Int(said.rejects)},
          {"wins", Value::Int(said.wins)},
          {"shown", Value::Int(said.scored)},
          {"lowest", Value::Float(lowest)},
          {"valid", Value::Int(valid)},
          {"valid_at_lowest", Value::Int(valid_at_lowest)},
          {"passed", Value::Int(said.passed ? 1 : 0)}};
}

std::vector<bool> Variables::Proved(int32_t judge) const {
  std::vector<bool> proved(values_.utterances.size());
  for (const Utterance& made : values_.utterances) {
    const Assessment* said = made.By(judge);
    if (made.about >= 0 && said != nullptr && said->Accepted()) proved[static_cast<size_t>(made.about)] = true;
  }
  // New plans come after what they replace, so that one walk backwards carries everything up.
  for (size_t id = values_.utterances.size(); id-- > 0;) {
    const Utterance& item = values_.utterances[id];
    if (proved[id] && item.last_item && item.about >= 0) proved[static_cast<size_t>(item.about)] = true;
  }
  return proved;
}

void Variables::AddWork(const CompiledNode& node, const Utterance& utterance, Entries* entries) const {
  int64_t made = 0, tried = 0, accepted = 0;
  for (const Utterance& other : values_.utterances) {
    if (other.about != utterance.id || other.dropped) continue;
    if (other.node == node.index) ++made;
    const Assessment* said = other.By(node.index);
    if (said == nullptr) continue;
    ++tried;
    if (said->Accepted()) ++accepted;
  }
  entries->emplace_back("made", Value::Int(made));
  entries->emplace_back("tried", Value::Int(tried));
  if (node.kind != NodeKind::kJudge) return;
  const std::vector<bool> proved = Proved(node.index);
  const bool open = !utterance.item.empty() && !proved[static_cast<size_t>(utterance.id)];
  const bool ready = open && std::all_of(utterance.needs.begin(), utterance.needs.end(),
                                         [&](int32_t need) { return proved[static_cast<size_t>(need)]; });
  if (!open && !utterance.item.empty()) accepted = std::max<int64_t>(accepted, 1);
  entries->emplace_back("proved", Value::Int(accepted));
  entries->emplace_back("open", Value::Bool(open));
  entries->emplace_back("ready", Value::Bool(ready));
}

absl::StatusOr<double> Variables::Weigh(int32_t node, const char* field, const Utterance& utterance) const {
  const std::optional<Expression>& expression = graph_.node(node).expression;
  double weight = MemberWeight(utterance);
  if (expression.has_value()) {
    absl::StatusOr<Value> value = expression->Evaluate(AboutUtterance(node, *expression, utterance));
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
  const absl::StatusOr<Value> value = where->Evaluate(AboutUtterance(node, *where, utterance));
  if (!value.ok()) return Failed(node, "where", where->source(), value.status());
  return value->Truthy();
}

absl::StatusOr<std::string> Variables::Expected(int32_t check) const {
  const CompiledNode& node = graph_.node(check);
  absl::StatusOr<std::string> text = node.expected->Render(
      Value::Object({{"inputs", Value::Object(InputsAt(check))}, {"round", Value::Int(RoundAt(check))}}));
  if (!text.ok()) return Failed(check, "expected", "", text.status());
  return text;
}

}  // namespace conclave::orchestrator
