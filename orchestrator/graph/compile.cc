// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/graph/compile.h"

#include <set>
#include <utility>

#include "common/status.h"
#include "orchestrator/graph/graph_compiler.h"

namespace conclave::orchestrator {
namespace {

CompileResult Run(const deliberation::v1::Graph& graph, FieldLines lines, const std::string& file,
                  const RoleLibrary& roles, const FindGraph& find) {
  GraphCompiler compiler(graph, lines, file, roles, find);
  CompileResult result;
  result.graph = compiler.Compile();
  result.errors = compiler.diagnostics().Sorted();
  return result;
}

}  // namespace

std::string_view NodeKindName(NodeKind kind) {
  switch (kind) {
    case NodeKind::kSpeak:
      return "speak";
    case NodeKind::kJudge:
      return "judge";
    case NodeKind::kPick:
      return "pick";
    case NodeKind::kCheck:
      return "check";
    case NodeKind::kLoop:
      return "loop";
    case NodeKind::kBranch:
      return "branch";
    case NodeKind::kCall:
      return "call";
  }
  return "";
}

const CompiledNode* CompiledGraph::Find(std::string_view full_name) const {
  for (const CompiledNode& node : nodes_) {
    if (node.full_name == full_name) return &node;
  }
  return nullptr;
}

const CompiledNode* CompiledGraph::FindIn(int32_t scope, std::string_view name) const {
  for (const CompiledNode& node : nodes_) {
    if (node.scope == scope && node.name == name) return &node;
  }
  return nullptr;
}

bool CompiledGraph::IsInside(int32_t index, int32_t container) const {
  int32_t up = node(index).parent;
  while (up != kNoNode && up != container) up = node(up).parent;
  return up != kNoNode;
}

std::vector<std::string> CompiledGraph::MemberNames() const {
  std::set<std::string> names;
  for (const CompiledNode& node : nodes_) names.insert(node.members.begin(), node.members.end());
  return {names.begin(), names.end()};
}

GraphCompiler::GraphCompiler(const deliberation::v1::Graph& graph, FieldLines lines, std::string file,
                             const RoleLibrary& roles, const FindGraph& find)
    : lines_(lines), roles_(roles), find_(find), errors_(std::move(file)) {
  *graph_->bundle_.mutable_graph() = graph;
}

std::shared_ptr<const CompiledGraph> GraphCompiler::Compile() {
  CheckHead();
  Nodes* const nodes = graph_->bundle_.mutable_graph()->mutable_node();
  std::vector<FieldLines> lines;
  for (int i = 0; i < nodes->size(); ++i) lines.push_back(lines_.In(proto(), "node", i));
  AddSequence(nodes, lines, kNoNode, 1);
  ResolveNames();
  CompileScripts();
  OrderSequences();
  // What is reachable means nothing while names lead nowhere.
  if (errors_.empty()) CheckReach();
  CheckSize();
  if (!errors_.empty()) return nullptr;
  Seal();
  return graph_;
}

absl::StatusOr<std::shared_ptr<const CompiledGraph>> CompileResult::ToStatusOr() && {
  if (graph == nullptr) return InvalidArgument("{}", fmt::join(errors, "\n"));
  return std::move(graph);
}

CompileResult CompileGraphText(std::string_view text, const std::string& file, const RoleLibrary& roles,
                               const FindGraph& find) {
  deliberation::v1::Graph graph;
  const ParsedText parsed = ParseTextproto(text, &graph);
  if (!parsed.errors.empty()) {
    Diagnostics errors(file);
    for (const TextError& error : parsed.errors) errors.Add(error.line, error.message);
    return {nullptr, errors.Sorted()};
  }
  return Run(graph, parsed.lines(), file, roles, find);
}

CompileResult CompileGraph(const deliberation::v1::Graph& graph, const RoleLibrary& roles, const FindGraph& find) {
  const std::string file = graph.name().empty() ? "graph" : fmt::format("graph \"{}\"", graph.name());
  return Run(graph, FieldLines(), file, roles, find);
}

absl::StatusOr<std::shared_ptr<const CompiledGraph>> CompileBundle(std::string_view canonical) {
  deliberation::v1::GraphBundle bundle;
  if (!bundle.ParseFromArray(canonical.data(), static_cast<int>(canonical.size()))) {
    return DataLoss("a stored graph of {} bytes cannot be read", canonical.size());
  }
  RoleLibrary roles;
  for (const deliberation::v1::Role& role : bundle.role()) RETURN_IF_ERROR(roles.Add(role));
  return CompileGraph(bundle.graph(), roles).ToStatusOr();
}

}  // namespace conclave::orchestrator
