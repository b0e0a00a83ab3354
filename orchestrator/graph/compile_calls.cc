// SPDX-License-Identifier: Apache-2.0
// Graphs in the graph: found, checked where they differ from one that stands alone, and compiled in their place.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <filesystem>

#include "common/file.h"
#include "common/status.h"
#include "orchestrator/graph/graph_compiler.h"
#include "orchestrator/graph/limits.h"
#include "orchestrator/ledger/budget.h"

namespace conclave::orchestrator {
namespace {

namespace pb = deliberation::v1;

const pb::Input* FindInput(const pb::Graph& graph, std::string_view name) {
  for (const pb::Input& input : graph.input()) {
    if (input.name() == name) return &input;
  }
  return nullptr;
}

std::string EquivalenceOf(const pb::Graph& graph) {
  return graph.equivalence().empty() ? "gsm8k" : graph.equivalence();
}

}  // namespace

FindGraph GraphsIn(std::vector<std::string> directories) {
  return [directories = std::move(directories)](const std::string& name) -> absl::StatusOr<pb::Graph> {
    if (!IsGraphName(name)) return NotFound("a name has 1 to 64 characters of a-z 0-9 _ -");
    for (const std::string& directory : directories) {
      const std::string path = fmt::format("{}/{}.textproto", directory, name);
      const absl::StatusOr<std::string> text = ReadFile(path, kTextprotoBytesMax);
      if (absl::IsNotFound(text.status())) continue;
      if (!text.ok()) return text.status();
      pb::Graph graph;
      const ParsedText parsed = ParseTextproto(*text, &graph);
      if (!parsed.errors.empty()) {
        return InvalidArgument("{}:{}: {}", path, parsed.errors[0].line, parsed.errors[0].message);
      }
      return graph;
    }
    return NotFound("no {}.textproto in {}", name, fmt::join(directories, ", "));
  };
}

const pb::Graph& GraphCompiler::ProtoAround(int32_t index) const { return graph_->ProtoOf(graph_->node(index).scope); }

// Puts the called graph in, unless it is there; false when there is none or it must not be called.
bool GraphCompiler::FindCalled(int32_t index) {
  pb::Call& call = *source(index).proto->mutable_call();
  const FieldLines& kind = source(index).kind;
  const int line = kind.LineOf(call, "graph");
  if (call.graph().empty()) {
    Report(index, line, "calls no graph; add graph: a name of the library");
    return false;
  }
  std::vector<std::string> chain = {call.graph()};  // from the inside out
  for (int32_t up = node(index).scope; up != kNoNode; up = node(up).scope) chain.push_back(node(up).called->name());
  const size_t deep = chain.size();
  chain.push_back(proto().name());
  std::reverse(chain.begin(), chain.end());
  if (std::find(chain.begin(), chain.end() - 1, call.graph()) != chain.end() - 1) {
    Report(index, line, "the calls go in a circle: {}; a graph never calls itself", fmt::join(chain, " calls "));
    return false;
  }
  if (deep > static_cast<size_t>(kCallDepthMax)) {
    Report(index, line, "{}: {} calls deep, at most {} allowed; call less, or copy nodes", fmt::join(chain, " calls "),
           deep, kCallDepthMax);
    return false;
  }
  if (!call.has_called()) {
    absl::StatusOr<pb::Graph> found =
        find_ ? find_(call.graph()) : absl::StatusOr<pb::Graph>(NotFound("there is no library of graphs here"));
    if (!found.ok()) {
      Report(index, line, "calls graph \"{}\": {}", call.graph(), Message(found.status()));
      return false;
    }
    *call.mutable_called() = *std::move(found);
  }
  if (call.called().name() == call.graph()) return true;
  Report(index, line, "calls graph \"{}\", which says that it is \"{}\"; make the names the same", call.graph(),
         call.called().name());
  return false;
}

void GraphCompiler::CheckCalled(int32_t index) {
  const pb::Graph& called = *node(index).called;
  const int line = source(index).kind.LineOf(source(index).proto->call(), "graph");
  if (called.node().empty()) Report(index, line, "graph \"{}\" has no nodes; add a node", called.name());
  BudgetAccount account;
  if (absl::Status status = account.AddLimit(called.name(), called.budget()); !status.ok()) {
    Report(index, line, "{}", Message(status));
  }
  const std::string outside = EquivalenceOf(proto());
  if (!called.equivalence().empty() && called.equivalence() != outside) {
    Report(index, line, "graph \"{}\" compares answers as \"{}\", and here they are compared as \"{}\"; use one",
           called.name(), called.equivalence(), outside);
  }
  graph_->needs_seeds_ |= called.needs_seeds();
}

void GraphCompiler::FillArguments(int32_t index) {
  const pb::Call& call = source(index).proto->call();
  const FieldLines& kind = source(index).kind;
  const pb::Graph& called = call.called();
  std::vector<std::string> known;
  for (const pb::Input& input : called.input()) known.push_back(input.name());
  std::set<std::string> given;
  for (int i = 0; i < call.argument_size(); ++i) {
    const pb::Argument& argument = call.argument(i);
    const int line = kind.LineOf(call, "argument", i);
    if (FindInput(called, argument.name()) == nullptr) {
      Report(index, line, "graph \"{}\" has no input \"{}\"{}", called.name(), argument.name(),
             Suggest(argument.name(), known, "it has"));
      continue;
    }
    if (!given.insert(argument.name()).second) {
      Report(index, line, "argument \"{}\" is given twice; remove one", argument.name());
    }
    if (argument.value().size() > kExpressionBytesMax) {
      Report(index, line, "argument \"{}\" has {} characters, at most {} allowed", argument.name(),
             argument.value().size(), kExpressionBytesMax);
      continue;
    }
    absl::StatusOr<PromptTemplate> value = PromptTemplate::Parse(argument.value());
    if (!value.ok()) {
      Report(index, line, "argument \"{}\": {}", argument.name(), Message(value.status()));
      continue;
    }
    node(index).arguments.push_back({argument.name(), *std::move(value), {}});
  }
  for (const pb::Input& input : called.input()) {
    if (given.contains(input.name()) || input.has_default_value()) continue;
    if (FindInput(ProtoAround(index), input.name()) != nullptr) continue;
    Report(index, kind.line(),
           "graph \"{0}\" needs input \"{1}\", which is no input here; add argument {{ name: \"{1}\" value: \"..\" }}",
           called.name(), input.name());
  }
}

void GraphCompiler::FillCall(int32_t index, int depth) {
  pb::Call& call = *source(index).proto->mutable_call();
  const FieldLines kind = source(index).kind = source(index).lines.In(*source(index).proto, "call");
  node(index).kind = NodeKind::kCall;
  const bool written_here = call.has_called();
  if (!FindCalled(index)) return;
  pb::Graph* const called = call.mutable_called();
  node(index).called = called;
  CheckCalled(index);
  // What is wrong in another file is told at the line that calls it.
  const FieldLines inside = written_here ? kind.In(call, "called") : FieldLines(nullptr, kind.line());
  CheckInputs(*called, inside);
  FillArguments(index);
  std::vector<FieldLines> lines;
  lines.reserve(static_cast<size_t>(called->node_size()));
  for (int i = 0; i < called->node_size(); ++i) lines.push_back(inside.In(*called, "node", i));
  const int32_t body = AddSequence(called->mutable_node(), lines, index, depth + 1);
  node(index).body = body;
}

void GraphCompiler::ResolveCall(int32_t index) {
  const pb::Call& call = source(index).proto->call();
  const FieldLines& kind = source(index).kind;
  for (size_t i = 0; i < node(index).arguments.size(); ++i) {
    const std::string field = fmt::format("argument \"{}\"", node(index).arguments[i].name);
    for (const std::string& name : node(index).arguments[i].value.names()) {
      if (name == "inputs" || name == "round") continue;
      const int32_t read = ResolveUtterances(index, name, kind.LineOf(call, "argument", static_cast<int>(i)), field);
      if (read != kNoNode) node(index).arguments[i].nodes.emplace_back(name, read);
    }
  }
  if (node(index).body < 0 || sequence(node(index).body).nodes.empty()) return;
  std::string why;
  node(index).yields = FindResult(node(index).body, call.called().result(), &why);
  if (!why.empty()) Report(index, kind.LineOf(call, "graph"), "graph \"{}\": {}", call.graph(), why);
}

}  // namespace conclave::orchestrator
