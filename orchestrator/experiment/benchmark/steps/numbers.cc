// SPDX-License-Identifier: Apache-2.0
// Bases, dates, equations and least common multiples.
#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "orchestrator/experiment/benchmark/steps/families.h"

namespace conclave::benchmark {
namespace {

std::string InBase(int64_t value, int64_t base) {
  std::string digits;
  for (; value > 0; value /= base) digits.insert(digits.begin(), static_cast<char>('0' + value % base));
  return digits.empty() ? "0" : digits;
}

int64_t FromBase(const std::string& digits, int64_t base, Hand& hand) {
  int64_t value = 0;
  for (const char c : digits) {
    const int64_t digit = hand.Slips() ? (c - '0' + 1) % base : c - '0';
    const int64_t before = value;
    value = hand.Number(before * base + digit);
    hand.Write(fmt::format("{} * {} + {} = ", before, base, digit), value);
  }
  return value;
}

// The digits in base `base`, as a number written with them.
int64_t ToBase(int64_t value, int64_t base, Hand& hand) {
  std::string found;
  for (int guard = 0; guard < 16 && (value > 0 || found.empty()); ++guard) {
    const int64_t quotient = hand.Number(value / base);
    const int64_t digit = hand.Slips() ? (value % base + 1) % base : value % base;
    found.insert(found.begin(), static_cast<char>('0' + digit));
    hand.Write(fmt::format("{} = {} * {} + {}: {}", value, quotient, base, digit, found), found);
    value = quotient;
  }
  return std::stoll(found);
}

constexpr std::array<const char*, 12> kMonths = {"January", "February", "March",     "April",   "May",      "June",
                                                 "July",    "August",   "September", "October", "November", "December"};

int64_t DaysIn(int64_t month, int64_t year) {
  constexpr std::array<int64_t, 12> kDays = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
  const bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
  return kDays[static_cast<size_t>(month)] + (month == 1 && leap ? 1 : 0);
}

struct Date {
  int64_t day = 1, month = 0, year = 2000;  // month from 0
};

std::string InWords(const Date& date) {
  return fmt::format("{} {} {}", date.day, kMonths[static_cast<size_t>(date.month)], date.year);
}

int64_t CountDays(const Date& from, int64_t months, int64_t last_day, Hand& hand) {
  int64_t month = from.month;
  int64_t year = from.year;
  int64_t length = hand.Number(DaysIn(month, year));
  int64_t days = hand.Number(length - from.day);
  hand.Write(fmt::format("{}: {} - {} = ", kMonths[static_cast<size_t>(month)], length, from.day), days);
  for (int64_t i = 1; i <= months; ++i) {
    month += 1;
    if (month == 12) month = 0, year += 1;
    if (i < months && hand.Slips()) continue;  // a month left out
    const int64_t before = days;
    length = hand.Number(i == months ? last_day : DaysIn(month, year));
    days = hand.Number(before + length);
    hand.Write(fmt::format("{}: {} + {} = ", kMonths[static_cast<size_t>(month)], before, length), days);
  }
  return days;
}

// value / by where that is a whole number; a wrong solution goes on with what is nearest.
int64_t Divide(int64_t value, int64_t by, Hand& hand) { return hand.Number(by == 0 ? value : value / by); }

// left x + a = right x + b, with x = .. at the end.
int64_t SolveLinear(int64_t left, int64_t a, int64_t right, int64_t b, Hand& hand) {
  int64_t factor = left;
  if (right != 0) {
    factor = hand.Number(left - right);
    hand.Write(fmt::format("{}x - {}x = {}x", left, right, factor), fmt::format("{}x", factor));
  }
  const int64_t rest = hand.Number(b - a);
  hand.Write(fmt::format("{} - {} = ", b, a), rest);
  const int64_t x = Divide(rest, factor, hand);
  hand.Write(fmt::format("x = {} / {} = ", rest, factor), x);
  return x;
}

Problem LinearProblem(Dice& dice, int difficulty) {
  const int64_t x = dice.Between(2, 5 + 6 * difficulty);
  const int64_t right = difficulty <= 2 ? 0 : dice.Between(2, 3 + difficulty);
  const int64_t left = right + dice.Between(2, 4 + difficulty);
  const int64_t a = dice.Between(2, 10 + 9 * difficulty);
  Problem problem;
  const std::string end = right == 0 ? std::string() : fmt::format("{}x + ", right);
  if (difficulty <= 5) {
    const int64_t b = (left - right) * x + a;
    problem.question = fmt::format("Solve {}x + {} = {}{}. What is x?", left, a, end, b);
    problem.plan = {fmt::format("Given: {}x + {} = {}{}; asked: x.", left, a, end, b), "Bring the x to one side.",
                    "Bring the numbers to the other side.", "Divide by the factor of x."};
    problem.work = [=](Hand& hand) { return SolveLinear(left, a, right, b, hand); };
    return problem;
  }
  const int64_t inner = dice.Between(2, 9 + difficulty);
  const int64_t b = (left - right) * x + left * inner + a;
  problem.question = fmt::format("Solve {}(x + {}) + {} = {}{}. What is x?", left, inner, a, end, b);
  problem.plan = {fmt::format("Given: {}(x + {}) + {} = {}{}; asked: x.", left, inner, a, end, b),
                  "Multiply the bracket out.", "Bring the x to one side and the numbers to the other.",
                  "Divide by the factor of x."};
  problem.work = [=](Hand& hand) {
    const int64_t product = hand.Number(left * inner);
    hand.Write(fmt::format("{} * {} = ", left, inner), product);
    const int64_t sum = hand.Number(product + a);
    hand.Write(fmt::format("{} + {} = ", product, a), sum);
    return SolveLinear(left, sum, right, b, hand);
  };
  return problem;
}

// x + y = sum, p x + q y = total, p > q; asked: x * y.
Problem SystemProblem(Dice& dice, int difficulty) {
  const int64_t x = dice.Between(2, 4 * difficulty);
  const int64_t y = dice.Between(2, 4 * difficulty);
  const int64_t q = dice.Between(2, difficulty);
  const int64_t p = q + dice.Between(2, difficulty);
  const int64_t total = p * x + q * y;
  Problem problem;
  problem.question = fmt::format("x + y = {} and {}x + {}y = {}. What is x * y?", x + y, p, q, total);
  problem.plan = {fmt::format("Given: x + y = {} and {}x + {}y = {}; asked: x * y.", x + y, p, q, total),
                  "Put y from the first equation into the second.", "Solve for x, then for y.", "Multiply them."};
  problem.work = [=, sum = x + y](Hand& hand) {
    const int64_t product = hand.Number(q * sum);
    hand.Write(fmt::format("{} * {} = ", q, sum), product);
    const int64_t found_x = SolveLinear(p, product, q, total, hand);
    const int64_t found_y = hand.Number(sum - found_x);
    hand.Write(fmt::format("y = {} - {} = ", sum, found_x), found_y);
    const int64_t answer = hand.Number(found_x * found_y);
    hand.Write(fmt::format("{} * {} = ", found_x, found_y), answer);
    return answer;
  };
  return problem;
}

}  // namespace

Problem MakeBase(Dice& dice, int difficulty) {
  constexpr std::array<int64_t, 10> kMost = {40, 80, 150, 300, 500, 900, 1500, 3000, 5000, 9999};
  const int64_t most = kMost[static_cast<size_t>(difficulty) - 1];
  const int64_t value = dice.Between(most / 3, most);
  const int64_t base = dice.Between(2, 9);
  const std::string digits = InBase(value, base);
  Problem problem;
  if (dice.Between(0, 1) == 0) {
    problem.question = fmt::format("The number {} is written in base {}. What is it in base 10?", digits, base);
    problem.plan = {fmt::format("Given: the digits {} in base {}; asked: the value.", digits, base),
                    fmt::format("From the left, multiply by {} and add the next digit.", base)};
    problem.work = [=](Hand& hand) { return FromBase(digits, base, hand); };
  } else {
    problem.question = fmt::format("The number {} is written in base 10. What is it in base {}?", value, base);
    problem.plan = {fmt::format("Given: the value {}; asked: its digits in base {}.", value, base),
                    fmt::format("Divide by {} again and again.", base),
                    "The remainders are the digits from the right."};
    problem.work = [=](Hand& hand) { return ToBase(value, base, hand); };
  }
  return problem;
}

Problem MakeDates(Dice& dice, int difficulty) {
  const int64_t months = difficulty + (difficulty > 7 ? dice.Between(0, 4) : 0);
  const int64_t latest = difficulty <= 5 ? 11 - months : 11;
  Date from;
  from.year = dice.Between(1990, 2039);
  from.month = dice.Between(0, latest);
  from.day = dice.Between(1, DaysIn(from.month, from.year));
  Date to;
  to.month = (from.month + months) % 12;
  to.year = from.year + (from.month + months) / 12;
  to.day = dice.Between(1, DaysIn(to.month, to.year));
  Problem problem;
  problem.question = fmt::format("How many days is it from {} to {}?", InWords(from), InWords(to));
  problem.plan = {fmt::format("Given: {} and {}; asked: the days between.", InWords(from), InWords(to)),
                  "Take the rest of the first month.", "Add the whole months.", "Add the days of the last month."};
  problem.work = [=](Hand& hand) { return CountDays(from, months, to.day, hand); };
  return problem;
}

Problem MakeEquation(Dice& dice, int difficulty) {
  return difficulty >= 9 ? SystemProblem(dice, difficulty) : LinearProblem(dice, difficulty);
}

Problem MakeMultiple(Dice& dice, int difficulty) {
  constexpr std::array<int64_t, 10> kMost = {30, 40, 60, 80, 100, 130, 180, 250, 350, 500};
  const int64_t most = kMost[static_cast<size_t>(difficulty) - 1];
  // Numbers with something in common are the interesting ones.
  const int64_t common = dice.Between(1, std::max<int64_t>(2, most / 8));
  const int64_t first = dice.Between(2, most / common);
  const int64_t second = dice.Between(2, most / common - 1);
  const int64_t a = common * first;
  const int64_t b = common * (second >= first ? second + 1 : second);  // another number
  Problem problem;
  problem.question = fmt::format("What is the least common multiple of {} and {}?", a, b);
  problem.plan = {fmt::format("Given: {} and {}; asked: their least common multiple.", a, b),
                  "Divide with remainder until nothing remains: that divisor is common.",
                  fmt::format("Divide {} by it.", a), fmt::format("Multiply by {}.", b)};
  problem.work = [=](Hand& hand) {
    int64_t above = std::max(a, b);
    int64_t below = std::min(a, b);
    for (int guard = 0; guard < 16 && below > 0; ++guard) {
      const int64_t times = hand.Number(above / below);
      const int64_t rest = hand.Number(std::max<int64_t>(0, above - times * below));
      hand.Write(fmt::format("{} = {} * {} + ", above, times, below), rest);
      above = below;
      below = rest;
    }
    const int64_t part = Divide(a, above, hand);
    hand.Write(fmt::format("{} / {} = ", a, above), part);
    const int64_t answer = hand.Number(part * b);
    hand.Write(fmt::format("{} * {} = ", part, b), answer);
    return answer;
  };
  return problem;
}

}  // namespace conclave::benchmark
