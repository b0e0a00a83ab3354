// SPDX-License-Identifier: Apache-2.0
// Adaptive stopping: what it asks for, what it leaves out, and what it saves on recorded answers.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "common/hash.h"
#include "graphs/strategies_testing.h"
#include "orchestrator/experiment/benchmark/line_reader.h"
#include "orchestrator/experiment/grade/grader.h"
#include "tests/testing/shared_data.h"
#include "tests/testing/status_matchers.h"

namespace conclave::orchestrator {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::shared_ptr<const CompiledGraph> Sampling(int samples, const std::string& stop) {
  return MustCompile(fmt::format(R"(
name: "g" input {{ name: "question" }}
node {{ name: "draft" speak {{ role: "say" members: "m*" samples: {} stop {{ {} }} }} }}
node {{ name: "verdict" pick {{ of: "draft" by: MAJORITY }} }}
)",
                                 samples, stop));
}

// Answers of one member by sample: a letter is an answer, '.' none, '!' a lost call.
Answerer Letters(const std::string& answers) {
  return [answers](const CallSpec& call) {
    const char c = answers[static_cast<size_t>(call.key.sample())];
    return c == '!' ? Lost() : Say(c == '.' ? "no idea" : fmt::format("#### {}", static_cast<int>(c)));
  };
}

TEST(AdaptiveStopping, WavesAndVotesBySampleIndex) {
  // Settled after 4 of a (4-0). In waves of 3 two waves are asked for: 6 calls, of which 4 count.
  const auto graph = Sampling(40, "rule: BETA wave: 3");
  const RunLog log = Drive(graph, SpecFor(*graph, {"m1"}), Letters(std::string(4, 'a') + std::string(36, 'b')));
  EXPECT_EQ(log.finished().answer(), "97");
  EXPECT_EQ(log.finished().ledger().calls(), 6);
  EXPECT_EQ(log.node("draft").utterance_count(), 4);
  EXPECT_EQ(log.node("draft").note(), "settled after 4 of 40 samples");
  EXPECT_EQ(log.node("draft").votes_size(), 1) << "what is behind the settled vote is no vote";
}

TEST(AdaptiveStopping, FirstStopsOfTheTable) {
  // Votes in which b comes as late as it may: stops at 4-0, 6-1, 8-2, 9-3, 11-4, 12-5, 14-6 (specs/deliberation.md
  // §4.11).
  const std::vector<std::pair<int, int>> stops = {{4, 0}, {6, 1}, {8, 2}, {9, 3}, {11, 4}, {12, 5}, {14, 6}};
  const auto graph = Sampling(40, "rule: BETA");
  for (const auto& [a, b] : stops) {
    const std::string votes = std::string(static_cast<size_t>(b), 'b') + std::string(static_cast<size_t>(40 - b), 'a');
    const RunLog log = Drive(graph, SpecFor(*graph, {"m1"}), Letters(votes));
    // b alone stops at 4-0 as well.
    const int expected = b >= 4 ? 4 : a + b;
    EXPECT_EQ(log.finished().ledger().calls(), expected) << a << "-" << b;
    const std::string mixed = [&] {
      std::string text;
      for (int i = 0; i < b; ++i) text += "ab";
      return text + std::string(static_cast<size_t>(40 - 2 * b), 'a');
    }();
    EXPECT_EQ(Drive(graph, SpecFor(*graph, {"m1"}), Letters(mixed)).finished().ledger().calls(), a + b)
        << a << "-" << b;
  }
}

TEST(AdaptiveStopping, WhoIsAskedInWhichOrder) {
  // Two members: one sample of each, then the next of each. 4-0 after samples 0 and 1 of both.
  const auto graph = Sampling(20, "rule: BETA");
  std::vector<std::string> asked;
  const RunLog log = Drive(graph, SpecFor(*graph, {"m1", "m2"}), [&](const CallSpec& call) {
    asked.push_back(fmt::format("{}/{}", call.key.member(), call.key.sample()));
    return Say("#### 1");
  });
  EXPECT_THAT(asked, ElementsAre("m1/0", "m2/0", "m1/1", "m2/1"));
}

TEST(AdaptiveStopping, AWindowOfOneMindDecidesAgainstTheVotesBefore) {
  // Windows of 3: bab, bba, then ccc: c decides, though b has more votes.
  const auto graph = Sampling(12, "rule: WINDOW wave: 3");
  const RunLog log = Drive(graph, SpecFor(*graph, {"m1"}), Letters("babbbacccaaa"));
  EXPECT_EQ(log.finished().answer(), std::to_string(static_cast<int>('c')));
  EXPECT_EQ(log.finished().ledger().calls(), 9);
  EXPECT_EQ(log.node("draft").utterance_count(), 3);
  // No window agrees: all vote. aab bba abb bab: a 5, b 7.
  const RunLog all = Drive(graph, SpecFor(*graph, {"m1"}), Letters("aabbbaabbbab"));
  EXPECT_EQ(all.finished().answer(), std::to_string(static_cast<int>('b')));
  EXPECT_EQ(all.node("draft").note(), "not settled after 12 of 12 samples");
}

TEST(AdaptiveStopping, EmptyAnswersAndHolesAreNoVotes) {
  const auto graph = Sampling(8, "rule: BETA wave: 2");
  // Votes for a at 1, 4, 5, 6: settled after seven.
  const RunLog log = Drive(graph, SpecFor(*graph, {"m1"}), Letters(".a!.aaaa"));
  EXPECT_EQ(log.node("draft").note(), "settled after 7 of 8 samples");
  EXPECT_EQ(log.finished().hole_count(), 1);
  const RunLog none = Drive(graph, SpecFor(*graph, {"m1"}), Letters("........"));
  EXPECT_FALSE(none.finished().has_answer());
  EXPECT_EQ(none.finished().ledger().calls(), 8);
}

TEST(AdaptiveStopping, OrderOfArrivalChangesNeitherVerdictNorCalls) {
  for (const std::string stop : {"rule: BETA wave: 5", "rule: DIRICHLET wave: 4", "rule: WINDOW wave: 4"}) {
    const auto graph = Sampling(30, stop);
    for (uint64_t seed = 1; seed <= 60; ++seed) {
      std::string first;
      for (uint64_t arrival = 0; arrival < 8; ++arrival) {
        const RunLog log =
            Drive(graph, SpecFor(*graph, {"m1", "m2"}, seed),
                  [&](const CallSpec& call) {
                    const uint64_t h = Mix64(call.seed);
                    if (h % 11 == 0) return Lost();
                    return Say(h % 13 == 0 ? "no idea" : fmt::format("#### {}", h % 16 < 11 ? 1 : h % 3));
                  },
                  {.arrival_seed = arrival, .cancel_after = -1, .expire_after = -1});
        const auto& finished = log.finished();
        const std::string outcome = log.node("draft").ShortDebugString() + finished.answer() + " " +
                                    std::to_string(finished.ledger().calls()) + " " +
                                    std::to_string(finished.hole_count());
        EXPECT_EQ(finished.ledger().output_tokens(), log.output_tokens) << "cancelled work is charged";
        if (arrival == 0) first = outcome;
        EXPECT_EQ(outcome, first) << stop << " seed " << seed << " arrival " << arrival;
      }
    }
  }
}

TEST(AdaptiveStopping, ABudgetThatEndsInAWaveLeavesTheVotesBefore) {
  const auto graph = Sampling(40, "rule: BETA wave: 4");
  RunSpec spec = SpecFor(*graph, {"m1"});
  deliberation::v1::Budget budget;
  budget.set_calls(6);
  budget.set_on_exhausted(deliberation::v1::Budget::RETURN_BEST);
  spec.budgets.push_back({"request", budget});
  const RunLog log = Drive(graph, spec, Letters("ababbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"));
  EXPECT_TRUE(log.finished().best_effort());
  EXPECT_EQ(log.finished().ledger().calls(), 6);
  EXPECT_EQ(log.node("draft").utterance_count(), 6);
  EXPECT_EQ(log.finished().answer(), std::to_string(static_cast<int>('b'))) << "2 of a, 4 of b";
}

TEST(AdaptiveStopping, ALoopMayAskHowSureTheVoteIs) {
  // votes.sure of 4-1 is 57/64 = 0.890625, of 5-0 63/64.
  const auto graph = MustCompile(R"(
name: "g" input { name: "question" }
node { name: "draft" speak { role: "say" members: "m*" } }
node { name: "l" loop { over: "draft" max_rounds: 5 until: "votes.sure >= 0.95"
  body { name: "revise" speak { role: "say" members: "m*" sees { node: "draft" } } } } }
)");
  const RunLog log = Drive(graph, SpecFor(*graph, {"m1", "m2", "m3", "m4", "m5"}), [](const CallSpec& call) {
    return Say(call.key.member() == "m5" && call.node_path != "l[3].revise" ? "#### 2" : "#### 1");
  });
  EXPECT_EQ(log.node("l").rounds(), 3);
}

// ---- On recorded answers: what many models answered to an item is the distribution that its samples are drawn from.

struct Item {
  std::vector<std::string> answers;      // texts, one per model
  std::map<std::string, double> shares;  // by normal form; "" for those without an answer
};

std::vector<Item> RecordedItems(const std::string& path) {
  const auto grader = grade::MakeGrader("gsm8k");
  auto reader = benchmark::LineReader::Open(path);
  std::vector<Item> items;
  if (!grader.ok() || !reader.ok()) return items;
  for (bool header = true; reader->Next().value_or(false); header = false) {
    if (header) continue;
    Item& item = items.emplace_back();
    std::string_view line = reader->line();
    for (int column = 0;; ++column) {
      const size_t tab = line.find('\t');
      const std::string_view cell = line.substr(0, tab);
      if (column >= 2) item.answers.push_back(cell.empty() ? "no answer" : fmt::format("#### {}", cell));
      if (tab == std::string_view::npos) break;
      line.remove_prefix(tab + 1);
    }
    for (const std::string& text : item.answers) {
      const auto found = (*grader)->Extract(text, {});
      item.shares[found.has_value() ? found->answer : ""] += 1.0 / static_cast<double>(item.answers.size());
    }
  }
  return items;
}

constexpr int kMost = 40;

RunLog Ask(const std::shared_ptr<const CompiledGraph>& graph, const Item& item, uint64_t index) {
  return Drive(graph, SpecFor(*graph, {"m1"}), [&](const CallSpec& call) {
    const double u = PhiloxUniform(20261126, index, static_cast<uint64_t>(call.key.sample()));
    return Say(item.answers[static_cast<size_t>(u * static_cast<double>(item.answers.size()))]);
  });
}

// Mean and its standard error.
struct Mean {
  double sum = 0, squares = 0, count = 0;
  void Add(double value) { sum += value, squares += value * value, count += 1; }
  double value() const { return sum / count; }
  double error() const { return std::sqrt((squares / count - value() * value()) / count); }
};

TEST(AdaptiveStopping, WindowsSaveOnRecordedAnswersWhatTheFormulaSays) {
  SKIP_WITHOUT_SHARED(path, "data/recorded/gsm_answers.tsv.gz");
  const std::vector<Item> items = RecordedItems(path);
  ASSERT_EQ(items.size(), 1319u);
  const auto graph = Sampling(kMost, "rule: WINDOW wave: 5");
  Mean excess;
  double asked = 0;
  for (size_t i = 0; i < items.size(); ++i) {
    // w [sum over i < m-1 of q (1-q)^i (i+1) + (1-q)^(m-1) m], q the chance that a window agrees; w = 5, m = 8.
    double q = 0;
    for (const auto& [answer, share] : items[i].shares) q += answer.empty() ? 0 : std::pow(share, 5);
    double expected = 8 * std::pow(1 - q, 7);
    for (int k = 0; k < 7; ++k) expected += q * std::pow(1 - q, k) * (k + 1);
    const auto calls = static_cast<double>(Ask(graph, items[i], i).finished().ledger().calls());
    excess.Add(calls - 5 * expected);
    asked += calls;
  }
  EXPECT_NEAR(excess.value(), 0, 4 * excess.error());
  RecordProperty("calls_per_item", std::to_string(asked / 1319));
  EXPECT_LT(asked, 0.5 * kMost * 1319) << "and it saves more than half";
}

// Whether a votes against b are enough: P(Beta(a + 1, b + 1) > 1/2) >= 0.95, by logarithms of factorials.
bool Enough(int a, int b) {
  const int n = a + b + 1;
  double sum = 0;
  for (int j = 0; j <= a; ++j) {
    sum += std::exp(std::lgamma(n + 1.0) - std::lgamma(j + 1.0) - std::lgamma(n - j + 1.0) - n * std::log(2.0));
  }
  return sum >= 0.95;
}

// Expected calls of the Beta rule when answers are drawn independently with these chances ("": no answer), by dynamic
// programming over the counts of at most two answers and of none.
double ExpectedCalls(const std::map<std::string, double>& shares) {
  std::vector<double> chance;
  double none = 0;
  for (const auto& [answer, share] : shares) {
    if (answer.empty()) {
      none = share;
    } else {
      chance.push_back(share);
    }
  }
  chance.resize(2, 0);
  std::map<std::pair<int, int>, double> states = {{{0, 0}, 1.0}};
  double expected = 0;
  for (int calls = 0; calls < kMost; ++calls) {
    std::map<std::pair<int, int>, double> next;
    for (const auto& [state, p] : states) {
      const auto& [a, b] = state;
      if (a + b > 0 && Enough(std::max(a, b), std::min(a, b))) continue;
      expected += p;  // one call more
      next[{a + 1, b}] += p * chance[0];
      next[{a, b + 1}] += p * chance[1];
      next[{a, b}] += p * none;
    }
    states = std::move(next);
  }
  return expected;
}

TEST(AdaptiveStopping, BetaSavesOnRecordedAnswersWhatTheFormulaSaysAndKeepsTheVerdict) {
  SKIP_WITHOUT_SHARED(path, "data/recorded/gsm_answers.tsv.gz");
  const std::vector<Item> items = RecordedItems(path);
  ASSERT_EQ(items.size(), 1319u);
  const auto adaptive = Sampling(kMost, "rule: BETA");
  const auto all = MustCompile(fmt::format(R"(
name: "g" input {{ name: "question" }}
node {{ name: "draft" speak {{ role: "say" members: "m*" samples: {} }} }}
node {{ name: "verdict" pick {{ of: "draft" by: MAJORITY }} }}
)",
                                           kMost));
  Mean excess;
  int changed = 0, of_two = 0;
  double asked = 0;
  for (size_t i = 0; i < items.size(); ++i) {
    const RunLog stopped = Ask(adaptive, items[i], i);
    const auto calls = static_cast<double>(stopped.finished().ledger().calls());
    asked += calls;
    changed += stopped.finished().answer() != Ask(all, items[i], i).finished().answer() ? 1 : 0;
    const size_t answers = items[i].shares.size() - items[i].shares.count("");
    if (answers > 2) continue;  // the formula knows two answers
    ++of_two;
    excess.Add(calls - ExpectedCalls(items[i].shares));
  }
  RecordProperty("calls_per_item", std::to_string(asked / 1319));
  RecordProperty("verdicts_changed", changed);
  EXPECT_GT(of_two, 500);
  EXPECT_NEAR(excess.value(), 0, 4 * excess.error());
  EXPECT_LT(changed, 0.005 * 1319);
  EXPECT_LT(asked, 0.25 * kMost * 1319);
}

}  // namespace
}  // namespace conclave::orchestrator
