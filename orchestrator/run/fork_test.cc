// SPDX-License-Identifier: Apache-2.0
// A past run that goes on otherwise, and where two courses part.
#include "orchestrator/run/fork.h"

#include <set>

#include "orchestrator/run/executor_testing.h"
#include "orchestrator/run/machine_testing.h"

namespace conclave::orchestrator {
namespace {

using ::conclave::testing::StatusIs;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

class Fork : public ::testing::Test {
 protected:
  void SetUp() override {
    record_.graph = MustCompile(R"(
name: "g" input { name: "question" }
node { name: "draft" speak { role: "say" members: "m*" } }
node { name: "again" speak { role: "say" members: "m*" sees { node: "draft" } } }
node { name: "verdict" pick { of: "again" by: MAJORITY } }
)");
    record_.spec = SpecFor(*record_.graph, {"m1", "m2"}, 5);
    const RunLog log = Drive(record_.graph, record_.spec, [](const CallSpec& call) {
      return Reply{.text = call.key.member() == "m1" ? "it is #### 1" : "it is #### 2"};
    });
    record_.events = log.events;
  }
  // The event behind which `node` is done.
  int64_t DoneAt(std::string_view node) const {
    for (const pb::Event& event : record_.events) {
      if (event.has_node_finished() && event.node_path() == node) return event.sequence_number();
    }
    return -1;
  }
  // Writes the fork and lets an executor go on with it. The calls made then, by path and member.
  std::set<std::string> GoOn(const ForkChange& change, std::vector<pb::Event>* events) {
    auto ops = ForkRun(record_, change, "runs/fork", 7);
    EXPECT_OK(ops);
    if (!ops.ok()) return {};
    EXPECT_OK(WriteAndWait(store_.get(), *std::move(ops)).status);
    std::set<std::string> made;
    FakeBackend backend({"m1", "m2", "m3"}, [&](const CallRequest& request) {
      made.insert(request.member + ": " + request.prompt.back().content());
      return Says("now #### 3");
    });
    auto executor = *Executor::Start({.store = store_.get(), .backend = &backend});
    auto recorder = std::make_shared<Recorder>();
    executor->Watch("runs/fork", 0, false, recorder);
    EXPECT_OK(recorder->Await());
    *events = recorder->events();
    ExpectWhole(*events);
    return made;
  }

  RunRecord record_;
  std::unique_ptr<Store> store_ = NewMemoryStore();
};

TEST_F(Fork, ANewPromptFromAnEventOnAndWhatWasBeforeStands) {
  std::vector<pb::Event> events;
  const auto made = GoOn({.at_event = DoneAt("draft") - 1, .prompts = {{"again", "ANEW {{ question }}"}}}, &events);
  EXPECT_THAT(made, ElementsAre("m1: ANEW What is 6 times 7?", "m2: ANEW What is 6 times 7?"))
      << "drafts are not written again";
  EXPECT_EQ(events.back().run_finished().answer(), "3");
  EXPECT_EQ(events.back().run_finished().ledger().calls(), 4) << "what stands was paid for, too";
  EXPECT_EQ(events.front().run_started().seed(), 5u);
  EXPECT_NE(events.front().run_started().graph_revision(), record_.graph->revision());
  for (size_t i = 1; i < 6; ++i) EXPECT_EQ(events[i].event_case(), record_.events[i].event_case()) << i;
}

TEST_F(Fork, APromptInsideACalledGraphIsNamedByTheCall) {
  record_.graph = MustCompile(R"(
name: "g" input { name: "question" }
node { name: "draft" speak { role: "say" members: "m*" } }
node { name: "vote" call { graph: "v" called { name: "v" input { name: "question" }
  node { name: "draft" speak { role: "say" members: "m*" } } node { name: "verdict" pick { of: "draft" by: MAJORITY } } } } }
node { name: "last" pick { of: "draft" also: "vote" by: MAJORITY } }
)");
  record_.spec = SpecFor(*record_.graph, {"m1", "m2"}, 5);
  record_.events =
      Drive(record_.graph, record_.spec, [](const CallSpec&) { return Reply{.text = "it is #### 1"}; }).events;
  std::vector<pb::Event> events;
  const auto made = GoOn({.at_event = 1, .prompts = {{"vote.draft", "ANEW {{ question }}"}}}, &events);
  EXPECT_THAT(made, ElementsAre("m1: ANEW What is 6 times 7?", "m1: What is 6 times 7? r0",
                                "m2: ANEW What is 6 times 7?", "m2: What is 6 times 7? r0"));
}

TEST_F(Fork, WithoutAChangeTheRestIsSaidAgainAndFromTheStartEverythingIs) {
  std::vector<pb::Event> events;
  EXPECT_EQ(GoOn({.at_event = 0}, &events).size(), 4u);
  EXPECT_EQ(events.front().run_started().graph_revision(), record_.graph->revision());
}

TEST_F(Fork, AnotherMemberTakesASeat) {
  std::vector<pb::Event> events;
  const auto made = GoOn({.at_event = 1, .members = {{"m2", RunMember{"m3", 1, {}}}}}, &events);
  EXPECT_THAT(made, Contains(HasSubstr("m3: What is")));
  for (const std::string& call : made) EXPECT_THAT(call, ::testing::Not(HasSubstr("m2: ")));
  EXPECT_THAT(events.front().run_started().members(), ElementsAre("m1", "m3"));
}

TEST_F(Fork, AChangeOfWhatHasHappenedIsRefused) {
  const int64_t drafted = DoneAt("draft");
  EXPECT_THAT(
      ForkRun(record_, {.at_event = drafted, .prompts = {{"draft", "x"}}}, "runs/f", 0),
      StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("was asked otherwise; fork at an earlier event")));
  EXPECT_THAT(
      ForkRun(record_, {.at_event = drafted, .members = {{"m2", RunMember{"m3", 1, {}}}}}, "runs/f", 0),
      StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("would not have been; fork at an earlier event")));
}

TEST_F(Fork, WhatIsNotThereIsNamed) {
  const auto count = static_cast<int64_t>(record_.events.size());
  const auto refused = [&](const ForkChange& change, const std::string& what) {
    EXPECT_THAT(ForkRun(record_, change, "runs/f", 0), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(what)));
  };
  refused({.at_event = count}, "can be forked at");
  refused({.at_event = -1}, "can be forked at");
  refused({.at_event = 1, .prompts = {{"verdict", "x"}}}, "no speak or judge \"verdict\"");
  refused({.at_event = 1, .prompts = {{"draft", "{{ nonsense"}}}, "");
  refused({.at_event = 1, .members = {{"m9", RunMember{"m3", 1, {}}}}}, "no member \"m9\"");
  refused({.at_event = 1, .members = {{"m2", RunMember{"m1", 1, {}}}}}, "\"m1\" sits in this run already");
}

TEST_F(Fork, TheFirstDivergenceIsTheFirstCallOfTheRecordThatDiffers) {
  EXPECT_FALSE(FirstDivergence(record_.events, record_.events).has_value());
  std::vector<pb::Event> now = record_.events;
  int64_t changed = 0;
  for (pb::Event& event : now) {
    if (!event.has_call_finished()) continue;
    changed = changed == 0 ? event.sequence_number() : changed;
    event.mutable_call_finished()->set_text("it was #### 1");
  }
  std::optional<Divergence> found = FirstDivergence(record_.events, now);
  ASSERT_TRUE(found.has_value());
  EXPECT_EQ(found->event, changed);
  EXPECT_EQ(found->what, "text");
  EXPECT_EQ(found->at_byte, 3) << "it |is, it |was";
  EXPECT_EQ(found->at_word, 2);
  EXPECT_EQ(found->recorded, "is #### 1");
  EXPECT_EQ(found->now, "was #### 1");
  // Who answered first is no divergence; who did not answer is.
  std::vector<pb::Event> reordered = record_.events;
  std::reverse(reordered.begin() + 1, reordered.end() - 1);
  EXPECT_FALSE(FirstDivergence(record_.events, reordered).has_value());
  now.assign(record_.events.begin(), record_.events.begin() + 2);
  EXPECT_EQ(FirstDivergence(record_.events, now)->what, "not made");
  now = record_.events;
  now.back().mutable_run_finished()->set_answer("9");
  EXPECT_EQ(FirstDivergence(record_.events, now)->what, "end");
}

}  // namespace
}  // namespace conclave::orchestrator
