// SPDX-License-Identifier: Apache-2.0
// GSM8K (Cobbe et al. 2021, arXiv 2110.14168): the answer is one number. The published form ends "#### 42"; recorded
// and structured forms carry an "answer" field; chat models box it or say "the answer is".
#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "orchestrator/experiment/grade/answer_region.h"
#include "orchestrator/experiment/grade/graders.h"
#include "orchestrator/experiment/grade/number.h"

namespace conclave::grade {
namespace {

bool IsDigit(char c) { return c >= '0' && c <= '9'; }

bool HasDigit(std::string_view text) {
  for (char c : text) {
    if (IsDigit(c)) return true;
  }
  return false;
}

// The position behind the last "=", "≈" or "→" that has a digit behind it: the value of a worked answer.
std::optional<size_t> BehindLastEquals(std::string_view text, Region in) {
  size_t last_digit = in.end;
  while (last_digit > in.begin && !IsDigit(text[last_digit - 1])) --last_digit;
  const std::string_view before_digit = text.substr(0, last_digit);
  std::optional<size_t> behind;
  for (std::string_view mark : {"=", "≈", "→"}) {
    const size_t found = before_digit.rfind(mark);
    if (found == std::string_view::npos || found < in.begin) continue;
    behind = std::max(behind.value_or(0), found + mark.size());
  }
  return behind;
}

// Whether the text is a sum left unworked, such as "27+18" or "(150 * 2) + 240". A lone fraction or a signed number is
// a value, not a sum.
bool IsUnworkedArithmetic(std::string_view text) {
  int numbers = 0;
  int operators = 0;
  bool divides_only = true;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (IsDigit(c)) {
      ++numbers;
      while (i + 1 < text.size() && (IsDigit(text[i + 1]) || text[i + 1] == '.' || text[i + 1] == ',')) ++i;
    } else if (c == '+' || c == '-' || c == '*' || c == 'x' || c == '^' || c == '/') {
      if (numbers > 0) ++operators;
      if (c != '/') divides_only = false;
    } else if (std::string_view(" ()$%.\\").find(c) == std::string_view::npos) {
      return false;
    }
  }
  return numbers >= 2 && operators >= 1 && !(divides_only && numbers <= 3);
}

// The text with what stands in parentheses blanked out ("4 (3 onions and 1 potato)"), when a number is left.
std::string WithoutAsides(std::string_view text) {
  std::string out(text);
  int depth = 0;
  for (char& c : out) {
    if (c == '(') ++depth;
    const bool inside = depth > 0;
    if (c == ')' && depth > 0) --depth;
    if (inside) c = ' ';
  }
  return HasDigit(out) ? out : std::string(text);
}

struct Rules {  // the rule ids of one way of finding the answer
  std::string_view only_number;
  std::string_view worked;
  std::string_view last_of_several;
};

// The number that a short text states. Several numbers: the value behind the last "=", else the last number.
std::optional<Extraction> ReadStatement(std::string_view text, Region where, const Rules& rules) {
  Region region = Trim(text, where);
  std::string_view rule = rules.only_number;
  if (std::optional<size_t> behind = BehindLastEquals(text, region)) {
    region.begin = *behind;
    rule = rules.worked;
  }
  if (IsUnworkedArithmetic(Slice(text, region))) return std::nullopt;
  const std::string visible = WithoutAsides(Slice(text, region));
  std::vector<NumberToken> numbers = AllNumbers(visible);
  if (numbers.empty()) return std::nullopt;
  NumberToken& last = numbers.back();
  if (!last.value) return std::nullopt;
  if (numbers.size() > 1) rule = rule == rules.worked ? rules.worked : rules.last_of_several;
  Extraction found;
  found.answer = *std::move(last.value);
  found.begin = region.begin + last.begin;
  found.end = region.begin + last.end;
  found.raw = std::string(text.substr(found.begin, found.end - found.begin));
  found.rule = rule;
  // The whole statement is the number.
  found.strict = rule == rules.only_number && found.begin == region.begin && found.end == region.end;
  return found;
}

constexpr Rules kHashes = {"gsm8k/hashes", "gsm8k/hashes_worked", "gsm8k/hashes_last"};
constexpr Rules kField = {"gsm8k/answer_field", "gsm8k/answer_field_worked", "gsm8k/answer_field_last"};
constexpr Rules kBoxed = {"gsm8k/boxed", "gsm8k/boxed_worked", "gsm8k/boxed_last"};
constexpr Rules kMarker = {"gsm8k/answer_is", "gsm8k/answer_is_worked", "gsm8k/answer_is_last"};
constexpr Rules kShort = {"gsm8k/answer", "gsm8k/answer_worked", "gsm8k/answer_last"};

std::optional<Extraction> LastNumber(std::string_view text, Region in) {
  std::optional<NumberToken> last;
  const std::string_view view = Slice(text, in);
  // Only the tail can hold the last number; look at more of it until one is found.
  for (size_t window = 256;; window *= 4) {
    size_t from = view.size() > window ? view.size() - window : 0;
    while (from > 0 && view[from] != '\n' && view[from] != ' ') --from;
    for (size_t at = from;;) {
      std::optional<NumberToken> token = NextNumber(view, at);
      if (!token) break;
      at = token->end;
      last = std::move(token);
    }
    if (last || from == 0) break;
  }
  if (!last || !last->value) return std::nullopt;
  Extraction found;
  found.answer = *std::move(last->value);
  found.begin = in.begin + last->begin;
  found.end = in.begin + last->end;
  found.raw = std::string(text.substr(found.begin, found.end - found.begin));
  found.rule = "gsm8k/last_number";
  return found;
}

class Gsm8kGrader final : public Grader {
 public:
  std::string_view name() const override { return "gsm8k"; }

  // A marked answer is final: when it holds no number the response has none, and no later rule guesses one from the
  // reasoning.
  std::optional<Extraction> Extract(std::string_view text, const Reference& /*reference*/) const override {
    const Region region = FinalRegion(text);
    if (std::optional<Region> hashes = AfterHashes(text, region)) return ReadStatement(text, *hashes, kHashes);
    if (std::optional<Region> field = AnswerField(text, region)) return ReadStatement(text, *field, kField);
    // A response that sets out to be an object answers in its field; what its reasoning says on the way is not it.
    if (OpensAsObject(text, region)) return std::nullopt;
    if (std::optional<Region> boxed = LastBoxed(text, region)) return NotStrict(ReadStatement(text, *boxed, kBoxed));
    if (std::optional<Region> marked = AfterAnswerMarker(text, region)) {
      return NotStrict(ReadStatement(text, *marked, kMarker));
    }
    return LastNumber(text, region);
  }

  std::optional<Extraction> ReadAnswer(std::string_view answer, const Reference& /*reference*/) const override {
    if (std::optional<Region> hashes = AfterHashes(answer, {0, answer.size()})) {
      return ReadStatement(answer, *hashes, kHashes);
    }
    return ReadStatement(answer, {0, answer.size()}, kShort);
  }

  // A gold is the bare number, or the published solution that ends in "#### number".
  std::optional<std::string> NormalGold(const Reference& reference) const override {
    std::optional<Extraction> gold = ReadAnswer(reference.gold, reference);
    if (!gold || !gold->strict) return std::nullopt;
    return std::move(gold->answer);
  }

 protected:
  // 0.2, 20 and 20% are one answer only where the gold itself is a percentage.
  bool Matches(const Extraction& answer, const std::string& normal_gold, const Reference& reference) const override {
    if (answer.answer == normal_gold) return true;
    return reference.gold.find('%') != std::string_view::npos && answer.answer == Hundredth(normal_gold);
  }

 private:
  // Strict is the benchmark's own form: "####", or the field of the recorded form.
  static std::optional<Extraction> NotStrict(std::optional<Extraction> found) {
    if (found) found->strict = false;
    return found;
  }
};

}  // namespace

std::unique_ptr<const Grader> MakeGsm8kGrader() { return std::make_unique<Gsm8kGrader>(); }

}  // namespace conclave::grade
