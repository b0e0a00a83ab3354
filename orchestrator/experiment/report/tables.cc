// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include "orchestrator/experiment/report/sections.h"
#include "orchestrator/experiment/report/words.h"

namespace conclave::report {
namespace {

// The items of an arm with one outcome, behind their number.
std::string LinkedCount(const PageIndex& index, const std::string& arm, char is, const Json& value) {
  const std::string text = Count(value);
  return value.is_number() && value.get<double>() > 0 ? Link(index.Arm(arm, is), text) : text;
}

std::string YesNo(const Json& value) {
  if (!value.is_boolean()) return "–";
  return value.get<bool>() ? "<span class=\"yes\">yes</span>" : "<span class=\"open\">not shown</span>";
}

}  // namespace

std::string ArmTable(const ReportInput& input) {
  Table table({"Arm", ">n", ">Accuracy, %", ">SE", ">95 % interval", ">right", ">wrong", ">no answer", ">truncated",
               ">grader error", ">failed"});
  for (const Json& arm : List(input.summary, "arms")) {
    const std::string name = Text(arm, "name");
    const Json outcomes = At(arm, "outcomes");
    const auto count = [&](const char* key, char is) { return LinkedCount(input.index, name, is, At(outcomes, key)); };
    table.Row({Escape(name), Count(At(arm, "n")), Link(input.index.Arm(name, 'x'), Percent(At(arm, "accuracy"), 2)),
               Percent(At(arm, "se"), 2), Interval(At(arm, "ci95"), false), count("correct", 'c'), count("wrong", 'w'),
               count("no_answer", 'n'), count("truncated", 't'), count("grader_error", 'e'), count("failed", 'f')});
  }
  return "<h2 id=\"arms\">Arms</h2>\n" + table.Html() +
         "<p class=\"note\">Dotted numbers lead to their items; an accuracy leads to those that were not right.</p>\n";
}

std::string ContrastTable(const ReportInput& input) {
  const Json contrasts = List(input.summary, "contrasts");
  if (contrasts.empty()) return "";
  Table table({"A", "B", ">n (clusters)", ">A", ">B", ">A − B (SE), points", ">95 % interval", ">corr", ">only A",
               ">only B", ">McNemar exact", ">mid-p", ">Holm", "A not worse", "equivalent"});
  const auto correlation = [](const Json& c) {
    const auto r = Number(c, "correlation");
    return r ? fmt::format("{:.2f}", *r) : std::string("–");
  };
  for (const Json& c : contrasts) {
    const std::string a = Text(c, "a"), b = Text(c, "b");
    const std::string clusters = At(c, "clusters") == At(c, "n") ? "" : fmt::format(" ({})", Count(At(c, "clusters")));
    const auto only = [&](const char* key, const std::string& winner, const std::string& loser) {
      return Link(Both(input.index.Arm(winner, 'c'), input.index.Arm(loser, 'x')), Count(At(c, key)));
    };
    table.Row({Escape(a), Escape(b), Count(At(c, "n")) + clusters, Percent(At(ArmNamed(input.summary, a), "accuracy")),
               Percent(At(ArmNamed(input.summary, b), "accuracy")),
               fmt::format("{} ({})", SignedPercent(At(c, "difference"), 2), Percent(At(c, "se"), 2)),
               Interval(At(c, "ci95"), true), correlation(c), only("a_only", a, b), only("b_only", b, a),
               PValue(At(c, "mcnemar_exact")), PValue(At(c, "mcnemar_mid_p")), PValue(At(c, "p_holm")),
               YesNo(At(c, "noninferior")), YesNo(At(c, "equivalent"))},
              Flag(c, "primary") ? "primary" : "");
  }
  return "<h3><span class=\"label\">T1</span>Paired differences</h3>\n" + table.Html() +
         "<p class=\"note\">The primary contrast is bold. “Not worse” and “equivalent” are within the declared margin; "
         "“not shown” is no proof of the contrary. Without McNemar's columns, Holm's correction runs over sign-flip "
         "tests.</p>\n";
}

std::string PowerTable(const ReportInput& input) {
  Table table({"Contrast", ">n", ">samples A, B", ">w²", ">s²A", ">s²B", ">found with 80 % power, points",
               ">items for 1 point", ">samples for 1 point"});
  bool any = false;
  for (const Json& c : List(input.summary, "contrasts")) {
    const Json power = At(c, "power");
    if (!power.is_object()) continue;
    any = true;
    const auto number = [&](const char* key) {
      const auto v = Number(power, key);
      return v ? fmt::format("{:.3f}", *v) : std::string("–");
    };
    const bool split = power.contains("between");
    const Json samples = At(power, "samples_for_1pp");
    table.Row(
        {Escape(Text(c, "a") + " − " + Text(c, "b")), Count(At(c, "n")),
         fmt::format("{}, {}", Count(At(power, "k_a")), Count(At(power, "k_b"))), number("between"),
         number("sampling_a"), number("sampling_b"), Percent(At(c, "mde80"), 2), Count(At(power, "items_for_1pp")),
         !split              ? "–"
         : samples.is_null() ? "impossible"
                             : Count(samples)},
        Flag(c, "primary") ? "primary" : "");
  }
  if (!any) return "";
  return "<h3><span class=\"label\">T2</span>What this design can find</h3>\n" + table.Html() +
         "<p class=\"note\">w²: variance of the true difference between questions; s²: sampling noise within a "
         "question, both "
         "known only with two samples or more. Items for 1 point: at this run's variance, to find a difference of one "
         "point "
         "with 80&nbsp;% power. “Impossible”: no number of samples on these items is enough.</p>\n";
}

std::string AblationTable(const ReportInput& input) {
  Table table({"Arm", "left out", ">Δ accuracy, points", ">95 % interval", ">Holm", ">Δ GFLOP", ">points per GFLOP"});
  bool any = false;
  for (const Json& baseline : List(At(input.summary, "baselines"), "list")) {
    const std::string of = Text(baseline, "of"), arm = Text(baseline, "arm");
    if (Text(baseline, "kind") != "without_role" || arm.empty()) continue;
    for (const Json& c : List(input.summary, "contrasts")) {
      if (Text(c, "a") != of || Text(c, "b") != arm) continue;
      any = true;
      const auto difference = Number(c, "difference");
      const auto with = Number(At(ArmNamed(input.summary, of), "cost"), "flops");
      const auto less = Number(At(ArmNamed(input.summary, arm), "cost"), "flops");
      const bool priced = with && less && difference;
      const double gflop = priced ? (*with - *less) / 1e9 : 0;
      table.Row({Escape(of), Escape(Text(baseline, "subject")), SignedPercent(At(c, "difference"), 2),
                 Interval(At(c, "ci95"), true), PValue(At(c, "p_holm")),
                 priced ? WithMinus(fmt::format("{:.4g}", gflop)) : "–",
                 priced && gflop > 0 ? fmt::format("{:.3g}", 100 * *difference / gflop) : "–"});
    }
  }
  if (!any) return "";
  return "<h3><span class=\"label\">T3</span>What each role adds</h3>\n" + table.Html() +
         "<p class=\"note\">Δ: with the role less without it, on the same items.</p>\n";
}

std::string MatchedTable(const ReportInput& input) {
  Table table({"Arm", "against votes of", "equal", ">at", ">votes it buys", ">accuracy there, %", ">difference, points",
               ">95 % interval"});
  bool any = false;
  for (const Json& m : List(input.summary, "matched")) {
    any = true;
    const auto votes = Number(m, "votes");
    const bool inside = Ends(At(m, "ci95")).has_value();
    const std::string range = Text(m, "range");
    table.Row({Escape(Text(m, "arm")), Escape(Text(m, "against")), Escape(Text(m, "unit")), Quantity(At(m, "cost")),
               votes ? fmt::format("{:.1f}", *votes) : "–", Percent(At(m, "accuracy")),
               inside ? SignedPercent(At(m, "difference"), 2) : "out of range: " + Escape(range),
               Interval(At(m, "ci95"), true)},
              Flag(m, "primary") ? "primary" : "");
  }
  if (!any) return "";
  return "<h3>At equal cost</h3>\n" + table.Html() +
         "<p class=\"note\">Each arm against a vote curve read at the arm's own mean cost, between measured sizes "
         "only: out of "
         "range nothing is extrapolated. Bold: the declared unit.</p>\n";
}

}  // namespace conclave::report
