// SPDX-License-Identifier: Apache-2.0
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "orchestrator/experiment/grade/answer_region.h"
#include "orchestrator/experiment/grade/graders.h"

namespace conclave::grade {
namespace {

bool IsSpace(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }

// Runs of white space are one space, none at the ends; ASCII letters in lower case.
std::string NormalText(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (char c : text) {
    if (IsSpace(c)) {
      if (!out.empty() && out.back() != ' ') out += ' ';
    } else {
      out += c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
    }
  }
  if (!out.empty() && out.back() == ' ') out.pop_back();
  return out;
}

class ExactGrader final : public Grader {
 public:
  std::string_view name() const override { return "exact"; }

  std::optional<Extraction> Extract(std::string_view text, const Reference& /*reference*/) const override {
    const Region region = FinalRegion(text);
    if (std::optional<Region> hashes = AfterHashes(text, region)) return Read(text, *hashes, "exact/hashes");
    if (std::optional<Region> field = AnswerField(text, region)) return Read(text, *field, "exact/answer_field");
    if (OpensAsObject(text, region)) return std::nullopt;  // its field is missing
    if (std::optional<Region> boxed = LastBoxed(text, region)) return Read(text, *boxed, "exact/boxed");
    if (std::optional<Region> marked = AfterAnswerMarker(text, region)) return Read(text, *marked, "exact/answer_is");
    return Read(text, region, "exact/whole");
  }

  std::optional<Extraction> ReadAnswer(std::string_view answer, const Reference& /*reference*/) const override {
    return Read(answer, {0, answer.size()}, "exact/answer");
  }

  std::optional<std::string> NormalGold(const Reference& reference) const override {
    std::optional<Extraction> gold = ReadAnswer(reference.gold, reference);
    if (!gold) return std::nullopt;
    return std::move(gold->answer);
  }

 protected:
  // Strictly, letter case and inner spacing count.
  bool MatchesStrictly(const Extraction& answer, const std::string& /*normal_gold*/,
                       const Reference& reference) const override {
    return answer.raw == Slice(reference.gold, Trim(reference.gold, {0, reference.gold.size()}));
  }

 private:
  static std::optional<Extraction> Read(std::string_view text, Region where, std::string_view rule) {
    const Region region = Trim(text, where);
    Extraction found;
    found.raw = std::string(Slice(text, region));
    found.answer = NormalText(found.raw);
    if (found.answer.empty()) return std::nullopt;
    found.rule = rule;
    found.begin = region.begin;
    found.end = region.end;
    found.strict = true;
    return found;
  }
};

}  // namespace

std::unique_ptr<const Grader> MakeExactGrader() { return std::make_unique<ExactGrader>(); }

}  // namespace conclave::grade
