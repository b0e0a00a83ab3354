// SPDX-License-Identifier: Apache-2.0
// First step: the tree of nodes as it is written, with every name and number checked by itself.
#include <algorithm>
#include <set>

#include "common/status.h"
#include "orchestrator/graph/graph_compiler.h"
#include "orchestrator/graph/limits.h"
#include "orchestrator/ledger/budget.h"

namespace conclave::orchestrator {
namespace {

namespace pb = deliberation::v1;

bool IsLower(char c) { return (c >= 'a' && c <= 'z'); }
bool IsWordRest(char c) { return IsLower(c) || (c >= '0' && c <= '9') || c == '_'; }

bool IsIdentifier(std::string_view name, bool underscore_first) {
  if (name.empty() || name.size() > 64) return false;
  if (!IsLower(name[0]) && !(underscore_first && name[0] == '_')) return false;
  return std::all_of(name.begin(), name.end(), IsWordRest);
}

// Words of the expression language and names that mean something else in prompts.
const std::set<std::string, std::less<>>& ReservedWords() {
  static const std::set<std::string, std::less<>> words = {
      "and",         "or",        "not",       "in",         "is",         "if",
      "elif",        "else",      "for",       "true",       "false",      "none",
      "loop",        "self",      "set",       "round",      "votes",      "inputs",
      "member",      "sample",    "seen",      "range",      "dict",       "namespace",
      "text_length", "caller",    "varargs",   "kwargs",     "super",      "cycler",
      "joiner",      "lipsum",    "candidate", "candidates", "likelihood", "token_confidence",
      "confidence",  "own_score", "subject"};
  return words;
}

}  // namespace

bool IsGraphName(std::string_view name) {
  return !name.empty() && name.size() <= 64 &&
         std::all_of(name.begin(), name.end(), [](char c) { return IsWordRest(c) || c == '-'; });
}

void GraphCompiler::CheckHead() {
  const pb::Graph& graph = proto();
  if (!IsGraphName(graph.name())) {
    errors_.Add(lines_.LineOf(graph, "name"),
                fmt::format("graph name \"{}\"; a name has 1 to 64 characters of a-z 0-9 _ -", graph.name()));
  }
  if (graph.node().empty()) errors_.Add(lines_.line(), "the graph has no nodes; add a node");
  BudgetAccount account;
  if (absl::Status status = account.AddLimit("graph", graph.budget()); !status.ok()) {
    errors_.Add(lines_.LineOf(graph, "budget"), std::string(Message(status)));
  }
  const std::string grader = graph.equivalence().empty() ? "gsm8k" : graph.equivalence();
  absl::StatusOr<std::unique_ptr<const grade::Grader>> made = grade::MakeGrader(grader);
  if (made.ok()) {
    graph_->grader_ = *std::move(made);
  } else {
    errors_.Add(lines_.LineOf(graph, "equivalence"), fmt::format("equivalence: {}", Message(made.status())));
  }
  graph_->needs_seeds_ = graph.needs_seeds();
  CheckInputs(graph, lines_);
}

void GraphCompiler::CheckInputs(const pb::Graph& graph, const FieldLines& lines) {
  if (graph.input_size() > kGraphInputsMax) {
    errors_.Add(lines.LineOf(graph, "input", kGraphInputsMax),
                fmt::format("{} inputs, at most {} allowed", graph.input_size(), kGraphInputsMax));
  }
  std::set<std::string> seen;
  for (int i = 0; i < graph.input_size(); ++i) {
    const std::string& name = graph.input(i).name();
    const int line = lines.LineOf(graph, "input", i);
    if (!IsIdentifier(name, true)) {
      errors_.Add(line, fmt::format("input \"{}\"; a name is [a-z_][a-z0-9_]*, at most 64 characters", name));
    } else if (ReservedWords().contains(name) || name.starts_with("seen_")) {
      errors_.Add(line, fmt::format("input \"{}\": the name means something else in prompts; take another", name));
    } else if (!seen.insert(name).second) {
      errors_.Add(line, fmt::format("input \"{}\" is declared twice; remove one", name));
    }
  }
}

int32_t GraphCompiler::AddSequence(Nodes* nodes, const std::vector<FieldLines>& lines, int32_t owner, int depth) {
  const auto index = static_cast<int32_t>(graph_->sequences_.size());
  graph_->sequences_.emplace_back().owner = owner;
  for (int i = 0; i < nodes->size(); ++i) AddNode(nodes->Mutable(i), lines[static_cast<size_t>(i)], index, depth);
  return index;
}

void GraphCompiler::AddNode(pb::Node* proto, FieldLines lines, int32_t in, int depth) {
  if (++node_count_ > kGraphNodesMax) {
    if (node_count_ == kGraphNodesMax + 1) {
      errors_.Add(
          lines.line(),
          fmt::format("node \"{}\" is one too many; a graph has at most {} nodes, bodies and called graphs included",
                      proto->name(), kGraphNodesMax));
    }
    return;
  }
  const auto index = static_cast<int32_t>(graph_->nodes_.size());
  CompiledNode& added = graph_->nodes_.emplace_back();
  added.index = index;
  added.name = proto->name();
  added.sequence = in;
  added.parent = sequence(in).owner;
  if (added.parent != kNoNode) {
    const CompiledNode& around = node(added.parent);
    added.scope = around.kind == NodeKind::kCall ? around.index : around.scope;
  }
  added.full_name = added.scope == kNoNode ? added.name : node(added.scope).full_name + "." + added.name;
  added.line = lines.line();
  sources_.push_back({proto, lines, {}, static_cast<int>(sequence(in).nodes.size()), {}});
  sequence(in).nodes.push_back(index);
  CheckName(index);
  if (depth > kGraphDepthMax) {
    Report(index, lines.line(), "nested {} deep, at most {} allowed; make the inner part simpler", depth,
           kGraphDepthMax);
    return;
  }
  switch (proto->kind_case()) {
    case pb::Node::kSpeak:
      return FillSpeak(index);
    case pb::Node::kJudge:
      return FillJudge(index);
    case pb::Node::kPick:
      return FillPick(index);
    case pb::Node::kCheck:
      return FillCheck(index);
    case pb::Node::kLoop:
      return FillLoop(index, depth);
    case pb::Node::kBranch:
      return FillBranch(index, depth);
    case pb::Node::kCall:
      return FillCall(index, depth);
    case pb::Node::KIND_NOT_SET:
      Report(index, lines.line(), "no kind; add one of speak, judge, pick, check, loop, branch, call");
  }
}

void GraphCompiler::CheckName(int32_t index) {
  const std::string& name = node(index).name;
  const int line = source(index).lines.LineOf(*source(index).proto, "name");
  if (!IsIdentifier(name, false)) {
    Report(index, line, "a name is [a-z][a-z0-9_]*, at most 64 characters; rename it");
    return;
  }
  if (ReservedWords().contains(name)) Report(index, line, "the name is a word of the expression language; rename it");
  for (const CompiledNode& other : graph_->nodes_) {
    if (other.index != index && other.scope == node(index).scope && other.name == name) {
      Report(index, line, "the name is taken by the node of line {}; rename one", other.line);
      return;
    }
  }
}

void GraphCompiler::FillPick(int32_t index) {
  const pb::Pick& pick = source(index).proto->pick();
  source(index).kind = source(index).lines.In(*source(index).proto, "pick");
  node(index).kind = NodeKind::kPick;
  node(index).by = pick.by();
  if (pick.by() == pb::Pick::BY_UNSPECIFIED || !pb::Pick::By_IsValid(pick.by())) {
    Report(index, source(index).kind.LineOf(pick, "by"),
           "no rule; add by: MAJORITY, WEIGHTED_VOTE, BEST_OF_N, FIRST, AB_MCTS_M or AB_MCTS_A");
  }
  if (pick.also_size() > kAlsoMax) {
    Report(index, source(index).kind.LineOf(pick, "also", kAlsoMax), "{} nodes in also, at most {} allowed",
           pick.also_size(), kAlsoMax);
  }
  const bool searches = node(index).searches();
  if (searches && pick.weight().empty()) {
    Report(index, source(index).kind.line(), "{} needs rewards; add weight: \"..\", in [0, 1]",
           pb::Pick::By_Name(pick.by()));
  }
  const bool ordered = searches || pick.by() == pb::Pick::BEST_OF_N || pick.by() == pb::Pick::FIRST;
  node(index).keep = pick.keep() == 0 ? 1 : pick.keep();
  if (pick.keep() < 0 || pick.keep() > kKeepMax) {
    Report(index, source(index).kind.LineOf(pick, "keep"), "keep is {}; 1 to {} allowed", pick.keep(), kKeepMax);
  } else if (node(index).keep > 1 && !ordered) {
    Report(index, source(index).kind.LineOf(pick, "keep"), "keep has no meaning for {}; use BEST_OF_N or FIRST",
           pb::Pick::By_Name(pick.by()));
  }
  const bool weighs = searches || pick.by() == pb::Pick::WEIGHTED_VOTE || pick.by() == pb::Pick::BEST_OF_N;
  if (!weighs && !pick.weight().empty()) {
    Report(index, source(index).kind.LineOf(pick, "weight"),
           "weight has no meaning for {}; remove it or use WEIGHTED_VOTE", pb::Pick::By_Name(pick.by()));
  }
}

void GraphCompiler::FillCheck(int32_t index) {
  const pb::Check& check = source(index).proto->check();
  source(index).kind = source(index).lines.In(*source(index).proto, "check");
  node(index).kind = NodeKind::kCheck;
  node(index).checker = check.checker();
  if (check.checker() == pb::Check::CHECKER_UNSPECIFIED || !pb::Check::Checker_IsValid(check.checker())) {
    Report(index, source(index).kind.LineOf(check, "checker"), "no checker; add checker: ARITHMETIC or EXACT");
  }
  if (check.checker() == pb::Check::EXACT && check.expected().empty()) {
    Report(index, source(index).kind.line(), "EXACT compares with nothing; add expected: \"{{{{ inputs.NAME }}}}\"");
  }
  if (check.checker() == pb::Check::ARITHMETIC && !check.expected().empty()) {
    Report(index, source(index).kind.LineOf(check, "expected"), "ARITHMETIC expects nothing; remove expected");
  }
}

void GraphCompiler::FillLoop(int32_t index, int depth) {
  pb::Loop& loop = *source(index).proto->mutable_loop();
  const FieldLines kind = source(index).kind = source(index).lines.In(*source(index).proto, "loop");
  node(index).kind = NodeKind::kLoop;
  node(index).max_rounds = loop.max_rounds();
  if (loop.max_rounds() == 0) {
    Report(index, kind.line(), "no bound; add max_rounds: 1 to {}", kLoopRoundsMax);
  } else if (loop.max_rounds() < 0 || loop.max_rounds() > kLoopRoundsMax) {
    Report(index, kind.LineOf(loop, "max_rounds"), "max_rounds is {}; 1 to {} allowed", loop.max_rounds(),
           kLoopRoundsMax);
  }
  if (loop.body().empty()) Report(index, kind.line(), "the body is empty; add body {{ .. }}");
  std::vector<FieldLines> lines;
  for (int i = 0; i < loop.body_size(); ++i) lines.push_back(kind.In(loop, "body", i));
  const int32_t body = AddSequence(loop.mutable_body(), lines, index, depth + 1);
  node(index).body = body;
}

void GraphCompiler::FillBranch(int32_t index, int depth) {
  pb::Branch& branch = *source(index).proto->mutable_branch();
  const FieldLines kind = source(index).kind = source(index).lines.In(*source(index).proto, "branch");
  node(index).kind = NodeKind::kBranch;
  if (branch.condition().empty()) Report(index, kind.line(), "no condition; add condition: \"..\"");
  if (branch.then().empty() && branch.otherwise().empty()) {
    Report(index, kind.line(), "both bodies are empty; add then {{ .. }}");
  }
  for (const bool taken : {true, false}) {
    Nodes* const nodes = taken ? branch.mutable_then() : branch.mutable_otherwise();
    const char* field = taken ? "then" : "otherwise";
    if (nodes->empty()) {
      if (branch.otherwise_value().empty()) {
        Report(index, kind.line(), "{} is empty; add nodes, or otherwise_value: an earlier node", field);
      }
      continue;
    }
    std::vector<FieldLines> lines;
    for (int i = 0; i < nodes->size(); ++i) lines.push_back(kind.In(branch, field, i));
    const int32_t arm = AddSequence(nodes, lines, index, depth + 1);
    (taken ? node(index).then : node(index).otherwise) = arm;
  }
}

}  // namespace conclave::orchestrator
