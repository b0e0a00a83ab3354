// SPDX-License-Identifier: Apache-2.0
#include "zoo/data/problems.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <iterator>
#include <utility>

#include "common/check.h"
#include "common/status.h"
#include "orchestrator/experiment/benchmark/difficulty.h"

namespace conclave::zoo {
namespace {

using benchmark::Dice;

std::vector<std::string_view> LinesOf(std::string_view text) {
  std::vector<std::string_view> lines;
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size());
    lines.push_back(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return lines;
}

// The last "#### x" line's x.
std::string_view AnswerIn(const std::vector<std::string_view>& lines) {
  constexpr std::string_view kMark = "#### ";
  for (auto line = lines.rbegin(); line != lines.rend(); ++line) {
    if (line->starts_with(kMark)) return line->substr(kMark.size());
  }
  return {};
}

template <typename T>
bool ReadNumber(std::string_view text, T* number) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), *number);
  return error == std::errc() && end == text.data() + text.size();
}

// What is right at a place of a solution: a step, or the answer behind the last one.
std::string RightAt(const Case& c, int64_t step) {
  const auto index = static_cast<size_t>(step) - 1;
  if (index < c.right.steps.size()) return fmt::format("step {} should be {}", step, c.right.steps[index].text);
  return fmt::format("the answer should be {}", c.answer);
}

// A word for each draft about this line, the answer's being the last.
void AppendMarks(std::span<const Draft> drafts, int64_t line, std::string* out) {
  for (const Draft& draft : drafts) {
    const bool before = draft.wrong_step == 0 || line < draft.wrong_step;
    *out += before ? " ok" : line == draft.wrong_step ? " wrong" : " -";
  }
  *out += '\n';
}

// Lines until every draft has been found wrong.
std::string ChecksText(const Case& c, std::span<const Draft> drafts, Checks checks) {
  const auto steps = static_cast<int64_t>(c.right.steps.size());
  int64_t last = 0;
  for (const Draft& draft : drafts) {
    last = std::max(last, draft.wrong_step == 0 ? steps + 1 : std::min(draft.wrong_step, steps + 1));
  }
  std::string text;
  for (int64_t i = 1; i <= last; ++i) {
    if (i > steps) {
      fmt::format_to(std::back_inserter(text), "Answer: {}", c.answer);
    } else {
      const benchmark::Step& step = c.right.steps[static_cast<size_t>(i) - 1];
      fmt::format_to(std::back_inserter(text), "{}: {}", i, checks == Checks::kSteps ? step.text : step.result);
    }
    AppendMarks(drafts, i, &text);
  }
  return text;
}

}  // namespace

std::string ProblemId::ToString() const { return fmt::format("{}/{}/{}/{}", family->name, difficulty, seed, stream); }

absl::StatusOr<ProblemId> ProblemId::Parse(std::string_view text) {
  std::vector<std::string_view> parts;
  for (std::string_view rest = text; parts.size() < 5;) {
    const size_t end = rest.find('/');
    parts.push_back(rest.substr(0, end));
    if (end == std::string_view::npos) break;
    rest.remove_prefix(end + 1);
  }
  ProblemId id;
  if (parts.size() == 4) id.family = benchmark::FindFamily(parts[0]);
  if (id.family == nullptr || !ReadNumber(parts[1], &id.difficulty) || !ReadNumber(parts[2], &id.seed) ||
      !ReadNumber(parts[3], &id.stream) || id.difficulty < 1 || id.difficulty > benchmark::kDifficultyMax) {
    return InvalidArgument("\"{}\" is no id of a problem; they look like \"chain/3/1/77\" (see --list)", text);
  }
  return id;
}

Case MakeCase(const ProblemId& id) {
  Dice dice(id.seed, Fnv1a64(id.family->name, Mix64(id.stream)));
  Case c;
  c.id = id;
  c.problem = id.family->make(dice, id.difficulty);
  c.right = benchmark::WorkRightly(c.problem);
  c.solution = benchmark::SolutionText(c.right);
  c.answer = fmt::format("{}", c.right.answer);
  return c;
}

Draft Compare(const Case& c, std::string text) {
  Draft draft;
  draft.text = std::move(text);
  const std::vector<std::string_view> lines = LinesOf(draft.text);
  const std::vector<std::string_view> right = LinesOf(c.solution);
  draft.right = AnswerIn(lines) == c.answer;
  size_t same = 0;
  while (same < lines.size() && same < right.size() && lines[same] == right[same]) ++same;
  if (same < lines.size() || same < right.size()) {
    draft.wrong_step = std::min<int64_t>(static_cast<int64_t>(same), static_cast<int64_t>(right.size()) - 1) + 1;
  }
  return draft;
}

Draft MakeDraft(const Case& c, bool right, Dice& dice) {
  if (right) return {c.solution, true, 0};
  return Compare(c, benchmark::SolutionText(benchmark::WorkWrongly(c.problem, c.right, dice)));
}

std::string PlanText(const Case& c) {
  std::string text;
  for (size_t i = 0; i < c.problem.plan.size(); ++i) {
    fmt::format_to(std::back_inserter(text), "{}{}. {}", i == 0 ? "" : "\n", i + 1, c.problem.plan[i]);
  }
  return text;
}

std::string CritiqueText(const Case& c, const std::vector<Draft>& drafts, Checks checks) {
  std::string text = checks == Checks::kSteps ? ChecksText(c, drafts, checks) : std::string();
  for (size_t i = 0; i < drafts.size(); ++i) {
    const int64_t step = drafts[i].wrong_step;
    fmt::format_to(std::back_inserter(text), "{}Draft {}: {}.", i == 0 ? "" : "\n", i + 1,
                   step == 0 ? "no mistake" : RightAt(c, step));
  }
  return text;
}

std::string FalseCritique(const Case& c, const Draft& draft, Checks checks, Dice& dice) {
  if (draft.wrong_step != 0) return CritiqueText(c, {{.text = c.solution}}, checks);
  Case mistaken = c;  // whose author takes his slip for right
  mistaken.right = benchmark::WorkWrongly(c.problem, c.right, dice);
  mistaken.answer = fmt::format("{}", mistaken.right.answer);
  Draft blamed = Compare(c, benchmark::SolutionText(mistaken.right));
  return CritiqueText(mistaken, {std::move(blamed)}, checks);
}

std::string VerificationText(const Case& c, const Draft& draft, Checks checks) {
  CONCLAVE_CHECK(draft.right == (draft.wrong_step == 0));
  return ChecksText(c, {&draft, 1}, checks) + (draft.right ? "VERDICT: accept" : "VERDICT: reject");
}

}  // namespace conclave::zoo
