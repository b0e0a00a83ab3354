// SPDX-License-Identifier: Apache-2.0
// The page, section by section.
#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "orchestrator/experiment/report/report.h"
#include "orchestrator/experiment/report/svg.h"

namespace conclave::report {
namespace {

std::string Text(const Json& object, const char* key) {
  if (!object.is_object()) return "";
  const auto it = object.find(key);
  if (it == object.end() || it->is_null()) return "";
  return it->is_string() ? it->get<std::string>() : it->dump();
}

Json At(const Json& object, const char* key) {
  if (!object.is_object()) return Json();
  const auto it = object.find(key);
  return it == object.end() ? Json() : *it;
}

// The boolean at `key`; false where there is none.
bool Flag(const Json& object, const char* key) {
  const Json value = At(object, key);
  return value.is_boolean() && value.get<bool>();
}

// The array at `key`; empty where there is none.
Json List(const Json& object, const char* key) {
  Json value = At(object, key);
  return value.is_array() ? value : Json::array();
}

const Json* Primary(const Json& summary) {
  if (!summary.contains("contrasts")) return nullptr;
  for (const Json& contrast : summary["contrasts"]) {
    if (Flag(contrast, "primary")) return &contrast;
  }
  return nullptr;
}

// The primary contrast in words: what the data say, and what they do not.
std::string Verdict(const Json& summary) {
  const Json* c = Primary(summary);
  if (c == nullptr) return "";
  const double difference = Number(*c, "difference").value_or(0);
  const Json ci = At(*c, "ci95");
  const bool excludes_zero =
      ci.is_array() && ci.size() == 2 && ci[0].is_number() && (ci[0].get<double>() > 0 || ci[1].get<double>() < 0);
  // The interval and the test must agree: near the border a t interval and an exact test can differ.
  const auto exact = Number(*c, "mcnemar_exact");
  const bool significant = (exact ? *exact : Number(*c, "sign_flip_p").value_or(0)) < 0.05;
  std::string out = "<div class=\"verdict\"><p>";
  const std::string a = Escape(Text(*c, "a")), b = Escape(Text(*c, "b"));
  const std::string figures =
      fmt::format("{} points, 95&nbsp;% interval {}", SignedPercent(difference, 2), Interval(ci, true, 2));
  if (excludes_zero && significant) {
    out += fmt::format("<b>{}</b> is {} accurate than <b>{}</b>: {}.", a, difference > 0 ? "more" : "less", b, figures);
  } else if (excludes_zero) {
    out += fmt::format("Borderline: the interval of <b>{}</b> − <b>{}</b> excludes zero, the exact test does not. {}.",
                       a, b, figures);
  } else {
    out += fmt::format("The data do not separate <b>{}</b> from <b>{}</b>: {}.", a, b, figures);
  }
  out += fmt::format(
      "</p><p class=\"soft\">{} items, {} right only by the first, {} only by the second; McNemar exact "
      "p&nbsp;=&nbsp;{}, mid-p&nbsp;=&nbsp;{}.",
      Count(At(*c, "n")), Count(At(*c, "a_only")), Count(At(*c, "b_only")), PValue(At(*c, "mcnemar_exact")),
      PValue(At(*c, "mcnemar_mid_p")));
  const Json margin = At(*c, "margin");
  if (margin.is_number()) {
    const bool equivalent = Flag(*c, "equivalent"), noninferior = Flag(*c, "noninferior");
    out += fmt::format(" Margin ±{} points: {}.", Percent(margin),
                       equivalent    ? "the two are equivalent within it"
                       : noninferior ? "the first is not worse by more than it"
                                     : "neither equivalence nor non-inferiority is shown");
  }
  if (At(*c, "mde80").is_number()) {
    out += fmt::format(" A true difference of {} points would have been found with 80&nbsp;% power.",
                       Percent(At(*c, "mde80")));
  }
  return out + "</p></div>\n";
}

std::string OutcomeCells(const Json& outcomes, const char* key) { return Count(At(outcomes, key)); }

std::string MainTable(const Json& summary) {
  Table table({"Arm", ">n", ">Accuracy, %", ">SE", ">95 % interval", ">no answer", ">truncated", ">failed", ">calls",
               ">output tokens", ">FLOP", ">weight bytes"});
  bool estimated = false;
  for (const Json& arm : List(summary, "arms")) {
    const Json outcomes = At(arm, "outcomes"), cost = At(arm, "cost");
    estimated |= Flag(cost, "estimated");
    const char* mark = Flag(cost, "estimated") ? "~" : "";
    table.Row({Escape(Text(arm, "name")), Count(At(arm, "n")), Percent(At(arm, "accuracy"), 2),
               Percent(At(arm, "se"), 2), Interval(At(arm, "ci95"), false), OutcomeCells(outcomes, "no_answer"),
               OutcomeCells(outcomes, "truncated"), OutcomeCells(outcomes, "failed"), Quantity(At(cost, "calls")),
               mark + Quantity(At(cost, "output_tokens")), mark + Quantity(At(cost, "flops")),
               mark + Quantity(At(cost, "weight_bytes"))});
  }
  std::string out = table.Html() + "<p class=\"note\">Costs are means per question.";
  if (estimated) out += " ~ estimated from model cards and text length, not measured.";
  return out + "</p>\n";
}

std::string Contrasts(const Json& summary) {
  const Json contrasts = List(summary, "contrasts");
  if (contrasts.empty()) return "";
  std::vector<ForestRow> rows;
  Table table({"A", "B", ">A − B, points", ">SE", ">95 % interval", ">only A", ">only B", ">McNemar exact", ">mid-p",
               ">Holm", "equivalent", "non-inferior", ">MDE 80 %"});
  for (const Json& c : contrasts) {
    ForestRow row{Text(c, "a") + " − " + Text(c, "b"), Number(c, "difference").value_or(0), std::nullopt,
                  Flag(c, "primary"), Number(c, "margin")};
    const Json ci = At(c, "ci95");
    if (ci.is_array() && ci.size() == 2 && ci[0].is_number()) row.interval = {ci[0].get<double>(), ci[1].get<double>()};
    rows.push_back(row);
    const auto yes_no = [&](const char* key) {
      return !c.contains(key) || c[key].is_null() ? "–" : c[key].get<bool>() ? "yes" : "no";
    };
    table.Row({Escape(Text(c, "a")), Escape(Text(c, "b")), SignedPercent(At(c, "difference"), 2),
               Percent(At(c, "se"), 2), Interval(ci, true), Count(At(c, "a_only")), Count(At(c, "b_only")),
               PValue(At(c, "mcnemar_exact")), PValue(At(c, "mcnemar_mid_p")), PValue(At(c, "p_holm")),
               yes_no("equivalent"), yes_no("noninferior"), Percent(At(c, "mde80"))},
              Flag(c, "primary") ? "primary" : "");
  }
  return "<h2 id=\"contrasts\">Paired differences</h2>\n<figure>" + ForestSvg(rows) +
         "<figcaption>Difference in accuracy on the same items, 95&nbsp;% interval (Student's t on question means; "
         "clusters where the "
         "benchmark has them). The shaded band is the margin; the primary contrast is blue.</figcaption></figure>\n" +
         table.Html();
}

std::string Curves(const Json& summary) {
  std::vector<Series> votes, compute;
  for (const Json& curve : List(summary, "curves")) {
    Series by_samples{Text(curve, "arm"), {}, {}, true}, by_cost = by_samples;
    for (const Json& p : List(curve, "points")) {
      const auto k = Number(p, "samples"), accuracy = Number(p, "accuracy"), cost = Number(p, "cost");
      if (k && accuracy) by_samples.points.emplace_back(*k, *accuracy);
      if (cost && accuracy) by_cost.points.emplace_back(*cost, *accuracy);
    }
    if (by_samples.points.size() > 1) votes.push_back(by_samples);
    if (by_cost.points.size() > 1) compute.push_back(by_cost);
  }
  for (const Json& arm : List(summary, "arms")) {
    const auto cost = Number(At(arm, "cost"), "flops"), accuracy = Number(arm, "accuracy");
    if (cost && *cost > 0 && accuracy) compute.push_back({Text(arm, "name"), {{*cost, *accuracy}}, {}, false});
  }
  std::string out;
  if (!votes.empty()) {
    out += "<h2 id=\"vote\">Vote curve</h2>\n<figure>" + LineSvg({"votes k", "accuracy, %", false, true}, votes) +
           "<figcaption>Accuracy of a majority of k of the recorded votes, averaged over every subset of size k; ties "
           "split, empty answers "
           "never win.</figcaption></figure>\n";
  }
  if (!compute.empty()) {
    out += "<h2 id=\"compute\">Accuracy against compute</h2>\n<figure>" +
           LineSvg({"FLOP per question", "accuracy, %", true, true}, compute) +
           "<figcaption>Mean floating-point operations per question, logarithmic.</figcaption></figure>\n";
  }
  return out;
}

std::string Group(const Json& summary) {
  const Json group = At(summary, "group");
  if (!group.is_object()) return "";
  HeatMap map;
  std::map<std::string, size_t> index;
  for (const Json& member : List(group, "members")) {
    index.emplace(Text(member, "name"), map.labels.size());
    map.labels.push_back(fmt::format("{} {}", Text(member, "name"), Percent(At(member, "accuracy"))));
  }
  const size_t n = map.labels.size();
  map.lower.assign(n, std::vector<std::optional<double>>(n));
  map.upper = map.lower;
  for (const Json& pair : List(group, "pairs")) {
    const auto a = index.find(Text(pair, "a")), b = index.find(Text(pair, "b"));
    if (a == index.end() || b == index.end()) continue;
    const auto [lo, hi] = std::minmax(a->second, b->second);
    map.lower[hi][lo] = Number(pair, "phi");
    map.upper[lo][hi] = Number(pair, "same_wrong");
  }
  Table table({"Quantity", ">Value", "Reading"});
  table.Row({"Oracle", Percent(At(group, "oracle"), 2), "some member is right: what perfect selection would reach"});
  table.Row({"All wrong",
             fmt::format("{} (≤ {})", Percent(At(group, "all_wrong"), 2), Percent(At(group, "all_wrong_upper95"), 2)),
             "no member is right; upper 95 % bound (Clopper–Pearson)"});
  const auto plain = [&](const char* key) {
    const auto v = Number(group, key);
    return v ? fmt::format("{:.2f}", *v) : std::string("–");
  };
  table.Row(
      {"Mean error correlation φ", plain("mean_error_correlation"), "over pairs of members; 0 for independent errors"});
  table.Row({"Effective votes", plain("effective_votes"), fmt::format("n / (1 + (n − 1) φ) of {} members", n)});
  table.Row({"Same wrong answer", Percent(At(group, "same_wrong")), "given that both members of a pair are wrong"});
  std::string out = "<h2 id=\"group\">The group: how its errors hang together</h2>\n" + table.Html();
  if (n > 1) {
    out += "<figure>" + HeatMapSvg(map) +
           "<figcaption>Below the diagonal: correlation φ of errors (orange if negative). Above: share of the same "
           "wrong answer when both are "
           "wrong. Beside each name its accuracy in %.</figcaption></figure>\n";
  }
  return out;
}

std::string Tag(const std::string& outcome) {
  std::string label = outcome;
  std::replace(label.begin(), label.end(), '_', ' ');
  return fmt::format("<span class=\"tag {}\">{}</span>", Escape(outcome), Escape(label));
}

std::string DisagreementItem(const Json& item) {
  std::string out = fmt::format("<details><summary><code>{}</code> · gold {} ·", Escape(Text(item, "id")),
                                Escape(Text(item, "gold")));
  for (const Json& arm : List(item, "arms"))
    out += fmt::format(" {} {}", Escape(Text(arm, "arm")), Tag(Text(arm, "outcome")));
  out += fmt::format("</summary><div class=\"item\"><p>{}</p>\n", Escape(Text(item, "question")));
  for (const Json& arm : List(item, "arms")) {
    out += fmt::format("<h3>{} {} answer: {}</h3>\n", Escape(Text(arm, "arm")), Tag(Text(arm, "outcome")),
                       Text(arm, "answer").empty() ? "none" : Escape(Text(arm, "answer")));
    const Json calls = At(arm, "calls");
    if (!calls.is_array()) continue;
    for (const Json& call : calls) {
      out += fmt::format(
          "<details><summary>{} · {}{}{}{}</summary><pre>{}</pre></details>\n", Escape(Text(call, "node")),
          Escape(Text(call, "member")), Text(call, "sample") == "0" ? "" : " · sample " + Escape(Text(call, "sample")),
          call.contains("answer") && !call["answer"].is_null() ? " · answer " + Escape(Text(call, "answer")) : "",
          call.contains("score") && call["score"].is_number()
              ? fmt::format(" · score {:.2f}", call["score"].get<double>())
              : "",
          Escape(Text(call, "text")));
    }
  }
  return out + "</div></details>\n";
}

std::string Disagreements(const ReportInput& input) {
  if (input.disagreements.empty()) return "";
  std::string out = fmt::format(
      "<h2 id=\"items\">Items where the arms disagree</h2>\n<p class=\"soft\">{} of {} such items, spread over the "
      "benchmark, those that decide "
      "the primary contrast first. Everything is in <code>transcripts.jsonl</code>.</p>\n",
      input.disagreements.size(), Count(input.disagreement_count));
  for (const Json& item : input.disagreements) out += DisagreementItem(item);
  return out;
}

std::string Method(const ReportInput& input) {
  std::string out =
      "<h2 id=\"method\">Method</h2>\n<p>Each item is graded once per arm and replicate; an arm's score on an item is "
      "the mean over replicates. "
      "Standard errors are over items (CR1 over clusters where there are any). Differences are paired on items. "
      "McNemar's test uses items with one "
      "replicate; mid-p is the exact p less half the probability of the observed table. Holm's correction runs over "
      "all contrasts. Equivalence is two "
      "one-sided tests at 5&nbsp;%: the 90&nbsp;% interval lies inside ± margin. An answer that cannot be read counts "
      "as wrong and its cost is "
      "charged.</p>\n";
  const Json design = At(input.summary, "design");
  if (design.is_object() && !Text(design, "selection_rule").empty()) {
    out += "<p>Selection of members: " + Escape(Text(design, "selection_rule")) + "</p>\n";
  }
  out += "<details><summary>Manifest</summary><div class=\"item\"><pre>" + Escape(input.manifest.dump(2)) +
         "</pre></div></details>\n";
  return out;
}

}  // namespace

std::string Render(const ReportInput& input) {
  const Json& s = input.summary;
  const Json benchmark = At(s, "benchmark"), design = At(s, "design");
  const std::string title = Text(design, "name").empty() ? "Experiment" : Text(design, "name");
  std::string page = fmt::format(
      "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" "
      "content=\"width=device-width, initial-scale=1\">\n"
      "<title>{0} · Conclave</title>\n<style>{1}</style></head><body><main>\n<h1>{0}</h1>\n",
      Escape(title), Stylesheet());
  if (!Text(design, "question").empty()) page += fmt::format("<p>{}</p>\n", Escape(Text(design, "question")));
  page += fmt::format("<p class=\"soft\">{} · {} items · graded by {} · {} replicate(s) · seed {}</p>\n",
                      Escape(Text(benchmark, "name")), Count(At(benchmark, "n")), Escape(Text(benchmark, "grader")),
                      Count(At(design, "replicates")), Escape(Text(design, "seed")));
  page += Verdict(s);
  for (const Json& warning : List(s, "warnings")) {
    page += fmt::format("<div class=\"verdict warn\"><p>{}</p></div>\n",
                        Escape(warning.is_string() ? warning.get<std::string>() : warning.dump()));
  }
  page += "<h2 id=\"arms\">Arms</h2>\n" + MainTable(s) + Contrasts(s) + Curves(s) + Group(s) + Disagreements(input) +
          Method(input);
  return page + "</main></body></html>\n";
}

}  // namespace conclave::report
