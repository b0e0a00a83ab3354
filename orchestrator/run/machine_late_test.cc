// SPDX-License-Identifier: Apache-2.0
// Stragglers, quorums with patience, and attempts that go on from what a lost one said; every outcome by hand.
#include <gmock/gmock.h>
#include <google/protobuf/util/message_differencer.h>
#include <gtest/gtest.h>

#include "common/status.h"
#include "orchestrator/run/machine_testing.h"
#include "tests/testing/status_matchers.h"

namespace conclave::orchestrator {
namespace {

namespace pb = deliberation::v1;
using ::conclave::testing::StatusIs;
using ::google::protobuf::util::MessageDifferencer;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

// A machine stepped by hand, with all that it has put out.
class Late : public ::testing::Test {
 protected:
  void Begin(const std::string& node, const std::string& more = "") {
    graph_ = MustCompile("name: \"g\" input { name: \"question\" }" + node +
                         "node { name: \"verdict\" pick { of: \"draft\" by: MAJORITY " +
                         (more.starts_with("budget") ? "} }" + more : more + "} }"));
    spec_ = SpecFor(*graph_, {"m1", "m2", "m3"}, 7);
    auto machine = Machine::Create(graph_, spec_);
    ASSERT_OK(machine);
    machine_ = *std::move(machine);
    Feed(Start{});
  }
  void Feed(Input input) {
    auto out = machine_->Step(std::move(input));
    ASSERT_OK(out);
    last_ = *std::move(out);
    for (pb::Event event : last_.events) {
      event.set_sequence_number(static_cast<int64_t>(events_.size()) + 1);
      events_.push_back(std::move(event));
    }
    for (const CallSpec& call : last_.calls) calls_.push_back(call);
  }
  void Answer(uint32_t call, const std::string& text, int64_t tokens = 10) {
    CallFinished finished;
    finished.call = call;
    finished.text = text;
    finished.usage.set_output_token_count(tokens);
    Feed(std::move(finished));
  }
  void Lose(uint32_t call, bool retryable, int64_t tokens = 3, pb::PartialText partial = {}) {
    CallLost lost{call, Unavailable("gone"), {}, retryable, std::move(partial)};
    lost.usage.set_output_token_count(tokens);
    Feed(std::move(lost));
  }
  void Expire(uint32_t timer) {
    stored_.push_back({static_cast<int64_t>(events_.size()), TimerExpired{timer}});
    Feed(TimerExpired{timer});
  }
  pb::NodeFinished Node(const std::string& path) const {
    for (const pb::Event& event : events_) {
      if (event.has_node_finished() && event.node_path() == path) return event.node_finished();
    }
    return {};
  }
  const pb::RunFinished& Finished() const { return events_.back().run_finished(); }

  // A crash behind any event: what was recorded is followed, and the rest is asked for again.
  void ExpectEveryPrefixResumes() {
    for (size_t kept = 0; kept <= events_.size(); ++kept) {
      std::vector<StoredMachineInput> inputs;
      for (const StoredMachineInput& input : stored_) {
        if (input.after_sequence_number <= static_cast<int64_t>(kept)) inputs.push_back(input);
      }
      const auto resumed = Replay(graph_, spec_, std::span(events_).first(kept), inputs);
      ASSERT_OK(resumed) << "after event " << kept;
      if (kept == events_.size()) {
        EXPECT_TRUE(resumed->machine->finished());
        EXPECT_TRUE(MessageDifferencer::Equals(resumed->machine->ledger(), machine_->ledger()));
      }
    }
  }

  std::shared_ptr<const CompiledGraph> graph_;
  RunSpec spec_;
  std::unique_ptr<Machine> machine_;
  Output last_;
  std::vector<pb::Event> events_;
  std::vector<CallSpec> calls_;
  std::vector<StoredMachineInput> stored_;
};

const std::string kHedged = R"(node { name: "draft" speak { role: "say" members: "m*" hedge { when_done: 2 } } })";

class LateWinner : public Late, public ::testing::WithParamInterface<uint32_t> {};
INSTANTIATE_TEST_SUITE_P(EitherOfTwo, LateWinner, ::testing::Values(2, 3));

TEST_P(LateWinner, AStragglerIsAskedASecondTimeAndTheFirstAnswerCounts) {
  const uint32_t winner = GetParam();
  Begin(kHedged);
  ASSERT_EQ(calls_.size(), 3u);
  Answer(0, "#### 1");
  EXPECT_THAT(last_.calls, IsEmpty()) << "one of two";
  Answer(1, "#### 2");
  ASSERT_EQ(last_.calls.size(), 1u);
  const CallSpec& second = last_.calls[0];
  EXPECT_EQ(second.seed, calls_[2].seed) << "the same seed gives the same words elsewhere";
  EXPECT_EQ(second.beside, 2u);
  EXPECT_EQ(second.key.member(), "m3");
  EXPECT_EQ(second.key.attempt(), 1);
  EXPECT_TRUE(last_.events.back().call_started().hedge());
  Answer(winner, "#### 2");
  EXPECT_THAT(last_.cancel, ElementsAre(5 - winner)) << "the other of the two is not needed any more";
  EXPECT_EQ(Node("draft").utterance_count(), 3);
  EXPECT_EQ(Node("draft").hole_count(), 0);
  Lose(5 - winner, false, 6);
  EXPECT_EQ(Finished().answer(), "2");
  EXPECT_EQ(Finished().ledger().calls(), 4);
  EXPECT_EQ(Finished().ledger().output_tokens(), 36) << "three answers of 10 and 6 tokens for nothing";
  EXPECT_EQ(Finished().ledger().discarded_tokens(), 6);
  ExpectEveryPrefixResumes();
}

TEST_F(Late, OfTwoCallsOneMayBeLost) {
  Begin(kHedged);
  Answer(0, "#### 1");
  Answer(1, "#### 2");
  Lose(2, true);
  EXPECT_FALSE(last_.events.front().call_lost().will_retry()) << "the second is under way";
  EXPECT_THAT(last_.calls, IsEmpty());
  Lose(3, true);
  EXPECT_TRUE(last_.events.front().call_lost().will_retry()) << "nobody is left";
  ASSERT_EQ(last_.calls.size(), 1u);
  EXPECT_EQ(last_.calls[0].key.attempt(), 2);
  EXPECT_FALSE(last_.calls[0].beside.has_value());
  Lose(4, false);
  EXPECT_EQ(Node("draft").hole_count(), 1);
  EXPECT_EQ(Finished().answer(), "1") << "a tie goes to the earlier member";
  ExpectEveryPrefixResumes();
}

TEST_F(Late, ATimerAsksAgainForAllThatAreUnderWay) {
  Begin(R"(node { name: "draft" speak { role: "say" members: "m*" hedge { after { seconds: 2 nanos: 5 } } } })");
  ASSERT_EQ(last_.timers.size(), 1u);
  EXPECT_EQ(last_.timers[0].delay_ns, 2'000'000'005);
  EXPECT_EQ(machine_->PendingTimers().size(), 1u);
  Answer(1, "#### 2");
  Expire(0);
  ASSERT_EQ(last_.calls.size(), 2u);
  EXPECT_EQ(last_.calls[0].beside, 0u);
  EXPECT_EQ(last_.calls[1].beside, 2u);
  EXPECT_THAT(machine_->PendingTimers(), IsEmpty());
  EXPECT_THAT(machine_->Step(TimerExpired{0}), StatusIs(absl::StatusCode::kFailedPrecondition));
  EXPECT_THAT(machine_->Step(TimerExpired{1}), StatusIs(absl::StatusCode::kFailedPrecondition));
  Answer(3, "#### 1");
  Answer(2, "#### 1");
  Lose(0, false);
  Lose(4, false);
  EXPECT_EQ(Finished().answer(), "1");
  ExpectEveryPrefixResumes();
}

TEST_F(Late, ATimerOfANodeThatIsDoneChangesNothing) {
  Begin(R"(node { name: "draft" speak { role: "say" members: "m1" hedge { after { seconds: 2 } } } }
node { name: "more" speak { role: "say" members: "m2" sees { node: "draft" } } })",
        R"(also: "more")");
  Answer(0, "#### 1");
  EXPECT_THAT(machine_->PendingTimers(), IsEmpty());
  Feed(TimerExpired{0});
  EXPECT_THAT(last_.calls, IsEmpty());
}

// Two calls of 50 tokens reserve all there is: there is no room for a second call, and nothing fails because of it.
TEST_F(Late, ASecondCallIsMadeWhereTheBudgetHasRoomOrNotAtAll) {
  Begin(R"(node { name: "draft" speak { role: "say" members: "m1" members: "m2" hedge { when_done: 1 } } })",
        "budget { output_tokens: 100 }");
  Answer(0, "#### 1", 40);
  EXPECT_THAT(last_.calls, IsEmpty());
  Answer(1, "#### 1");
  EXPECT_EQ(Finished().state(), pb::RUN_STATE_SUCCEEDED);
  EXPECT_EQ(Finished().ledger().calls(), 2);
}

TEST_F(Late, WallTimeGivesUpBothCallsOfAStraggler) {
  Begin(kHedged, "budget { wall_time { seconds: 9 } on_exhausted: RETURN_BEST }");
  Answer(0, "#### 1");
  Answer(1, "#### 1");
  stored_.push_back({static_cast<int64_t>(events_.size()), WallTimeExpired{}});
  Feed(WallTimeExpired{});
  EXPECT_THAT(last_.cancel, ElementsAre(2, 3));
  EXPECT_EQ(Node("draft").hole_count(), 1);
  Lose(2, false);
  Lose(3, false);
  EXPECT_EQ(Finished().answer(), "1");
  ExpectEveryPrefixResumes();
}

const std::string kPatient =
    R"(node { name: "draft" speak { role: "say" members: "m*" quorum: 2 patience { seconds: 1 } } })";

TEST_F(Late, OnceTheQuorumIsThereTheOthersHaveAWhile) {
  Begin(kPatient);
  EXPECT_THAT(last_.timers, IsEmpty());
  Answer(2, "#### 3");
  Answer(1, "#### 2");
  ASSERT_EQ(last_.timers.size(), 1u);
  EXPECT_EQ(last_.timers[0].delay_ns, 1'000'000'000);
  EXPECT_EQ(Node("draft").utterance_count(), 0) << "not done yet";
  Answer(0, "#### 3");
  EXPECT_EQ(Node("draft").utterance_count(), 3);
  EXPECT_EQ(Finished().answer(), "3");
  ExpectEveryPrefixResumes();
}

TEST_F(Late, WhoIsLaterThanThatIsCutOffAndCharged) {
  Begin(kPatient);
  Answer(2, "#### 3");
  Answer(1, "#### 2");
  Expire(0);
  EXPECT_THAT(last_.cancel, ElementsAre(0));
  EXPECT_EQ(Node("draft").note(), "quorum: 2 of 3 calls were enough");
  EXPECT_EQ(Node("draft").utterance_count(), 2);
  Answer(0, "#### 3", 9);  // it was quicker than its cancellation
  EXPECT_EQ(Finished().answer(), "2") << "ties go to the earlier member, and what came late is no vote";
  EXPECT_EQ(Finished().ledger().output_tokens(), 29);
  EXPECT_EQ(Finished().ledger().discarded_tokens(), 9);
  ExpectEveryPrefixResumes();
}

pb::PartialText Said(const std::string& text, int tokens) {
  pb::PartialText said;
  said.set_text(text);
  for (int i = 0; i < tokens; ++i) said.add_token_ids(100 + i);
  said.set_model_revision("r1");
  return said;
}

const std::string kSingle = R"(node { name: "draft" speak { role: "say" members: "m1" } })";

TEST_F(Late, AnAttemptGoesOnFromWhatTheLostOneSaid) {
  Begin(kSingle);
  const int64_t reserved = events_.back().call_started().reserved_tokens();
  Lose(0, true, 12, Said("The answer is", 12));
  EXPECT_EQ(last_.events[0].call_lost().partial().text(), "The answer is");
  EXPECT_EQ(last_.events[1].call_started().continued_token_count(), 12);
  EXPECT_EQ(last_.events[1].call_started().reserved_tokens(), reserved) << "12 more of prompt, 12 less of output";
  ASSERT_EQ(last_.calls.size(), 1u);
  ASSERT_NE(last_.calls[0].partial, nullptr);
  EXPECT_TRUE(MessageDifferencer::Equals(*last_.calls[0].partial, Said("The answer is", 12)));
  // Lost again before it said more: what there was is not forgotten.
  Lose(1, true, 0);
  ASSERT_NE(last_.calls[0].partial, nullptr);
  EXPECT_EQ(last_.calls[0].partial->token_ids_size(), 12);
  Answer(2, "The answer is #### 4", 5);
  EXPECT_EQ(Finished().answer(), "4");
  EXPECT_EQ(Finished().ledger().output_tokens(), 17);
  EXPECT_EQ(Finished().ledger().discarded_tokens(), 0) << "all of it is in the text";
  ExpectEveryPrefixResumes();
}

TEST_F(Late, WhatCannotGoOnBeginsAnew) {
  Begin(kSingle);
  Lose(0, true, 50, Said("as long as it may be", 50));  // nothing is left to say but the end
  EXPECT_FALSE(last_.events[0].call_lost().has_partial());
  EXPECT_EQ(last_.calls[0].partial, nullptr);
  Lose(1, false, 7, Said("x", 7));  // nobody goes on
  EXPECT_FALSE(last_.events[0].call_lost().has_partial());
  EXPECT_EQ(machine_->ledger().discarded_tokens(), 57);
}

}  // namespace
}  // namespace conclave::orchestrator
