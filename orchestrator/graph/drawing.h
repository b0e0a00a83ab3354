// SPDX-License-Identifier: Apache-2.0
// What the pictures of a graph have in common: labels and lines. Private to this folder.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "orchestrator/graph/compiled_graph.h"

namespace conclave::orchestrator {

enum class LineKind : uint8_t {
  kValue,      // of, over, otherwise_value
  kSees,       // shown in a prompt, read by an argument
  kNextRound,  // yields, and what a body reads of the round before
};

struct DrawnLine {
  int32_t from = kNoNode;
  int32_t to = kNoNode;
  LineKind kind = LineKind::kValue;
  std::string label;         // "" or "own", "answer, shuffled", ..
  bool from_inside = false;  // `from` is a loop around `to`: its current utterances
};

// Every line of the graph once, in order of the nodes that read.
std::vector<DrawnLine> LinesOf(const CompiledGraph& graph);

// The small print of a node: "prover x dense/* x 2", "WEIGHTED_VOTE by verify.mean_score", "at most 3 rounds", ..
std::vector<std::string> DetailsOf(const CompiledNode& node, const CompiledGraph& graph);

// Drawn around what it holds: a loop, a branch, a call.
bool IsFrame(const CompiledNode& node);

// Where a node stands, as in the paths of events without rounds: "review.critique".
std::string PlaceOf(const CompiledNode& node, const CompiledGraph& graph);

// Colours of a kind, as "#rrggbb".
struct KindColours {
  std::string_view fill;
  std::string_view edge;
};
KindColours ColoursOf(NodeKind kind);

// `text` cut to at most `characters` bytes, with ".." where something is missing.
std::string Shorten(std::string_view text, size_t characters);

// & < > " as XML entities; control characters dropped.
std::string XmlEscaped(std::string_view text);

}  // namespace conclave::orchestrator
