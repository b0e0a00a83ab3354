// SPDX-License-Identifier: Apache-2.0
// Pictures of graphs: what speaks to whom, and where it goes round.
#pragma once

#include <string>

#include "orchestrator/graph/compiled_graph.h"

namespace conclave::orchestrator {

// Graphviz.
std::string DrawDot(const CompiledGraph& graph);
// Mermaid, as GitHub and many editors render it.
std::string DrawMermaid(const CompiledGraph& graph);
// A self-contained picture: boxes by kind, frames around loops and branches, solid lines for what is judged, picked
// from or repaired, dashed ones for what a prompt sees, dotted ones for what is carried into the next round.
std::string DrawSvg(const CompiledGraph& graph);

}  // namespace conclave::orchestrator
