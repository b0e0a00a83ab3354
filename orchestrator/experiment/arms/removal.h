// SPDX-License-Identifier: Apache-2.0
// A graph without one of its roles, for what that role is worth. Pure.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "conclave/deliberation/v1/graph.pb.h"

namespace conclave::experiment {

// What was taken out of a graph.
struct Removal {
  deliberation::v1::Graph graph;
  std::vector<std::string> nodes;  // gone: those of the role, and those that were about them
};

// Takes out every node that `role` writes or judges at, then whatever was about those nodes: judges and checks of them,
// speaks that took them up, picks and loops that are left with nothing. What read them reads no more: `sees` go; of
// conditions the terms joined by `or` and `and` that name them, of weights those joined by + and *; a pick whose weight
// is gone takes the majority (of several, the first ones). The result is a graph that may or may not compile: one whose
// answer came from the role does not. Called graphs lose it too; a call of a graph that is left with nothing goes.
// REQUIRES: a graph that compiles, so that its nesting is bounded.
Removal WithoutRole(const deliberation::v1::Graph& graph, std::string_view role);

// `source` without the terms that name a node of `nodes`, where it is a chain of terms joined by `joints`, the loosest
// first, each with its spaces (" or ", " and "). "" when nothing is left.
std::string WithoutTerms(std::string_view source, const std::vector<std::string>& nodes,
                         const std::vector<std::string_view>& joints);

}  // namespace conclave::experiment
