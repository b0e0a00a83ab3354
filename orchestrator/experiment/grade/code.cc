// SPDX-License-Identifier: Apache-2.0
// Python programs (HumanEval, Chen et al. 2021, arXiv 2107.03374): the last fenced block that defines the function, or
// the continuation of the prompt, run against the benchmark's tests in sandboxes (code/judge.h).
#include <algorithm>
#include <array>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>

#include "orchestrator/experiment/grade/answer_region.h"
#include "orchestrator/experiment/grade/code/judge.h"
#include "orchestrator/experiment/grade/graders.h"

namespace conclave::grade {
namespace {

constexpr size_t kProgramBytesMax = size_t{1} << 16;
constexpr int kBlocksMax = 64;

// The gold of an item: JSON of {"prompt", "test", "entry_point"}, the published form; or plain Python assertions.
std::optional<code::Problem> ReadProblem(std::string_view gold) {
  const size_t first = gold.find_first_not_of(" \t\r\n");
  if (first == std::string_view::npos) return std::nullopt;
  if (gold[first] != '{') return code::Problem{"", std::string(gold), ""};
  const nlohmann::json row = nlohmann::json::parse(gold, nullptr, /*allow_exceptions=*/false);
  if (!row.is_object()) return std::nullopt;
  code::Problem problem;
  for (auto& [field, text] : {std::pair<const char*, std::string*>{"prompt", &problem.prompt},
                              {"test", &problem.test},
                              {"entry_point", &problem.entry_point}}) {
    if (!row.contains(field) || !row[field].is_string()) return std::nullopt;
    *text = row[field].get<std::string>();
  }
  if (problem.test.empty() || problem.entry_point.empty()) return std::nullopt;
  return problem;
}

size_t LineEnd(std::string_view text, size_t i) { return std::min(text.find('\n', i), text.size()); }

// The content of the last ``` block that has `wanted`, else of the last one; one that never closes runs to the end.
std::optional<Region> Fenced(std::string_view text, Region in, std::string_view wanted) {
  std::optional<Region> last;
  std::optional<Region> named;
  size_t i = in.begin;
  for (int blocks = 0; blocks < kBlocksMax; ++blocks) {
    const size_t open = text.find("```", i);
    if (open == std::string_view::npos || open >= in.end) break;
    const size_t begin = std::min(LineEnd(text, open) + 1, in.end);
    const size_t close = std::min(text.find("```", begin), in.end);
    last = Region{begin, close};
    if (!wanted.empty() && Slice(text, *last).find(wanted) != std::string_view::npos) named = last;
    i = std::min(close + 3, in.end);
  }
  return named ? named : last;
}

// Where a continuation of a prompt goes on to something else.
Region Continuation(std::string_view text, Region in) {
  const std::string_view view = Slice(text, in);
  for (std::string_view stop : {"\nclass ", "\ndef ", "\n#", "\nif ", "\nprint(", "\n```", "\nassert "}) {
    in.end = std::min(in.end, in.begin + std::min(view.find(stop), view.size()));
  }
  return in;
}

bool Opens(std::string_view line) {
  for (std::string_view word : {"def ", "class ", "import ", "from ", "@", "#"}) {
    if (line.starts_with(word)) return true;
  }
  return false;
}

// The whole program: the prompt, and the function anew or the rest of its body.
std::string Program(const code::Problem& problem, std::string_view answer) {
  if (problem.entry_point.empty()) return std::string(answer);
  if (answer.find("def " + problem.entry_point) != std::string_view::npos) {
    // The prompt's imports and helpers; its own half of the function is replaced by the answer's.
    return problem.prompt + "\n    pass\n\n" + std::string(answer) + "\n";
  }
  size_t first = 0;
  while (first < answer.size() && answer[first] == '\n') ++first;
  std::string body(answer.substr(first));
  // Chat models lose the first line's indentation.
  if (!body.empty() && body[0] != ' ' && body[0] != '\t' && !Opens(body)) body = "    " + body;
  return problem.prompt + body + "\n";
}

std::string_view RuleOf(code::Result result) {
  switch (result) {
    case code::Result::kPassed:
      return "code/passed";
    case code::Result::kFailed:
      return "code/failed";
    case code::Result::kRaised:
      return "code/raised";
    case code::Result::kExited:
      return "code/exited";
    case code::Result::kTimeout:
      return "code/timeout";
    case code::Result::kMemory:
      return "code/memory";
    case code::Result::kSandbox:
      break;
  }
  return "code/sandbox_failed";
}

class CodeGrader final : public Grader {
 public:
  std::string_view name() const override { return "code"; }

  std::optional<Extraction> Extract(std::string_view text, const Reference& /*reference*/) const override {
    const Region region = FinalRegion(text);
    if (const auto block = Fenced(text, region, "def ")) return Take(text, *block, "code/fenced", true);
    const std::string_view view = Slice(text, region);
    // Without a fence: a continuation where it begins indented, else perhaps a whole program.
    const size_t first = view.find_first_not_of('\n');
    const bool indented = first != std::string_view::npos && (view[first] == ' ' || view[first] == '\t');
    const bool whole = !indented && (view.find("\ndef ") != std::string_view::npos || Opens(view));
    return Take(text, whole ? region : Continuation(text, region), "code/continuation", true);
  }

  std::optional<Extraction> ReadAnswer(std::string_view answer, const Reference& /*reference*/) const override {
    return Take(answer, {0, answer.size()}, "code/answer", true);
  }

  std::optional<std::string> NormalGold(const Reference& reference) const override {
    if (!ReadProblem(reference.gold)) return std::nullopt;
    return "its tests";
  }

 protected:
  Verdict Decide(const Extraction& answer, const std::string& /*normal_gold*/,
                 const Reference& reference) const override {
    const std::optional<code::Problem> problem = ReadProblem(reference.gold);
    const code::Result result =
        problem ? code::RunTests(*problem, Program(*problem, answer.raw)) : code::Result::kSandbox;
    const Outcome outcome = result == code::Result::kPassed    ? Outcome::kCorrect
                            : result == code::Result::kSandbox ? Outcome::kGraderError
                                                               : Outcome::kWrong;
    return {outcome, RuleOf(result)};
  }
  bool MatchesStrictly(const Extraction& /*answer*/, const std::string& /*normal_gold*/,
                       const Reference& /*reference*/) const override {
    return true;  // only asked of what passed
  }

 private:
  static std::optional<Extraction> Take(std::string_view text, Region region, std::string_view rule, bool strict) {
    while (region.end > region.begin && (text[region.end - 1] == '\n' || text[region.end - 1] == ' ')) --region.end;
    if (region.begin >= region.end || region.end - region.begin > kProgramBytesMax) return std::nullopt;
    Extraction found;
    found.raw = std::string(Slice(text, region));
    found.answer = found.raw;
    found.rule = rule;
    found.begin = region.begin;
    found.end = region.end;
    found.strict = strict;
    return found;
  }
};

}  // namespace

std::unique_ptr<const Grader> MakeCodeGrader() { return std::make_unique<CodeGrader>(); }

}  // namespace conclave::grade
