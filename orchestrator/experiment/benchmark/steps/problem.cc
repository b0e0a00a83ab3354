// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/experiment/benchmark/steps/problem.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>

namespace conclave::benchmark {
namespace {

// Slips that end in the right answer after all are drawn again this often.
constexpr int kSlipAttemptsMax = 12;

// The first step that differs, or the number of steps they share where one is the beginning of the other.
size_t FirstDifference(const std::vector<Step>& a, const std::vector<Step>& b) {
  const size_t shared = std::min(a.size(), b.size());
  for (size_t i = 0; i < shared; ++i) {
    if (a[i].text != b[i].text) return i;
  }
  return shared;
}

}  // namespace

int64_t Hand::Mistaken(int64_t right) {
  const int64_t size = right < 0 ? -right : right;
  int64_t wrong = size;
  switch (dice_.Between(0, 4)) {
    case 0:
      wrong = size + 1;
      break;
    case 1:
      wrong = size - 1;
      break;
    case 2:  // a carry lost or invented
      wrong = size >= 10 ? size + (dice_.Between(0, 1) == 1 ? 10 : -10) : size + 1;
      break;
    case 3: {  // two digits swapped
      std::string digits = fmt::format("{}", size);
      if (digits.size() < 2) break;
      const auto at = static_cast<size_t>(dice_.Between(0, static_cast<int64_t>(digits.size()) - 2));
      std::swap(digits[at], digits[at + 1]);
      wrong = std::stoll(digits);
      break;
    }
    default: {  // one digit wrong
      std::string digits = fmt::format("{}", size);
      char& digit = digits[static_cast<size_t>(dice_.Between(0, static_cast<int64_t>(digits.size()) - 1))];
      digit = static_cast<char>('0' + (digit - '0' + dice_.Between(1, 9)) % 10);
      wrong = std::stoll(digits);
    }
  }
  if (wrong == size || wrong < 0) wrong = size + 1;
  return right < 0 ? -wrong : wrong;
}

void Hand::Write(const std::string& text, int64_t result) {
  std::string number = fmt::format("{}", result);
  steps_.push_back({text + number, std::move(number)});
}

Worked WorkRightly(const Problem& problem) {
  Hand hand;
  const int64_t answer = problem.work(hand);
  return {hand.steps(), answer};
}

Worked WorkWrongly(const Problem& problem, const Worked& right, Dice& dice) {
  Hand counting;
  problem.work(counting);
  for (int attempt = 0; attempt < kSlipAttemptsMax && counting.occasions() > 0; ++attempt) {
    const auto seed = static_cast<uint64_t>(dice.Between(0, int64_t{1} << 40));
    Hand hand(seed, dice.Between(0, counting.occasions() - 1));
    const int64_t answer = problem.work(hand);
    const size_t at = FirstDifference(hand.steps(), right.steps);
    if (answer == right.answer || at >= right.steps.size() || at >= hand.steps().size()) continue;
    return {hand.steps(), answer};
  }
  Hand hand(static_cast<uint64_t>(dice.Between(0, int64_t{1} << 40)), -1);
  return {right.steps, hand.Mistaken(right.answer)};
}

std::string SolutionText(const Worked& worked) {
  std::string text;
  for (size_t i = 0; i < worked.steps.size(); ++i) {
    fmt::format_to(std::back_inserter(text), "{}. {}\n", i + 1, worked.steps[i].text);
  }
  fmt::format_to(std::back_inserter(text), "#### {}", worked.answer);
  return text;
}

}  // namespace conclave::benchmark
