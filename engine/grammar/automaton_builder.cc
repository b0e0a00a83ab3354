// SPDX-License-Identifier: Apache-2.0
#include <map>
#include <tuple>

#include "common/check.h"
#include "engine/grammar/automaton.h"

namespace conclave::engine::grammar {

using Part = AutomatonBuilder::Part;

int32_t AutomatonBuilder::AddNode() {
  if (next_node() >= kNodesMax) {
    full_ = true;
    return 0;
  }
  edges_.emplace_back();
  return next_node() - 1;
}

void AutomatonBuilder::AddEdge(int32_t from, const Edge& edge) {
  if (num_edges_ >= kEdgesMax) full_ = true;
  if (full_) return;
  edges_[static_cast<size_t>(from)].push_back(edge);
  ++num_edges_;
}

void AutomatonBuilder::AddStep(int32_t from, int32_t to) { AddEdge(from, {Edge::Kind::kEmpty, 0, 0, -1, to}); }

void AutomatonBuilder::AddBytes(int32_t from, uint8_t first, uint8_t last, int32_t to) {
  AddEdge(from, {Edge::Kind::kBytes, first, last, -1, to});
}

Part AutomatonBuilder::Empty() {
  const int32_t node = AddNode();
  return {node, node, node};
}

Part AutomatonBuilder::Bytes(std::string_view bytes) {
  Part part = Empty();
  for (const char c : bytes) {
    const int32_t next = AddNode();
    AddBytes(part.end, static_cast<uint8_t>(c), static_cast<uint8_t>(c), next);
    part.end = next;
  }
  return part;
}

Part AutomatonBuilder::Characters(const CodePointSet& set) {
  const int32_t start = AddNode(), end = AddNode();
  // Sequences share their tails: those of all of Unicode need eight nodes.
  std::map<std::tuple<int32_t, uint8_t, uint8_t>, int32_t> tails;
  for (const Utf8Sequence& sequence : Utf8Sequences(set)) {
    int32_t target = end;
    for (int i = sequence.size - 1; i > 0; --i) {
      const auto [first, last] = sequence.bytes[static_cast<size_t>(i)];
      const auto [it, added] = tails.try_emplace({target, first, last}, -1);
      if (added) {
        it->second = AddNode();
        AddBytes(it->second, first, last, target);
      }
      target = it->second;
    }
    AddBytes(start, sequence.bytes[0].first, sequence.bytes[0].last, target);
  }
  return {start, end, start};
}

Part AutomatonBuilder::Call(int32_t rule) {
  const int32_t start = AddNode(), end = AddNode();
  AddEdge(start, {Edge::Kind::kCall, 0, 0, rule, end});
  return {start, end, start};
}

Part AutomatonBuilder::Then(const Part& first, const Part& second) {
  AddStep(first.end, second.start);
  return {first.start, second.end, first.first_node};
}

Part AutomatonBuilder::Either(std::span<const Part> parts) {
  CONCLAVE_CHECK(!parts.empty());
  if (parts.size() == 1) return parts[0];
  const int32_t start = AddNode(), end = AddNode();
  for (const Part& part : parts) {
    AddStep(start, part.start);
    AddStep(part.end, end);
  }
  return {start, end, parts[0].first_node};
}

Part AutomatonBuilder::Repeat(const Part& part, int32_t min, int32_t max) {
  if (full_) return part;
  const int32_t size = next_node() - part.first_node, copies = max < 0 ? std::max(min, 1) : max;
  if (int64_t{copies} * size > kNodesMax - part.first_node) {
    full_ = true;
    return part;
  }
  // The copies are made before anything is linked to the first.
  const auto first_node = static_cast<size_t>(part.first_node);
  for (int32_t copy = 1; copy < copies; ++copy) {
    for (size_t node = first_node; node < first_node + static_cast<size_t>(size); ++node) {
      const int32_t clone = AddNode();
      for (Edge edge : std::vector<Edge>(edges_[node])) {
        edge.target += copy * size;
        AddEdge(clone, edge);
      }
    }
  }
  const int32_t start = AddNode(), end = AddNode();
  int32_t reached = start;
  for (int32_t copy = 0; copy < copies; ++copy) {
    if (copy >= min) AddStep(reached, end);
    AddStep(reached, part.start + copy * size);
    reached = part.end + copy * size;
  }
  if (max < 0) AddStep(reached, part.start + (copies - 1) * size);
  AddStep(reached, end);
  return {start, end, part.first_node};
}

int32_t AutomatonBuilder::AddRule(std::string name) {
  if (rules_.size() >= kRulesMax) {
    full_ = true;
    return 0;
  }
  rules_.push_back({std::move(name)});
  return static_cast<int32_t>(rules_.size()) - 1;
}

void AutomatonBuilder::Define(int32_t rule, const Part& part) {
  rules_[static_cast<size_t>(rule)].start = part.start;
  rules_[static_cast<size_t>(rule)].end = part.end;
}

}  // namespace conclave::engine::grammar
