// SPDX-License-Identifier: Apache-2.0
// Verification: proof pools, verdicts on verdicts, strict agents, rubrics, confidence; then routing and cascades.
// Scripted members; every outcome is worked out by hand.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "common/hash.h"
#include "graphs/strategies_testing.h"

namespace conclave::orchestrator {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::SizeIs;

std::string Verdict(double score) {
  return fmt::format("VERDICT: {}\nSCORE: {}", score == 1 ? "accept" : "reject", score);
}

constexpr std::string_view kLabels = R"(
name: "labels" input { name: "question" }
node { name: "proof" speak { role: "say" members: "m*" } }
node { name: "verify" judge { role: "marks" members: "v*" of: "proof" } }
node { name: "meta" judge { role: "check" members: "w" of: "verify" where: "own_score < 1" samples: 3 } }
node { name: "best" pick { of: "proof" by: BEST_OF_N
  weight: "verify.lowest if verify.valid_at_lowest else 1 if verify.valid == 0 else 0.25" } }
)";

std::shared_ptr<const CompiledGraph> Labels() {
  RoleLibrary roles = TestRoles();
  EXPECT_THAT(roles.AddText(R"(name: "marks" task: "{{ question }} / {{ candidate.text }}"
verdict { accept: "VERDICT: accept" reject: "VERDICT: reject" score_after: "SCORE:" } sampling { max_output_tokens: 20 })",
                            "marks.textproto"),
              IsEmpty());
  CompileResult result = CompileGraphText(kLabels, "labels.textproto", roles);
  for (const std::string& error : result.errors) ADD_FAILURE() << error;
  return result.graph;
}

TEST(ProofLabels, TheLowestScoreThatAValidAnalysisGave) {
  // Two verifiers, three proofs.
  //   m1: 0 (unfounded by the majority of three), 0.5 (unfounded): no valid defect: label 1.
  //   m2: 0.5 (valid, 2 of 3), 1: label 0.5.
  //   m3: 0 (unfounded), 0.5 (valid): the lowest is not valid, another is: undecided, here 0.25.
  const std::map<std::string, double> scores = {{"m1 v1", 0},   {"m1 v2", 0.5}, {"m2 v1", 0.5},
                                                {"m2 v2", 1.0}, {"m3 v1", 0},   {"m3 v2", 0.5}};
  const auto graph = Labels();
  const auto run = [&](bool meta_lost) {
    return Drive(graph, SpecFor(*graph, {"m1", "m2", "m3", "v1", "v2", "w"}), [&](const CallSpec& call) {
      const std::string& prompt = call.prompt->messages.back().content();
      if (call.node_path == "proof") return Say(fmt::format("by {}\n#### {}", call.key.member(), call.key.member()[1]));
      if (call.node_path == "verify") {
        for (const char* member : {"m1", "m2", "m3"}) {
          if (prompt.find(fmt::format("by {}", member)) != std::string::npos) {
            return Say(fmt::format("of {} ", member) +
                       Verdict(scores.at(fmt::format("{} {}", member, call.key.member()))));
          }
        }
      }
      if (meta_lost) return Lost();
      const bool valid = (prompt.find("of m2") != std::string::npos && call.key.sample() != 1) ||
                         (prompt.find("of m3") != std::string::npos && prompt.find("SCORE: 0.5") != std::string::npos);
      return Say(valid ? "VERDICT: accept" : "VERDICT: reject");
    });
  };
  const RunLog log = run(false);
  EXPECT_EQ(log.finished().answer(), "1");
  EXPECT_THAT(log.calls_of("meta"), SizeIs(5 * 3)) << "five verdicts claim a defect; praise is not checked";
  // With every check of a verdict lost, no defect is valid: all labels are 1, and the first proof stays.
  EXPECT_EQ(run(true).finished().answer(), "1");
}

TEST(ProofPool, TheBestAreRepairedWithTheirWorstAnalysesFirst) {
  const auto graph = Shipped("prove_verify");
  std::vector<std::string> refined_from;
  const RunLog log =
      Drive(graph, SpecFor(*graph, {"solver", "verifier", "dense/a", "dense/b", "dense/c"}), [&](const CallSpec& call) {
        const std::string& prompt = call.prompt->messages.back().content();
        if (call.role == "meta_verifier") {
          EXPECT_THAT(prompt, AllOf(HasSubstr("A solution:\n"), HasSubstr("defect")));
          return Say("VERDICT: valid");
        }
        if (call.node_path == "draft") {
          // Quality of a draft: a0 0, a1 1/2, b0 1/2, b1 1/2, c0 1/2, c1 0.
          return Say(fmt::format("draft {}{}\nSELF-SCORE: 1\n#### {}", call.key.member().back(), call.key.sample(), 1));
        }
        if (call.role == "proof_writer") {
          refined_from.push_back(prompt.substr(prompt.find("draft "), 8));
          EXPECT_LT(prompt.find("SCORE: 0"), prompt.find("SCORE: 0.5")) << "the worst analysis first";
          return Say("perfect\nSELF-SCORE: 1\n#### 7");
        }
        if (prompt.find("perfect") != std::string::npos) return Say("no defect\n" + Verdict(1));
        const bool poor = prompt.find("draft a0") != std::string::npos || prompt.find("draft c1") != std::string::npos;
        return Say("a defect\n" + Verdict(poor ? 0 : call.key.sample() == 3 ? 0 : 0.5));
      });
  EXPECT_THAT(refined_from, ElementsAre("draft a1", "draft b0", "draft b1", "draft c0"));
  EXPECT_EQ(log.finished().answer(), "7");
  EXPECT_EQ(log.node("pool").rounds(), 1) << "the best passed the bar";
  EXPECT_THAT(log.calls_of("pool[1].bar"), SizeIs(8));
  EXPECT_THAT(log.calls_of("pool[1].meta"), IsEmpty()) << "nothing below 1 to check";
  EXPECT_EQ(log.node("pool[1].kept").utterance_count(), 8);
}

TEST(StrictJudge, EndsAtTheFirstThatDoesNotAccept) {
  const auto graph = MustCompile(R"(
name: "g" input { name: "question" }
node { name: "a" speak { role: "say" members: "m*" } }
node { name: "bar" judge { role: "check" members: "v" of: "a" samples: 8 strict: true } }
node { name: "best" pick { of: "a" by: BEST_OF_N weight: "bar.accepts if bar.rejects == 0 else 0" where: "bar.accepts == 8" } }
)");
  // m1 fails the third check, m2 passes all, m3's second is unreadable, m4's first is lost: 3 + 8 + 2 + 1 calls.
  const RunLog log = Drive(graph, SpecFor(*graph, {"m1", "m2", "m3", "m4", "v"}), [](const CallSpec& call) {
    if (call.node_path == "a") return Say("#### " + call.key.member().substr(1));
    if (call.key.subject() == 0 && call.key.sample() == 2) return Say("VERDICT: reject");
    if (call.key.subject() == 2 && call.key.sample() == 1) return Say("hm");
    if (call.key.subject() == 3) return Lost();
    return Say("VERDICT: accept");
  });
  EXPECT_EQ(log.finished().answer(), "2");
  EXPECT_EQ(log.finished().ledger().calls(), 4 + 3 + 8 + 2 + 1);
}

TEST(StrictJudge, ExpectedCallsFollowTheFormula) {
  // Passes of probability q, n judgements: (1 - q^n) / (1 - q) calls.
  const auto graph = MustCompile(R"(
name: "g" input { name: "question" }
node { name: "a" speak { role: "say" members: "m" samples: 64 } }
node { name: "bar" judge { role: "check" members: "v" of: "a" samples: 16 strict: true } }
node { name: "best" pick { of: "a" by: BEST_OF_N weight: "bar.accepts" } }
)");
  constexpr double kPass = 0.75;
  double calls = 0, squares = 0;
  constexpr int kRuns = 40;
  for (uint64_t seed = 1; seed <= kRuns; ++seed) {
    const RunLog log = Drive(graph, SpecFor(*graph, {"m", "v"}, seed), [](const CallSpec& call) {
      if (call.node_path == "a") return Say("#### 1");
      const double u = static_cast<double>(Mix64(call.seed) >> 11) * 0x1p-53;
      return Say(u < kPass ? "VERDICT: accept" : "VERDICT: reject");
    });
    std::map<int, double> by_subject;
    for (const auto* call : log.calls_of("bar")) by_subject[call->key().subject()] += 1;
    for (const auto& [subject, count] : by_subject) calls += count, squares += count * count;
  }
  const double n = 64 * kRuns, mean = calls / n, error = std::sqrt((squares / n - mean * mean) / n);
  EXPECT_NEAR(mean, (1 - std::pow(kPass, 16)) / (1 - kPass), 4 * error);
}

TEST(StrictAgent, AcceptsAfterFivePassesInARow) {
  // Rounds: pass, pass, fail (repaired), then five passes: accepted in round 8 with the repaired solution.
  const auto graph = Shipped("strict_agent");
  const RunLog log = Drive(graph, SpecFor(*graph, {"solver", "verifier"}), [](const CallSpec& call) {
    if (call.node_path == "draft") return Say("#### 1");
    if (call.node_path == "improved") return Say("#### 2");
    if (call.role == "reviser") {
      EXPECT_THAT(call.prompt->messages.back().content(), HasSubstr("the report"));
      return Say("#### 3");
    }
    return Say(call.node_path == "agent[3].verify" ? "the report\nVERDICT: reject" : "VERDICT: accept");
  });
  EXPECT_EQ(log.finished().answer(), "3");
  EXPECT_EQ(log.node("agent").rounds(), 8);
  EXPECT_EQ(log.finished().ledger().calls(), 2 + 8 + 1);
}

TEST(StrictAgent, GivesUpAfterTenFailsAndThenHasNoAnswer) {
  // One pass, then ten fails in a row, of which one round's verdict is unreadable: it ends passes and is no fail.
  const auto graph = Shipped("strict_agent");
  const RunLog log = Drive(graph, SpecFor(*graph, {"solver", "verifier"}), [](const CallSpec& call) {
    if (call.role != "verifier") return Say("#### 2");
    if (call.node_path == "agent[1].verify") return Say("VERDICT: accept");
    return Say(call.node_path == "agent[5].verify" ? "hm" : "VERDICT: reject");
  });
  EXPECT_EQ(log.node("agent").rounds(), 12);
  EXPECT_EQ(log.finished().state(), deliberation::v1::RUN_STATE_SUCCEEDED);
  EXPECT_FALSE(log.finished().has_answer()) << "what was not accepted is no answer";
}

TEST(StrictAgent, EndsAfterThirtyRounds) {
  const auto graph = Shipped("strict_agent");
  const RunLog log = Drive(graph, SpecFor(*graph, {"solver", "verifier"}), [](const CallSpec& call) {
    if (call.role != "verifier") return Say("#### 2");
    const size_t open = call.node_path.find('[');
    return Say(std::stoi(call.node_path.substr(open + 1)) % 4 == 0 ? "VERDICT: reject" : "VERDICT: accept");
  });
  EXPECT_EQ(log.node("agent").rounds(), 30);
  EXPECT_FALSE(log.finished().has_answer());
}

TEST(Rubric, WeightsCriteriaAndNeedsThemAll) {
  // Marks of a: (2 x 1 + 2 x 0.5 + 1 x 1) / 5 = 0.8 three times. b: 1, and two verdicts with a line missing: mean 1.
  const auto graph = Shipped("rubric_best_of_n");
  const RunLog log = Drive(graph, SpecFor(*graph, {"dense/a", "dense/b", "verifier"}), [](const CallSpec& call) {
    if (call.node_path == "draft") return Say("#### " + std::string(call.key.member() == "dense/a" ? "1" : "2"));
    const bool a = call.key.subject() < 2;
    if (a) return Say("ARITHMETIC: 10\nREASONING: 5\nANSWER: 12");
    return Say(call.key.sample() == 0 ? "ARITHMETIC: 10\nREASONING: 10\nANSWER: 10" : "ARITHMETIC: 9\nANSWER: 9");
  });
  EXPECT_EQ(log.finished().answer(), "2");
  EXPECT_DOUBLE_EQ(log.calls_of("marks")[0]->score(), 0.8) << "12 of 10 count as 10";
  EXPECT_FALSE(log.calls_of("marks")[7]->has_score());
}

TEST(Confidence, TheWriterIsAskedInItsOwnConversation) {
  // a says 1 with probability 0.9 in all four samples, b says 2 with 0.1, c says 2 with 0.1. exp(0.9 / 0.5) = 6.05
  // against 2 x exp(0.1 / 0.5) = 2.44 per sample: the confident minority wins.
  const auto graph = Shipped("confidence_vote");
  const RunLog log = Drive(graph, SpecFor(*graph, {"dense/a", "dense/b", "dense/c"}), [](const CallSpec& call) {
    const bool a = call.key.member() == "dense/a";
    Reply reply = Say(fmt::format("by {} sample {}\n#### {}", call.key.member(), call.key.sample(), a ? 1 : 2));
    reply.p_true = a ? 0.9 : 0.1;
    return reply;
  });
  EXPECT_EQ(log.finished().answer(), "1");
  EXPECT_NEAR(log.node("verdict").votes(1).weight(), 3 * std::exp(0.9 / 0.5), 1e-9);
  EXPECT_EQ(log.finished().ledger().calls(), 18) << "everybody is asked about its own";
  const auto drafts = log.calls_of("draft");
  const auto asked = log.calls_of("sure");
  for (size_t i = 0; i < asked.size(); ++i) {
    ASSERT_EQ(asked[i]->prompt_size(), drafts[i]->prompt_size() + 2);
    for (int m = 0; m < drafts[i]->prompt_size(); ++m) {
      EXPECT_EQ(asked[i]->prompt(m).content(), drafts[i]->prompt(m).content()) << "the prefix is the same";
    }
    EXPECT_EQ(asked[i]->prompt(drafts[i]->prompt_size()).role(), "assistant");
    EXPECT_EQ(asked[i]->prompt(drafts[i]->prompt_size()).content(), drafts[i]->text());
    EXPECT_EQ(asked[i]->key().member(), drafts[i]->key().member());
  }
}

TEST(Confidence, OfTokensWhereTheyAreLeastSure) {
  // Windows of 64. a is sure throughout, 3 each place; b says another answer with 9 everywhere but in a run of 64 at 1.
  // Bottom of b: of 65 windows the seven lowest, which hold the run or miss up to three places of it at either side:
  // means 1, 1 + 8/64 (twice), 1 + 16/64 (twice), 1 + 24/64 (twice): in the mean 1 + 96/448. c's worker does not tell:
  // nothing.
  const auto graph = Shipped("token_confidence_vote");
  TokenTrace sure, doubt;
  sure.confidences.assign(128, 3.0F);
  sure.logprob_sum = -12.8;
  doubt.confidences.assign(128, 9.0F);
  std::fill(doubt.confidences.begin() + 32, doubt.confidences.begin() + 96, 1.0F);
  const RunSpec spec = SpecFor(*graph, {"dense/a", "dense/b", "dense/c"});
  const RunLog log = Drive(graph, spec, [&](const CallSpec& call) {
    EXPECT_TRUE(call.token_trace);
    const bool a = call.key.member() == "dense/a";
    Reply reply = Say(a ? "#### 1" : "#### 2");
    if (a) reply.trace = sure;
    if (call.key.member() == "dense/b") reply.trace = doubt;
    return reply;
  });
  EXPECT_EQ(log.finished().answer(), "1") << "three votes of 3 against three of 1.2 and three of nothing";
  EXPECT_NEAR(log.node("verdict").votes(0).weight(), 3 * (1 + 96.0 / 448), 1e-6);
  EXPECT_NEAR(log.node("verdict").votes(1).weight(), 3 * 3, 1e-6);
  EXPECT_NEAR(log.calls_of("draft")[0]->token_confidence().mean_logprob(), -0.1, 1e-9);
  EXPECT_FALSE(log.calls_of("draft")[8]->has_token_confidence());
  const auto resumed = Replay(graph, spec, log.events, {});
  ASSERT_TRUE(resumed.ok()) << resumed.status().ToString();
  EXPECT_EQ(resumed->machine->answer(), "1") << "what the tokens said is in the record";
}

const std::vector<std::string> kRouted = {"planner", "cheap", "dense/a",  "dense/b",
                                          "dense/c", "dear",  "verifier", "solver"};

TEST(Divergence, TalkOnlyWhereDraftsDisagree) {
  const Script agree = {{"draft dense/a", "#### 4"}, {"draft dense/b", "#### 4"}, {"draft dense/c", "#### 4"}};
  EXPECT_EQ(Play("draft_debate_consolidate", kRouted, agree).finished().ledger().calls(), 3);
  // 2-1: the margin is 1/3: they debate, agree in round 1, and one writes the end.
  Script differ = agree;
  differ["draft dense/c"] = "#### 5";
  differ["settled.debate[1].revise dense/a"] = differ["settled.debate[1].revise dense/b"] = "#### 5";
  differ["settled.debate[1].revise dense/c"] = "#### 5";
  differ["settled.consolidate solver"] = "lost";
  const RunLog log = Play("draft_debate_consolidate", kRouted, differ);
  EXPECT_EQ(log.finished().answer(), "5") << "without the last word, the debate's";
  EXPECT_EQ(log.finished().ledger().calls(), 3 + 3 + 1);
}

TEST(Cascade, TheNextIsAskedOnlyWhenTheLastDisagreed) {
  Script script = {{"quick cheap", "#### 4"}};
  EXPECT_EQ(Play("cascade", kRouted, script).finished().ledger().calls(), 3);
  script = {{"quick cheap", "#### 4"},
            {"quick cheap 2", "no idea"},
            {"more.group dense/a", "#### 7"},
            {"more.group dense/b", "#### 7"},
            {"more.group dense/c", "#### 7"}};
  RunLog log = Play("cascade", kRouted, script);
  EXPECT_EQ(log.finished().answer(), "7") << "an empty answer is no agreement";
  EXPECT_EQ(log.finished().ledger().calls(), 6);
  script["more.group dense/b"] = "#### 8";
  script["more.most.expert dear"] = "#### 9";
  log = Play("cascade", kRouted, script);
  EXPECT_EQ(log.finished().answer(), "9");
  EXPECT_EQ(log.finished().ledger().calls(), 7);
  script["more.most.expert dear"] = "lost";
  EXPECT_EQ(Play("cascade", kRouted, script).finished().answer(), "7") << "without the dear one the group's first";
}

TEST(Escalate, TheGroupIsAskedOnlyWhereTheCheapOnesDoNotAgree) {
  Script script = {{"quick cheap", "#### 4"},
                   {"more.group dense/a", "#### 5"},
                   {"more.group dense/b", "#### 6"},
                   {"more.group dense/c", "#### 5"}};
  EXPECT_EQ(Play("escalate", kRouted, script).finished().answer(), "4");
  EXPECT_EQ(Play("escalate", kRouted, script).finished().ledger().calls(), 1);
  script["quick cheap"] = "no idea";
  EXPECT_EQ(Play("escalate", kRouted, script).finished().answer(), "5");
  EXPECT_EQ(Play("escalate", kRouted, script).finished().ledger().calls(), 4);
  script["more.group dense/a"] = script["more.group dense/c"] = "lost";
  EXPECT_EQ(Play("escalate", kRouted, script).finished().answer(), "6");
}

TEST(Route, ByDifficultyWithEscalation) {
  Script script = {{"level planner", "It takes one step: easy."},
                   {"routed.quick cheap", "#### 4"},
                   {"check verifier", "VERDICT: accept"},
                   {"routed.group dense/a", "#### 5"},
                   {"routed.group dense/b", "#### 5"},
                   {"routed.group dense/c", "#### 6"},
                   {"routed.work.revised dense/a", "#### 6"},
                   {"routed.work.revised dense/b", "#### 6"},
                   {"routed.work.revised dense/c", "#### 6"},
                   {"answer.expert dear", "#### 9"}};
  EXPECT_EQ(Play("route", kRouted, script).finished().answer(), "4");
  script["level planner"] = "medium";
  EXPECT_EQ(Play("route", kRouted, script).finished().answer(), "5");
  script["level planner"] = "Not easy, hard";
  EXPECT_EQ(Play("route", kRouted, script).finished().answer(), "6");
  script["level planner"] = "I cannot say";
  EXPECT_EQ(Play("route", kRouted, script).finished().answer(), "5") << "without a label the group votes";
  script["level planner"] = "lost";
  EXPECT_EQ(Play("route", kRouted, script).finished().answer(), "5");
  script["check verifier"] = "VERDICT: reject";
  script["check verifier 0"] = "VERDICT: accept";
  EXPECT_EQ(Play("route", kRouted, script).finished().answer(), "9") << "two of three reject: the dear one is asked";
  script["answer.expert dear"] = "no idea";
  EXPECT_EQ(Play("route", kRouted, script).finished().answer(), "5");
}

TEST(Route, ByDomainWithTheGroupBehind) {
  std::vector<std::string> members = kRouted;
  for (const char* field : {"algebra", "geometry", "counting", "logic"})
    members.push_back(std::string("expert/") + field);
  Script script = {{"field planner", "geometry"}, {"geometry expert/geometry", "#### 3"},
                   {"group dense/a", "#### 1"},   {"group dense/b", "#### 1"},
                   {"group dense/c", "#### 2"},   {"algebra expert/algebra", "#### 8"}};
  EXPECT_EQ(Play("route_by_domain", members, script).finished().answer(), "3");
  EXPECT_EQ(Play("route_by_domain", members, script).finished().ledger().calls(), 2);
  script["field planner"] = "other";
  EXPECT_EQ(Play("route_by_domain", members, script).finished().answer(), "1");
  script["field planner"] = "algebra, not geometry? algebra";
  EXPECT_EQ(Play("route_by_domain", members, script).finished().answer(), "8") << "the last label counts";
  script["algebra expert/algebra"] = "no idea";
  EXPECT_EQ(Play("route_by_domain", members, script).finished().answer(), "1");
  script["algebra expert/algebra"] = "lost";
  EXPECT_EQ(Play("route_by_domain", members, script).finished().answer(), "1");
}

}  // namespace
}  // namespace conclave::orchestrator
