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
    to.of_subject = sees.of_subject();
    to.lowest = sees.lowest();
    to.of_line = sees.of_line();
    if (sees.of_line() && !sees.of_subject()) {
      Report(index, line, "sees asks for of_line without of_subject; add of_subject: true");
    }
    if (sees.lowest() && sees.shuffle()) {
      Report(index, line, "sees asks for the lowest first and for a shuffled order; remove one");
    }
  }
}

// Nanoseconds of a duration that somebody is to wait for; says what is wrong with it.
int64_t GraphCompiler::CheckDelay(int32_t index, int line, const char* what, const google::protobuf::Duration& delay) {
  const bool fits =
      delay.seconds() >= 0 && delay.nanos() >= 0 &&
      (delay.seconds() < kPatienceSecondsMax || (delay.seconds() == kPatienceSecondsMax && delay.nanos() == 0));
  if (!fits || (delay.seconds() == 0 && delay.nanos() == 0)) {
    Report(index, line, "{} is {} s and {} ns; more than 0, at most {} s allowed", what, delay.seconds(), delay.nanos(),
           kPatienceSecondsMax);
    return 0;
  }
  return delay.seconds() * 1'000'000'000 + delay.nanos();
}

template <typename Seated>
void GraphCompiler::FillHedge(int32_t index, const Seated& message) {
  if (!message.has_hedge()) return;
  const FieldLines lines = source(index).kind.In(message, "hedge");
  const pb::Hedge& hedge = message.hedge();
  if (hedge.when_done() < 0) {
    Report(index, lines.LineOf(hedge, "when_done"), "when_done is {}; 0 (their number does not matter) or more allowed",
           hedge.when_done());
  }
  node(index).hedge_when_done = std::max(0, hedge.when_done());
  if (hedge.has_after()) {
    node(index).hedge_after_ns = CheckDelay(index, lines.LineOf(hedge, "after"), "after", hedge.after());
  } else if (hedge.when_done() == 0) {
    Report(index, lines.line(),
           "hedge does not say when; add when_done: a number of calls, or after {{ seconds: .. }}");
  }
  const bool waves = source(index).proto->speak().has_stop() || source(index).proto->judge().strict();
  if (waves) {
    Report(index, lines.line(), "hedge and {} at once: calls of a wave are few and end together; remove one",
           node(index).kind == NodeKind::kSpeak ? "stop" : "strict");
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
  if (speak.has_patience()) {
    const FieldLines& kind = source(index).kind;
    node(index).patience_ns = CheckDelay(index, kind.LineOf(speak, "patience"), "patience", speak.patience());
    if (speak.quorum() == 0) {
      Report(index, kind.LineOf(speak, "patience"), "patience begins when a quorum is there; add quorum, or remove it");
    }
  }
  FillHedge(index, speak);
  if (speak.has_stop()) FillStop(index);
  FillAssign(index);
  node(index).confidence_window = speak.confidence_window();
  if (speak.confidence_window() < 0 || speak.confidence_window() > kConfidenceWindowMax) {
    Report(index, source(index).kind.LineOf(speak, "confidence_window"),
           "confidence_window is {}; 0 (not asked) to {} tokens allowed", speak.confidence_window(),
           kConfidenceWindowMax);
  }
  const auto& role = node(index).role;
  if (role != nullptr && (role->contract == ContractKind::kVerdict || role->contract == ContractKind::kRanking)) {
    Report(index, source(index).kind.LineOf(speak, "role"), "role \"{}\" gives {}; use judge, or a role that answers",
           speak.role(), role->contract == ContractKind::kVerdict ? "verdicts" : "rankings");
  }
}

void GraphCompiler::FillAssign(int32_t index) {
  const pb::Speak& speak = source(index).proto->speak();
  const int line = source(index).kind.LineOf(speak, "assign");
  if (!pb::Speak::Assign_IsValid(speak.assign())) {
    Report(index, line, "assign {} is not known to this version", static_cast<int>(speak.assign()));
    return;
  }
  node(index).assign = speak.assign() == pb::Speak::ASSIGN_UNSPECIFIED ? pb::Speak::ALL : speak.assign();
  const bool bound = node(index).assign == pb::Speak::UCB;
  if (node(index).assign != pb::Speak::ALL && speak.each().empty()) {
    Report(index, line, "assign says who takes an utterance of each, and there is none; add each");
  }
  if (bound && speak.worth().empty()) Report(index, line, "UCB needs worth: an expression, e.g. \"score.mean_score\"");
  if (!bound && !speak.worth().empty()) {
    Report(index, source(index).kind.LineOf(speak, "worth"), "worth has no meaning without assign: UCB; remove it");
  }
  if (bound) node(index).memory = kMemoryRoundsMax;  // what it has made is looked back on
}

void GraphCompiler::FillStop(int32_t index) {
  const pb::Speak& speak = source(index).proto->speak();
  const FieldLines stop_lines = source(index).kind.In(speak, "stop");
  pb::Stopping stop = speak.stop();
  if (stop.rule() == pb::Stopping::RULE_UNSPECIFIED || !pb::Stopping::Rule_IsValid(stop.rule())) {
    Report(index, stop_lines.line(), "stop has no rule; add rule: BETA, DIRICHLET or WINDOW");
  }
  const bool window = stop.rule() == pb::Stopping::WINDOW;
  if (window && stop.has_confidence()) {
    Report(index, stop_lines.LineOf(stop, "confidence"), "confidence has no meaning for WINDOW; remove it");
  }
  if (!stop.has_confidence()) stop.set_confidence(0.95);
  if (!(stop.confidence() > 0.5 && stop.confidence() < 1)) {
    Report(index, stop_lines.LineOf(stop, "confidence"), "confidence is {}; it must be above 0.5 and below 1",
           stop.confidence());
  }
  if (stop.wave() == 0) stop.set_wave(window ? 5 : 1);
  if (stop.wave() < (window ? 2 : 1) || stop.wave() > kWaveMax) {
    Report(index, stop_lines.LineOf(stop, "wave"), "wave is {}; {} to {} allowed", stop.wave(), window ? 2 : 1,
           kWaveMax);
  }
  if (speak.quorum() != 0) {
    Report(index, source(index).kind.LineOf(speak, "quorum"),
           "quorum and stop at once: arrival and order would both decide; remove one");
  }
  if (node(index).role != nullptr && node(index).role->contract != ContractKind::kAnswer) {
    Report(index, stop_lines.line(), "stop counts answers, and role \"{}\" gives none; remove stop", speak.role());
  }
  node(index).wave = stop.wave();
  node(index).stop = std::move(stop);
}

void GraphCompiler::FillJudge(int32_t index) {
  const pb::Judge& judge = source(index).proto->judge();
  source(index).kind = source(index).lines.In(*source(index).proto, "judge");
  node(index).kind = NodeKind::kJudge;
  FillSeats(index, judge);
  FillHedge(index, judge);
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
  node(index).strict = judge.strict();
  node(index).follow = judge.follow();
  node(index).only_self = judge.only_self();
  graph_->follows_ = graph_->follows_ || judge.follow();
  if (judge.strict()) node(index).wave = judge.wave() == 0 ? 1 : judge.wave();
  if (judge.wave() < 0 || judge.wave() > kWaveMax) {
    Report(index, source(index).kind.LineOf(judge, "wave"), "wave is {}; 1 to {} allowed", judge.wave(), kWaveMax);
  } else if (judge.wave() != 0 && !judge.strict()) {
    Report(index, source(index).kind.LineOf(judge, "wave"), "wave has no meaning without strict; remove it");
  }
  for (const auto& [on, field] :
       {std::pair(judge.strict(), "strict"), {judge.follow(), "follow"}, {judge.only_self(), "only_self"}}) {
    if (on && compares) {
      Report(index, source(index).kind.LineOf(judge, field), "{} has no meaning for a judge that compares; remove it",
             field);
    }
  }
  if (judge.only_self() && judge.exclude_self()) {
    Report(index, source(index).kind.LineOf(judge, "only_self"), "only_self and exclude_self leave nobody; remove one");
  }
  if (judge.follow() && role != nullptr && role->system.has_value()) {
    Report(index, source(index).kind.LineOf(judge, "follow"),
           "role \"{}\" has a system message, which cannot follow a conversation; name a role without", judge.role());
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
