// SPDX-License-Identifier: Apache-2.0
// Gradings per second on one core: the math grader over answers of every kind, the gsm8k grader over worked solutions.
#include <benchmark/benchmark.h>

#include <array>
#include <string>
#include <utility>

#include "orchestrator/experiment/grade/grader.h"

namespace conclave::grade {
namespace {

constexpr std::array<std::pair<std::string_view, std::string_view>, 12> kAnswers = {{
    {"42", "42"},
    {"\\dfrac{3}{56}", "\\frac{3}{56}"},
    {"0.5", "\\frac12"},
    {"\\frac{\\sqrt{3}}{3}", "\\frac{1}{\\sqrt3}"},
    {"\\sqrt{2}+\\sqrt{3}", "\\sqrt{5+2\\sqrt{6}}"},
    {"(x+1)^3", "x^3+3x^2+3x+1"},
    {"\\left(3, \\frac{\\pi}{2}\\right)", "(3, 90^\\circ)"},
    {"1, -2", "-2, 1"},
    {"(-\\infty, 2) \\cup (3, \\infty)", "(3, \\infty)\\cup(-\\infty,2)"},
    {"\\begin{pmatrix} 1 & 2 \\\\ 3 & 4 \\end{pmatrix}", "\\begin{bmatrix}1&2\\\\3&4\\end{bmatrix}"},
    {"y = 2x + 3", "2x - y + 3 = 0"},
    {"\\text{Evelyn}", "Evelyn"},
}};

void Grade(benchmark::State& state, const char* name, bool wrong) {
  const auto grader = MakeGrader(name);
  if (!grader.ok()) return state.SkipWithError("no such grader");
  std::array<std::string, kAnswers.size()> texts;
  for (size_t k = 0; k < texts.size(); ++k) {
    texts[k] =
        "Let $x$ be the number that we look for. Then $x^2 = 2$, and some more reasoning follows, so that\n\n"
        "the answer is $\\boxed{" +
        std::string(kAnswers[k].first) + "}$.";
  }
  size_t k = 0;
  for (auto unused : state) {
    (void)unused;
    benchmark::DoNotOptimize((*grader)->GradeText(texts[k], {kAnswers[wrong ? (k + 1) % texts.size() : k].second, {}}));
    k = (k + 1) % texts.size();
  }
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK_CAPTURE(Grade, math_right, "math", false);
BENCHMARK_CAPTURE(Grade, math_wrong, "math", true);
BENCHMARK_CAPTURE(Grade, gsm8k, "gsm8k", false);
BENCHMARK_CAPTURE(Grade, choice, "choice", false);

}  // namespace
}  // namespace conclave::grade

BENCHMARK_MAIN();
