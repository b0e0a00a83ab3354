// SPDX-License-Identifier: Apache-2.0
// Graphviz and Mermaid: both draw frames as nested blocks, so the two differ in words only.
#include <fmt/format.h>

#include <algorithm>

#include "orchestrator/graph/draw.h"
#include "orchestrator/graph/drawing.h"

namespace conclave::orchestrator {
namespace {

constexpr size_t kDetailCharacters = 60;

std::string DotEscaped(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    if (static_cast<uint8_t>(c) >= 0x20) out += c;
  }
  return out;
}

// Of a node, for the pictures' own languages. Names have no hyphen, so that no two are the same.
std::string Id(const CompiledNode& node) {
  std::string id = node.full_name;
  std::replace(id.begin(), id.end(), '.', '-');
  return id;
}

std::string Label(const CompiledNode& node, const CompiledGraph& graph, std::string (*escape)(std::string_view),
                  std::string_view line_break) {
  std::string label = fmt::format("{}{}{}", node.name, line_break, NodeKindName(node.kind));
  for (const std::string& detail : DetailsOf(node, graph)) {
    label += fmt::format("{}{}", line_break, escape(Shorten(detail, kDetailCharacters)));
  }
  return label;
}

// The nodes of a sequence and, indented, of the frames among them. Depth is bounded by kGraphDepthMax.
template <typename Box, typename Open>
void PutSequence(const CompiledGraph& graph, int32_t sequence, int depth, std::string_view close, const Box& box,
                 const Open& open, std::string* out) {
  if (sequence < 0) return;
  const std::string indent(static_cast<size_t>(depth) * 2, ' ');
  for (const int32_t index : graph.sequence(sequence).nodes) {
    const CompiledNode& node = graph.node(index);
    if (!IsFrame(node)) {
      *out += indent + box(node) + "\n";
      continue;
    }
    *out += indent + open(node) + "\n";
    for (const int32_t inner : {node.body, node.then, node.otherwise}) {
      PutSequence(graph, inner, depth + 1, close, box, open, out);
    }
    *out += indent + std::string(close) + "\n";
  }
}

// Inside a Graphviz cluster a line ends at a node: the first one that is no frame.
const CompiledNode& Anchor(const CompiledGraph& graph, int32_t index) {
  const CompiledNode* node = &graph.node(index);
  while (IsFrame(*node)) node = &graph.nodes()[static_cast<size_t>(node->index) + 1];
  return *node;
}

}  // namespace

std::string DrawDot(const CompiledGraph& graph) {
  std::string out = fmt::format(
      "digraph {} {{\n  compound=true; rankdir=TB; nodesep=0.35; fontname=\"sans-serif\";\n"
      "  node [shape=box style=\"rounded,filled\" fontname=\"sans-serif\" fontsize=11];\n"
      "  edge [fontname=\"sans-serif\" fontsize=9 color=\"#5b6570\"];\n",
      "\"" + DotEscaped(graph.name()) + "\"");
  PutSequence(
      graph, 0, 1, "}",
      [&](const CompiledNode& node) {
        const KindColours colours = ColoursOf(node.kind);
        return fmt::format("\"{}\" [label=\"{}\" fillcolor=\"{}\" color=\"{}\"];", Id(node),
                           Label(node, graph, DotEscaped, "\\n"), colours.fill, colours.edge);
      },
      [&](const CompiledNode& node) {
        return fmt::format("subgraph \"cluster_{}\" {{ label=\"{}\"; color=\"{}\"; style=rounded;", Id(node),
                           Label(node, graph, DotEscaped, "\\n"), ColoursOf(node.kind).edge);
      },
      &out);
  for (const DrawnLine& line : LinesOf(graph)) {
    if (line.from_inside || (line.kind == LineKind::kNextRound && IsFrame(graph.node(line.to)))) continue;
    std::string style = line.kind == LineKind::kSees    ? "style=dashed"
                        : line.kind == LineKind::kValue ? "style=solid"
                                                        : "style=dotted constraint=false";
    if (!line.label.empty()) style += fmt::format(" label=\"{}\"", DotEscaped(line.label));
    if (IsFrame(graph.node(line.from))) style += fmt::format(" ltail=\"cluster_{}\"", Id(graph.node(line.from)));
    if (IsFrame(graph.node(line.to))) style += fmt::format(" lhead=\"cluster_{}\"", Id(graph.node(line.to)));
    out += fmt::format("  \"{}\" -> \"{}\" [{}];\n", Id(Anchor(graph, line.from)), Id(Anchor(graph, line.to)), style);
  }
  return out + "}\n";
}

std::string DrawMermaid(const CompiledGraph& graph) {
  std::string out = "flowchart TB\n";
  PutSequence(
      graph, 0, 1, "end",
      [&](const CompiledNode& node) {
        return fmt::format("n_{}[\"{}\"]:::{}", Id(node), Label(node, graph, XmlEscaped, "<br/>"),
                           NodeKindName(node.kind));
      },
      [&](const CompiledNode& node) {
        return fmt::format("subgraph n_{}[\"{}\"]", Id(node), Label(node, graph, XmlEscaped, "<br/>"));
      },
      &out);
  for (const DrawnLine& line : LinesOf(graph)) {
    // A frame cannot be joined to what it contains; its label says the rest.
    if (line.from_inside || (line.kind == LineKind::kNextRound && IsFrame(graph.node(line.to)))) continue;
    const std::string_view arrow = line.kind == LineKind::kValue  ? "-->"
                                   : line.kind == LineKind::kSees ? "-.->"
                                                                  : "-..->";
    const std::string label = line.label.empty() ? "" : fmt::format("|\"{}\"|", XmlEscaped(line.label));
    out += fmt::format("  n_{} {}{} n_{}\n", Id(graph.node(line.from)), arrow, label, Id(graph.node(line.to)));
  }
  for (const NodeKind kind : {NodeKind::kSpeak, NodeKind::kJudge, NodeKind::kPick, NodeKind::kCheck}) {
    const KindColours colours = ColoursOf(kind);
    out +=
        fmt::format("  classDef {} fill:{},stroke:{},color:#1c232b\n", NodeKindName(kind), colours.fill, colours.edge);
  }
  return out;
}

}  // namespace conclave::orchestrator
