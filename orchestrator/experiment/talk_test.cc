// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/experiment/talk.h"

#include <gtest/gtest.h>

#include "orchestrator/experiment/talk_of.h"
#include "tests/testing/status_matchers.h"

namespace conclave::experiment {
namespace {

using Json = nlohmann::ordered_json;

class TalkTest : public ::testing::Test {
 protected:
  TalkTest() : grader_(grade::MakeGrader("gsm8k").value()) {
    item_.id = "q";
    item_.answer = "7";
  }
  void Say(const std::string& place, const std::string& member, const std::string& answer) {
    auto& event = record_.events.emplace_back();
    event.set_node_path(place);
    auto* call = event.mutable_call_finished();
    call->mutable_key()->set_member(member);
    call->mutable_key()->set_subject(-1);
    call->set_text("I am " + member + " and say #### " + answer);
    call->set_answer(answer);
  }
  // A judgement of what `member` said.
  deliberation::v1::CallFinished* Judge(const std::string& place, const std::string& shows, double score) {
    auto& event = record_.events.emplace_back();
    event.set_node_path(place);
    auto* call = event.mutable_call_finished();
    call->mutable_key()->set_member("judge");
    call->mutable_key()->set_subject(0);
    call->add_prompt()->set_content("Is this right?\n" + shows + "\n");
    call->set_score(score);
    return call;
  }
  Json Summary() {
    gatherer_.Add("arm", TalkOf(record_, item_, *grader_));
    Json summary;
    gatherer_.AddTo(&summary);
    return summary;
  }
  static std::string Words(const std::string& member, const std::string& answer) {
    return "I am " + member + " and say #### " + answer;
  }

  std::shared_ptr<const grade::Grader> grader_;
  benchmark::Item item_;
  RunRecord record_;
  TalkGatherer gatherer_;
};

// a stays right; b is talked into the majority's wrong answer; c, of that majority, stays wrong; d finds the right one.
TEST_F(TalkTest, RevisionsOfTheSameWriter) {
  Say("draft", "a", "7");
  Say("draft", "b", "7");
  Say("draft", "c", "9");
  Say("draft", "d", "9");
  Say("draft", "e", "9");
  Say("review[1].revise", "a", "7");
  Say("review[1].revise", "b", "9");
  Say("review[1].revise", "c", "9");
  Say("review[1].revise", "d", "7");
  const Json flips = Summary()["flips"];
  ASSERT_EQ(flips.size(), 1u);
  EXPECT_EQ(flips[0]["stayed_right"], 1);
  EXPECT_EQ(flips[0]["right_to_wrong"], 1);
  EXPECT_EQ(flips[0]["stayed_wrong"], 1);
  EXPECT_EQ(flips[0]["wrong_to_right"], 1);
  EXPECT_EQ(flips[0]["net"], 0.0);
  EXPECT_EQ(flips[0]["conformity"], 0.5) << "of a and b, who stood against 9, b adopted it";
}

TEST_F(TalkTest, RoundsAreRevisionsToo) {
  Say("draft", "a", "9");
  Say("review[1].revise", "a", "7");
  Say("review[2].revise", "a", "9");
  const Json flips = Summary()["flips"];
  EXPECT_EQ(flips[0]["wrong_to_right"], 1);
  EXPECT_EQ(flips[0]["right_to_wrong"], 1);
}

TEST_F(TalkTest, JudgementsAreMatchedWithWhatTheyAreAbout) {
  Say("draft", "a", "7");
  Say("draft", "b", "9");
  Judge("loop[1].verify", Words("a", "7"), 0.9);
  Judge("loop[1].verify", Words("b", "9"), 0.6);
  Judge("loop[2].verify", Words("b", "9"), 0.1);
  Judge("loop[2].verify", "nothing that anybody said", 0.5);
  Judge("loop[2].verify", Words("a", "7") + Words("b", "9"), 0.5);  // of both kinds
  Judge("rank", Words("a", "7"), 1)->add_shown(0);                  // a comparison
  const Json verifiers = Summary()["verifiers"];
  ASSERT_EQ(verifiers.size(), 1u);
  EXPECT_EQ(verifiers[0]["node"], "loop.verify");
  EXPECT_EQ(verifiers[0]["right"], 1);
  EXPECT_EQ(verifiers[0]["wrong"], 2);
  EXPECT_EQ(verifiers[0]["unmatched"], 2);
  EXPECT_EQ(verifiers[0]["true_positive"], 1.0);
  EXPECT_EQ(verifiers[0]["false_positive"], 0.5);
  EXPECT_EQ(verifiers[0]["auc"], 1.0);
  EXPECT_EQ(verifiers[0]["roc"].back(), Json({1.0, 1.0}));
}

TEST_F(TalkTest, WhoSpeaksOnceRevisesNothing) {
  Say("draft", "a", "7");
  EXPECT_TRUE(Summary()["flips"].empty());
}

}  // namespace
}  // namespace conclave::experiment
