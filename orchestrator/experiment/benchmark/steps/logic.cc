// SPDX-License-Identifier: Apache-2.0
// Bits, sets, and knights and knaves.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>

#include "orchestrator/experiment/benchmark/steps/families.h"

namespace conclave::benchmark {
namespace {

size_t Somewhere(Dice& dice, size_t size) {
  return static_cast<size_t>(dice.Between(0, static_cast<int64_t>(size) - 1));
}

// ---- Bits.
constexpr std::array<const char*, 3> kGates = {"and", "or", "xor"};

struct Gate {
  size_t kind = 0;  // of kGates
  bool negates = false;
  std::string operand;
};

char GateOf(size_t kind, char a, char b) {
  const bool p = a == '1';
  const bool q = b == '1';
  return (kind == 0 ? p && q : kind == 1 ? p || q : p != q) ? '1' : '0';
}

// Bits as calculated, at a slip with one of them wrong.
std::string Bits(std::string bits, Hand& hand) {
  if (!hand.Slips()) return bits;
  char& bit = bits[Somewhere(hand.dice(), bits.size())];
  bit = bit == '1' ? '0' : '1';
  return bits;
}

int64_t WorkBits(const std::string& start, const std::vector<Gate>& gates, Hand& hand) {
  std::string now = start;
  for (const Gate& gate : gates) {
    const std::string operand = Bits(gate.operand, hand);
    const size_t kind = hand.Slips() ? (gate.kind + 1) % kGates.size() : gate.kind;
    std::string next = now;
    for (size_t i = 0; i < next.size(); ++i) next[i] = GateOf(kind, now[i], operand[i]);
    next = Bits(std::move(next), hand);
    hand.Write(fmt::format("{} {} {} = {}", now, kGates[kind], operand, next), next);
    now = next;
    if (!gate.negates || hand.Slips()) continue;
    for (char& bit : next) bit = bit == '1' ? '0' : '1';
    next = Bits(std::move(next), hand);
    hand.Write(fmt::format("not {} = {}", now, next), next);
    now = next;
  }
  int64_t value = 0;
  std::string terms;
  for (size_t i = 0; i < now.size(); ++i) {
    if (now[i] == '0') continue;
    const int64_t term = hand.Number(int64_t{1} << (now.size() - 1 - i));
    terms += fmt::format("{}{}", terms.empty() ? "" : " + ", term);
    value += term;
  }
  value = hand.Number(value);
  hand.Write(fmt::format("{} = {} = ", now, terms.empty() ? "0" : terms), value);
  return value;
}

// ---- Sets, sorted.
using Set = std::vector<int64_t>;
enum class SetOperation { kAnd, kOr, kMinus };
constexpr std::array<const char*, 3> kSetWords = {"and", "or", "minus"};

Set Combine(SetOperation operation, const Set& a, const Set& b) {
  Set result;
  for (const int64_t x : a) {
    const bool both = std::find(b.begin(), b.end(), x) != b.end();
    if (operation == SetOperation::kOr || both == (operation == SetOperation::kAnd)) result.push_back(x);
  }
  if (operation == SetOperation::kOr) {
    for (const int64_t x : b) {
      if (std::find(a.begin(), a.end(), x) == a.end()) result.push_back(x);
    }
  }
  std::sort(result.begin(), result.end());
  return result;
}

std::string Shown(const Set& set) { return set.empty() ? "nothing" : fmt::format("{}", fmt::join(set, " ")); }

Set SomeSet(Dice& dice, size_t size, int64_t most) {
  Set set;
  while (set.size() < size) {
    const int64_t x = dice.Between(1, most);
    if (std::find(set.begin(), set.end(), x) == set.end()) set.push_back(x);
  }
  std::sort(set.begin(), set.end());
  return set;
}

// A set as found, at a slip with an element missing, or one that does not belong.
Set Found(Set set, const Set& other, Hand& hand) {
  if (!hand.Slips()) return set;
  if (!set.empty() && hand.dice().Between(0, 1) == 0) {
    set.erase(set.begin() + static_cast<std::ptrdiff_t>(Somewhere(hand.dice(), set.size())));
    return set;
  }
  for (const int64_t x : other) {
    if (std::find(set.begin(), set.end(), x) != set.end()) continue;
    set.push_back(x);
    std::sort(set.begin(), set.end());
    break;
  }
  return set;
}

int64_t WorkSets(const std::vector<Set>& sets, const std::vector<SetOperation>& operations, Hand& hand) {
  Set now = sets[0];
  for (size_t i = 0; i < operations.size(); ++i) {
    const size_t kind = static_cast<size_t>(operations[i]);
    const auto operation = static_cast<SetOperation>(hand.Slips() ? (kind + 1) % 3 : kind);
    now = Found(Combine(operation, now, sets[i + 1]), sets[i + 1], hand);
    const std::string shown = Shown(now);
    hand.Write(fmt::format("{} {}: {}", kSetWords[static_cast<size_t>(operation)], static_cast<char>('Q' + i), shown),
               shown);
  }
  int64_t sum = now.empty() ? 0 : now[0];
  for (size_t i = 1; i < now.size(); ++i) {
    if (hand.Slips()) continue;
    const int64_t before = sum;
    sum = hand.Number(before + now[i]);
    hand.Write(fmt::format("{} + {} = ", before, now[i]), sum);
  }
  if (now.size() < 2) hand.Write("sum ", sum);
  return sum;
}

// ---- Knights and knaves: each says something of one who stands before it in the order of reasoning.
constexpr std::array<const char*, 12> kPeople = {"Ada", "Bo",  "Cy",  "Di", "Ed",  "Flo",
                                                 "Gus", "Hal", "Ivy", "Jo", "Kim", "Lee"};

struct Islander {
  size_t person = 0;  // of kPeople
  int64_t coins = 0;
  // What is said: "a is a knight" or "a is a knave"; with two, "a and b are alike" or "a and b differ".
  size_t a = 0, b = 0;  // places in the order of reasoning, before this one
  bool two = false;
  bool claims = true;  // knight, alike
};

std::string Claim(const Islander& speaker, const std::vector<Islander>& order) {
  const char* a = kPeople[order[speaker.a].person];
  if (!speaker.two) return fmt::format("{} {}", a, speaker.claims ? "is honest" : "lies");
  return fmt::format("{} and {} {}", a, kPeople[order[speaker.b].person], speaker.claims ? "are alike" : "differ");
}

int64_t WorkLiars(const std::vector<Islander>& order, Hand& hand) {
  std::vector<bool> honest;
  int64_t sum = 0;
  for (size_t i = 0; i < order.size(); ++i) {
    const Islander& islander = order[i];
    std::string reason;
    bool knight = true;
    if (i > 0) {
      const bool is = islander.two ? honest[islander.a] == honest[islander.b] : honest[islander.a];
      knight = (is == islander.claims) != hand.Slips();
      reason = fmt::format(" says {}: {}, {}", Claim(islander, order), knight ? "true" : "false",
                           knight ? "honest" : "liar");
    } else {
      reason = " honest";
    }
    honest.push_back(knight);
    const int64_t before = sum;
    const int64_t coins = hand.Number(islander.coins);
    if (knight) sum = hand.Number(before + coins);
    const std::string total = knight ? fmt::format("{} + {} = {}", before, coins, sum) : fmt::format("{}", sum);
    hand.Write(fmt::format("{}{}; {}", kPeople[islander.person], reason, total), fmt::format("{}", sum));
  }
  return sum;
}

}  // namespace

Problem MakeBoolean(Dice& dice, int difficulty) {
  const size_t bits = 4 + static_cast<size_t>(difficulty) / 2;
  const auto some_bits = [&] {
    std::string text;
    for (size_t i = 0; i < bits; ++i) text += dice.Between(0, 1) == 1 ? '1' : '0';
    return text;
  };
  const std::string start = some_bits();
  std::vector<Gate> gates;
  std::string words;
  for (int i = 0; i < 1 + difficulty * 2 / 5; ++i) {
    // As often xor as the other two, which soon leave only ones or zeros.
    Gate gate = {std::min<size_t>(2, Somewhere(dice, 4)), difficulty >= 3 && dice.Between(0, 2) == 0, some_bits()};
    words += fmt::format(", then {} {}{}", kGates[gate.kind], gate.operand, gate.negates ? ", then not" : "");
    gates.push_back(std::move(gate));
  }
  Problem problem;
  problem.question = fmt::format("Take the bits {}{}. Which decimal number is the result?", start, words);
  problem.plan = {fmt::format("Given: the bits {}; asked: the value of the result.", start),
                  fmt::format("Do bit by bit:{}.", words.substr(1)), "Add the powers of 2."};
  problem.work = [start, gates](Hand& hand) { return WorkBits(start, gates, hand); };
  return problem;
}

Problem MakeSets(Dice& dice, int difficulty) {
  const size_t size = 3 + static_cast<size_t>(difficulty) / 3;
  const int64_t most = difficulty <= 4 ? 12 : difficulty <= 7 ? 20 : 40;
  constexpr size_t kManyElements = 6;  // no larger by a union: every element costs a step
  std::vector<Set> sets;
  sets.push_back(SomeSet(dice, size, most));
  std::vector<SetOperation> operations;
  Set now = sets[0];
  for (int i = 0; i < 1 + (difficulty + 1) / 3; ++i) {
    sets.push_back(SomeSet(dice, size, most));
    auto operation = static_cast<SetOperation>(dice.Between(0, 2));
    if (operation == SetOperation::kOr && now.size() > kManyElements) operation = SetOperation::kMinus;
    if (Combine(operation, now, sets.back()).size() < 2) operation = SetOperation::kOr;
    operations.push_back(operation);
    now = Combine(operation, now, sets.back());
  }
  std::string given;
  std::string words = "P";
  for (size_t i = 0; i < sets.size(); ++i) {
    given += fmt::format("{}{} = {}", i == 0 ? "" : ", ", static_cast<char>('P' + i), Shown(sets[i]));
    if (i == 0) continue;
    const char* word = kSetWords[static_cast<size_t>(operations[i - 1])];
    if (i > 1) words = fmt::format("({})", words);
    words += fmt::format(" {} {}", word, static_cast<char>('P' + i));
  }
  Problem problem;
  problem.question = fmt::format("Sets: {}. What is the sum of the numbers in {}?", given, words);
  problem.plan = {fmt::format("Given: the sets {}; asked: the sum of {}.", given, words),
                  "Work out the sets from the inner bracket.", "Add the numbers that are left."};
  problem.work = [sets, operations](Hand& hand) { return WorkSets(sets, operations, hand); };
  return problem;
}

Problem MakeLiars(Dice& dice, int difficulty) {
  constexpr std::array<size_t, 10> kCounts = {3, 3, 4, 4, 5, 5, 7, 8, 9, 10};
  const size_t count = kCounts[static_cast<size_t>(difficulty) - 1];
  const size_t first = Somewhere(dice, kPeople.size());
  std::vector<Islander> order;
  for (size_t i = 0; i < count; ++i) {
    Islander islander;
    islander.person = (first + i * 5) % kPeople.size();  // 5 and 12 have no common factor: all differ
    islander.coins = dice.Between(2, 9 + 4 * difficulty);
    if (i > 0) islander.a = difficulty <= 3 ? i - 1 : Somewhere(dice, i);
    if (i > 1 && difficulty >= 7 && dice.Between(0, 2) == 0) {
      islander.two = true;
      islander.b = (islander.a + 1 + Somewhere(dice, i - 1)) % i;
    }
    islander.claims = dice.Between(0, 1) == 1;
    order.push_back(islander);
  }
  std::vector<size_t> told;  // the order in the text
  for (size_t i = 0; i < count; ++i) told.push_back(i);
  for (size_t i = count; difficulty >= 4 && i > 1; --i) std::swap(told[i - 1], told[Somewhere(dice, i)]);
  std::string text;
  for (const size_t i : told) {
    const Islander& islander = order[i];
    text += fmt::format(" {} ({}) {}{}.", kPeople[islander.person], islander.coins, i == 0 ? "is honest" : "says ",
                        i == 0 ? std::string() : Claim(islander, order));
  }
  Problem problem;
  problem.question = fmt::format("Honest people tell the truth, liars lie.{} How many coins do the honest have?", text);
  problem.plan = {fmt::format("Given: {} people with coins; asked: the coins of the honest.", count),
                  fmt::format("Begin with {}, who is honest.", kPeople[order[0].person]),
                  "Judge each who speaks of people already judged.", "Add the coins of the honest."};
  problem.work = [order](Hand& hand) { return WorkLiars(order, hand); };
  return problem;
}

}  // namespace conclave::benchmark
