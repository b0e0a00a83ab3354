// SPDX-License-Identifier: Apache-2.0
// Problems with written-out steps: a question, and a procedure that works it out line by line. The procedure writes
// with a Hand, which may slip once on purpose and then carries the mistake on consistently, as people and models do.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "orchestrator/experiment/benchmark/dice.h"

namespace conclave::benchmark {

struct Step {
  std::string text;    // one line, without its number
  std::string result;  // the value that the line arrives at, part of `text`; what a checker compares

  friend bool operator==(const Step&, const Step&) = default;
};

// Writes the steps of one solution. Every elementary result passes through it: an occasion to slip.
class Hand {
 public:
  Hand() = default;  // right all the way
  // Slips at occasion number `slip_at`, from 0; how is drawn from `seed`.
  Hand(uint64_t seed, int64_t slip_at) : dice_(seed, 0), slip_at_(slip_at) {}

  // Whether this is the occasion to get wrong. Procedures ask where a step may be skipped, a choice made wrongly, ..
  bool Slips() { return occasions_++ == slip_at_; }
  // A number calculated or read: itself, or at the slip another one that is easily taken for it (off by one, a carry
  // lost, one digit wrong, two digits swapped). Not negative where `right` is not; never `right`.
  int64_t Number(int64_t right) { return Slips() ? Mistaken(right) : right; }
  // The same without asking: a number easily taken for `right`.
  int64_t Mistaken(int64_t right);
  void Write(std::string text, std::string result) { steps_.push_back({std::move(text), std::move(result)}); }
  // A line that ends with its result.
  void Write(const std::string& text, int64_t result);

  Dice& dice() { return dice_; }
  int64_t occasions() const { return occasions_; }
  const std::vector<Step>& steps() const { return steps_; }

 private:
  Dice dice_ = Dice(0, 0);
  int64_t slip_at_ = -1;
  int64_t occasions_ = 0;
  std::vector<Step> steps_;
};

struct Problem {
  std::string question;
  std::vector<std::string> plan;  // 2 to 5 lines that name what is given and what to do; nothing is calculated
  // Writes the steps and returns the answer. Ends for every hand; with a hand that does not slip it is right.
  std::function<int64_t(Hand& hand)> work;
};

// A solution, right or with one mistake.
struct Worked {
  std::vector<Step> steps;
  int64_t answer = 0;
};

Worked WorkRightly(const Problem& problem);

// A wrong solution: one slip of an elementary result, carried on consistently to an answer that is not `right.answer`;
// at least one step differs from `right`. Where no slip drawn in a fixed number of attempts leads there, the answer
// alone is miscopied.
Worked WorkWrongly(const Problem& problem, const Worked& right, Dice& dice);

// "1. text" lines, then "#### answer".
std::string SolutionText(const Worked& worked);

}  // namespace conclave::benchmark
