// SPDX-License-Identifier: Apache-2.0
// Long addition, subtraction and multiplication as at school: one column a step, the digits found so far behind it.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "orchestrator/experiment/benchmark/steps/families.h"

namespace conclave::benchmark {
namespace {

// A number of exactly so many digits.
int64_t OfDigits(Dice& dice, int digits) {
  int64_t low = 1;
  for (int i = 1; i < digits; ++i) low *= 10;
  return dice.Between(low, low * 10 - 1);
}

// The digit at a place from the right; 0 beyond the number.
int64_t DigitAt(const std::string& number, size_t place) {
  return place < number.size() ? number[number.size() - 1 - place] - '0' : 0;
}

// A digit as read, perhaps wrongly.
int64_t ReadDigit(Hand& hand, int64_t digit) { return hand.Slips() ? (digit + hand.dice().Between(1, 9)) % 10 : digit; }

// What is carried to the next column; a carry may be lost.
int64_t Carry(Hand& hand, int64_t sum) { return hand.Slips() ? (sum >= 10 ? 0 : 1) : sum / 10; }

int64_t AddColumns(const std::vector<std::string>& numbers, Hand& hand) {
  size_t columns = 0;
  for (const std::string& number : numbers) columns = std::max(columns, number.size());
  std::string found;
  int64_t carry = 0;
  for (size_t place = 0; place < columns; ++place) {
    std::string line;
    int64_t sum = carry;
    for (const std::string& number : numbers) {
      const int64_t digit = ReadDigit(hand, DigitAt(number, place));
      sum += digit;
      line += fmt::format("{} + ", digit);
    }
    sum = hand.Number(sum);
    found = fmt::format("{}{}", place + 1 == columns ? sum : sum % 10, found);
    hand.Write(fmt::format("{}{} = {}: {}", line, carry, sum, found), found);
    carry = Carry(hand, sum);
  }
  return std::stoll(found);
}

int64_t SubtractColumns(const std::string& a, const std::string& b, Hand& hand) {
  std::string found;
  int64_t borrowed = 0;
  for (size_t place = 0; place < a.size(); ++place) {
    int64_t above = ReadDigit(hand, DigitAt(a, place));
    const int64_t below = ReadDigit(hand, DigitAt(b, place));
    const bool borrows = above < below + borrowed;
    if (borrows) above += 10;
    const int64_t digit = hand.Number(above - below - borrowed) % 10;
    found = fmt::format("{}{}", digit, found);
    hand.Write(fmt::format("{} - {} - {} = {}: {}", above, below, borrowed, digit, found), found);
    borrowed = borrows != hand.Slips() ? 1 : 0;
  }
  return std::stoll(found);
}

// a * digit, column by column; `zeros` stand behind it from the start.
int64_t TimesDigit(const std::string& a, int64_t digit, size_t zeros, Hand& hand) {
  std::string found(zeros, '0');
  int64_t carry = 0;
  for (size_t place = 0; place < a.size(); ++place) {
    const int64_t above = ReadDigit(hand, DigitAt(a, place));
    const int64_t product = hand.Number(above * digit + carry);
    found = fmt::format("{}{}", place + 1 == a.size() ? product : product % 10, found);
    hand.Write(fmt::format("{} * {} + {} = {}: {}", above, digit, carry, product, found), found);
    carry = hand.Slips() ? (product >= 10 ? 0 : 1) : product / 10;
  }
  return std::stoll(found);
}

}  // namespace

Problem MakeAddition(Dice& dice, int difficulty) {
  const int count = difficulty > 6 ? 3 : 2;
  const int digits = difficulty > 6 ? difficulty - 2 : difficulty + 1;
  std::vector<std::string> numbers;
  for (int i = 0; i < count; ++i) {
    numbers.push_back(fmt::format("{}", OfDigits(dice, std::max(2, digits - static_cast<int>(dice.Between(0, 1))))));
  }
  Problem problem;
  problem.question = fmt::format("What is {}?", fmt::join(numbers, " + "));
  problem.plan = {fmt::format("Given: {}; asked: the sum.", fmt::join(numbers, ", ")),
                  "Add the columns from the right, with the carry.", "Put the digits together."};
  problem.work = [numbers](Hand& hand) { return AddColumns(numbers, hand); };
  return problem;
}

Problem MakeSubtraction(Dice& dice, int difficulty) {
  int64_t a = OfDigits(dice, difficulty + 1);
  int64_t b = OfDigits(dice, std::max(2, difficulty + 1 - static_cast<int>(dice.Between(0, 1))));
  if (a < b) std::swap(a, b);
  Problem problem;
  problem.question = fmt::format("What is {} - {}?", a, b);
  problem.plan = {fmt::format("Given: {} and {}; asked: the difference.", a, b),
                  "Subtract the columns from the right, and borrow.", "Put the digits together."};
  problem.work = [a = fmt::format("{}", a), b = fmt::format("{}", b)](Hand& hand) {
    return SubtractColumns(a, b, hand);
  };
  return problem;
}

Problem MakeMultiply(Dice& dice, int difficulty) {
  constexpr int kDigits[][2] = {{2, 1}, {3, 1}, {4, 1}, {2, 2}, {3, 2}, {4, 2}, {5, 2}, {3, 3}, {4, 3}, {5, 3}};
  const int64_t a = OfDigits(dice, kDigits[difficulty - 1][0]);
  const int64_t b = std::max<int64_t>(2, OfDigits(dice, kDigits[difficulty - 1][1]));
  Problem problem;
  problem.question = fmt::format("What is {} * {}?", a, b);
  problem.plan = {fmt::format("Given: {} and {}; asked: the product.", a, b),
                  fmt::format("Multiply {} by each digit of {}, from the right.", a, b), "Add the products."};
  problem.work = [a = fmt::format("{}", a), b = fmt::format("{}", b)](Hand& hand) {
    int64_t sum = 0;
    for (size_t place = 0; place < b.size(); ++place) {
      const int64_t product = TimesDigit(a, ReadDigit(hand, DigitAt(b, place)), place, hand);
      if (place > 0) {
        const int64_t before = sum;
        sum = hand.Number(sum + product);
        hand.Write(fmt::format("{} + {} = ", before, product), sum);
      } else {
        sum = product;
      }
    }
    return sum;
  };
  return problem;
}

}  // namespace conclave::benchmark
