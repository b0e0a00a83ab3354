// SPDX-License-Identifier: Apache-2.0
// Game of 24 (Yao et al. 2023, arXiv 2305.10601): an expression of + - * / that uses each of the given numbers once and
// is worth 24. The expression is parsed and worked out here in exact rationals; nothing of the text is executed.
#include <algorithm>
#include <array>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "orchestrator/experiment/grade/answer_region.h"
#include "orchestrator/experiment/grade/graders.h"
#include "orchestrator/experiment/grade/math/evaluate.h"
#include "orchestrator/experiment/grade/math/expression.h"
#include "orchestrator/experiment/grade/math/parser.h"
#include "orchestrator/experiment/grade/number.h"

namespace conclave::grade {
namespace {

constexpr int kTarget = 24;
constexpr size_t kNumbersMax = 16;
constexpr size_t kExpressionBytesMax = 512;
constexpr size_t kLinesMax = 64;  // of a response, from its end, that are tried without a marker

bool IsDigit(char c) { return c >= '0' && c <= '9'; }

// The numbers of a puzzle "1 4 6 6", sorted; none when it is not one.
std::vector<std::string> PuzzleNumbers(std::string_view gold) {
  std::vector<std::string> numbers;
  for (const NumberToken& token : AllNumbers(gold)) {
    if (!token.value || numbers.size() == kNumbersMax) return {};
    numbers.push_back(*token.value);
  }
  std::sort(numbers.begin(), numbers.end());
  return numbers;
}

struct Worked {
  mpq_class value;
  std::vector<std::string> numbers;  // sorted
};

// Only whole numbers, the four operations and brackets; "= 24" behind it may stay.
std::optional<Worked> Work(std::string_view text) {
  if (text.size() > kExpressionBytesMax) return std::nullopt;
  for (size_t i = 0; i + 2 < text.size(); ++i) {  // "1 1/2" would be one number
    if (IsDigit(text[i]) && text[i + 1] == ' ' && IsDigit(text[i + 2])) return std::nullopt;
  }
  math::Arena arena;
  int32_t root = math::Parse(arena, text, {.group = false, .decimal = false});
  if (root < 0) return std::nullopt;
  if (arena[root].kind == math::Kind::kRelation) {
    if (arena[root].name != "=") return std::nullopt;
    root = arena[root].args[0];
  }
  Worked worked;
  std::vector<int32_t> work = {root};
  bool operated = false;
  for (size_t k = 0; k < work.size(); ++k) {
    const math::Node& node = arena[work[k]];
    switch (node.kind) {
      case math::Kind::kNumber:
        if (node.name.empty() || worked.numbers.size() == kNumbersMax) return std::nullopt;
        worked.numbers.push_back(arena.Number(node).get_str());
        break;
      case math::Kind::kAdd:
      case math::Kind::kMul:
        operated = true;
        [[fallthrough]];
      case math::Kind::kNegate:
      case math::Kind::kInverse:
        work.insert(work.end(), node.args.begin(), node.args.end());
        break;
      default:
        return std::nullopt;
    }
  }
  math::Evaluator evaluator(arena);
  std::optional<mpq_class> value = evaluator.Exact(root);
  if (!value || !operated) return std::nullopt;
  worked.value = *std::move(value);
  std::sort(worked.numbers.begin(), worked.numbers.end());
  return worked;
}

class Game24Grader final : public Grader {
 public:
  std::string_view name() const override { return "game24"; }

  std::optional<Extraction> Extract(std::string_view text, const Reference& /*reference*/) const override {
    const Region region = FinalRegion(text);
    if (const auto field = AnswerField(text, region)) return Read(text, *field, "game24/answer_field", true);
    if (OpensAsObject(text, region)) return std::nullopt;  // its field is missing
    if (const auto boxed = LastBoxed(text, region)) {
      if (auto found = Read(text, *boxed, "game24/boxed", false)) return found;
    }
    if (const auto marked = AfterAnswerMarker(text, region)) {
      if (auto found = Read(text, *marked, "game24/answer_is", true)) return found;
    }
    // The last line that is an expression, perhaps behind a colon.
    size_t end = region.end;
    for (size_t lines = 0; lines < kLinesMax && end > region.begin; ++lines) {
      const size_t line = text.substr(0, end).rfind('\n');
      size_t begin = line == std::string_view::npos || line < region.begin ? region.begin : line + 1;
      const size_t next = begin == region.begin ? region.begin : begin - 1;
      if (end - begin <= kExpressionBytesMax) {
        const size_t colon = text.substr(0, end).rfind(':');
        if (colon != std::string_view::npos && colon >= begin) begin = colon + 1;
        if (auto found = Read(text, {begin, end}, "game24/last_line", false)) return found;
      }
      end = next;
    }
    return std::nullopt;
  }

  std::optional<Extraction> ReadAnswer(std::string_view answer, const Reference& /*reference*/) const override {
    return Read(answer, {0, answer.size()}, "game24/answer", true);
  }

  // The gold is the puzzle itself.
  std::optional<std::string> NormalGold(const Reference& reference) const override {
    const std::vector<std::string> numbers = PuzzleNumbers(reference.gold);
    if (numbers.size() < 2) return std::nullopt;
    std::string puzzle;
    for (const std::string& number : numbers) puzzle += (puzzle.empty() ? "" : " ") + number;
    return puzzle;
  }

 protected:
  bool Matches(const Extraction& answer, const std::string& /*normal_gold*/,
               const Reference& reference) const override {
    const std::optional<Worked> worked = Work(answer.raw);
    return worked && worked->value == kTarget && worked->numbers == PuzzleNumbers(reference.gold);
  }

 private:
  static std::optional<Extraction> Read(std::string_view text, Region where, std::string_view rule, bool strict) {
    const Region region = Trim(text, where);
    if (region.begin >= region.end) return std::nullopt;
    const std::optional<Worked> worked = Work(Slice(text, region));
    if (!worked) return std::nullopt;
    Extraction found;
    found.raw = std::string(Slice(text, region));
    // Of all ways to write a solution: what it is worth and what it uses.
    found.answer = worked->value.get_str() + " of";
    for (const std::string& number : worked->numbers) found.answer += " " + number;
    found.rule = rule;
    found.begin = region.begin;
    found.end = region.end;
    found.strict = strict;
    return found;
  }
};

}  // namespace

std::unique_ptr<const Grader> MakeGame24Grader() { return std::make_unique<Game24Grader>(); }

}  // namespace conclave::grade
