// SPDX-License-Identifier: Apache-2.0
// Members that write JSON: what contracts, prompts and conditions read of its fields.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/check.h"
#include "orchestrator/run/machine_testing.h"
#include "tests/testing/status_matchers.h"

namespace conclave::orchestrator {
namespace {

using ::conclave::testing::IsOk;

Reply Say(std::string text) { return {Reply::Kind::kText, std::move(text), 10, 0.5}; }

const RoleLibrary& Roles() {
  static const RoleLibrary* const roles = [] {
    auto* library = new RoleLibrary;
    for (
        const auto& [name, text] : {
            std::pair("planner", R"(task: "Plan {{ question }}" text {} json {} repair: "Only JSON.")"),
            {"writer",
             R"(task: "Do {{ seen_plan[0].fields.steps | join('; ') }} at {{ seen_plan[0].fields.level.of }}"
                 answer { confidence_max: 10 } json { answer: "result.value" confidence: "sure" })"},
            {"rater",
             R"(task: "Rate {{ candidate.fields.result.value }}" verdict { accept: "accept" reject: "reject" score_max: 4 }
                          json { verdict: "verdict" score: "score" })"},
        }) {
      const auto errors =
          library->AddText(fmt::format("name: \"{}\" {}", name, text), fmt::format("{}.textproto", name));
      CONCLAVE_CHECK_MSG(errors.empty(), fmt::format("{}", fmt::join(errors, "\n")).c_str());
    }
    return library;
  }();
  return *roles;
}

constexpr std::string_view kGraph = R"(
name: "g" input { name: "question" }
node { name: "plan" speak { role: "planner" members: "m1" } }
node { name: "draft" when: "plan.fields.level.of >= 3" speak { role: "writer" members: "m*" sees { node: "plan" } } }
node { name: "rate" judge { role: "rater" members: "v1" of: "draft" } }
node { name: "verdict" pick { of: "draft" by: WEIGHTED_VOTE weight: "rate.mean_score * confidence" } }
)";

std::shared_ptr<const CompiledGraph> Compiled(std::string_view text) {
  CompileResult result = CompileGraphText(text, "g.textproto", Roles());
  CONCLAVE_CHECK_MSG(result.graph != nullptr, fmt::format("{}", fmt::join(result.errors, "\n")).c_str());
  return result.graph;
}

// m1 says 5 with 0.9 and is rated 1/4; m2 says 6 with 0.5 and is rated 3/4; m3 writes no JSON.
Reply Play(const CallSpec& call) {
  const std::string& prompt = call.prompt->messages.back().content();
  if (call.key.member() == "v1") {
    return Say(prompt == "Rate 5" ? R"({"verdict": "reject", "score": 1})" : R"({"verdict": true, "score": 3})");
  }
  if (prompt.starts_with("Plan")) return Say(R"(Here: {"steps": ["add", "halve"], "level": {"of": 3}})");
  if (call.key.member() == "m1") return Say(R"({"result": {"value": 5}, "sure": 9})");
  return Say(call.key.member() == "m2" ? R"(<think>{}</think>{"result": {"value": "6"}, "sure": 5})" : "#### 6");
}

TEST(MachineJson, ContractsPromptsAndConditionsReadFields) {
  const auto graph = Compiled(kGraph);
  const RunLog log = Drive(graph, SpecFor(*graph, {"m1", "m2", "m3", "v1"}), Play);
  const auto drafts = log.calls_of("draft");
  ASSERT_EQ(drafts.size(), 3u);
  EXPECT_EQ(drafts[0]->prompt(drafts[0]->prompt_size() - 1).content(), "Do add; halve at 3");
  EXPECT_EQ(drafts[0]->answer(), "5");
  EXPECT_EQ(drafts[0]->confidence(), 0.9);
  EXPECT_EQ(drafts[1]->answer(), "6");
  EXPECT_EQ(drafts[1]->confidence(), 0.5);
  EXPECT_FALSE(drafts[2]->has_answer()) << "words that are no JSON are empty";
  EXPECT_FALSE(drafts[2]->has_confidence());
  const auto rates = log.calls_of("rate");
  ASSERT_GE(rates.size(), 2u);
  EXPECT_EQ(rates[0]->score(), 0.25);
  EXPECT_EQ(rates[1]->score(), 0.75);
  // 0.25 * 0.9 = 0.225 for 5, 0.75 * 0.5 = 0.375 for 6.
  EXPECT_EQ(log.finished().answer(), "6");
}

TEST(MachineJson, AConditionOnAFieldDecides) {
  const auto graph = Compiled(kGraph);
  const RunLog log = Drive(graph, SpecFor(*graph, {"m1", "m2", "v1"}), [](const CallSpec& call) {
    const bool plan = call.prompt->messages.back().content().starts_with("Plan");
    return plan ? Say(R"({"steps": [], "level": {"of": 2}})") : Play(call);
  });
  EXPECT_TRUE(log.calls_of("draft").empty());
  EXPECT_FALSE(log.finished().has_answer());
}

TEST(MachineJson, ATextThatIsNoObjectIsAskedForOnceMore) {
  const auto graph = Compiled(kGraph);
  int plans = 0;
  const RunLog log = Drive(graph, SpecFor(*graph, {"m1", "m2", "v1"}), [&](const CallSpec& call) {
    const bool plan = call.prompt->messages.front().content().starts_with("Plan");
    return plan && plans++ == 0 ? Say("First add, then halve.")
           : plan               ? Say(R"({"steps": ["add", "halve"], "level": {"of": 3}})")
                                : Play(call);
  });
  ASSERT_EQ(log.calls_of("plan").size(), 2u);
  EXPECT_TRUE(log.calls_of("plan")[0]->will_repair());
  EXPECT_EQ(log.finished().answer(), "6");
}

TEST(MachineJson, AReplayReadsTheSame) {
  const auto graph = Compiled(kGraph);
  const RunSpec spec = SpecFor(*graph, {"m1", "m2", "m3", "v1"});
  const RunLog log = Drive(graph, spec, Play);
  for (size_t size = 1; size <= log.events.size(); ++size) {
    ASSERT_OK(Replay(graph, spec, std::span(log.events).first(size), {})) << "after " << size << " events";
  }
}

TEST(MachineJson, FieldsOfARoleThatPromisesNoneAreUnknown) {
  const auto errors = [](const std::string& when) {
    return CompileGraphText(
               "name: \"g\" input { name: \"question\" }\n"
               "node { name: \"plan\" speak { role: \"planner\" members: \"m\" } }\n"
               "node { name: \"more\" when: \"" +
                   when + "\" speak { role: \"planner\" members: \"m\" } }",
               "g.textproto", Roles())
        .errors;
  };
  EXPECT_THAT(errors("plan.fields.level == 'hard'"), ::testing::IsEmpty());
  EXPECT_THAT(errors("plan.feilds.level == 'hard'"),
              ::testing::ElementsAre(::testing::HasSubstr("when reads \"plan.feilds.level\"; plan has: fields")));
}

}  // namespace
}  // namespace conclave::orchestrator
