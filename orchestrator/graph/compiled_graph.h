// SPDX-License-Identifier: Apache-2.0
// A graph ready to run: names resolved to indices, prompts and conditions parsed, execution order fixed, loops bounded.
// Immutable; shared by every run and thread that uses it.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "conclave/deliberation/v1/graph.pb.h"
#include "conclave/deliberation/v1/role.pb.h"
#include "orchestrator/experiment/grade/grader.h"
#include "orchestrator/role/role.h"

namespace conclave::orchestrator {

enum class NodeKind : uint8_t { kSpeak, kJudge, kPick, kCheck, kLoop, kBranch, kCall };

// "speak", "judge", ..
std::string_view NodeKindName(NodeKind kind);

// No node.
inline constexpr int32_t kNoNode = -1;

// One edge of visibility. `node` is the node whose value is shown: for a loop's `over` name inside its body that is the
// loop, which holds its current utterances.
struct CompiledSees {
  std::string name;  // as written
  int32_t node = kNoNode;
  deliberation::v1::Sees::Part part = deliberation::v1::Sees::TEXT;  // never unspecified
  bool own = false;
  bool others = false;
  bool anonymous = false;
  bool shuffle = false;
  int32_t limit = 0;
  deliberation::v1::Sees::Among among = deliberation::v1::Sees::EVERYBODY;  // never unspecified
  bool by_sample = false;
  int32_t memory = 1;  // rounds
  bool of_subject = false;
  bool of_line = false;
  bool lowest = false;

  // Who reads decides what is shown.
  bool DiffersByReader() const { return own || others || shuffle || among != deliberation::v1::Sees::EVERYBODY; }
};

// An input of a called graph, made of what is around the call.
struct CompiledArgument {
  std::string name;
  PromptTemplate value;
  std::vector<std::pair<std::string, int32_t>> nodes;  // that it reads, by name
};

struct CompiledNode {
  int32_t index = 0;      // into CompiledGraph::nodes; a container before what it contains, else file order
  std::string name;       // as written; unique in its scope
  std::string full_name;  // unique in the graph: inside a call "<call>.<name>", else the name
  NodeKind kind = NodeKind::kSpeak;
  int32_t parent = kNoNode;  // the loop, branch or call around it
  int32_t scope = kNoNode;   // the nearest call around it
  int32_t sequence = 0;      // into CompiledGraph::sequences
  int32_t line = 0;          // of the file; 0 without one

  // Nodes of the same sequence that must be done before this one begins.
  std::vector<int32_t> after;

  std::optional<Expression> when;
  // until, condition, weight or worth, by kind.
  std::optional<Expression> expression;
  std::optional<PromptTemplate> expected;  // of an EXACT check
  int32_t votes_of = kNoNode;              // whose answers `votes` counts in the expressions

  // speak and judge.
  std::shared_ptr<const CompiledRole> role;
  std::vector<std::string> members;  // names to bind
  int32_t samples = 1;
  std::vector<CompiledSees> sees;
  deliberation::v1::SamplingDefaults sampling;  // node over role
  bool prompt_differs_by_member = false;        // else members share one prompt
  bool prompt_differs_by_sample = false;
  int32_t quorum = 0;
  int64_t patience_ns = 0;  // speak: for the others, once the quorum is there
  // Stragglers are asked a second time when so many calls are done, and so long after the node began; 0: never.
  int32_t hedge_when_done = 0;
  int64_t hedge_after_ns = 0;
  deliberation::v1::Judge::Method method = deliberation::v1::Judge::VERDICT;  // never unspecified
  bool exclude_self = false;
  int32_t window = 0;  // utterances in one comparison; 0: all
  bool strict = false;
  bool follow = false;
  bool only_self = false;
  int32_t confidence_window = 0;  // speak; tokens, 0: log-probabilities are not asked for
  int32_t each = kNoNode;         // speak: one call per utterance of it
  deliberation::v1::Speak::Assign assign = deliberation::v1::Speak::ALL;  // never unspecified
  std::optional<deliberation::v1::Stopping> stop;                         // speak; confidence and wave are set
  int32_t wave = 0;  // calls of one vote or subject under way at a time; 0: all

  int32_t of = kNoNode;  // judge, pick, check
  deliberation::v1::Pick::By by = deliberation::v1::Pick::BY_UNSPECIFIED;
  std::vector<int32_t> also;        // pick
  std::optional<Expression> where;  // pick, judge
  int32_t keep = 1;                 // pick
  deliberation::v1::Check::Checker checker = deliberation::v1::Check::CHECKER_UNSPECIFIED;

  // loop
  int32_t over = kNoNode;
  int32_t yields = kNoNode;
  int32_t max_rounds = 0;
  int32_t body = -1;              // sequence
  bool counts_unchanged = false;  // `until` reads votes.unchanged
  // branch
  int32_t then = -1;  // sequences; -1: no nodes
  int32_t otherwise = -1;
  int32_t otherwise_value = kNoNode;
  // call: `body` is the called graph, `yields` its result
  const deliberation::v1::Graph* called = nullptr;  // in CompiledGraph::bundle
  std::vector<CompiledArgument> arguments;

  // Rounds of its value that some reader looks back on; 0: nobody sees more than the latest.
  int32_t memory = 0;

  // Each of its calls goes to one of the members, and not to all.
  bool one_of_the_members() const { return only_self || assign != deliberation::v1::Speak::ALL; }

  bool hedges() const { return hedge_when_done > 0 || hedge_after_ns > 0; }

  // A pick that says where a search goes on.
  bool searches() const { return by == deliberation::v1::Pick::AB_MCTS_M || by == deliberation::v1::Pick::AB_MCTS_A; }

  // A judge that compares utterances with one another.
  bool compares() const {
    using Judge = deliberation::v1::Judge;
    return method == Judge::CHOICE || method == Judge::RANKING || method == Judge::PAIRS;
  }
};

// Nodes that run one after, or beside, another: the whole graph, a loop's body, an arm of a branch, a
// called graph.
struct NodeSequence {
  int32_t owner = kNoNode;     // the loop, branch or call; kNoNode: the graph
  std::vector<int32_t> nodes;  // in an order in which every node follows its `after`
};

// Names visible to every expression's context are built from these.
class CompiledGraph {
 public:
  const deliberation::v1::Graph& proto() const { return bundle_.graph(); }
  const std::string& name() const { return bundle_.graph().name(); }
  const std::vector<CompiledNode>& nodes() const { return nodes_; }
  const CompiledNode& node(int32_t index) const { return nodes_[static_cast<size_t>(index)]; }
  const std::vector<NodeSequence>& sequences() const { return sequences_; }
  const NodeSequence& sequence(int32_t index) const { return sequences_[static_cast<size_t>(index)]; }
  int32_t result() const { return result_; }
  const grade::Grader& grader() const { return *grader_; }
  // Some judge follows the conversation of what it judges.
  bool follows() const { return follows_; }

  // Everything that decides what the graph does, serialised deterministically, and its SHA-256 in hex.
  const std::string& canonical() const { return canonical_; }
  const std::string& revision() const { return revision_; }
  const deliberation::v1::GraphBundle& bundle() const { return bundle_; }

  // The node of that full name, or null.
  const CompiledNode* Find(std::string_view full_name) const;
  // The node of that name in a scope (a call, or kNoNode: outside of calls), or null.
  const CompiledNode* FindIn(int32_t scope, std::string_view name) const;
  // Whether a node is in a container, at any depth. Contents follow their container directly.
  bool IsInside(int32_t index, int32_t container) const;
  // The graph that a scope belongs to.
  const deliberation::v1::Graph& ProtoOf(int32_t scope) const {
    return scope == kNoNode ? proto() : *node(scope).called;
  }
  // It, or a graph that it calls, must be repeatable.
  bool needs_seeds() const { return needs_seeds_; }
  // Names that a binding must map to members, sorted, each once.
  std::vector<std::string> MemberNames() const;

 private:
  friend class GraphCompiler;
  deliberation::v1::GraphBundle bundle_;
  std::vector<CompiledNode> nodes_;
  std::vector<NodeSequence> sequences_;  // [0] is the graph itself
  int32_t result_ = kNoNode;
  std::shared_ptr<const grade::Grader> grader_;
  bool follows_ = false;
  bool needs_seeds_ = false;
  std::string canonical_;
  std::string revision_;
};

}  // namespace conclave::orchestrator
