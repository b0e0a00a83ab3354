// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/experiment/grade/math/equivalence.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <vector>

#include "orchestrator/experiment/grade/math/comparison.h"
#include "orchestrator/experiment/grade/math/expression.h"
#include "orchestrator/experiment/grade/math/parser.h"
#include "orchestrator/experiment/grade/math/structure.h"

namespace conclave::grade::math {
namespace {

bool IsDigit(char c) { return c >= '0' && c <= '9'; }
bool IsAlpha(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
bool IsSpace(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }

// Commas right between digits, and whether they can group thousands.
struct CommaUse {
  int count = 0;
  bool groups = true;
};

CommaUse CommasIn(std::string_view text) {
  CommaUse use;
  for (size_t i = 1; i + 1 < text.size(); ++i) {
    if (text[i] != ',' || !IsDigit(text[i - 1]) || !IsDigit(text[i + 1])) continue;
    ++use.count;
    size_t begin = i;
    while (begin > 0 && IsDigit(text[begin - 1])) --begin;
    size_t end = i + 1;
    while (end < text.size() && IsDigit(text[end])) ++end;
    use.groups = use.groups && end - i == 4 && i - begin <= 3 && text[begin] != '0';
  }
  return use;
}

// The ways to read a text; the first is the usual one.
std::vector<int32_t> Readings(Arena& arena, std::string_view text) {
  std::vector<int32_t> readings;
  const auto add = [&](Commas commas) {
    const int32_t node = Simplify(arena, Parse(arena, text, commas));
    if (node >= 0) readings.push_back(node);
  };
  add({.group = true, .decimal = false});
  const CommaUse use = CommasIn(text);
  if (use.count > 0) add({.group = false, .decimal = false});                 // 1,234 is two numbers
  if (use.count == 1 && !use.groups) add({.group = false, .decimal = true});  // 2,74 is a decimal
  return readings;
}

// Drops a command at i whose group stays: \text{odd} -> odd. Returns its length, or 0.
size_t Wrapper(std::string_view rest) {
  for (std::string_view command :
       {"\\text{", "\\mbox{", "\\mathrm{", "\\textbf{", "\\mathbf{", "\\boxed{", "\\textrm{"}) {
    if (rest.starts_with(command)) return command.size() - 1;
  }
  for (std::string_view command : {"\\left", "\\right", "\\displaystyle", "\\!", "\\,", "\\;", "\\:", "\\ ", "\\$",
                                   "\\(", "\\)", "\\[", "\\]", "$", "~", "\\quad", "\\qquad"}) {
    if (!rest.starts_with(command)) continue;
    const bool word = IsAlpha(command.back());
    if (!word || command.size() == rest.size() || !IsAlpha(rest[command.size()])) return command.size();
  }
  return 0;
}

}  // namespace

std::string LiteralForm(std::string_view text) {
  std::string out;
  bool gap = false;
  for (size_t i = 0; i < text.size();) {
    if (IsSpace(text[i])) {
      gap = true;
      ++i;
      continue;
    }
    if (const size_t length = Wrapper(text.substr(i))) {
      i += length;
      continue;
    }
    if (text.substr(i).starts_with("\\dfrac") || text.substr(i).starts_with("\\tfrac")) {
      out += "\\frac";
      i += 6;
      gap = false;
      continue;
    }
    // Only between two words or two numbers is a space part of what is said.
    const auto wordy = [](char c) { return IsDigit(c) || IsAlpha(c); };
    if (gap && !out.empty() && wordy(out.back()) && wordy(text[i])) out += ' ';
    gap = false;
    out += text[i++];
  }
  while (!out.empty() && (out.back() == '.' || out.back() == '\\')) out.pop_back();
  std::erase_if(out, [](char c) { return c == '{' || c == '}'; });
  if (std::all_of(out.begin(), out.end(), [](char c) { return IsAlpha(c) || c == ' '; })) return PlainWords(out);
  return out;
}

bool Equivalent(std::string_view answer, std::string_view gold, bool* exactly) {
  if (exactly != nullptr) *exactly = true;
  const std::string literal = LiteralForm(answer);
  if (!literal.empty() && literal == LiteralForm(gold)) return true;
  Arena arena;
  const std::vector<int32_t> golds = Readings(arena, gold);
  if (golds.empty()) return false;
  const std::vector<int32_t> answers = Readings(arena, answer);
  Comparison comparison(arena);
  for (int32_t wanted : golds) {
    for (int32_t said : answers) {
      if (!comparison.Same(said, wanted)) continue;
      if (exactly != nullptr) *exactly = comparison.exactly();
      return true;
    }
  }
  return false;
}

std::string NormalForm(std::string_view answer) {
  Arena arena;
  const int32_t node = Simplify(arena, Parse(arena, answer, Commas{}));
  if (node >= 0) {
    Comparison comparison(arena);
    std::string key = comparison.Key(node);
    if (!key.empty()) return key;
  }
  return LiteralForm(answer);
}

bool ReadsAsAnswer(std::string_view text) {
  Arena arena;
  return Parse(arena, text, Commas{}) >= 0;
}

}  // namespace conclave::grade::math
