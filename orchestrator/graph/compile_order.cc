// SPDX-License-Identifier: Apache-2.0
// Last step: an order that respects who waits for whom, nothing that leads nowhere, and a bound on the whole.
#include <algorithm>

#include "common/hash.h"
#include "orchestrator/graph/graph_compiler.h"
#include "orchestrator/graph/limits.h"

namespace conclave::orchestrator {

// Repeatedly takes the first node, in file order, that waits for nobody left.
void GraphCompiler::OrderSequences() {
  for (NodeSequence& sequence : graph_->sequences_) {
    std::vector<int32_t> ordered;
    std::vector<int32_t> left = sequence.nodes;
    while (!left.empty()) {
      const auto ready = std::find_if(left.begin(), left.end(), [&](int32_t index) {
        return std::none_of(node(index).after.begin(), node(index).after.end(),
                            [&](int32_t before) { return std::find(left.begin(), left.end(), before) != left.end(); });
      });
      if (ready == left.end()) break;
      ordered.push_back(*ready);
      left.erase(ready);
    }
    if (!left.empty()) {
      // Walk from a stuck node to one it waits for until one repeats: that is a circle.
      std::vector<int32_t> path = {left.front()};
      while (true) {
        const std::vector<int32_t>& after = node(path.back()).after;
        const int32_t next = *std::find_if(after.begin(), after.end(), [&](int32_t before) {
          return std::find(left.begin(), left.end(), before) != left.end();
        });
        const auto met = std::find(path.begin(), path.end(), next);
        if (met != path.end()) {
          path.erase(path.begin(), met);
          break;
        }
        path.push_back(next);
      }
      const auto first = std::min_element(path.begin(), path.end());
      std::rotate(path.begin(), first, path.end());
      std::vector<std::string> names;
      for (size_t i = 1; i < path.size(); ++i) names.push_back("\"" + node(path[i]).name + "\", which waits for ");
      Report(path.front(), node(path.front()).line, "waits for {}\"{}\"; only a loop can go round",
             fmt::join(names, ""), node(path.front()).name);
    }
    sequence.nodes = ordered;
  }
}

void GraphCompiler::CheckReach() {
  if (graph_->result_ == kNoNode) return;
  std::set<int32_t> reached;
  std::vector<int32_t> open = {graph_->result_};
  const auto add = [&](int32_t index) {
    if (index != kNoNode && reached.insert(index).second) open.push_back(index);
  };
  reached.insert(graph_->result_);
  while (!open.empty()) {
    const CompiledNode& at = node(open.back());
    open.pop_back();
    for (const int32_t used : source(at.index).uses) add(used);
    add(at.yields);
    add(at.parent);
    // The value of a branch is that of the last node, of each arm, that holds utterances.
    for (const int32_t arm : {at.then, at.otherwise}) {
      if (arm < 0) continue;
      const std::vector<int32_t>& nodes = sequence(arm).nodes;
      const auto last = std::find_if(nodes.rbegin(), nodes.rend(), [&](int32_t i) { return HoldsUtterances(i); });
      if (last != nodes.rend()) add(*last);
    }
  }
  for (const CompiledNode& at : graph_->nodes_) {
    if (reached.contains(at.index) || (at.parent != kNoNode && !reached.contains(at.parent))) continue;
    const int32_t result = at.scope == kNoNode ? graph_->result_ : node(at.scope).yields;
    Report(at.index, at.line, "nothing leads from it to the result \"{}\"; use it or remove it", node(result).name);
  }
}

void GraphCompiler::CheckSize() {
  int64_t runs = 0;
  for (const CompiledNode& at : graph_->nodes_) {
    int64_t times = 1;
    for (int32_t up = at.parent; up != kNoNode && times <= kNodeRunsMax; up = node(up).parent) {
      if (node(up).kind == NodeKind::kLoop) times *= std::max(1, node(up).max_rounds);
    }
    runs = std::min(runs + times, kNodeRunsMax + 1);
  }
  if (runs > kNodeRunsMax) {
    errors_.Add(lines_.line(),
                fmt::format("nested loops run more than {} nodes in the worst case; lower max_rounds", kNodeRunsMax));
  }
}

void GraphCompiler::Seal() {
  std::map<std::string, const deliberation::v1::Role*> roles;
  for (const CompiledNode& at : graph_->nodes_) {
    if (at.role != nullptr) roles[at.role->proto.name()] = &at.role->proto;
  }
  for (const auto& [name, role] : roles) *graph_->bundle_.add_role() = *role;
  // Neither message has map fields or unknown fields, so that serialising is deterministic.
  graph_->canonical_ = graph_->bundle_.SerializeAsString();
  graph_->revision_ = Sha256Hex(graph_->canonical_);
}

}  // namespace conclave::orchestrator
