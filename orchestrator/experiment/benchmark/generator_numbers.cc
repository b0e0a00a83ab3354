// SPDX-License-Identifier: Apache-2.0
// Arithmetic chains and word problems. Every step keeps the value a whole number within kValueMax.
#include <fmt/format.h>

#include <string>

#include "orchestrator/experiment/benchmark/generator_kinds.h"

namespace conclave::benchmark {
namespace {

constexpr int64_t kValueMax = 100'000;

// A divisor of `value` from 2 to 12, or 0.
int64_t SomeDivisor(Dice& dice, int64_t value) {
  if (value == 0) return 0;
  const int64_t start = dice.Between(2, 12);
  for (int64_t i = 0; i < 11; ++i) {
    const int64_t d = 2 + (start - 2 + i) % 11;
    if (value % d == 0) return d;
  }
  return 0;
}

struct Step {
  std::string question;
  std::string working;
};

Step ArithmeticStep(Dice& dice, int64_t& value) {
  const int64_t before = value;
  int64_t operation = dice.Between(0, 3);
  const int64_t divisor = SomeDivisor(dice, value);
  if (operation == 3 && divisor == 0) operation = 0;
  const int64_t factor = dice.Between(2, 12);
  if (operation == 2 && value * factor > kValueMax) operation = 1;
  const int64_t other = dice.Between(2, 99);
  if (operation == 1 && value < other) operation = 0;
  switch (operation) {
    case 0:
      value += other;
      return {fmt::format("add {}", other), fmt::format("{} + {} = {}", before, other, value)};
    case 1:
      value -= other;
      return {fmt::format("subtract {}", other), fmt::format("{} - {} = {}", before, other, value)};
    case 2:
      value *= factor;
      return {fmt::format("multiply by {}", factor), fmt::format("{} * {} = {}", before, factor, value)};
    default:
      value /= divisor;
      return {fmt::format("divide by {}", divisor), fmt::format("{} / {} = {}", before, divisor, value)};
  }
}

struct Theme {
  const char* things;
  const char* gain;  // "{name} .. {n} more"
  const char* lose;
  const char* share;  // into {n} equal ..
};
constexpr Theme kThemes[] = {{"apples", "picks {} more apples", "eats or gives away {} of the apples",
                              "packs all the apples into {} equal baskets and keeps only one basket"},
                             {"stamps", "buys {} more stamps", "sticks {} of the stamps on letters",
                              "sorts all the stamps into {} equal albums and keeps only one album"},
                             {"marbles", "wins {} more marbles", "loses {} of the marbles",
                              "puts all the marbles into {} equal bags and keeps only one bag"},
                             {"eggs", "collects {} more eggs", "uses {} of the eggs for cakes",
                              "lays all the eggs in {} equal cartons and keeps only one carton"},
                             {"books", "is given {} more books", "lends out {} of the books",
                              "puts all the books on {} equal shelves and keeps only one shelf of them"},
                             {"tickets", "prints {} more tickets", "hands out {} of the tickets",
                              "ties all the tickets into {} equal bundles and keeps only one bundle"}};
constexpr const char* kNames[] = {"Amara", "Bela",  "Chen", "Dalia", "Emil",  "Farah", "Goran", "Hana",
                                  "Ines",  "Jonas", "Kofi", "Lena",  "Marek", "Nadia", "Oskar", "Priya"};
constexpr const char* kTimes[] = {"On Monday", "Then", "The next day", "After lunch", "In the evening", "A week later"};

Step StoryStep(Dice& dice, const Theme& theme, const std::string& name, int64_t& value) {
  const int64_t before = value;
  const char* when = dice.Pick(kTimes);
  int64_t operation = dice.Between(0, 3);
  const int64_t divisor = SomeDivisor(dice, value);
  if (operation == 3 && (divisor == 0 || value < 20)) operation = 0;
  const int64_t factor = dice.Between(2, 4);
  if (operation == 2 && value * factor > kValueMax) operation = 1;
  if (operation == 1 && value < 3) operation = 0;
  const int64_t gained = dice.Between(2, 60);
  const int64_t lost = operation == 1 ? dice.Between(1, value - 1) : 0;
  const auto sentence = [&](const char* verb, int64_t n) {
    return fmt::format("{}, {} {}.", when, name, fmt::format(fmt::runtime(verb), n));
  };
  switch (operation) {
    case 0:
      value += gained;
      return {sentence(theme.gain, gained), fmt::format("{} + {} = {}", before, gained, value)};
    case 1:
      value -= lost;
      return {sentence(theme.lose, lost), fmt::format("{} - {} = {}", before, lost, value)};
    case 2:
      value *= factor;
      return {fmt::format("{}, {} has {} times as many {} as before.", when, name, factor, theme.things),
              fmt::format("{} * {} = {}", before, factor, value)};
    default:
      value /= divisor;
      return {sentence(theme.share, divisor), fmt::format("{} / {} = {}", before, divisor, value)};
  }
}

}  // namespace

Puzzle MakeArithmetic(Dice& dice, int difficulty) {
  int64_t value = dice.Between(2, 99);
  Puzzle puzzle;
  puzzle.question = fmt::format("Start with {}.", value);
  for (int i = 0; i < difficulty; ++i) {
    const Step step = ArithmeticStep(dice, value);
    puzzle.question += fmt::format(" {} {}.", i == 0 ? "First," : "Then", step.question);
    puzzle.solution += (i == 0 ? "" : "\n") + step.working;
  }
  puzzle.question += " What number do you get?";
  puzzle.answer = value;
  return puzzle;
}

Puzzle MakeStory(Dice& dice, int difficulty) {
  const Theme& theme = dice.Pick(kThemes);
  const std::string name = dice.Pick(kNames);
  int64_t value = dice.Between(5, 60);
  Puzzle puzzle;
  puzzle.question = fmt::format("{} has {} {}.", name, value, theme.things);
  const bool sells = dice.Between(0, 1) == 1;
  for (int i = 0; i < difficulty - (sells && difficulty > 1 ? 1 : 0); ++i) {
    const Step step = StoryStep(dice, theme, name, value);
    puzzle.question += " " + step.question;
    puzzle.solution += (i == 0 ? "" : "\n") + step.working;
  }
  if (sells && difficulty > 1) {
    const int64_t price = dice.Between(2, 15);
    puzzle.question +=
        fmt::format(" Finally, {} sells all the remaining {} for ${} each. How many dollars does {} get?", name,
                    theme.things, price, name);
    puzzle.solution += fmt::format("\n{} * {} = {}", value, price, value * price);
    value *= price;
  } else {
    puzzle.question += fmt::format(" How many {} does {} have now?", theme.things, name);
  }
  puzzle.answer = value;
  return puzzle;
}

}  // namespace conclave::benchmark
