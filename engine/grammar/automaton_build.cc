// SPDX-License-Identifier: Apache-2.0
// From parts to an automaton without dead ends: what can be completed and how deep its calls nest, which rules begin
// with themselves, which bytes are told apart. Everything in time linear in the edges.
#include <algorithm>

#include "common/check.h"
#include "common/status.h"
#include "engine/grammar/automaton.h"

namespace conclave::engine::grammar {

class AutomatonAnalysis {
 public:
  explicit AutomatonAnalysis(const AutomatonBuilder& builder) : b_(builder), nodes_(builder.edges_.size()) {
    ends_.assign(nodes_, 0);
    for (const AutomatonBuilder::Rule& rule : b_.rules_) {
      CONCLAVE_CHECK_MSG(rule.start >= 0, "a rule is not defined");
      ends_[static_cast<size_t>(rule.end)] = 1;
    }
    incoming_.resize(nodes_);
    callers_.resize(b_.rules_.size());
    for (size_t node = 0; node < nodes_; ++node) {
      for (const Edge& edge : b_.edges_[node]) {
        const auto id = static_cast<int32_t>(all_.size());
        all_.push_back({static_cast<int32_t>(node), edge});
        incoming_[Index(edge.target)].push_back(id);
        if (edge.kind == Edge::Kind::kCall) callers_[Index(edge.rule)].push_back(id);
      }
    }
    for (size_t rule = 0; rule < b_.rules_.size(); ++rule) {
      starts_.emplace_back(b_.rules_[rule].start, static_cast<int32_t>(rule));
    }
    std::sort(starts_.begin(), starts_.end());
  }

  absl::StatusOr<std::shared_ptr<const Automaton>> Run() {
    FindOnlyEnds();
    FindDepths();
    if (depth_[Index(b_.rules_[Automaton::kStartRule].start)] < 0) {
      return InvalidArgument("matches no text at all, or none with fewer than {} nested parts", kCallDepthMax);
    }
    RETURN_IF_ERROR(RefuseLeftRecursion());
    return Emit();
  }

 private:
  struct NodeEdge {
    int32_t from;
    Edge edge;
  };
  static size_t Index(int32_t i) { return static_cast<size_t>(i); }

  // Calls `f` for every rule that starts at `node`.
  template <typename F>
  void ForRulesAt(int32_t node, F f) const {
    auto it = std::lower_bound(starts_.begin(), starts_.end(), std::pair<int32_t, int32_t>{node, -1});
    for (; it != starts_.end() && it->first == node; ++it) f(it->second);
  }

  // Nodes from which empty steps lead to the end and nothing else is possible.
  void FindOnlyEnds() {
    only_ends_.assign(nodes_, 0);
    std::vector<int32_t> others(nodes_), found;  // edges that are not known to lead to such a node
    for (size_t node = 0; node < nodes_; ++node) {
      others[node] = static_cast<int32_t>(b_.edges_[node].size());
      if (others[node] == 0 && ends_[node] != 0) found.push_back(static_cast<int32_t>(node));
    }
    while (!found.empty()) {
      const int32_t node = found.back();
      found.pop_back();
      only_ends_[Index(node)] = 1;
      for (const int32_t id : incoming_[Index(node)]) {
        const NodeEdge& e = all_[Index(id)];
        if (e.edge.kind == Edge::Kind::kEmpty && --others[Index(e.from)] == 0) found.push_back(e.from);
      }
    }
  }

  // Least nesting of calls until the rule's end, Dijkstra's algorithm with a bucket per depth: an edge is as deep as
  // its target, a call also one deeper than the rule it calls, or as deep where nothing follows. -1: never, or too
  // deep.
  void FindDepths() {
    depth_.assign(nodes_, -1);
    std::vector<uint8_t> missing(all_.size());
    std::vector<std::vector<int32_t>> buckets(kCallDepthMax + 1);
    for (size_t id = 0; id < all_.size(); ++id) missing[id] = all_[id].edge.kind == Edge::Kind::kCall ? 2 : 1;
    for (size_t node = 0; node < nodes_; ++node) {
      if (ends_[node] != 0) buckets[0].push_back(static_cast<int32_t>(node));
    }
    const auto settle_part = [&](int32_t id) {
      if (--missing[Index(id)] > 0) return;
      const NodeEdge& e = all_[Index(id)];
      int32_t depth = depth_[Index(e.edge.target)];
      if (e.edge.kind == Edge::Kind::kCall) {
        const int32_t nested = only_ends_[Index(e.edge.target)] != 0 ? 0 : 1;
        depth = std::max(depth, depth_[Index(b_.rules_[Index(e.edge.rule)].start)] + nested);
      }
      if (depth <= kCallDepthMax) buckets[Index(depth)].push_back(e.from);
    };
    for (int32_t depth = 0; depth <= kCallDepthMax; ++depth) {
      std::vector<int32_t>& bucket = buckets[Index(depth)];
      while (!bucket.empty()) {
        const int32_t node = bucket.back();
        bucket.pop_back();
        if (depth_[Index(node)] >= 0) continue;
        depth_[Index(node)] = depth;
        for (const int32_t id : incoming_[Index(node)]) settle_part(id);
        ForRulesAt(node, [&](int32_t rule) {
          for (const int32_t id : callers_[Index(rule)]) settle_part(id);
        });
      }
    }
  }

  bool Usable(const Edge& edge) const {
    return depth_[Index(edge.target)] >= 0 && (edge.kind != Edge::Kind::kCall || RuleDepth(edge.rule) >= 0);
  }
  int32_t RuleDepth(int32_t rule) const { return depth_[Index(b_.rules_[Index(rule)].start)]; }

  // Nodes from which the rule's end is reached without a byte.
  std::vector<uint8_t> FindNullable() const {
    std::vector<uint8_t> nullable(nodes_, 0), missing(all_.size());
    std::vector<int32_t> found;
    for (size_t id = 0; id < all_.size(); ++id) missing[id] = all_[id].edge.kind == Edge::Kind::kCall ? 2 : 1;
    for (size_t node = 0; node < nodes_; ++node) {
      if (ends_[node] != 0) found.push_back(static_cast<int32_t>(node));
    }
    const auto reach = [&](int32_t id) {
      const NodeEdge& e = all_[Index(id)];
      if (e.edge.kind != Edge::Kind::kBytes && Usable(e.edge) && --missing[Index(id)] == 0) found.push_back(e.from);
    };
    while (!found.empty()) {
      const int32_t node = found.back();
      found.pop_back();
      if (nullable[Index(node)] != 0) continue;
      nullable[Index(node)] = 1;
      for (const int32_t id : incoming_[Index(node)]) reach(id);
      ForRulesAt(node, [&](int32_t rule) {
        for (const int32_t id : callers_[Index(rule)]) reach(id);
      });
    }
    return nullable;
  }

  // The rules that each rule may call before its first byte.
  std::vector<std::vector<int32_t>> FirstCalls() const {
    const std::vector<uint8_t> nullable = FindNullable();
    std::vector<std::vector<int32_t>> first(b_.rules_.size());
    std::vector<uint8_t> seen(nodes_, 0);  // rules share no nodes
    for (size_t rule = 0; rule < b_.rules_.size(); ++rule) {
      std::vector<int32_t> pending = {b_.rules_[rule].start};
      while (!pending.empty()) {
        const int32_t node = pending.back();
        pending.pop_back();
        if (seen[Index(node)] != 0) continue;
        seen[Index(node)] = 1;
        for (const Edge& edge : b_.edges_[Index(node)]) {
          if (edge.kind == Edge::Kind::kBytes || !Usable(edge)) continue;
          if (edge.kind == Edge::Kind::kCall) first[rule].push_back(edge.rule);
          if (edge.kind == Edge::Kind::kEmpty || nullable[Index(b_.rules_[Index(edge.rule)].start)] != 0) {
            pending.push_back(edge.target);
          }
        }
      }
    }
    return first;
  }

  absl::Status RefuseLeftRecursion() const {
    const std::vector<std::vector<int32_t>> first = FirstCalls();
    enum : uint8_t { kNew, kOpen, kDone };
    std::vector<uint8_t> mark(first.size(), kNew);
    std::vector<std::pair<int32_t, size_t>> path;  // a rule and which of its calls comes next
    for (size_t root = 0; root < first.size(); ++root) {
      if (mark[root] != kNew) continue;
      path.emplace_back(static_cast<int32_t>(root), 0);
      mark[root] = kOpen;
      while (!path.empty()) {
        auto& [rule, next] = path.back();
        if (next == first[Index(rule)].size()) {
          mark[Index(rule)] = kDone;
          path.pop_back();
          continue;
        }
        const int32_t called = first[Index(rule)][next++];
        if (mark[Index(called)] == kOpen) {
          return InvalidArgument(
              "{} begins with itself before any character (left recursion); put what repeats behind what begins it",
              b_.rules_[Index(called)].name);
        }
        if (mark[Index(called)] != kNew) continue;
        mark[Index(called)] = kOpen;
        path.emplace_back(called, 0);
      }
    }
    return absl::OkStatus();
  }

  std::shared_ptr<const Automaton> Emit() const {
    auto automaton = std::make_shared<Automaton>();
    automaton->ends = ends_;
    automaton->only_ends = only_ends_;
    automaton->depth = depth_;
    automaton->edge_begin.push_back(0);
    std::array<bool, 257> border = {};
    for (size_t node = 0; node < nodes_; ++node) {
      for (const Edge& edge : b_.edges_[node]) {
        if (!Usable(edge)) continue;
        automaton->edges.push_back(edge);
        if (edge.kind != Edge::Kind::kBytes) continue;
        border[edge.first] = true;
        border[size_t{edge.last} + 1] = true;
      }
      automaton->edge_begin.push_back(static_cast<int32_t>(automaton->edges.size()));
    }
    for (const AutomatonBuilder::Rule& rule : b_.rules_) automaton->rule_start.push_back(rule.start);
    border[0] = false;
    int32_t byte_class = 0;
    for (size_t byte = 0; byte < 256; ++byte) {
      if (border[byte]) ++byte_class;
      automaton->byte_class[byte] = static_cast<uint8_t>(byte_class);
    }
    automaton->byte_classes = byte_class + 1;
    return automaton;
  }

  const AutomatonBuilder& b_;
  const size_t nodes_;
  std::vector<NodeEdge> all_;
  std::vector<std::vector<int32_t>> incoming_;       // per node: edges into it
  std::vector<std::vector<int32_t>> callers_;        // per rule: edges that call it
  std::vector<std::pair<int32_t, int32_t>> starts_;  // (node, rule), sorted
  std::vector<uint8_t> ends_, only_ends_;
  std::vector<int32_t> depth_;
};

absl::StatusOr<std::shared_ptr<const Automaton>> AutomatonBuilder::Build() const {
  if (full_) {
    return InvalidArgument("is too large: at most {} states, {} steps between them and {} rules are allowed", kNodesMax,
                           kEdgesMax, kRulesMax);
  }
  return AutomatonAnalysis(*this).Run();
}

}  // namespace conclave::engine::grammar
