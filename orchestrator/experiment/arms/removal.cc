// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/experiment/arms/removal.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "orchestrator/role/script.h"

namespace conclave::experiment {
namespace {

using deliberation::v1::Graph;
using deliberation::v1::Node;
using deliberation::v1::Pick;
using Nodes = google::protobuf::RepeatedPtrField<Node>;

bool IsWord(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_'; }

// Whether the expression names one of the nodes as a word of its own, not as an attribute or in a text.
bool Names(std::string_view source, const std::set<std::string, std::less<>>& nodes) {
  for (size_t begin = 0; begin < source.size();) {
    if (source[begin] == '\'' || source[begin] == '"') {
      const size_t end = source.find(source[begin], begin + 1);
      begin = end == std::string_view::npos ? source.size() : end + 1;
      continue;
    }
    if (!IsWord(source[begin])) {
      ++begin;
      continue;
    }
    size_t end = begin;
    while (end < source.size() && IsWord(source[end])) ++end;
    const bool attribute = begin > 0 && source[begin - 1] == '.';
    if (!attribute && nodes.contains(source.substr(begin, end - begin))) return true;
    begin = end;
  }
  return false;
}

// Pieces of `source` between the joints that stand outside of brackets and quotes.
std::vector<std::string_view> Split(std::string_view source, std::string_view joint) {
  std::vector<std::string_view> pieces;
  int depth = 0;
  char quote = 0;
  size_t begin = 0;
  for (size_t i = 0; i < source.size(); ++i) {
    const char c = source[i];
    if (quote != 0) {
      if (c == quote) quote = 0;
      continue;
    }
    if (c == '\'' || c == '"') quote = c;
    if (c == '(' || c == '[') ++depth;
    if (c == ')' || c == ']') --depth;
    if (depth == 0 && source.substr(i).starts_with(joint)) {
      pieces.push_back(source.substr(begin, i - begin));
      begin = i + joint.size();
      i = begin - 1;
    }
  }
  pieces.push_back(source.substr(begin));
  return pieces;
}

std::string Prune(std::string_view source, const std::set<std::string, std::less<>>& nodes,
                  const std::vector<std::string_view>& joints) {
  if (!Names(source, nodes)) return std::string(source);
  if (joints.empty()) return "";
  const std::vector<std::string_view> rest(joints.begin() + 1, joints.end());
  std::string out;
  for (const std::string_view piece : Split(source, joints[0])) {
    const std::string kept = Prune(piece, nodes, rest);
    if (kept.empty()) continue;
    if (!out.empty()) out += joints[0];
    out += kept;
  }
  return out;
}

class Remover {
 public:
  Remover(const Graph& graph, std::string_view role) : role_(role) { removal_.graph = graph; }

  Removal Run() && {
    Inside(removal_.graph.mutable_node());
    // Every pass may take out what others were about; at most as many passes as there are nodes.
    while (Sweep(removal_.graph.mutable_node())) {
    }
    Clean(removal_.graph.mutable_node());
    if (gone_.contains(removal_.graph.result())) removal_.graph.clear_result();
    removal_.nodes.assign(gone_.begin(), gone_.end());
    removal_.nodes.insert(removal_.nodes.end(), gone_inside_.begin(), gone_inside_.end());
    return std::move(removal_);
  }

 private:
  static const std::vector<std::string_view>& Booleans() {
    static const std::vector<std::string_view> joints = {" or ", " and "};
    return joints;
  }
  static const std::vector<std::string_view>& Sums() {
    static const std::vector<std::string_view> joints = {" + ", " * "};
    return joints;
  }

  // Called graphs lose the role by themselves: their names are their own. Calls and bodies of a graph that compiles are
  // nested at most 16 deep.
  void Inside(Nodes* nodes) {
    for (Node& node : *nodes) {
      if (node.has_loop()) Inside(node.mutable_loop()->mutable_body());
      if (node.has_branch()) {
        Inside(node.mutable_branch()->mutable_then());
        Inside(node.mutable_branch()->mutable_otherwise());
      }
      if (!node.has_call()) continue;
      Removal inner = Remover(node.call().called(), role_).Run();
      for (const std::string& gone : inner.nodes) gone_inside_.push_back(fmt::format("{}.{}", node.name(), gone));
      *node.mutable_call()->mutable_called() = std::move(inner.graph);
    }
  }

  // Takes a node out of `nodes`, or out of a body in it; false when there is none left to take.
  bool Sweep(Nodes* nodes) {
    for (int i = 0; i < nodes->size(); ++i) {
      Node* node = nodes->Mutable(i);
      if (Goes(node)) {
        gone_.insert(node->name());
        nodes->DeleteSubrange(i, 1);
        return true;
      }
      if (node->has_loop() && Sweep(node->mutable_loop()->mutable_body())) return true;
      if (!node->has_branch()) continue;
      if (Sweep(node->mutable_branch()->mutable_then())) return true;
      if (Sweep(node->mutable_branch()->mutable_otherwise())) return true;
    }
    return false;
  }

  bool Goes(Node* node) const {
    switch (node->kind_case()) {
      case Node::kSpeak:
        return node->speak().role() == role_ || gone_.contains(node->speak().each());
      case Node::kJudge:
        return node->judge().role() == role_ || gone_.contains(node->judge().of());
      case Node::kCheck:
        return gone_.contains(node->check().of());
      case Node::kPick:
        return LosesAll(node->mutable_pick());
      case Node::kLoop:
        return node->loop().body().empty();
      case Node::kCall:
        return node->call().called().node().empty();
      case Node::kBranch:
      case Node::KIND_NOT_SET:
        return false;
    }
    return false;
  }

  // A pick goes on with the nodes that are left.
  bool LosesAll(Pick* pick) const {
    std::vector<std::string> also;
    for (const std::string& name : pick->also()) {
      if (!gone_.contains(name)) also.push_back(name);
    }
    if (gone_.contains(pick->of())) {
      if (also.empty()) return true;
      pick->set_of(also.front());
      also.erase(also.begin());
    }
    pick->mutable_also()->Assign(also.begin(), also.end());
    return false;
  }

  // What read the nodes that are gone. A graph that compiles is nested at most 16 deep.
  void Clean(Nodes* nodes) {
    for (Node& node : *nodes) {
      node.set_when(Prune(node.when(), gone_, Booleans()));
      if (node.has_speak()) CleanSpeak(node.mutable_speak());
      if (node.has_judge()) {
        CleanSees(node.mutable_judge()->mutable_sees());
        node.mutable_judge()->set_where(Prune(node.judge().where(), gone_, Booleans()));
      }
      if (node.has_pick()) CleanPick(node.mutable_pick());
      if (node.has_loop()) {
        auto* loop = node.mutable_loop();
        if (gone_.contains(loop->over())) loop->clear_over();
        if (gone_.contains(loop->yields())) loop->clear_yields();
        loop->set_until(Prune(loop->until(), gone_, Booleans()));
        Clean(loop->mutable_body());
      }
      if (node.has_call()) CleanCall(node.mutable_call());
      if (node.has_branch()) {
        auto* branch = node.mutable_branch();
        branch->set_condition(Prune(branch->condition(), gone_, Booleans()));
        if (gone_.contains(branch->otherwise_value())) branch->clear_otherwise_value();
        Clean(branch->mutable_then());
        Clean(branch->mutable_otherwise());
      }
    }
  }

  void CleanSpeak(deliberation::v1::Speak* speak) {
    CleanSees(speak->mutable_sees());
    const std::string worth = Prune(speak->worth(), gone_, Sums());
    if (worth.empty() && !speak->worth().empty()) speak->set_assign(deliberation::v1::Speak::TURNS);
    speak->set_worth(worth);
  }

  // An argument that read what is gone is not given: its input is the caller's, or has its default.
  void CleanCall(deliberation::v1::Call* call) const {
    for (int i = call->argument_size(); i-- > 0;) {
      const auto value = orchestrator::PromptTemplate::Parse(call->argument(i).value());
      if (!value.ok()) continue;
      const std::vector<std::string>& names = value->names();
      const bool lost = std::any_of(names.begin(), names.end(), [&](const auto& name) { return gone_.contains(name); });
      if (lost) call->mutable_argument()->DeleteSubrange(i, 1);
    }
  }

  void CleanPick(Pick* pick) {
    pick->set_where(Prune(pick->where(), gone_, Booleans()));
    const std::string weight = Prune(pick->weight(), gone_, Sums());
    const bool lost = weight != pick->weight();
    const bool constant = std::none_of(weight.begin(), weight.end(), [](char c) { return c >= 'a' && c <= 'z'; });
    pick->set_weight(weight);
    if (!lost || !constant) return;
    if (pick->by() != Pick::WEIGHTED_VOTE && pick->by() != Pick::BEST_OF_N) return;
    pick->clear_weight();
    pick->set_by(pick->keep() > 1 ? Pick::FIRST : Pick::MAJORITY);
  }

  template <typename Sees>
  void CleanSees(Sees* sees) {
    for (int i = sees->size(); i-- > 0;) {
      if (gone_.contains(sees->Get(i).node())) sees->DeleteSubrange(i, 1);
    }
  }

  const std::string_view role_;
  Removal removal_;
  std::set<std::string, std::less<>> gone_;
  std::vector<std::string> gone_inside_;  // called graphs, "<call>.<node>"
};

}  // namespace

Removal WithoutRole(const Graph& graph, std::string_view role) { return Remover(graph, role).Run(); }

std::string WithoutTerms(std::string_view source, const std::vector<std::string>& nodes,
                         const std::vector<std::string_view>& joints) {
  return Prune(source, {nodes.begin(), nodes.end()}, joints);
}

}  // namespace conclave::experiment
