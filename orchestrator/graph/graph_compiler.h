// SPDX-License-Identifier: Apache-2.0
// The steps of compiling a graph; private to this folder. Each step reports all it finds; later steps skip what an
// earlier one could not make sense of, so that one mistake is told once.
#pragma once

#include <map>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "orchestrator/graph/compile.h"
#include "orchestrator/graph/compiled_graph.h"
#include "orchestrator/graph/diagnostics.h"
#include "orchestrator/role/role.h"
#include "protos/textproto.h"

namespace conclave::orchestrator {

// 1 to 64 characters of a-z 0-9 _ -.
bool IsGraphName(std::string_view name);

class GraphCompiler {
 public:
  GraphCompiler(const deliberation::v1::Graph& graph, FieldLines lines, std::string file, const RoleLibrary& roles,
                const FindGraph& find);
  // Null when something was reported.
  std::shared_ptr<const CompiledGraph> Compile();
  const Diagnostics& diagnostics() const { return errors_; }

 private:
  // What is known of a node besides its compiled form.
  struct Source {
    deliberation::v1::Node* proto = nullptr;  // in the bundle
    FieldLines lines;                         // of the Node
    FieldLines kind;                          // of its Speak, Judge, ..
    int position = 0;                         // in its sequence, in file order
    std::set<int32_t> uses;                   // nodes whose value it reads, in this round or the last
  };
  // What an expression may read.
  struct Known {
    std::map<std::string, std::set<std::string>> names;  // name -> attributes; empty: the name itself is a value
    std::map<std::string, int32_t> assessors;            // nodes among them
    std::map<std::string, int32_t> counts;               // nodes whose utterances may be counted; not in lists of names
    int32_t votes_of = kNoNode;
  };
  using Nodes = google::protobuf::RepeatedPtrField<deliberation::v1::Node>;

  const deliberation::v1::Graph& proto() const { return graph_->bundle_.graph(); }
  CompiledNode& node(int32_t index) { return graph_->nodes_[static_cast<size_t>(index)]; }
  Source& source(int32_t index) { return sources_[static_cast<size_t>(index)]; }
  NodeSequence& sequence(int32_t index) { return graph_->sequences_[static_cast<size_t>(index)]; }
  template <typename... Args>
  void Report(int32_t index, int line, fmt::format_string<Args...> format, Args&&... args) {
    errors_.AtNode(line, node(index).full_name, format, std::forward<Args>(args)...);
  }

  // compile_nodes.cc, compile_seats.cc: the tree of nodes, names, numbers.
  void CheckHead();
  void CheckInputs(const deliberation::v1::Graph& graph, const FieldLines& lines);
  int32_t AddSequence(Nodes* nodes, const std::vector<FieldLines>& lines, int32_t owner, int depth);
  void AddNode(deliberation::v1::Node* proto, FieldLines lines, int32_t sequence, int depth);
  void CheckName(int32_t index);
  void FillSpeak(int32_t index);
  void FillAssign(int32_t index);
  void FillStop(int32_t index);
  int64_t CheckDelay(int32_t index, int line, const char* what, const google::protobuf::Duration& delay);
  template <typename Seated>
  void FillHedge(int32_t index, const Seated& message);
  void FillJudge(int32_t index);
  void FillPick(int32_t index);
  void FillCheck(int32_t index);
  void FillLoop(int32_t index, int depth);
  void FillBranch(int32_t index, int depth);

  // compile_calls.cc: graphs in the graph.
  void FillCall(int32_t index, int depth);
  bool FindCalled(int32_t index);
  void CheckCalled(int32_t index);
  void FillArguments(int32_t index);
  void ResolveCall(int32_t index);
  const deliberation::v1::Graph& ProtoAround(int32_t index) const;

  template <typename Message>
  void FillSeats(int32_t index, const Message& message);
  template <typename Message>
  void FillSees(int32_t index, const Message& message);

  // compile_names.cc: what refers to what.
  void ResolveNames();
  int32_t Resolve(int32_t reader, std::string_view name, int line, std::string_view field);
  int32_t ResolveUtterances(int32_t reader, std::string_view name, int line, std::string_view field);
  // Utterances or judgements.
  int32_t ResolveSubjects(int32_t reader, std::string_view name, int line, std::string_view field);
  void ResolvePick(int32_t index);
  void ResolveLoop(int32_t index);
  // `reader`'s ancestor (or itself) in its sequence reads `target` of the same sequence.
  void Link(int32_t ancestor, int32_t target, int32_t reader);
  void ReportUnknown(int32_t reader, std::string_view name, int line, std::string_view field);
  void WaitForAssessors();
  bool Reaches(int32_t from, int32_t to);
  void ResolveResult();
  // The node of a sequence that a graph's `result` names, the last one without a name; or kNoNode and why.
  int32_t FindResult(int32_t sequence, const std::string& name, std::string* why);
  bool HoldsUtterances(int32_t index);
  bool InLoopBody(int32_t sequence);

  // compile_scripts.cc: expressions and prompts.
  void CompileScripts();
  Known KnownTo(int32_t index);
  void AddAssessors(int32_t root, Known* known);
  void CompileExpression(int32_t index, std::string_view field, int line, const std::string& source, const Known& known,
                         std::optional<Expression>* out);
  void CheckReads(int32_t index, std::string_view field, int line, const Expression& expression, const Known& known);
  void WaitFor(int32_t index, int32_t target);
  void CheckJudgesOf(int32_t index, std::string_view field, int line, int32_t judge);
  void CompileWhen(int32_t index);
  void CompileOwn(int32_t index);
  void CompileChoice(int32_t index, Known known);
  void CheckPrompts(int32_t index);

  // compile_order.cc: order, reach, size.
  void OrderSequences();
  void CheckReach();
  void CheckSize();
  void Seal();

  std::shared_ptr<CompiledGraph> graph_ = std::make_shared<CompiledGraph>();
  FieldLines lines_;
  const RoleLibrary& roles_;
  const FindGraph& find_;
  Diagnostics errors_;
  std::vector<Source> sources_;
  int node_count_ = 0;
};

}  // namespace conclave::orchestrator
