// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/fleet/abilities.h"

#include <set>
#include <string>

#include "common/status.h"
#include "protos/rpc_status.h"

namespace conclave::orchestrator {
namespace {

namespace pb = deliberation::v1;

// Whether some sampling asks for more than every server honours.
bool IsExtended(const pb::SamplingDefaults& sampling) {
  return sampling.top_k() > 0 || sampling.min_p() > 0 ||
         (sampling.has_repetition_penalty() && sampling.repetition_penalty() != 1);
}

class Check {
 public:
  Check(const CompiledGraph& graph, const RunSpec& spec, std::span<const MemberFacts> members)
      : graph_(graph), spec_(spec), members_(members) {}

  absl::Status Run() {
    if (spec_.result_constraint != nullptr) RETURN_IF_ERROR(CheckResultMayBeHeld());
    if (spec_.result_logprobs.has_value()) RETURN_IF_ERROR(CheckResultIsOneText());
    for (const CompiledNode& node : graph_.nodes()) {
      std::set<int32_t> seen;  // a member may have several names in one node
      for (const std::string& name : node.members) {
        const auto bound = spec_.binding.find(name);
        if (bound == spec_.binding.end()) continue;
        for (const int32_t member : bound->second) {
          if (seen.insert(member).second) CheckSeat(node, members_[static_cast<size_t>(member)]);
        }
      }
    }
    if (text_.empty()) return absl::OkStatus();
    return rpc::WithReason(MakeStatus(absl::StatusCode::kFailedPrecondition, text_), "CAPABILITY_MISSING");
  }

 private:
  // Whether the result is what somebody says who may be held to the run's constraint.
  absl::Status CheckResultMayBeHeld() const {
    const CompiledNode& result = graph_.node(graph_.result());
    std::string why;
    if (result.kind != NodeKind::kSpeak) {
      why = "is not what a speak says but what comes of others' words; ask a graph that ends in a speak, or a member";
    } else if (result.role->constraint != nullptr) {
      why = fmt::format("is held to a constraint by its role \"{}\" already", result.role->proto.name());
    } else {
      return absl::OkStatus();
    }
    return ResultCannot(kResultConstraintField, why);
  }

  // Whether the result is the words of one call, which begin with its first token and are told as they come.
  absl::Status CheckResultIsOneText() const {
    const CompiledNode& result = graph_.node(graph_.result());
    int64_t calls = 0;
    for (const std::string& name : result.members) {
      const auto bound = spec_.binding.find(name);
      if (bound != spec_.binding.end()) calls += std::ssize(bound->second) * result.samples;
    }
    const bool spoken_once = result.kind == NodeKind::kSpeak && result.each == kNoNode && calls == 1;
    if (spoken_once && !result.role->proto.repair().empty()) {
      return ResultCannot(
          kResultLogprobsField,
          fmt::format("may be asked for once more, as its role \"{}\" says by repair", result.role->proto.name()));
    }
    if (spoken_once) return absl::OkStatus();
    return ResultCannot(kResultLogprobsField,
                        "is not what one member says once, and log-probabilities are of one text; ask a graph that "
                        "ends in such a speak, or a member");
  }

  absl::Status ResultCannot(std::string_view field, std::string_view why) const {
    const CompiledNode& result = graph_.node(graph_.result());
    const std::string text = fmt::format("graph \"{}\": its result \"{}\" {}", graph_.name(), result.name, why);
    const rpc::FieldViolation violation = {std::string(field), text};
    return rpc::WithReason(
        rpc::WithViolations(MakeStatus(absl::StatusCode::kFailedPrecondition, text), {&violation, 1}),
        "CAPABILITY_MISSING");
  }

  void CheckSeat(const CompiledNode& node, const MemberFacts& member) {
    const MemberAbilities& can = member.abilities;
    Require(can.seed || !graph_.needs_seeds(), node, member, "does not honour seeds, which needs_seeds wants", "SEED");
    Require(can.logprobs || node.confidence_window == 0, node, member,
            "tells no log-probabilities, which confidence_window needs", "LOGPROBS");
    Require(can.p_true || node.kind != NodeKind::kJudge || node.method != pb::Judge::P_TRUE, node, member,
            "cannot compare the probabilities of two continuations, which P_TRUE needs", "");
    Require(can.extended_sampling || !(IsExtended(node.sampling) || IsExtended(spec_.sampling)), node, member,
            "does not honour top_k, min_p or repetition_penalty", "EXTENDED_SAMPLING");
    Require(can.experts || !(node.sampling.has_experts_per_token() || spec_.sampling.has_experts_per_token()), node,
            member, "does not let experts_per_token be chosen", "");
    Require(can.logprobs || !spec_.result_logprobs.has_value() || node.index != graph_.result(), node, member,
            "tells no log-probabilities, which are wanted of the result", "LOGPROBS");
    if (spec_.result_constraint == nullptr || node.index != graph_.result()) return;
    const bool schema = spec_.result_constraint->has_json_schema();
    Require(schema ? can.json_schema : can.grammar, node, member,
            schema ? "cannot be held to a JSON Schema, which the result is to be"
                   : "cannot be held to a regular expression or grammar, which the result is to be",
            schema ? "JSON_SCHEMA" : "");
  }

  void Require(bool holds, const CompiledNode& node, const MemberFacts& member, std::string_view what,
               std::string_view capability) {
    if (holds) return;
    if (!text_.empty()) text_ += '\n';
    text_ += fmt::format("graph \"{}\": node \"{}\": member \"{}\" {}; bind another", graph_.name(), node.full_name,
                         member.name, what);
    if (!capability.empty() && member.backend == "openai") {
      text_ += fmt::format(", or, where its server does, declare capability: {} in the fleet", capability);
    }
  }

  const CompiledGraph& graph_;
  const RunSpec& spec_;
  const std::span<const MemberFacts> members_;
  std::string text_;
};

}  // namespace

absl::Status CheckAbilities(const CompiledGraph& graph, const RunSpec& spec, std::span<const MemberFacts> members) {
  return Check(graph, spec, members).Run();
}

}  // namespace conclave::orchestrator
