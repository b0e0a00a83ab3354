// SPDX-License-Identifier: Apache-2.0
// Chains of operations: on one number, modulo a number, and on registers in a loop.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <array>

#include "orchestrator/experiment/benchmark/steps/families.h"

namespace conclave::benchmark {
namespace {

struct Operation {
  char sign = '+';  // + - * /
  int64_t operand = 0;
};

int64_t Apply(const Operation& operation, int64_t value) {
  switch (operation.sign) {
    case '+':
      return value + operation.operand;
    case '-':
      return value - operation.operand;
    case '*':
      return value * operation.operand;
    default:
      return value / operation.operand;
  }
}

std::string InWords(const Operation& operation) {
  switch (operation.sign) {
    case '+':
      return fmt::format("Add {}.", operation.operand);
    case '-':
      return fmt::format("Subtract {}.", operation.operand);
    case '*':
      return fmt::format("Multiply by {}.", operation.operand);
    default:
      return fmt::format("Divide by {}.", operation.operand);
  }
}

std::vector<std::string> ChainPlan(int64_t start, const std::vector<Operation>& operations, const std::string& first) {
  std::vector<std::string> signs;
  for (const Operation& operation : operations)
    signs.push_back(fmt::format("{} {}", operation.sign, operation.operand));
  return {fmt::format("{} {}.", first, start), fmt::format("Do in turn: {}.", fmt::join(signs, ", ")),
          "The last value is asked for."};
}

// One operation that keeps `value` a whole number from 0 to `most`.
Operation SomeOperation(Dice& dice, int64_t value, int64_t operand_max, int64_t most) {
  switch (dice.Between(0, 3)) {
    case 0:
      if (const int64_t divisor = dice.Between(2, 9); value > divisor && value % divisor == 0) return {'/', divisor};
      [[fallthrough]];
    case 1:
      if (const int64_t factor = dice.Between(2, 9); value > 0 && value * factor <= most) return {'*', factor};
      [[fallthrough]];
    case 2:
      if (const int64_t lost = dice.Between(2, operand_max); lost < value) return {'-', lost};
      [[fallthrough]];
    default:
      return {'+', dice.Between(2, operand_max)};
  }
}

// A statement of the loop: "x = x + y", "y = y + 3", "if x is even, y = y + 3".
struct Statement {
  enum Form { kAddRegister, kAddConstant, kAddIfEven };
  Form form = kAddConstant;
  size_t target = 0, other = 0;
  int64_t constant = 0;
};
constexpr std::array<char, 3> kRegisters = {'x', 'y', 'z'};
using Registers = std::array<int64_t, 3>;

std::string InWords(const Statement& s) {
  const char target = kRegisters[s.target];
  const char other = kRegisters[s.other];
  switch (s.form) {
    case Statement::kAddRegister:
      return fmt::format("{0} = {0} + {1}", target, other);
    case Statement::kAddConstant:
      return fmt::format("{0} = {0} + {1}", target, s.constant);
    case Statement::kAddIfEven:
      break;
  }
  return fmt::format("if {1} is even, {0} = {0} + {2}", target, other, s.constant);
}

void Execute(const Statement& s, Registers& values, Hand& hand) {
  const char target = kRegisters[s.target];
  const int64_t before = values[s.target];
  const int64_t other = values[s.other];
  std::string condition;
  if (s.form == Statement::kAddIfEven) {
    const bool even = (other % 2 == 0) != hand.Slips();
    condition = fmt::format("{} is {}: ", other, even ? "even" : "odd");
    if (!even) return hand.Write(fmt::format("{}{} = ", condition, target), before);
  }
  const int64_t summand = hand.Number(s.form == Statement::kAddRegister ? other : s.constant);
  values[s.target] = hand.Number(before + summand);
  hand.Write(fmt::format("{}{} = {} + {} = ", condition, target, before, summand), values[s.target]);
}

std::vector<Statement> SomeStatements(Dice& dice, int difficulty, size_t registers) {
  std::vector<Statement> statements;
  for (size_t i = 0; i < registers; ++i) {
    Statement s;
    s.target = i;
    s.other = (i + static_cast<size_t>(dice.Between(1, static_cast<int64_t>(registers) - 1))) % registers;
    // Registers that add each other grow fast: the first adds another, the rest mostly constants.
    s.form = i == 0 ? Statement::kAddRegister : Statement::kAddConstant;
    if (i > 0 && difficulty >= 3 && dice.Between(0, 1) == 1) s.form = Statement::kAddIfEven;
    if (i == 1 && registers == 3 && dice.Between(0, 1) == 1) s.form = Statement::kAddRegister, s.other = 2;
    s.constant = dice.Between(2, 5 + difficulty);
    statements.push_back(s);
  }
  return statements;
}

}  // namespace

Problem MakeChain(Dice& dice, int difficulty) {
  const int64_t most = difficulty <= 3 ? 199 : difficulty <= 6 ? 999 : 9999;
  const int64_t start = dice.Between(2, 20 + 8 * difficulty);
  std::vector<Operation> operations;
  int64_t value = start;
  for (int i = 0; i <= difficulty; ++i) {
    operations.push_back(SomeOperation(dice, value, 9 + 10 * difficulty, most));
    value = Apply(operations.back(), value);
  }
  Problem problem;
  problem.question = fmt::format("Start with {}.", start);
  for (const Operation& operation : operations) problem.question += " " + InWords(operation);
  problem.question += " What is the result?";
  problem.plan = ChainPlan(start, operations, "Start with");
  problem.work = [start, operations](Hand& hand) {
    int64_t now = start;
    for (Operation operation : operations) {
      if (hand.Slips()) continue;  // a step skipped
      operation.operand = hand.Number(operation.operand);
      if (operation.operand == 0) operation.operand = 1;
      const int64_t before = now;
      now = hand.Number(Apply(operation, before));
      hand.Write(fmt::format("{} {} {} = ", before, operation.sign, operation.operand), now);
    }
    return now;
  };
  return problem;
}

Problem MakeModular(Dice& dice, int difficulty) {
  const int64_t modulus = difficulty <= 3 ? dice.Between(7, 19) : dice.Between(11, difficulty <= 6 ? 49 : 97);
  const int64_t start = dice.Between(1, modulus - 1);
  std::vector<Operation> operations;
  for (int i = 0; i <= difficulty; ++i) {
    const bool times = dice.Between(0, 1) == 1;
    operations.push_back(times ? Operation{'*', dice.Between(2, 9)} : Operation{'+', dice.Between(2, modulus - 1)});
  }
  Problem problem;
  problem.question = fmt::format("Calculate modulo {}. Start with {}.", modulus, start);
  for (const Operation& operation : operations) problem.question += " " + InWords(operation);
  problem.question += " What is the result?";
  problem.plan = ChainPlan(start, operations, fmt::format("Work modulo {} and start with", modulus));
  problem.work = [start, modulus, operations](Hand& hand) {
    int64_t now = start;
    for (const Operation& operation : operations) {
      if (hand.Slips()) continue;
      const int64_t before = now;
      const int64_t operand = hand.Number(operation.operand);
      const int64_t value = hand.Number(Apply({operation.sign, operand}, before));
      int64_t times = value / modulus;
      if (times > 0 && hand.Slips()) times -= 1;
      now = hand.Number(value - times * modulus);
      hand.Write(fmt::format("{} {} {} = {} = {} * {} + ", before, operation.sign, operand, value, times, modulus),
                 now);
    }
    return now;
  };
  return problem;
}

Problem MakeProgram(Dice& dice, int difficulty) {
  constexpr int kRounds[] = {2, 3, 3, 4, 3, 4, 4, 5, 5, 5};
  const int rounds = kRounds[difficulty - 1];
  const size_t registers = difficulty >= 5 ? 3 : 2;
  Registers values = {};
  for (size_t i = 0; i < registers; ++i) values[i] = dice.Between(1, 9 + 2 * difficulty);
  const std::vector<Statement> statements = SomeStatements(dice, difficulty, registers);
  std::vector<std::string> given;
  for (size_t i = 0; i < registers; ++i) given.push_back(fmt::format("{} = {}", kRegisters[i], values[i]));
  std::vector<std::string> words;
  for (const Statement& s : statements) words.push_back(InWords(s));
  Problem problem;
  problem.question = fmt::format("{}. Repeat {} times: {}. What is x in the end?", fmt::join(given, ", "), rounds,
                                 fmt::join(words, "; "));
  problem.plan = {fmt::format("Given: {}; asked: x.", fmt::join(given, ", ")),
                  fmt::format("Carry out {} times: {}.", rounds, fmt::join(words, "; ")), "Read off x."};
  problem.work = [values, statements, rounds](Hand& hand) {
    Registers now = values;
    for (int round = 0; round < rounds; ++round) {
      for (const Statement& s : statements) {
        if (!hand.Slips()) Execute(s, now, hand);
      }
    }
    return now[0];
  };
  return problem;
}

}  // namespace conclave::benchmark
