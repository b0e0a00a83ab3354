// SPDX-License-Identifier: Apache-2.0
// `conclave compare`: paired statistics of two outcome files, from this or any other harness.
#include <fmt/format.h>

#include <cstdio>

#include "cli/command.h"
#include "common/status.h"
#include "orchestrator/experiment/contrast.h"
#include "orchestrator/experiment/import.h"
#include "orchestrator/experiment/outcome.h"
#include "orchestrator/experiment/summary.h"

namespace conclave::cli {
namespace {

struct Arguments {
  std::string a, b, cluster = "cluster";
  double margin = 0.03;
  uint64_t seed = 0;
  Output output;
};

std::string Points(double value) { return fmt::format("{:+.2f}", 100 * value); }

template <typename T>
std::string OrDash(const std::optional<T>& value, const char* format) {
  return value ? fmt::format(fmt::runtime(format), *value) : std::string("-");
}

void Print(const experiment::Contrast& c, const stats::Estimate& a, const stats::Estimate& b) {
  fmt::print("A  {:6.2f} %   {}\nB  {:6.2f} %   {}\n\n", 100 * a.mean, c.a, 100 * b.mean, c.b);
  fmt::print("A - B               {} points on {} items", Points(c.difference.mean), c.n);
  if (c.difference.clusters != c.n) fmt::print(" in {} clusters", c.difference.clusters);
  fmt::print("\n95 % interval       {}\n",
             c.difference.ci ? fmt::format("[{}, {}]", Points(c.difference.ci->lo), Points(c.difference.ci->hi)) : "-");
  if (c.difference.se) fmt::print("standard error      {:.2f} points\n", 100 * *c.difference.se);
  if (c.correlation) fmt::print("correlation         {:.3f}\n", *c.correlation);
  if (c.a_only) fmt::print("discordant          {} only A, {} only B\n", *c.a_only, *c.b_only);
  fmt::print("McNemar exact       {}\nMcNemar mid-p       {}\n", OrDash(c.mcnemar_exact, "{:.6g}"),
             OrDash(c.mcnemar_mid_p, "{:.6g}"));
  fmt::print("sign-flip           {}\n", OrDash(c.sign_flip_p, "{:.6g}"));
  const auto yes_no = [](std::optional<bool> value) { return !value ? "-" : *value ? "yes" : "no"; };
  fmt::print("margin {:.1f} points   equivalent: {}, A not worse: {}\n", 100 * c.margin, yes_no(c.equivalent),
             yes_no(c.noninferior));
  if (c.mde80) fmt::print("80 % power to find  {:.2f} points\n", 100 * *c.mde80);
  if (c.unmatched > 0) fmt::print("left out            {} items that only one file has\n", c.unmatched);
}

absl::Status Compare(const Arguments& args) {
  ASSIGN_OR_RETURN(const auto imported_a, experiment::ImportOutcomes(args.a, args.a, args.cluster));
  ASSIGN_OR_RETURN(const auto imported_b, experiment::ImportOutcomes(args.b, args.b, args.cluster));
  const std::vector<experiment::Outcome>&rows_a = imported_a.rows, &rows_b = imported_b.rows;
  const auto arms_a = experiment::SplitByArm(rows_a), arms_b = experiment::SplitByArm(rows_b);
  for (const auto* arms : {&arms_a, &arms_b}) {
    if (arms->size() == 1) continue;
    std::string names;
    for (const auto& arm : *arms) names += (names.empty() ? "" : ", ") + arm.name;
    return InvalidArgument("{}: holds {} arms ({}); one is needed, e.g. grep '\"arm\":\"{}\"'",
                           arms == &arms_a ? args.a : args.b, arms->size(), names, (*arms)[0].name);
  }
  ASSIGN_OR_RETURN(const experiment::Contrast contrast,
                   experiment::Compare(arms_a[0], arms_b[0], args.margin, args.seed));
  if (args.output.json) {
    fmt::print("{}\n", experiment::ToJson(contrast).dump(2));
  } else {
    Print(contrast, experiment::Accuracy(arms_a[0]), experiment::Accuracy(arms_b[0]));
  }
  return absl::OkStatus();
}

}  // namespace

void AddCompare(CLI::App* app, Chosen* chosen) {
  auto* command = app->add_subcommand("compare", "Paired statistics of two outcome files");
  command->footer(
      "Example: conclave compare a.jsonl b.jsonl --cluster passage --margin 0.02\n"
      "Also reads lm-evaluation-harness samples and Inspect logs (.eval or JSON). Rows need \"id\" and \"outcome\" (or "
      "\"correct\", or a \"score\" of 0 or 1).");
  auto args = std::make_shared<Arguments>();
  command->add_option("A", args->a, "Outcomes (JSONL)")->required();
  command->add_option("B", args->b, "Outcomes (JSONL)")->required();
  command->add_option("--cluster", args->cluster, "Field that names an item's cluster")->capture_default_str();
  command->add_option("--margin", args->margin, "Equivalence margin, in accuracy")
      ->capture_default_str()
      ->check(CLI::Range(1e-6, 1.0));
  command->add_option("--seed", args->seed, "For the sign-flip test")->capture_default_str();
  AddOutputFlags(command, &args->output);
  command->callback([=] { chosen->action = [=] { return cli::Report(Compare(*args)); }; });
}

}  // namespace conclave::cli
