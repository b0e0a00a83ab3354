// SPDX-License-Identifier: Apache-2.0
// A set of texts, as a machine over bytes: rules that call one another, each a nondeterministic automaton. Without
// calls that nest it is a finite automaton, with them a pushdown automaton. Every constraint is compiled to one.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/grammar/code_points.h"

namespace conclave::engine::grammar {

inline constexpr int32_t kNodesMax = 1 << 16;  // states of all rules together
inline constexpr int32_t kEdgesMax = 1 << 18;
inline constexpr int32_t kRulesMax = 1 << 12;
inline constexpr int32_t kCallDepthMax = 128;  // of calls in a text; a call that ends its rule costs none

struct Edge {
  enum class Kind : uint8_t { kBytes, kEmpty, kCall };
  Kind kind;
  uint8_t first, last;  // of kBytes: the byte is within
  int32_t rule;         // of kCall
  int32_t target;
};

// Immutable. Every node lies on a way from its rule's start to its end, so what has begun can be completed.
struct Automaton {
  std::vector<Edge> edges;
  std::vector<int32_t> edge_begin;  // [nodes + 1]
  std::vector<uint8_t> ends;        // [nodes] 1: its rule may end here
  std::vector<uint8_t> only_ends;   // [nodes] 1: there is nothing else to do here
  std::vector<int32_t> depth;       // [nodes] calls that nest at least until the rule's end
  std::vector<int32_t> rule_start;
  std::array<uint8_t, 256> byte_class;  // bytes of one class are never told apart
  int32_t byte_classes = 0;

  std::span<const Edge> EdgesOf(int32_t node) const {
    return std::span(edges).subspan(edge_begin[node], edge_begin[node + 1] - edge_begin[node]);
  }
  static constexpr int32_t kStartRule = 0;
};

// Puts automata together from parts. A part is consumed by what it goes into. Beyond a limit nothing is added any more
// and Build fails, so callers need not check each step.
class AutomatonBuilder {
 public:
  // From `start` to `end`; its nodes are first_node and all after it, until it is consumed.
  struct Part {
    int32_t start, end, first_node;
  };

  Part Empty();
  Part Bytes(std::string_view bytes);
  Part Characters(const CodePointSet& set);  // in UTF-8; the empty set matches nothing
  Part Call(int32_t rule);
  // Parts in the order in which they were made, nothing made in between or after that is not in them.
  Part Then(const Part& first, const Part& second);
  Part Either(std::span<const Part> parts);
  Part Repeat(const Part& part, int32_t min, int32_t max);  // max < 0: no end

  // For shapes that are no tree of parts: nodes with empty steps between them.
  int32_t AddNode();
  void AddStep(int32_t from, int32_t to);
  Part Between(int32_t start, int32_t end, int32_t first_node) const { return {start, end, first_node}; }
  int32_t next_node() const { return static_cast<int32_t>(edges_.size()); }

  int32_t AddRule(std::string name);  // for errors; the first is where a text starts
  void Define(int32_t rule, const Part& part);
  bool full() const { return full_; }

  // INVALID_ARGUMENT: over a limit; a rule that begins with itself; nothing matches. Every rule must be defined.
  absl::StatusOr<std::shared_ptr<const Automaton>> Build() const;

 private:
  friend class AutomatonAnalysis;
  void AddEdge(int32_t from, const Edge& edge);
  void AddBytes(int32_t from, uint8_t first, uint8_t last, int32_t to);

  struct Rule {
    std::string name;
    int32_t start = -1, end = -1;
  };
  std::vector<std::vector<Edge>> edges_;  // per node
  int32_t num_edges_ = 0;
  std::vector<Rule> rules_;
  bool full_ = false;
};

}  // namespace conclave::engine::grammar
