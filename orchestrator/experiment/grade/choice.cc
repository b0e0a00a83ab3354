// SPDX-License-Identifier: Apache-2.0
// Multiple choice, read from a written response (the gen_cot score of specs/evaluation.md §5): the letter last marked
// as the answer; failing that, the one option whose text the answer repeats.
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "orchestrator/experiment/grade/answer_region.h"
#include "orchestrator/experiment/grade/graders.h"

namespace conclave::grade {
namespace {

bool IsAlpha(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
bool IsAlphaNum(char c) { return IsAlpha(c) || (c >= '0' && c <= '9'); }
char Upper(char c) { return c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c; }

// Letters that exist as options: all 26 where the choices are not known.
bool IsOption(char letter, const Reference& reference) {
  const size_t count = reference.choices.empty() ? 26 : reference.choices.size();
  return letter >= 'A' && static_cast<size_t>(letter - 'A') < count;
}

// Lower case, only letters and digits, single spaces: what is left of an option's wording.
std::string Words(std::string_view text) {
  std::string out;
  for (char c : text) {
    const bool keep = IsAlphaNum(c) || static_cast<unsigned char>(c) >= 0x80;
    if (keep) {
      out += c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
    } else if (!out.empty() && out.back() != ' ') {
      out += ' ';
    }
  }
  if (!out.empty() && out.back() == ' ') out.pop_back();
  return out;
}

// Whether the A or I at i is a word of the sentence ("A dog"), not a label ("A because ..", "A. dog").
bool IsWord(std::string_view text, size_t i) {
  if (text[i] != 'A' && text[i] != 'I') return false;
  if (i + 2 >= text.size() || text[i + 1] != ' ' || !IsAlpha(text[i + 2])) return false;
  for (std::string_view link : {"because", "since", "as ", "is ", "and ", "for ", "given"}) {
    if (text.substr(i + 2).starts_with(link)) return false;
  }
  return true;
}

// A letter that the statement opens with: "B", "(b)", "B. Paris", "B) Paris", "option B".
std::optional<size_t> LeadingLetter(std::string_view text, Region in, const Reference& reference) {
  size_t i = in.begin;
  const auto skip = [&] {
    while (i < in.end && !IsAlphaNum(text[i]) && text[i] != '(') ++i;
  };
  skip();
  for (std::string_view word : {"option ", "Option ", "choice ", "Choice "}) {
    if (text.substr(i, in.end - i).starts_with(word)) i += word.size();
  }
  skip();
  if (i >= in.end) return std::nullopt;
  if (text[i] == '(') {
    if (i + 2 < in.end && text[i + 2] == ')' && IsOption(Upper(text[i + 1]), reference)) return i + 1;
    return std::nullopt;
  }
  if (!IsOption(Upper(text[i]), reference)) return std::nullopt;
  const bool last = i + 1 >= in.end;
  if (!last && (IsAlphaNum(text[i + 1]) || text[i + 1] == '\'')) return std::nullopt;
  const bool lower = text[i] >= 'a';
  if (lower && !last && std::string_view(".):,").find(text[i + 1]) == std::string_view::npos) return std::nullopt;
  if (IsWord(text.substr(0, in.end), i)) return std::nullopt;
  return i;
}

// The last "(B)" of the region.
std::optional<size_t> LastParenthesised(std::string_view text, Region in, const Reference& reference) {
  for (size_t i = in.end; i >= in.begin + 3; --i) {
    if (text[i - 1] == ')' && text[i - 3] == '(' && text[i - 2] <= 'Z' && IsOption(text[i - 2], reference))
      return i - 2;
  }
  return std::nullopt;
}

std::optional<char> OptionByText(std::string_view said, const Reference& reference) {
  const std::string words = " " + Words(said) + " ";
  std::optional<char> equal;
  std::optional<char> within;
  int equals = 0;
  int contained = 0;
  for (size_t k = 0; k < reference.choices.size() && k < 26; ++k) {
    const std::string option = Words(reference.choices[k]);
    if (option.empty()) continue;
    const char letter = static_cast<char>('A' + k);
    if (words.size() == option.size() + 2 && words.compare(1, option.size(), option) == 0) equal = letter, ++equals;
    if (words.find(" " + option + " ") != std::string::npos) within = letter, ++contained;
  }
  if (equals == 1) return equal;
  if (equals == 0 && contained == 1) return within;
  return std::nullopt;
}

class ChoiceGrader final : public Grader {
 public:
  std::string_view name() const override { return "choice"; }

  std::optional<Extraction> Extract(std::string_view text, const Reference& reference) const override {
    const Region region = FinalRegion(text);
    if (auto field = AnswerField(text, region)) return Read(text, *field, reference, "choice/answer_field", true);
    if (OpensAsObject(text, region)) return std::nullopt;  // its field is missing
    if (auto boxed = LastBoxed(text, region)) return Read(text, *boxed, reference, "choice/boxed", true);
    if (auto marked = AfterAnswerMarker(text, region)) {
      if (auto found = Read(text, *marked, reference, "choice/answer_is", true)) return found;
    }
    const Region whole = Trim(text, region);
    if (whole.end - whole.begin <= 4) {
      if (auto at = LeadingLetter(text, whole, reference)) return Letter(text, *at, "choice/bare_letter", true);
    }
    if (auto at = LastParenthesised(text, region, reference)) {
      return Letter(text, *at, "choice/last_parenthesised", false);
    }
    return Read(text, region, reference, "choice/text", false);
  }

  std::optional<Extraction> ReadAnswer(std::string_view answer, const Reference& reference) const override {
    return Read(answer, {0, answer.size()}, reference, "choice/answer", true);
  }

  std::optional<std::string> NormalGold(const Reference& reference) const override {
    std::optional<Extraction> gold = ReadAnswer(reference.gold, reference);
    if (!gold) return std::nullopt;
    return std::move(gold->answer);
  }

 private:
  static Extraction Letter(std::string_view text, size_t at, std::string_view rule, bool strict) {
    Extraction found;
    found.answer = std::string(1, Upper(text[at]));
    found.raw = std::string(1, text[at]);
    found.rule = rule;
    found.begin = at;
    found.end = at + 1;
    found.strict = strict;
    return found;
  }

  // A statement that names a letter or, failing that, repeats the wording of exactly one option.
  static std::optional<Extraction> Read(std::string_view text, Region where, const Reference& reference,
                                        std::string_view rule, bool letters) {
    const Region region = Trim(text, where);
    if (letters) {
      if (auto at = LeadingLetter(text, region, reference)) return Letter(text, *at, rule, true);
      if (auto at = LastParenthesised(text, region, reference)) return Letter(text, *at, rule, false);
    }
    const std::optional<char> option = OptionByText(Slice(text, region), reference);
    if (!option) return std::nullopt;
    Extraction found;
    found.answer = std::string(1, *option);
    found.raw = std::string(Slice(text, region));
    found.rule = "choice/option_text";
    found.begin = region.begin;
    found.end = region.end;
    return found;
  }
};

}  // namespace

std::unique_ptr<const Grader> MakeChoiceGrader() { return std::make_unique<ChoiceGrader>(); }

}  // namespace conclave::grade
