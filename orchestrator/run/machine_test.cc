// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/run/machine.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "orchestrator/run/machine_testing.h"
#include "orchestrator/run/seeds.h"
#include "tests/testing/status_matchers.h"

namespace conclave::orchestrator {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

Reply Say(std::string text) { return {Reply::Kind::kText, std::move(text), 10, 0.5}; }

constexpr std::string_view kVote = R"(
name: "vote"
input { name: "question" }
node { name: "draft" speak { role: "say" members: "m*" } }
node { name: "verdict" pick { of: "draft" by: MAJORITY } }
)";

TEST(Machine, AVoteFromStartToEnd) {
  const auto graph = MustCompile(kVote);
  const RunLog log = Drive(graph, SpecFor(*graph, {"m1", "m2", "m3"}), [](const CallSpec& call) {
    return Say(call.key.member() == "m1" ? "#### 41" : "#### 42.0");
  });
  EXPECT_EQ(log.finished().state(), deliberation::v1::RUN_STATE_SUCCEEDED);
  EXPECT_EQ(log.finished().answer(), "42");
  EXPECT_EQ(log.finished().text(), "#### 42.0");
  EXPECT_EQ(log.events.front().run_started().graph(), "vote");
  EXPECT_THAT(log.events.front().run_started().members(), ElementsAre("m1", "m2", "m3"));
  EXPECT_EQ(log.node("verdict").votes(0).answer(), "42");
  EXPECT_EQ(log.node("verdict").votes(0).count(), 2);
  EXPECT_FALSE(log.node("verdict").tie());
  EXPECT_EQ(log.finished().ledger().calls(), 3);
  EXPECT_EQ(log.calls_of("draft")[0]->prompt(0).content(), "Answer.");
  EXPECT_EQ(log.calls_of("draft")[0]->prompt(1).content(), "What is 6 times 7? r0");
}

}  // namespace
}  // namespace conclave::orchestrator
