// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/graph/drawing.h"

#include <fmt/format.h>

#include <algorithm>

namespace conclave::orchestrator {
namespace {

namespace pb = deliberation::v1;

// Whether `reader` reads `target` of the round before: both are inside one loop's body and the target does not run
// first.
bool IsRoundBefore(const CompiledGraph& graph, int32_t reader, int32_t target) {
  for (int32_t at = reader; at != kNoNode; at = graph.node(at).parent) {
    if (graph.node(at).sequence != graph.node(target).sequence) continue;
    const std::vector<int32_t>& order = graph.sequence(graph.node(at).sequence).nodes;
    return std::find(order.begin(), order.end(), target) >= std::find(order.begin(), order.end(), at);
  }
  return false;
}

std::string SeesLabel(const CompiledSees& sees) {
  std::vector<std::string> parts;
  if (sees.part == pb::Sees::ANSWER) parts.emplace_back("answer");
  if (sees.part == pb::Sees::SCORE) parts.emplace_back("score");
  if (sees.part == pb::Sees::FULL) parts.emplace_back("with reasoning");
  if (sees.own) parts.emplace_back("own");
  if (sees.others) parts.emplace_back("others'");
  if (sees.anonymous) parts.emplace_back("anonymous");
  if (sees.shuffle) parts.emplace_back("shuffled");
  if (sees.among == pb::Sees::RING) parts.emplace_back("neighbours'");
  if (sees.among == pb::Sees::STAR) parts.emplace_back("through the first");
  if (sees.of_subject) parts.emplace_back("of the same");
  if (sees.memory > 1) parts.push_back(fmt::format("of {} rounds", sees.memory));
  if (sees.limit > 0) parts.push_back(fmt::format("{} {}", sees.lowest ? "worst" : "best", sees.limit));
  return fmt::format("{}", fmt::join(parts, ", "));
}

}  // namespace

bool IsFrame(const CompiledNode& node) {
  return node.kind == NodeKind::kLoop || node.kind == NodeKind::kBranch || node.kind == NodeKind::kCall;
}

std::string PlaceOf(const CompiledNode& node, const CompiledGraph& graph) {
  std::string place = node.name;
  for (int32_t up = node.parent; up != kNoNode; up = graph.node(up).parent) place.insert(0, graph.node(up).name + ".");
  return place;
}

std::vector<DrawnLine> LinesOf(const CompiledGraph& graph) {
  std::vector<DrawnLine> lines;
  for (const CompiledNode& node : graph.nodes()) {
    const auto add = [&](int32_t from, LineKind kind, std::string label) {
      if (from == kNoNode) return;
      const bool inside = graph.IsInside(node.index, from);
      if (!inside && IsRoundBefore(graph, node.index, from)) kind = LineKind::kNextRound;
      lines.push_back({from, node.index, kind, std::move(label), inside});
    };
    add(node.of, LineKind::kValue, "");
    for (const int32_t also : node.also) add(also, LineKind::kValue, "");
    add(node.over, LineKind::kValue, "");
    add(node.each, LineKind::kValue, "each");
    add(node.otherwise_value, LineKind::kValue, "otherwise");
    for (const CompiledSees& sees : node.sees) add(sees.node, LineKind::kSees, SeesLabel(sees));
    for (const CompiledArgument& argument : node.arguments) {
      for (const auto& [name, read] : argument.nodes) add(read, LineKind::kSees, argument.name);
    }
    if (node.kind == NodeKind::kLoop && node.yields != kNoNode)
      lines.push_back({node.yields, node.index, LineKind::kNextRound, "next round", false});
  }
  return lines;
}

std::vector<std::string> DetailsOf(const CompiledNode& node, const CompiledGraph& graph) {
  std::vector<std::string> details;
  switch (node.kind) {
    case NodeKind::kSpeak:
    case NodeKind::kJudge: {
      std::string who = fmt::format("{}: {}", node.role->proto.name(), fmt::join(node.members, ", "));
      if (node.samples > 1) who += fmt::format(" \u00d7 {}", node.samples);
      details.push_back(std::move(who));
      if (node.stop.has_value()) {
        const std::string rule = node.stop->rule() == pb::Stopping::WINDOW
                                     ? fmt::format("until {} agree", node.wave)
                                     : fmt::format("until {} sure, {} at a time", node.stop->confidence(), node.wave);
        details.push_back(rule);
      }
      if (node.assign == pb::Speak::TURNS) details.emplace_back("members in turn");
      if (node.assign == pb::Speak::UCB) details.push_back("the best member by " + node.expression->source());
      if (node.strict) details.emplace_back("all must accept");
      if (node.follow) details.emplace_back("in the same conversation");
      if (node.only_self) details.emplace_back("everybody judges itself");
      if (node.kind == NodeKind::kJudge && node.where.has_value()) details.push_back("where " + node.where->source());
      if (node.quorum > 0) details.push_back(fmt::format("quorum {}", node.quorum));
      if (node.hedges()) details.emplace_back("a second worker for stragglers");
      if (node.kind == NodeKind::kJudge && node.method == pb::Judge::P_TRUE) details.emplace_back("P(true)");
      if (node.method == pb::Judge::PAIRS) details.emplace_back("every two, in both orders");
      if (node.method == pb::Judge::CHOICE || node.method == pb::Judge::RANKING) {
        details.push_back(fmt::format("{} of {}", node.method == pb::Judge::CHOICE ? "best" : "order",
                                      node.window == 0 ? "all" : std::to_string(node.window)));
      }
      if (node.exclude_self) details.emplace_back("nobody judges itself");
      break;
    }
    case NodeKind::kPick: {
      std::string rule = pb::Pick::By_Name(node.by);
      std::transform(rule.begin(), rule.end(), rule.begin(),
                     [](char c) { return c == '_' ? ' ' : static_cast<char>(std::tolower(c)); });
      details.push_back(std::move(rule));
      if (node.expression.has_value()) details.push_back("weight " + node.expression->source());
      if (node.where.has_value()) details.push_back("where " + node.where->source());
      if (node.keep > 1) details.push_back(fmt::format("keeps {}", node.keep));
      break;
    }
    case NodeKind::kCheck:
      details.emplace_back(node.checker == pb::Check::EXACT ? "exact" : "arithmetic");
      break;
    case NodeKind::kLoop:
      details.push_back(fmt::format("at most {} rounds", node.max_rounds));
      if (node.expression.has_value()) details.push_back("until " + node.expression->source());
      break;
    case NodeKind::kBranch:
      if (node.expression.has_value()) details.push_back("if " + node.expression->source());
      break;
    case NodeKind::kCall:
      details.push_back("graph " + node.called->name());
      if (node.called->budget().has_calls()) details.push_back(fmt::format("{} calls", node.called->budget().calls()));
      break;
  }
  if (node.when.has_value()) details.push_back("when " + node.when->source());
  if (node.index == graph.result()) details.emplace_back("result");
  if (node.scope != kNoNode && graph.node(node.scope).yields == node.index) {
    details.push_back("result of " + graph.node(node.scope).name);
  }
  return details;
}

KindColours ColoursOf(NodeKind kind) {
  switch (kind) {
    case NodeKind::kSpeak:
      return {"#e8f1fb", "#2f6fb3"};
    case NodeKind::kJudge:
      return {"#fdf0dc", "#b9770e"};
    case NodeKind::kPick:
      return {"#e6f5ea", "#2e8b4f"};
    case NodeKind::kCheck:
      return {"#f3ecfa", "#7b4fb0"};
    case NodeKind::kLoop:
      return {"#fafbfc", "#8a94a0"};
    case NodeKind::kBranch:
      return {"#fdfaf3", "#a08c5a"};
    case NodeKind::kCall:
      return {"#f2f6f6", "#4a8a8c"};
  }
  return {"#ffffff", "#000000"};
}

std::string Shorten(std::string_view text, size_t characters) {
  if (text.size() <= characters) return std::string(text);
  size_t end = characters - 2;
  while (end > 0 && (static_cast<uint8_t>(text[end]) & 0xc0) == 0x80) --end;  // not inside a character
  return std::string(text.substr(0, end)) + "..";
}

std::string XmlEscaped(std::string_view text) {
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      default:
        if (static_cast<uint8_t>(c) >= 0x20) out += c;
    }
  }
  return out;
}

}  // namespace conclave::orchestrator
