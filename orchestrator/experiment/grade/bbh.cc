// SPDX-License-Identifier: Apache-2.0
// BIG-Bench Hard (Suzgun et al. 2022, arXiv 2210.09261): 27 tasks whose answers are an option "(B)", a truth value
// (True, yes, valid, ..), a number, closing brackets or a list of words. Each answer is read as the type it is written
// in, so that no task's name is needed; one final full stop is dropped and nothing else.
#include <algorithm>
#include <array>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "orchestrator/experiment/grade/answer_region.h"
#include "orchestrator/experiment/grade/graders.h"
#include "orchestrator/experiment/grade/number.h"

namespace conclave::grade {
namespace {

bool IsAlpha(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
bool IsUpper(char c) { return c >= 'A' && c <= 'Z'; }
char Lower(char c) { return IsUpper(c) ? static_cast<char>(c - 'A' + 'a') : c; }

// Lower case; commas and white space are single spaces.
std::string Words(std::string_view text) {
  std::string out;
  for (char c : text) {
    if (c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == ',') {
      if (!out.empty() && out.back() != ' ') out += ' ';
    } else {
      out += Lower(c);
    }
  }
  if (!out.empty() && out.back() == ' ') out.pop_back();
  return out;
}

// "(B)", "B", "(B) Paris", "B. Paris", "B) Paris", "option B".
std::optional<std::string> Option(std::string_view text) {
  for (std::string_view word : {"option ", "Option "}) {
    if (text.starts_with(word)) text.remove_prefix(word.size());
  }
  const auto named = [](char letter) { return std::string{'(', letter, ')'}; };
  if (text.size() >= 3 && text[0] == '(' && IsUpper(text[1]) && text[2] == ')') return named(text[1]);
  if (text.empty() || !IsUpper(text[0])) return std::nullopt;
  if (text.size() == 1 || text.substr(1).starts_with(")") || text.substr(1).starts_with(". ")) return named(text[0]);
  return std::nullopt;
}

// A truth value that stands alone or before a comma: "No", "Yes, because ..", "deductively valid".
std::optional<std::string> Truth(std::string_view text) {
  constexpr std::array<std::string_view, 6> kValues = {"true", "false", "yes", "no", "valid", "invalid"};
  for (std::string_view before : {"deductively ", "not "}) {
    if (!text.starts_with(before)) continue;
    text.remove_prefix(before.size());
    if (before == "not " && text == "plausible") return "no";
  }
  if (text == "plausible") return "yes";
  std::string word;
  size_t i = 0;
  while (i < text.size() && IsAlpha(text[i])) word += Lower(text[i++]);
  if (i < text.size() && std::string_view(",.;:").find(text[i]) == std::string_view::npos) return std::nullopt;
  if (std::find(kValues.begin(), kValues.end(), word) == kValues.end()) return std::nullopt;
  return word;
}

// ")", "] } >": brackets only, one space between them.
std::optional<std::string> Brackets(std::string_view text) {
  std::string out;
  for (char c : text) {
    if (c == ' ') continue;
    if (std::string_view("()[]{}<>").find(c) == std::string_view::npos) return std::nullopt;
    if (!out.empty()) out += ' ';
    out += c;
  }
  return out.empty() ? std::nullopt : std::optional<std::string>(out);
}

std::optional<std::string> WholeNumber(std::string_view text) {
  const std::optional<NumberToken> number = NextNumber(text, 0);
  if (!number || number->begin != 0 || number->end != text.size()) return std::nullopt;
  return number->value;
}

// The option whose wording the text is; some golds are written so ("Monsters, Inc").
std::optional<std::string> OptionByText(std::string_view text, const Reference& reference) {
  std::optional<std::string> found;
  for (size_t k = 0; k < reference.choices.size() && k < 26; ++k) {
    if (Words(reference.choices[k]) != Words(text)) continue;
    if (found) return std::nullopt;
    found = std::string{'(', static_cast<char>('A' + k), ')'};
  }
  return found;
}

// What an answer says; `typed` where it is more than words.
struct Meaning {
  std::string text;
  bool typed = true;
};

Meaning MeaningOf(std::string_view text, const Reference& reference) {
  if (auto option = Option(text)) return {*std::move(option)};
  if (auto option = OptionByText(text, reference)) return {*std::move(option)};
  if (auto truth = Truth(text)) return {*std::move(truth)};
  if (auto number = WholeNumber(text)) return {*std::move(number)};
  if (auto brackets = Brackets(text)) return {*std::move(brackets)};
  return {Words(text), false};
}

class BbhGrader final : public Grader {
 public:
  std::string_view name() const override { return "bbh"; }

  std::optional<Extraction> Extract(std::string_view text, const Reference& reference) const override {
    const Region region = FinalRegion(text);
    if (const auto field = AnswerField(text, region)) return Read(text, *field, reference, "bbh/answer_field", true);
    if (OpensAsObject(text, region)) return std::nullopt;  // its field is missing
    if (const auto boxed = LastBoxed(text, region)) return Read(text, *boxed, reference, "bbh/boxed", false);
    if (const auto marked = AfterAnswerMarker(text, region)) {
      return Read(text, *marked, reference, "bbh/answer_is", true);
    }
    // Nothing is marked: the last line where it is more than words, the last "(B)", the only line.
    const Region whole = Trim(text, region);
    const size_t line = Slice(text, whole).rfind('\n');
    const bool only = line == std::string_view::npos;
    const Region last = only ? whole : Trim(text, {whole.begin + line + 1, whole.end});
    const bool is_short = last.begin < last.end && last.end - last.begin <= kLineMax;
    if (is_short && MeaningOf(Slice(text, last), reference).typed) {
      return Read(text, last, reference, "bbh/last_line", false);
    }
    if (auto option = LastOption(text, region)) return option;
    return only && is_short ? Read(text, last, reference, "bbh/only_line", false) : std::nullopt;
  }

  std::optional<Extraction> ReadAnswer(std::string_view answer, const Reference& reference) const override {
    return Read(answer, {0, answer.size()}, reference, "bbh/answer", true);
  }

  std::optional<std::string> NormalGold(const Reference& reference) const override {
    std::optional<Extraction> gold = ReadAnswer(reference.gold, reference);
    if (!gold) return std::nullopt;
    return std::move(gold->answer);
  }

 private:
  static constexpr size_t kLineMax = 1024;

  static std::optional<Extraction> Read(std::string_view text, Region where, const Reference& reference,
                                        std::string_view rule, bool strict) {
    const Region region = Trim(text, where);
    if (region.begin >= region.end) return std::nullopt;
    Extraction found;
    found.raw = std::string(Slice(text, region));
    found.answer = MeaningOf(found.raw, reference).text;
    if (found.answer.empty()) return std::nullopt;
    found.rule = rule;
    found.begin = region.begin;
    found.end = region.end;
    found.strict = strict;
    return found;
  }

  static std::optional<Extraction> LastOption(std::string_view text, Region region) {
    for (size_t i = region.end; i >= region.begin + 3; --i) {
      if (text[i - 1] != ')' || text[i - 3] != '(' || !IsUpper(text[i - 2])) continue;
      return Read(text, {i - 3, i}, {}, "bbh/last_option", false);
    }
    return std::nullopt;
  }
};

}  // namespace

std::unique_ptr<const Grader> MakeBbhGrader() { return std::make_unique<BbhGrader>(); }

}  // namespace conclave::grade
