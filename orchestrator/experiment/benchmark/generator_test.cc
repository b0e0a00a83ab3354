// SPDX-License-Identifier: Apache-2.0
// The answers are checked by solving each question again from its text alone.
#include "orchestrator/experiment/benchmark/generator.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <regex>
#include <set>
#include <string>

#include "orchestrator/experiment/grade/grader.h"
#include "tests/testing/status_matchers.h"

namespace conclave::benchmark {
namespace {

using conclave::testing::StatusIs;
using ::testing::HasSubstr;

constexpr uint64_t kSeed = 20250101;

std::vector<Item> Items(const std::string& kind, int difficulty, size_t count = 60) {
  const auto items = Generate({.kinds = {kind}, .count = count, .seed = kSeed, .difficulty = difficulty});
  EXPECT_OK(items);
  return items.ok() ? *items : std::vector<Item>();
}

std::vector<std::smatch> Matches(const std::string& text, const char* pattern) {
  const std::regex regex(pattern);
  return {std::sregex_iterator(text.begin(), text.end(), regex), std::sregex_iterator()};
}

int64_t SolveArithmetic(const std::string& question) {
  int64_t value = 0;
  for (const std::smatch& m : Matches(question, "(Start with|add|subtract|multiply by|divide by) (\\d+)")) {
    const int64_t n = std::stoll(m[2]);
    if (m[1] == "Start with") value = n;
    if (m[1] == "add") value += n;
    if (m[1] == "subtract") value -= n;
    if (m[1] == "multiply by") value *= n;
    if (m[1] == "divide by") {
      EXPECT_EQ(value % n, 0) << question;
      value /= n;
    }
  }
  return value;
}

int64_t SolveStory(const std::string& question) {
  int64_t value = 0;
  for (const std::smatch& m :
       Matches(question, "(\\w+) (\\d+) (more|of the|equal|times as many)|has (\\d+)|for \\$(\\d+) each")) {
    if (m[4].matched) {
      if (value == 0) value = std::stoll(m[4]);
    } else if (m[5].matched) {
      value *= std::stoll(m[5]);
    } else {
      const int64_t n = std::stoll(m[2]);
      if (m[3] == "more") value += n;
      if (m[3] == "of the") value -= n;
      if (m[3] == "times as many") value *= n;
      if (m[3] == "equal") {
        EXPECT_EQ(value % n, 0) << question;
        value /= n;
      }
    }
  }
  return value;
}

int64_t SolveString(const std::string& question) {
  std::string text;
  for (const std::smatch& m : Matches(question, "[^.?]+[.?]")) {
    const std::string sentence = m[0];
    const std::vector<std::smatch> quoted = Matches(sentence, "\"([a-z]+)\"");
    const auto letter = [&](size_t i) { return quoted[i][1].str()[0]; };
    const auto is = [&](const char* opening) { return sentence.find(opening) != std::string::npos; };
    if (is("Take the word")) text = quoted[0][1];
    if (is("Reverse it")) text = std::string(text.rbegin(), text.rend());
    if (is("Write it twice")) text = text + text;
    if (is("Remove every")) text.erase(std::remove(text.begin(), text.end(), letter(0)), text.end());
    if (is("Drop its first")) text = text.substr(1, text.size() - 2);
    if (is("Append")) text += quoted[0][1].str();
    if (is("Replace every")) std::replace(text.begin(), text.end(), letter(0), letter(1));
    if (is("How many letters")) return static_cast<int64_t>(text.size());
    if (is("How many times")) return std::count(text.begin(), text.end(), letter(0));
    if (is("at which position")) return static_cast<int64_t>(text.find(letter(0))) + 1;
  }
  return -1;
}

struct Claim {
  int speaker = 0;
  std::string form;  // "is", "alike" or "least"
  int a = 0;
  int b = 0;
  bool positive = false;
};

std::vector<Claim> ReadClaims(const std::string& question) {
  std::map<std::string, int> index;
  for (const char* name : {"Ada", "Bruno", "Cleo", "Dov", "Edda", "Finn", "Gita"}) {
    index.emplace(name, static_cast<int>(index.size()));
  }
  std::vector<Claim> claims;
  for (const std::smatch& m : Matches(question, "(\\w+) says: \"([^\"]+)\\.\"")) {
    const std::string said = m[2];
    const int speaker = index.at(m[1]);
    std::smatch s;
    if (std::regex_match(said, s, std::regex("(\\w+) is a (knight|knave)"))) {
      claims.push_back({speaker, "is", index.at(s[1]), 0, s[2] == "knight"});
    } else if (std::regex_match(said, s, std::regex("(\\w+) and (\\w+) are of (the same kind|different kinds)"))) {
      claims.push_back({speaker, "alike", index.at(s[1]), index.at(s[2]), s[3] == "the same kind"});
    } else if (std::regex_match(said, s, std::regex("at least (\\d+) of us are knights"))) {
      claims.push_back({speaker, "least", std::stoi(s[1]), 0, true});
    } else {
      ADD_FAILURE() << said;
    }
  }
  return claims;
}

// The number of knights if exactly one world agrees with all statements, else -1.
int64_t SolveKnights(const std::string& question) {
  const std::vector<Claim> claims = ReadClaims(question);
  const int people = std::stoi(Matches(question, "meet (\\d+) islanders")[0][1]);
  int64_t found = -1;
  for (int world = 0; world < (1 << people); ++world) {
    const auto knight = [&](int i) { return (world >> i & 1) != 0; };
    int64_t knights = 0;
    for (int i = 0; i < people; ++i) knights += world >> i & 1;
    const bool consistent = std::all_of(claims.begin(), claims.end(), [&](const Claim& c) {
      const bool holds = c.form == "is"      ? knight(c.a) == c.positive
                         : c.form == "alike" ? (knight(c.a) == knight(c.b)) == c.positive
                                             : knights >= c.a;
      return holds == knight(c.speaker);
    });
    if (!consistent) continue;
    if (found >= 0) return -1;
    found = knights;
  }
  return found;
}

TEST(GeneratorTest, AnswersAreRight) {
  const std::map<std::string, int64_t (*)(const std::string&)> solve = {
      {"arithmetic", SolveArithmetic}, {"knights", SolveKnights}, {"story", SolveStory}, {"string", SolveString}};
  ASSERT_EQ(solve.size(), GeneratorKinds().size());
  for (const auto& [kind, solver] : solve) {
    for (int difficulty : {1, 2, 3, 6, kDifficultyMax}) {
      const size_t count = kind == "knights" && difficulty < 4 ? 20 : 60;
      for (const Item& item : Items(kind, difficulty, count)) {
        EXPECT_EQ(std::to_string(solver(item.question)), item.answer)
            << "seed " << kSeed << " " << item.id << ": " << item.question;
      }
    }
  }
}

// Each line of working is itself true, and leads to the answer.
TEST(GeneratorTest, WorkedSolutionsHold) {
  for (const char* kind : {"arithmetic", "story"}) {
    for (const Item& item : Items(kind, 5)) {
      int64_t last = -1;
      for (const std::smatch& m : Matches(item.solution, "(\\d+) ([-+*/]) (\\d+) = (\\d+)")) {
        const int64_t a = std::stoll(m[1]);
        const int64_t b = std::stoll(m[3]);
        const char op = m[2].str()[0];
        const int64_t value = op == '+' ? a + b : op == '-' ? a - b : op == '*' ? a * b : a / b;
        EXPECT_EQ(value, std::stoll(m[4])) << item.solution;
        EXPECT_TRUE(last < 0 || a == last) << item.solution;
        last = value;
      }
      EXPECT_EQ(std::to_string(last), item.answer);
    }
  }
}

TEST(GeneratorTest, SolutionsAreGradedCorrect) {
  const auto grader = grade::MakeGrader("gsm8k");
  ASSERT_OK(grader);
  const auto items = Generate({.kinds = {}, .count = 200, .seed = kSeed, .difficulty = 4});
  ASSERT_OK(items);
  for (const Item& item : *items) {
    EXPECT_EQ((*grader)->GradeText(item.solution, {.gold = item.answer, .choices = {}}).outcome,
              grade::Outcome::kCorrect);
  }
}

TEST(GeneratorTest, SameSeedSameItemsAndMoreOnlyAdds) {
  const auto few = Generate({.kinds = {}, .count = 50, .seed = 1, .difficulty = 3});
  const auto many = Generate({.kinds = {}, .count = 400, .seed = 1, .difficulty = 3});
  const auto other = Generate({.kinds = {}, .count = 50, .seed = 2, .difficulty = 3});
  ASSERT_OK(few);
  ASSERT_OK(many);
  ASSERT_OK(other);
  EXPECT_TRUE(std::equal(few->begin(), few->end(), many->begin()));
  EXPECT_NE((*few)[0].question, (*other)[0].question);
  std::set<std::string> questions;
  std::set<std::string> ids;
  for (const Item& item : *many) {
    questions.insert(item.question);
    ids.insert(item.id);
  }
  EXPECT_EQ(questions.size(), 400u);
  EXPECT_EQ(ids.size(), 400u);
  EXPECT_EQ((*many)[0].stratum, "arithmetic");
  EXPECT_EQ((*many)[1].stratum, "knights");
}

// Pinned: stored results refer to these items. They may only change together with the ids.
TEST(GeneratorTest, ItemsAreTheSameEverywhere) {
  const auto items = Generate({.kinds = {"arithmetic"}, .count = 1, .seed = 7, .difficulty = 2});
  ASSERT_OK(items);
  EXPECT_EQ((*items)[0].question, "Start with 25. First, divide by 5. Then divide by 5. What number do you get?");
}

TEST(GeneratorTest, BadOptions) {
  constexpr absl::StatusCode kInvalid = absl::StatusCode::kInvalidArgument;
  EXPECT_THAT(Generate({.kinds = {"sudoku"}, .count = 1}),
              StatusIs(kInvalid, HasSubstr("\"sudoku\"; known: arithmetic, knights, story, string")));
  EXPECT_THAT(Generate({.kinds = {}, .count = 0}), StatusIs(kInvalid, HasSubstr("count is 0")));
  EXPECT_THAT(Generate({.kinds = {}, .count = kItemsMax + 1}), StatusIs(kInvalid, HasSubstr("count")));
  EXPECT_THAT(Generate({.kinds = {}, .count = 1, .seed = 0, .difficulty = 0}),
              StatusIs(kInvalid, HasSubstr("1 to 10")));
  EXPECT_THAT(Generate({.kinds = {}, .count = 1, .seed = 0, .difficulty = 11}), StatusIs(kInvalid, HasSubstr("11")));
  // Two islanders have only so much to say.
  EXPECT_THAT(Generate({.kinds = {"knights"}, .count = 100'000, .seed = 0, .difficulty = 1}),
              StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("distinct items")));
}

}  // namespace
}  // namespace conclave::benchmark
