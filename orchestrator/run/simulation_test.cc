// SPDX-License-Identifier: Apache-2.0
// Thousands of seeded runs with faults: whatever happens, a run ends, its books balance, and who answers first never
// changes the verdict.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>

#include "common/hash.h"
#include "orchestrator/run/machine_testing.h"
#include "tests/testing/status_matchers.h"

namespace conclave::orchestrator {
namespace {

// Every kind of node, nested, with and without conditions.
constexpr std::string_view kGraph = R"(
name: "g"
input { name: "question" }
node { name: "plan" speak { role: "note" members: "p" } }
node { name: "draft" speak { role: "say" members: "m*" samples: 2 sees { node: "plan" } } }
node { name: "sums" check { of: "draft" checker: ARITHMETIC } }
node {
  name: "harder"
  branch {
    condition: "votes.margin < 0.5"
    then {
      name: "review"
      loop {
        over: "draft" max_rounds: 3 until: "verify.accepted >= 2 or votes.unchanged >= 2 or round >= 3" yields: "kept"
        body { name: "critique" speak { role: "note" members: "p" sees { node: "draft" anonymous: true shuffle: true limit: 3 } } }
        body { name: "revise" speak { role: "say" members: "m*" sees { node: "critique" } sees { node: "draft" own: true by_sample: true memory: 3 } sees { node: "draft" among: RING } } }
        body { name: "verify" judge { role: "check" members: "v*" members: "m1" of: "revise" exclude_self: true samples: 2 } }
        body { name: "compare" judge { role: "order" members: "v*" members: "m1" of: "revise" method: RANKING window: 2 exclude_self: true } }
        body { name: "duel" judge { role: "order" members: "v1" of: "revise" method: PAIRS } }
        body { name: "kept" pick { of: "revise" also: "draft" also: "again" by: BEST_OF_N keep: 4 where: "compare.shown == 0 or compare.wins > 0 or duel.wins > 0" weight: "duel.mean_score" } }
        body { name: "again" when: "verify.mean_score < 0.3" speak { role: "say" members: "m1" sees { node: "verify" own: true } sees { node: "critique" memory: 2 among: STAR } } }
      }
    }
    otherwise_value: "draft"
  }
}
node { name: "verdict" pick { of: "harder" by: WEIGHTED_VOTE weight: "verify.mean_score + 0.1 * sums.passed + duel.mean_score" } }
)";

// What is asked wave by wave, about one utterance each, of judgements, and where a search goes on.
constexpr std::string_view kSearch = R"(
name: "s"
input { name: "question" }
node { name: "draft" speak { role: "say" members: "m*" samples: 4 stop { rule: DIRICHLET confidence: 0.8 wave: 3 } } }
node { name: "first" judge { role: "check" members: "v*" of: "draft" samples: 3 strict: true wave: 2 } }
node {
  name: "pool"
  loop {
    over: "draft" max_rounds: 3 until: "verify.passes >= 2 or verify.fails >= 3 or votes.sure > 0.99" yields: "kept"
    body { name: "choose" pick { of: "draft" by: AB_MCTS_M keep: 3 weight: "0.5 * first.mean_score + verify.mean_score" } }
    body { name: "refine" speak { role: "say" members: "m*" each: "choose" assign: UCB worth: "verify.mean_score" sees { node: "first" of_subject: true lowest: true limit: 2 } } }
    body { name: "verify" judge { role: "check" members: "v*" of: "refine" samples: 2 } }
    body { name: "meta" judge { role: "check" members: "p" of: "verify" where: "own_score < 1" } }
    body { name: "again" speak { role: "note" members: "m1" members: "m2" each: "meta" assign: TURNS sees { node: "meta" memory: 2 } } }
    body { name: "kept" pick { of: "draft" also: "refine" also: "windows" by: BEST_OF_N keep: 6 weight: "verify.lowest + 0.1 * verify.valid + 0.01 * first.accepts" where: "text_length > 3 or first.rejects == 0" } }
    body { name: "windows" speak { role: "say" members: "m1" samples: 6 stop { rule: WINDOW wave: 2 } sees { node: "again" } sees { node: "kept" own: true } } }
  }
}
node { name: "verdict" pick { of: "pool" also: "last" by: WEIGHTED_VOTE weight: "1 + verify.valid_at_lowest" } }
node { name: "last" speak { role: "say" members: "m1" sees { node: "pool" } } }
result: "verdict"
)";

constexpr uint64_t kRuns = 2000;

Reply Answer(const CallSpec& call, uint64_t salt) {
  const uint64_t h = Mix64(call.seed ^ Mix64(salt + static_cast<uint64_t>(call.key.attempt())));
  Reply reply;
  reply.output_tokens = 1 + static_cast<int64_t>(h % static_cast<uint64_t>(call.sampling->max_output_tokens()));
  if (h % 7 == 0) reply.kind = Reply::Kind::kLose;
  if (h % 23 == 0) reply.kind = Reply::Kind::kLoseForGood;
  if (call.role == "order") {
    reply.text = h % 5 == 0 ? "hm" : fmt::format("BEST: {} > {}", 1 + h % 2, 1 + h / 2 % 3);
  } else if (call.role == "check") {
    reply.text = h % 4 == 0 ? "VERDICT: reject" : h % 4 == 1 ? "hm" : "VERDICT: accept";
  } else {
    reply.text = h % 6 == 0 ? "no idea" : fmt::format("3 + 4 = {}\n#### {}", 7 + h % 2, 40 + (h >> 8) % 4);
  }
  return reply;
}

RunSpec Spec(const CompiledGraph& graph, uint64_t seed) {
  return SpecFor(graph, {"p", "m1", "m2", "m3", "v1", "v2"}, seed);
}

void CheckBooks(const RunLog& log, uint64_t seed) {
  const deliberation::v1::Ledger& ledger = log.finished().ledger();
  EXPECT_EQ(ledger.calls(), log.calls) << "seed " << seed;
  EXPECT_EQ(ledger.prompt_tokens(), log.prompt_tokens) << "seed " << seed;
  EXPECT_EQ(ledger.output_tokens(), log.output_tokens) << "seed " << seed;
  // The same sums, from the events that a reader has.
  int64_t calls = 0, output = 0, started = 0;
  for (const auto& event : log.events) {
    started += event.has_call_started() ? 1 : 0;
    if (event.has_call_finished()) ++calls, output += event.call_finished().usage().output_token_count();
    if (event.has_call_lost()) ++calls, output += event.call_lost().usage().output_token_count();
  }
  EXPECT_EQ(calls, ledger.calls()) << "seed " << seed;
  EXPECT_EQ(output, ledger.output_tokens()) << "seed " << seed;
  EXPECT_EQ(started, calls) << "every call that began ended: seed " << seed;
}

void RunsEndAndTheirBooksBalance(const std::shared_ptr<const CompiledGraph>& graph) {
  for (uint64_t seed = 1; seed <= kRuns; ++seed) {
    DriveOptions options;
    options.arrival_seed = seed;
    if (seed % 5 == 1) options.cancel_after = static_cast<int64_t>(Mix64(seed) % 60);
    if (seed % 5 == 2) options.expire_after = static_cast<int64_t>(Mix64(seed) % 60);
    RunSpec spec = Spec(*graph, seed);
    deliberation::v1::Budget budget;
    if (seed % 5 == 2) budget.mutable_wall_time()->set_seconds(1);
    if (seed % 5 == 3) budget.set_output_tokens(static_cast<int64_t>(Mix64(seed) % 900));
    if (seed % 2 == 0) budget.set_on_exhausted(deliberation::v1::Budget::RETURN_BEST);
    spec.budgets.push_back({"request", budget});
    const RunLog log = Drive(
        graph, spec, [&](const CallSpec& call) { return Answer(call, seed); }, options);
    ASSERT_TRUE(log.machine->finished()) << "seed " << seed;
    CheckBooks(log, seed);
    if (budget.has_output_tokens()) {
      // A reply never uses more than its reservation here, so the limit is never passed.
      EXPECT_LE(log.finished().ledger().output_tokens(), budget.output_tokens()) << "seed " << seed;
    }
  }
}

TEST(Simulation, RunsEndAndTheirBooksBalance) { RunsEndAndTheirBooksBalance(MustCompile(kGraph)); }
TEST(Simulation, SearchesEndAndTheirBooksBalance) { RunsEndAndTheirBooksBalance(MustCompile(kSearch)); }

void OrderOfArrivalNeverChangesTheVerdict(const std::shared_ptr<const CompiledGraph>& graph, bool settles_early) {
  for (uint64_t seed = 1; seed <= kRuns / 8; ++seed) {
    std::optional<std::string> first;
    std::map<std::string, std::string> votes;
    for (uint64_t arrival = 0; arrival < 6; ++arrival) {
      DriveOptions options;
      options.arrival_seed = arrival;
      const RunLog log = Drive(
          graph, Spec(*graph, seed), [&](const CallSpec& call) { return Answer(call, seed); }, options);
      deliberation::v1::RunFinished finished = log.finished();
      // What was under way behind a settled vote is charged as far as it had come, which is a matter of time.
      if (settles_early) finished.clear_ledger();
      const std::string verdict = finished.ShortDebugString();
      for (const auto& event : log.events) {
        // Node values too, one by one: the order of nodes may differ, what they say may not.
        if (event.has_node_finished()) {
          const std::string text = event.node_finished().ShortDebugString();
          const auto [known, added] = votes.emplace(event.node_path(), text);
          EXPECT_EQ(known->second, text) << event.node_path() << " seed " << seed << " arrival " << arrival;
        }
      }
      if (!first.has_value()) first = verdict;
      EXPECT_EQ(*first, verdict) << "seed " << seed << " arrival " << arrival;
    }
  }
}

TEST(Simulation, OrderOfArrivalNeverChangesTheVerdict) {
  OrderOfArrivalNeverChangesTheVerdict(MustCompile(kGraph), false);
}
TEST(Simulation, OrderOfArrivalNeverChangesASearch) {
  OrderOfArrivalNeverChangesTheVerdict(MustCompile(kSearch), true);
}

TEST(Simulation, ARunIsReproducedFromItsRecord) {
  for (const std::string_view text : {kGraph, kSearch}) {
    const auto graph = MustCompile(text);
    for (uint64_t seed = 1; seed <= 40; ++seed) {
      const RunLog log = Drive(
          graph, Spec(*graph, seed), [&](const CallSpec& call) { return Answer(call, seed); },
          {.arrival_seed = seed, .cancel_after = seed % 4 == 0 ? static_cast<int64_t>(seed) : -1, .expire_after = -1});
      const auto whole = Replay(graph, Spec(*graph, seed), log.events, log.stored);
      ASSERT_OK(whole) << "seed " << seed;
      EXPECT_TRUE(whole->machine->finished());
      // A crash in the middle: what ended is not asked again.
      const std::span<const deliberation::v1::Event> half(log.events.data(), log.events.size() / 2);
      std::vector<StoredMachineInput> inputs;
      for (const StoredMachineInput& input : log.stored) {
        if (input.after_sequence_number <= static_cast<int64_t>(half.size())) inputs.push_back(input);
      }
      auto resumed = Replay(graph, Spec(*graph, seed), half, inputs);
      ASSERT_OK(resumed) << "seed " << seed;
      RunLog rest;
      rest.events.assign(half.begin(), half.end());
      rest.machine = std::move(resumed->machine);
      DriveOn(&rest, std::move(resumed->rest), [&](const CallSpec& call) { return Answer(call, seed); }, {});
      ASSERT_TRUE(rest.machine->finished());
      if (log.stored.empty()) {
        EXPECT_EQ(rest.finished().answer(), log.finished().answer()) << "seed " << seed;
      }
    }
  }
}

TEST(Simulation, OrderOfArrivalDoesNotDecideWhoFitsIntoABudget) {
  const auto graph = MustCompile(R"(
name: "g" input { name: "question" }
node { name: "draft" speak { role: "say" members: "m*" samples: 8 } }
node { name: "verdict" pick { of: "draft" by: MAJORITY } }
budget { output_tokens: 300 on_exhausted: RETURN_BEST }
)");
  for (uint64_t seed = 1; seed <= 100; ++seed) {
    std::optional<std::string> first;
    for (uint64_t arrival = 0; arrival < 5; ++arrival) {
      DriveOptions options;
      options.arrival_seed = arrival;
      const RunLog log = Drive(
          graph, SpecFor(*graph, {"m1", "m2"}, seed), [&](const CallSpec& call) { return Answer(call, seed); },
          options);
      const std::string outcome = log.node("draft").ShortDebugString() + log.finished().answer() +
                                  std::to_string(log.finished().ledger().calls());
      if (!first.has_value()) first = outcome;
      // Retries queue behind, in the order their losses were heard of; without them the set of calls is the same.
      bool retried = false;
      for (const auto& event : log.events) retried |= event.has_call_lost();
      if (!retried) {
        EXPECT_EQ(*first, outcome) << "seed " << seed << " arrival " << arrival;
      }
    }
  }
}

}  // namespace
}  // namespace conclave::orchestrator
