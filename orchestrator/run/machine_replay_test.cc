// SPDX-License-Identifier: Apache-2.0
// Resuming: after a crash at any point of the record the run goes on as if nothing had happened.
#include "orchestrator/run/replay.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <google/protobuf/util/message_differencer.h>
#include <gtest/gtest.h>

#include <set>

#include "common/hash.h"
#include "orchestrator/run/machine_testing.h"
#include "tests/testing/status_matchers.h"

namespace conclave::orchestrator {
namespace {

using google::protobuf::util::MessageDifferencer;

constexpr std::string_view kGraph = R"(
name: "g"
input { name: "question" }
node { name: "plan" speak { role: "note" members: "p" } }
node { name: "draft" speak { role: "say" members: "m*" samples: 2 sees { node: "plan" } quorum: 5 } }
node {
  name: "review"
  loop {
    over: "draft" max_rounds: 3 until: "verify.mean_score >= 0.9"
    body { name: "revise" speak { role: "mend" members: "m*" sees { node: "draft" own: true shuffle: true } } }
    body { name: "verify" judge { role: "rule" members: "v*" of: "revise" exclude_self: true } }
    body { name: "sums" check { of: "revise" checker: ARITHMETIC } }
  }
}
node { name: "verdict" pick { of: "review" by: WEIGHTED_VOTE weight: "verify.mean_score + sums.passed" } }
)";

// Depends on the call's name alone, as real answers do on the seed.
Reply Answer(const CallSpec& call) {
  const uint64_t h = Mix64(call.seed + static_cast<uint64_t>(call.key.attempt()) * 7919);
  Reply reply;
  reply.output_tokens = 1 + static_cast<int64_t>(h % 40);
  if (h % 11 == 0) reply.kind = Reply::Kind::kLose;
  if (h % 37 == 0) reply.kind = Reply::Kind::kLoseForGood;
  if (call.role == "rule") {
    reply.text = h % 3 == 0 ? "VERDICT: reject" : h % 3 == 1 ? "VERDICT: accept" : "I cannot say";
  } else {
    reply.text = h % 5 == 0 ? "no idea" : fmt::format("3 + 4 = {}\n#### {}", 7 + h % 2, 40 + h % 3);
  }
  return reply;
}

RunSpec Spec(const CompiledGraph& graph, uint64_t seed) {
  return SpecFor(graph, {"p", "m1", "m2", "m3", "v1", "v2"}, seed);
}

// A crash loses everything behind event `kept`; the run goes on and must end the same way, no call done twice.
void ResumeAndCompare(const std::shared_ptr<const CompiledGraph>& graph, uint64_t seed, const RunLog& whole,
                      size_t kept) {
  const std::vector<deliberation::v1::Event> prefix(whole.events.begin(),
                                                    whole.events.begin() + static_cast<ptrdiff_t>(kept));
  std::vector<StoredMachineInput> inputs;
  for (const StoredMachineInput& input : whole.stored) {
    if (input.after_sequence_number <= static_cast<int64_t>(kept)) inputs.push_back(input);
  }
  absl::StatusOr<Resumed> resumed = Replay(graph, Spec(*graph, seed), prefix, inputs);
  ASSERT_OK(resumed) << "seed " << seed << " kept " << kept;
  std::set<std::string> ended;
  for (const auto& event : prefix) {
    if (event.has_call_finished()) ended.insert(event.node_path() + event.call_finished().key().ShortDebugString());
  }
  for (const CallSpec& call : resumed->rest.calls) {
    EXPECT_FALSE(ended.contains(call.node_path + call.key.ShortDebugString())) << "a finished call is repeated";
  }
  RunLog log;
  log.events = prefix;
  log.machine = std::move(resumed->machine);
  DriveOn(&log, std::move(resumed->rest), Answer, {});
  ASSERT_TRUE(log.machine->finished()) << "seed " << seed << " kept " << kept;
  if (!whole.stored.empty()) return;  // when a cancellation strikes decides what is done
  EXPECT_EQ(log.finished().answer(), whole.finished().answer()) << "seed " << seed << " kept " << kept;
  EXPECT_EQ(log.finished().state(), whole.finished().state());
}

TEST(Replay, EveryPrefixOfTheRecordCanBeResumed) {
  const auto graph = MustCompile(kGraph);
  for (uint64_t seed = 1; seed <= 12; ++seed) {
    // First come first served, so that a quorum is made of the same calls again.
    const RunLog whole = Drive(graph, Spec(*graph, seed), Answer);
    ASSERT_TRUE(whole.machine->finished());
    for (size_t kept = 0; kept <= whole.events.size(); ++kept) ResumeAndCompare(graph, seed, whole, kept);
  }
}

TEST(Replay, TheWholeRecordComesOutAgain) {
  const auto graph = MustCompile(kGraph);
  for (uint64_t seed = 1; seed <= 60; ++seed) {
    DriveOptions options;
    options.arrival_seed = seed;
    if (seed % 3 == 1) options.cancel_after = static_cast<int64_t>(seed % 20);
    const RunLog whole = Drive(graph, Spec(*graph, seed), Answer, options);
    ASSERT_TRUE(whole.machine->finished());
    const auto resumed = Replay(graph, Spec(*graph, seed), whole.events, whole.stored);
    ASSERT_OK(resumed) << "seed " << seed;
    EXPECT_TRUE(resumed->machine->finished());
    EXPECT_TRUE(resumed->rest.events.empty());
    EXPECT_TRUE(resumed->rest.calls.empty());
    EXPECT_TRUE(MessageDifferencer::Equals(resumed->machine->ledger(), whole.machine->ledger()));
  }
}

TEST(Replay, PrefixesOfCancelledRuns) {
  const auto graph = MustCompile(kGraph);
  for (uint64_t seed = 1; seed <= 6; ++seed) {
    DriveOptions options;
    options.cancel_after = 3 + static_cast<int64_t>(seed);
    const RunLog whole = Drive(graph, Spec(*graph, seed), Answer, options);
    EXPECT_EQ(whole.finished().state(), deliberation::v1::RUN_STATE_CANCELLED);
    for (size_t kept = 0; kept <= whole.events.size(); ++kept) ResumeAndCompare(graph, seed, whole, kept);
  }
}

// A crash while a cancelled call still holds its reservation: the call that waits for it must begin after the restart.
TEST(Replay, WhatCancelledCallsGiveBackLetsOthersBegin) {
  const auto graph = MustCompile(R"(
name: "g" input { name: "question" }
node { name: "draft" speak { role: "say" members: "m*" quorum: 1 } }
node { name: "again" speak { role: "say" members: "m1" sees { node: "draft" } } }
budget { output_tokens: 100 }
)");
  const auto answer = [](const CallSpec& call) {
    return Reply{.kind = call.key.member() == "m2" ? Reply::Kind::kHang : Reply::Kind::kText, .text = "#### 42"};
  };
  const RunSpec spec = SpecFor(*graph, {"m1", "m2"});
  // Two calls of 50 tokens; one uses 10, and until the other has given back its 50 a third of 50 does not fit.
  const RunLog whole = Drive(graph, spec, answer);
  size_t kept = 0;
  while (!whole.events[kept].has_call_lost()) ++kept;
  auto resumed = Replay(graph, spec, std::span(whole.events).first(kept), {});
  ASSERT_OK(resumed);
  ASSERT_EQ(resumed->rest.calls.size(), 1u);
  EXPECT_EQ(resumed->rest.calls[0].node_path, "again");
  EXPECT_TRUE(resumed->rest.events.front().has_call_lost());
  EXPECT_TRUE(resumed->rest.events.back().has_call_started());
}

TEST(Replay, ARecordOfSomethingElseIsRefused) {
  const auto graph = MustCompile(kGraph);
  const RunLog whole = Drive(graph, Spec(*graph, 1), Answer);
  EXPECT_THAT(Replay(graph, Spec(*graph, 2), whole.events, {}), testing::StatusIs(absl::StatusCode::kDataLoss));
  auto events = whole.events;
  events[3].mutable_call_started()->set_role("other");
  EXPECT_THAT(Replay(graph, Spec(*graph, 1), events, {}),
              testing::StatusIs(absl::StatusCode::kDataLoss, ::testing::HasSubstr("event 4")));
  events = whole.events;
  events.push_back(events.front());
  EXPECT_THAT(Replay(graph, Spec(*graph, 1), events, {}), testing::StatusIs(absl::StatusCode::kDataLoss));
}

}  // namespace
}  // namespace conclave::orchestrator
