// SPDX-License-Identifier: Apache-2.0
// Mathematics (MATH, MATH-500, AIME): the answer is boxed, or stated, and may be written in many ways.
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "orchestrator/experiment/grade/answer_region.h"
#include "orchestrator/experiment/grade/graders.h"
#include "orchestrator/experiment/grade/math/equivalence.h"
#include "orchestrator/experiment/grade/math/expression.h"
#include "orchestrator/experiment/grade/math_region.h"

namespace conclave::grade {
namespace {

class MathGrader final : public Grader {
 public:
  std::string_view name() const override { return "math"; }

  std::optional<Extraction> Extract(std::string_view text, const Reference& /*reference*/) const override {
    const Region region = FinalRegion(text);
    if (const auto field = AnswerField(text, region)) return Take(text, *field, "math/answer_field", true);
    if (OpensAsObject(text, region)) return std::nullopt;  // its field is missing
    if (const auto boxes = LastBoxes(text, region)) {
      // "Final answer: .." behind the box takes it back.
      const Region behind{boxes->region.end, region.end};
      if (const auto final = AfterFinalAnswer(text, behind)) return Statement(text, *final, "math/final_answer");
      return Take(text, boxes->region, boxes->single ? "math/boxed" : "math/boxes", boxes->single);
    }
    if (const auto hashes = AfterHashes(text, region)) return Statement(text, *hashes, "math/hashes");
    if (const auto marked = AfterAnswerMarker(text, region)) return Statement(text, *marked, "math/answer_is");
    return Unmarked(text, region);
  }

  std::optional<Extraction> ReadAnswer(std::string_view answer, const Reference& /*reference*/) const override {
    const Region all{0, answer.size()};
    if (const auto boxes = LastBoxes(answer, all)) {
      return Take(answer, boxes->region, boxes->single ? "math/boxed" : "math/boxes", boxes->single);
    }
    return Take(answer, all, "math/answer", true);
  }

  // A gold is the answer alone, or a worked solution with the answer in a box or a last formula.
  std::optional<std::string> NormalGold(const Reference& reference) const override {
    std::optional<Extraction> gold = Gold(reference.gold);
    if (!gold) return std::nullopt;
    return std::move(gold->answer);
  }

 protected:
  bool Matches(const Extraction& answer, const std::string& normal_gold, const Reference& reference) const override {
    if (answer.answer == normal_gold) return true;
    const std::optional<Extraction> gold = Gold(reference.gold);
    return gold && math::Equivalent(answer.raw, gold->raw);
  }

  // Strictly, a decimal is not the number it rounds.
  bool MatchesStrictly(const Extraction& answer, const std::string& normal_gold,
                       const Reference& reference) const override {
    if (answer.answer == normal_gold) return true;
    const std::optional<Extraction> gold = Gold(reference.gold);
    bool exactly = false;
    return gold && math::Equivalent(answer.raw, gold->raw, &exactly) && exactly;
  }

 private:
  static std::optional<Region> AfterFinalAnswer(std::string_view text, Region in) {
    const size_t at = text.rfind("inal answer is", in.end);
    if (at == std::string_view::npos || at < in.begin) return std::nullopt;
    return AfterAnswerMarker(text, {at, in.end});
  }

  static std::optional<Extraction> Take(std::string_view text, Region where, std::string_view rule, bool strict) {
    const Region region = Trim(text, where);
    if (region.begin >= region.end || region.end - region.begin > math::kAnswerBytesMax) return std::nullopt;
    Extraction found;
    found.raw = std::string(Slice(text, region));
    found.answer = math::NormalForm(found.raw);
    if (found.answer.empty()) return std::nullopt;
    found.rule = rule;
    found.begin = region.begin;
    found.end = region.end;
    found.strict = strict;
    return found;
  }

  static bool Reads(std::string_view text, Region where) {
    const Region region = Trim(text, where);
    if (region.begin >= region.end || region.end - region.begin > math::kAnswerBytesMax) return false;
    const std::string_view said = Slice(text, region);
    return !IsProse(said) && math::ReadsAsAnswer(said);
  }

  // What stands behind "the answer is".
  static std::optional<Extraction> Statement(std::string_view text, Region where, std::string_view rule) {
    const Region region = Trim(text, where);
    if (Reads(text, region)) return Take(text, region, rule, false);
    if (const auto number = LeadingNumber(text, region)) return Take(text, *number, rule, false);
    if (const auto label = LeadingLabel(text, region)) return Take(text, *label, rule, false);
    if (auto within = Within(text, region, rule)) return within;
    return Take(text, region, rule, false);  // words
  }

  // The last formula or number, whichever stands later; failing both, the last label of an option.
  static std::optional<Extraction> Within(std::string_view text, Region region, std::string_view rule) {
    std::optional<Region> formula = LastFormulas(text, region);
    if (formula && !Reads(text, *formula)) {
      // Perhaps only the last of those joined.
      const std::string_view joined = Slice(text, *formula);
      const size_t mark = joined.find_last_of("$([");
      if (mark != std::string_view::npos && Reads(text, {formula->begin + mark + 1, formula->end})) {
        formula->begin += mark + 1;
      }
    }
    const auto number = LastNumber(text, {formula ? formula->end : region.begin, region.end});
    if (number) return Take(text, *number, rule, false);
    if (formula) return Take(text, *formula, rule, false);
    if (const auto label = LastLabel(text, region)) return Take(text, *label, rule, false);
    return std::nullopt;
  }

  static std::optional<Extraction> Unmarked(std::string_view text, Region region) {
    if (EndsInBrokenFormula(text, region)) return std::nullopt;
    if (Reads(text, region)) return Take(text, region, "math/whole", false);
    const Region trimmed = Trim(text, region);
    const size_t line = Slice(text, trimmed).rfind('\n');
    if (line != std::string_view::npos) {
      const Region last{trimmed.begin + line + 1, trimmed.end};
      if (Reads(text, last)) return Take(text, last, "math/last_line", false);
    }
    return Within(text, region, "math/last");
  }

  std::optional<Extraction> Gold(std::string_view gold) const {
    const Region all{0, gold.size()};
    if (LastBoxes(gold, all)) return ReadAnswer(gold, {});
    if (!IsProse(gold) || math::ReadsAsAnswer(gold)) return ReadAnswer(gold, {});
    return Extract(gold, {});
  }
};

}  // namespace

std::unique_ptr<const Grader> MakeMathGrader() { return std::make_unique<MathGrader>(); }

}  // namespace conclave::grade
