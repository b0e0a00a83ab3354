// SPDX-License-Identifier: Apache-2.0
// The answers are checked by solving each question again from its text alone.
#include "orchestrator/experiment/benchmark/generator.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cctype>
#include <functional>
#include <map>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "orchestrator/experiment/benchmark/steps/families.h"
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

// Words without the punctuation and quotes around them.
std::vector<std::string> Words(const std::string& text) {
  std::vector<std::string> words;
  std::istringstream stream(text);
  for (std::string word; stream >> word;) {
    while (!word.empty() && std::ispunct(static_cast<unsigned char>(word.back())) != 0) word.pop_back();
    const size_t start = word.find_first_not_of("\"$");
    words.push_back(start == std::string::npos ? "" : word.substr(start));
  }
  return words;
}

// The number that a word is, or -1.
int64_t Number(const std::string& word) {
  const bool digits = !word.empty() && word.find_first_not_of("0123456789") == std::string::npos;
  return digits ? std::stoll(word) : -1;
}

void Divide(int64_t& value, int64_t by) {
  EXPECT_EQ(value % by, 0);
  value /= by;
}

int64_t SolveArithmetic(const std::string& question) {
  const std::vector<std::string> words = Words(question);
  int64_t value = 0;
  for (size_t i = 1; i < words.size(); ++i) {
    const int64_t n = Number(words[i]);
    if (n < 0) continue;
    const std::string& verb = words[i - 1] == "by" ? words[i - 2] : words[i - 1];
    if (verb == "with") value = n;
    if (verb == "add") value += n;
    if (verb == "subtract") value -= n;
    if (verb == "multiply") value *= n;
    if (verb == "divide") Divide(value, n);
  }
  return value;
}

int64_t SolveStory(const std::string& question) {
  const std::vector<std::string> words = Words(question);
  int64_t value = 0;
  for (size_t i = 1; i + 1 < words.size(); ++i) {
    const int64_t n = Number(words[i]);
    if (n < 0) continue;
    const std::string& next = words[i + 1];
    if (next == "more") {
      value += n;
    } else if (next == "of") {
      value -= n;
    } else if (next == "times" || next == "each") {
      value *= n;
    } else if (next == "equal") {
      Divide(value, n);
    } else {
      EXPECT_EQ(value, 0) << question;  // only the opening sentence states a quantity
      value = n;
    }
  }
  return value;
}

int64_t SolveString(const std::string& question) {
  std::string text;
  for (size_t begin = 0; begin < question.size();) {
    const size_t end = question.find_first_of(".?", begin);
    const std::string sentence = question.substr(begin, end - begin);
    begin = end + 1;
    std::vector<std::string> quoted;
    for (size_t open = sentence.find('"'); open != std::string::npos;) {
      const size_t close = sentence.find('"', open + 1);
      quoted.push_back(sentence.substr(open + 1, close - open - 1));
      open = sentence.find('"', close + 1);
    }
    const auto letter = [&](size_t i) { return quoted.at(i)[0]; };
    const auto is = [&](const char* opening) { return sentence.find(opening) != std::string::npos; };
    if (is("Take the word")) text = quoted.at(0);
    if (is("Reverse it")) text = std::string(text.rbegin(), text.rend());
    if (is("Write it twice")) text = text + text;
    if (is("Remove every")) text.erase(std::remove(text.begin(), text.end(), letter(0)), text.end());
    if (is("Drop its first")) text = text.substr(1, text.size() - 2);
    if (is("Append")) text += quoted.at(0);
    if (is("Replace every")) std::replace(text.begin(), text.end(), letter(0), letter(1));
    if (is("How many letters")) return static_cast<int64_t>(text.size());
    if (is("How many times")) return std::count(text.begin(), text.end(), letter(0));
    if (is("at which position")) return static_cast<int64_t>(text.find(letter(0))) + 1;
  }
  return -1;
}

// `speaker` says that `world` (bit i: islander i is a knight) satisfies `holds`.
struct Claim {
  int speaker = 0;
  std::function<bool(int world)> holds;
};

std::vector<Claim> ReadClaims(const std::string& question) {
  const std::map<std::string, int> index = {{"Ada", 0},  {"Bruno", 1}, {"Cleo", 2}, {"Dov", 3},
                                            {"Edda", 4}, {"Finn", 5},  {"Gita", 6}};
  const std::vector<std::string> words = Words(question);
  std::vector<Claim> claims;
  for (size_t i = 1; i < words.size(); ++i) {
    if (words[i] != "says") continue;
    const int speaker = index.at(words[i - 1]);
    if (words[i + 1] == "at") {  // at least N of us are knights
      const int least = static_cast<int>(Number(words.at(i + 3)));
      claims.push_back({speaker, [=](int world) { return std::popcount(static_cast<unsigned>(world)) >= least; }});
      continue;
    }
    const int a = index.at(words[i + 1]);
    if (words[i + 2] == "is") {  // A is a knight
      const int knight = words.at(i + 4) == "knight" ? 1 : 0;
      claims.push_back({speaker, [=](int world) { return (world >> a & 1) == knight; }});
    } else {  // A and B are of the same kind
      const int b = index.at(words.at(i + 3));
      const bool same = words.at(i + 6) == "the";
      claims.push_back({speaker, [=](int world) { return ((world >> a & 1) == (world >> b & 1)) == same; }});
    }
  }
  return claims;
}

// The number of knights if exactly one world agrees with all statements, else -1.
int64_t SolveKnights(const std::string& question) {
  const std::vector<Claim> claims = ReadClaims(question);
  const size_t meet = question.find("meet ") + 5;
  const int people = question[meet] - '0';
  int64_t found = -1;
  for (int world = 0; world < (1 << people); ++world) {
    const bool consistent = std::all_of(claims.begin(), claims.end(), [&](const Claim& c) {
      return c.holds(world) == ((world >> c.speaker & 1) != 0);
    });
    if (!consistent) continue;
    if (found >= 0) return -1;
    found = std::popcount(static_cast<unsigned>(world));
  }
  return found;
}

TEST(GeneratorTest, AnswersAreRight) {
  const std::map<std::string, int64_t (*)(const std::string&)> solve = {
      {"arithmetic", SolveArithmetic}, {"knights", SolveKnights}, {"story", SolveStory}, {"string", SolveString}};
  ASSERT_EQ(solve.size() + Families().size(), GeneratorKinds().size());  // those have a test of their own
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
      std::istringstream lines(item.solution);
      for (std::string line; std::getline(lines, line) && line[0] != '#';) {
        std::istringstream words(line);
        int64_t a = 0;
        int64_t b = 0;
        int64_t result = 0;
        char op = 0;
        char equals = 0;
        ASSERT_TRUE(words >> a >> op >> b >> equals >> result) << item.solution;
        EXPECT_EQ(result, op == '+' ? a + b : op == '-' ? a - b : op == '*' ? a * b : a / b) << item.solution;
        EXPECT_TRUE(last < 0 || a == last) << item.solution;
        last = result;
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
              StatusIs(kInvalid, HasSubstr("\"sudoku\"; known: addition, arithmetic, base, ")));
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
