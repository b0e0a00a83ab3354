// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/simulation/sim_graphs.h"

#include <fmt/format.h>

#include "orchestrator/run/machine_testing.h"

namespace conclave::orchestrator {
namespace {

// A vote in two rounds; what is enough of a group, and judges; votes that end early, in a loop; second calls for
// stragglers, and patience with the rest of a quorum; a graph in a loop, with a budget of its own, whose members are
// asked once more where nothing can be read.
constexpr std::string_view kGraphs[] = {
    R"(name: "vote" input { name: "question" }
node { name: "draft" speak { role: "say" members: "m*" samples: 2 } }
node { name: "again" speak { role: "say" members: "m*" sees { node: "draft" } } }
node { name: "verdict" pick { of: "again" by: MAJORITY } })",
    R"(name: "quorum" input { name: "question" }
node { name: "draft" speak { role: "say" members: "m*" samples: 3 quorum: 5 } }
node { name: "check" judge { role: "check" members: "v*" of: "draft" exclude_self: true } }
node { name: "verdict" pick { of: "draft" by: WEIGHTED_VOTE weight: "check.accepts + 1" } })",
    R"(name: "loop" input { name: "question" }
node { name: "draft" speak { role: "say" members: "m*" samples: 4 stop { rule: BETA confidence: 0.8 wave: 3 } } }
node { name: "review" loop { over: "draft" max_rounds: 3 until: "verify.accepted >= 2" yields: "revise"
  body { name: "revise" speak { role: "say" members: "m*" sees { node: "draft" } } }
  body { name: "verify" judge { role: "check" members: "v*" of: "revise" samples: 2 strict: true wave: 1 } } } }
node { name: "verdict" pick { of: "review" by: MAJORITY } })",
    R"(name: "hedge" input { name: "question" }
node { name: "draft" speak { role: "say" members: "m*" samples: 2 hedge { when_done: 4 after { nanos: 300000000 } } } }
node { name: "check" judge { role: "check" members: "v*" of: "draft" hedge { when_done: 3 } } }
node { name: "again" speak { role: "say" members: "m1" members: "m2" samples: 2 sees { node: "draft" } quorum: 3
  patience { nanos: 50000000 } hedge { after { seconds: 1 } } } }
node { name: "verdict" pick { of: "again" by: WEIGHTED_VOTE weight: "check.accepts + 1" } })",
    R"(name: "nested" input { name: "question" }
node { name: "draft" speak { role: "mend" members: "m*" } }
node { name: "work" loop { over: "draft" max_rounds: 2 until: "check.accepted >= 1" yields: "vote"
  body { name: "vote" call { graph: "vote" argument { name: "question" value: "{{ inputs.question }} {{ draft.answer }}" }
    called { name: "vote" input { name: "question" }
      node { name: "draft" speak { role: "mend" members: "m*" samples: 2 hedge { after { nanos: 300000000 } } } }
      node { name: "verdict" pick { of: "draft" by: MAJORITY } }
      budget { calls: 9 output_tokens: 400 wall_time { seconds: 4 } on_exhausted: RETURN_BEST } } } }
  body { name: "check" judge { role: "rule" members: "v*" of: "vote" } } } }
node { name: "verdict" pick { of: "work" also: "draft" by: MAJORITY } })",
};

}  // namespace

const std::vector<std::shared_ptr<const CompiledGraph>>& SimGraphs() {
  static const auto* const graphs = [] {
    auto* out = new std::vector<std::shared_ptr<const CompiledGraph>>;
    for (const std::string_view text : kGraphs) out->push_back(MustCompile(text));
    return out;
  }();
  return *graphs;
}

std::string SimAddress(int32_t worker) { return fmt::format("w{}", worker); }

std::vector<WorkerMember> SimMembers() {
  return {{.name = "m1", .addresses = {SimAddress(0), SimAddress(1)}},
          {.name = "m2", .addresses = {SimAddress(1), SimAddress(2)}},
          {.name = "m3", .addresses = {SimAddress(3)}},
          {.name = "v1", .addresses = {SimAddress(2), SimAddress(3), SimAddress(0)}}};
}

}  // namespace conclave::orchestrator
