// SPDX-License-Identifier: Apache-2.0
// First step, for nodes that ask members: who sits there, what they see, how they are asked.
#include <algorithm>

#include "orchestrator/graph/graph_compiler.h"
#include "orchestrator/graph/limits.h"

namespace conclave::orchestrator {
namespace {

namespace pb = deliberation::v1;

}  // namespace

template <typename Message>
void GraphCompiler::FillSeats(int32_t index, const Message& message) {
  CompiledNode& to = node(index);
  const FieldLines& kind = source(index).kind;
  if (message.role().empty()) {
    Report(index, kind.line(), "no role; add role: \"..\"");
  } else if (to.role = roles_.Find(message.role()); to.role == nullptr) {
    Report(index, kind.LineOf(message, "role"), "role \"{}\" is unknown{}", message.role(),
           Suggest(message.role(), roles_.names(), "roles are"));
  }
  if (message.members().empty()) Report(index, kind.line(), "no members; add members: \"..\"");
  if (message.members_size() > kMemberNamesMax) {
    Report(index, kind.LineOf(message, "members"), "{} names of members, at most {} allowed", message.members_size(),
           kMemberNamesMax);
  }
  for (int i = 0; i < message.members_size(); ++i) {
    const std::string& name = message.members(i);
    if (name.empty() || name.size() > 128) {
      Report(index, kind.LineOf(message, "members", i), "members has a name of {} characters; 1 to 128 allowed",
             name.size());
    } else if (std::find(to.members.begin(), to.members.end(), name) != to.members.end()) {
      Report(index, kind.LineOf(message, "members", i), "members names \"{}\" twice; use samples to ask a member again",
             name);
    } else {
      to.members.push_back(name);
    }
  }
  if (message.has_samples()) to.samples = message.samples();
  if (to.samples < 1 || to.samples > kSamplesMax) {
    Report(index, kind.LineOf(message, "samples"), "samples is {}; 1 to {} allowed", to.samples, kSamplesMax);
    to.samples = 1;
  }
  if (to.role != nullptr) to.sampling = to.role->proto.sampling();
  for (const std::string& what : CheckSampling(message.sampling())) {
    Report(index, kind.LineOf(message, "sampling"), "{}", what);
  }
  OverrideSampling(message.sampling(), &to.sampling);
  FillSees(index, message);
}

template <typename Message>
void GraphCompiler::FillSees(int32_t index, const Message& message) {
  const FieldLines& kind = source(index).kind;
  if (message.sees_size() > kSeesMax) {
    Report(index, kind.LineOf(message, "sees", kSeesMax), "{} sees, at most {} allowed", message.sees_size(), kSeesMax);
    return;
  }
  for (int i = 0; i < message.sees_size(); ++i) {
    const pb::Sees& sees = message.sees(i);
    const int line = kind.LineOf(message, "sees", i);
    if (sees.own() && sees.others()) Report(index, line, "sees asks for own and others, which is all; remove both");
    if (sees.limit() < 0) Report(index, line, "sees has limit {}; 0 (all) or more allowed", sees.limit());
    if (!pb::Sees::Among_IsValid(sees.among())) {
      Report(index, line, "sees has among {}, which this version does not know", static_cast<int>(sees.among()));
    }
    const bool seated = sees.among() == pb::Sees::RING || sees.among() == pb::Sees::STAR;
    if (seated && sees.own()) {
      Report(index, line, "sees asks for own and {}, which never shows the reader's own; add a second sees with own",
             pb::Sees::Among_Name(sees.among()));
    }
    if (sees.memory() < 0 || sees.memory() > kMemoryRoundsMax) {
      Report(index, line, "sees has memory {}; 0 (the latest round) to {} allowed", sees.memory(), kMemoryRoundsMax);
    }
    CompiledSees& to = node(index).sees.emplace_back();
    to.name = sees.node();
    to.part = sees.part() == pb::Sees::PART_UNSPECIFIED ? pb::Sees::TEXT : sees.part();
    if (!pb::Sees::Part_IsValid(sees.part())) {
      Report(index, line, "sees has part {}, which this version does not know", static_cast<int>(sees.part()));
    }
    to.own = sees.own();
    to.others = sees.others();
    to.anonymous = sees.anonymous();
    to.shuffle = sees.shuffle();
    to.limit = sees.limit();
    to.among = seated ? sees.among() : pb::Sees::EVERYBODY;
    to.by_sample = sees.by_sample();
    to.memory = std::max(1, sees.memory());
  }
}

void GraphCompiler::FillSpeak(int32_t index) {
  const pb::Speak& speak = source(index).proto->speak();
  source(index).kind = source(index).lines.In(*source(index).proto, "speak");
  node(index).kind = NodeKind::kSpeak;
  FillSeats(index, speak);
  if (speak.quorum() < 0) {
    Report(index, source(index).kind.LineOf(speak, "quorum"), "quorum is {}; 0 (all) or more allowed", speak.quorum());
  }
  node(index).quorum = std::max(0, speak.quorum());
  const auto& role = node(index).role;
  if (role != nullptr && (role->contract == ContractKind::kVerdict || role->contract == ContractKind::kRanking)) {
    Report(index, source(index).kind.LineOf(speak, "role"), "role \"{}\" gives {}; use judge, or a role that answers",
           speak.role(), role->contract == ContractKind::kVerdict ? "verdicts" : "rankings");
  }
}

void GraphCompiler::FillJudge(int32_t index) {
  const pb::Judge& judge = source(index).proto->judge();
  source(index).kind = source(index).lines.In(*source(index).proto, "judge");
  node(index).kind = NodeKind::kJudge;
  FillSeats(index, judge);
  node(index).exclude_self = judge.exclude_self();
  node(index).method = judge.method() == pb::Judge::METHOD_UNSPECIFIED ? pb::Judge::VERDICT : judge.method();
  if (!pb::Judge::Method_IsValid(judge.method())) {
    Report(index, source(index).kind.LineOf(judge, "method"), "method {} is not known to this version",
           static_cast<int>(judge.method()));
  }
  const auto& role = node(index).role;
  const bool compares = node(index).compares();
  const ContractKind wanted = compares ? ContractKind::kRanking : ContractKind::kVerdict;
  if (role != nullptr && role->contract != wanted) {
    Report(index, source(index).kind.LineOf(judge, "role"),
           "role \"{}\" gives no {}; name a role whose contract is {}, or judge by another method", judge.role(),
           compares ? "ranking" : "verdict", compares ? "ranking {..}" : "verdict {..}");
  }
  const bool windowed = compares && judge.method() != pb::Judge::PAIRS;
  const int window_line = source(index).kind.LineOf(judge, "window");
  if (judge.window() != 0 && !windowed) {
    Report(index, window_line, "window has no meaning for {}; remove it",
           compares ? "PAIRS" : "a method that compares nothing");
  } else if (judge.window() != 0 && (judge.window() < 2 || judge.window() > kWindowMax)) {
    Report(index, window_line, "window is {}; 2 to {}, or 0 for all, allowed", judge.window(), kWindowMax);
  } else {
    node(index).window = judge.window();
  }
}

}  // namespace conclave::orchestrator
