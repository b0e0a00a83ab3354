// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/experiment/grade/grader.h"

#include <array>
#include <utility>

#include <fmt/ranges.h>

#include "common/status.h"
#include "orchestrator/experiment/grade/code/judge.h"
#include "orchestrator/experiment/grade/graders.h"

namespace conclave::grade {
namespace {

constexpr std::array<std::pair<Outcome, std::string_view>, 6> kOutcomes = {{{Outcome::kCorrect, "correct"},
                                                                            {Outcome::kWrong, "wrong"},
                                                                            {Outcome::kNoAnswer, "no_answer"},
                                                                            {Outcome::kTruncated, "truncated"},
                                                                            {Outcome::kGraderError, "grader_error"},
                                                                            {Outcome::kFailed, "failed"}}};
constexpr std::array<std::string_view, 8> kNames = {"bbh",    "choice", "code",           "exact",
                                                    "game24", "gsm8k",  "knights_knaves", "math"};

std::string Known() { return fmt::format("known graders: {}", fmt::join(kNames, ", ")); }

}  // namespace

std::string_view OutcomeName(Outcome outcome) {
  for (const auto& [value, name] : kOutcomes) {
    if (value == outcome) return name;
  }
  return "";
}

std::optional<Outcome> OutcomeFromName(std::string_view name) {
  for (const auto& [value, known] : kOutcomes) {
    if (known == name) return value;
  }
  return std::nullopt;
}

Grader::Verdict Grader::Decide(const Extraction& answer, const std::string& normal_gold,
                               const Reference& reference) const {
  return {Matches(answer, normal_gold, reference) ? Outcome::kCorrect : Outcome::kWrong, answer.rule};
}

bool Grader::Matches(const Extraction& answer, const std::string& normal_gold, const Reference& /*reference*/) const {
  return answer.answer == normal_gold;
}

bool Grader::MatchesStrictly(const Extraction& answer, const std::string& normal_gold,
                             const Reference& reference) const {
  return Matches(answer, normal_gold, reference);
}

Grade Grader::Judge(std::optional<Extraction> found, const Reference& reference, Finish finish) const {
  Grade grade;
  std::optional<std::string> gold = NormalGold(reference);
  if (!gold) {
    grade.outcome = grade.lenient = grade.strict = Outcome::kGraderError;
    grade.gold = std::string(reference.gold);
    grade.rule = "unreadable_gold";
    return grade;
  }
  grade.gold = *std::move(gold);
  const Outcome none = finish == Finish::kCutAtLength ? Outcome::kTruncated : Outcome::kNoAnswer;
  if (!found) {
    grade.outcome = grade.lenient = grade.strict = none;
    grade.rule = "no_answer";
    return grade;
  }
  const Verdict verdict = Decide(*found, grade.gold, reference);
  grade.lenient = verdict.outcome;
  grade.strict = found->strict ? verdict.outcome : none;
  if (grade.strict == Outcome::kCorrect && !MatchesStrictly(*found, grade.gold, reference)) {
    grade.strict = Outcome::kWrong;
  }
  grade.outcome = grade.lenient;
  grade.answer = std::move(found->answer);
  grade.raw = std::move(found->raw);
  grade.rule = verdict.rule;
  grade.begin = found->begin;
  grade.end = found->end;
  return grade;
}

Grade Grader::GradeText(std::string_view text, const Reference& reference, Finish finish) const {
  return Judge(Extract(text, reference), reference, finish);
}

Grade Grader::GradeAnswer(std::string_view answer, const Reference& reference) const {
  return Judge(ReadAnswer(answer, reference), reference, Finish::kComplete);
}

std::optional<std::string> Grader::CanonicalKey(std::string_view answer, const Reference& reference) const {
  std::optional<Extraction> read = ReadAnswer(answer, reference);
  if (!read) return std::nullopt;
  return std::move(read->answer);
}

bool Grader::Equivalent(std::string_view a, std::string_view b, const Reference& reference) const {
  const std::optional<std::string> key_a = CanonicalKey(a, reference);
  return key_a && key_a == CanonicalKey(b, reference);
}

absl::StatusOr<std::unique_ptr<const Grader>> MakeGrader(std::string_view name) {
  if (name == "bbh") return MakeBbhGrader();
  if (name == "choice") return MakeChoiceGrader();
  if (name == "exact") return MakeExactGrader();
  if (name == "game24") return MakeGame24Grader();
  if (name == "gsm8k") return MakeGsm8kGrader();
  if (name == "knights_knaves") return MakeKnightsKnavesGrader();
  if (name == "math") return MakeMathGrader();
  if (name == "code") {
    RETURN_IF_ERROR(code::SandboxWorks());
    return MakeCodeGrader();
  }
  return InvalidArgument("unknown grader \"{}\"; {}", name, Known());
}

std::span<const std::string_view> GraderNames() { return kNames; }

}  // namespace conclave::grade
