// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "orchestrator/experiment/report/sections.h"
#include "orchestrator/experiment/report/svg.h"
#include "orchestrator/experiment/report/words.h"

namespace conclave::report {
namespace {

constexpr double kNormal95 = 1.959963984540054;
constexpr size_t kStrataShown = 64;

// Both widths of a figure with its caption; the stylesheet shows the one that fits.
template <typename Draw>
std::string Figure(const Draw& draw, const std::string& caption) {
  return fmt::format(
      "<figure><div class=\"wide\">{}</div><div class=\"narrow\">{}</div><figcaption>{}</figcaption></figure>\n",
      draw(kWide), draw(kNarrow), caption);
}

std::string Heading(const char* id, const char* label, const char* title) {
  return fmt::format("<h2 id=\"{}\"><span class=\"label\">{}</span>{}</h2>\n", id, label, title);
}

// A point's 95 % band: its own, or from its standard error.
std::pair<double, double> Band(const Json& point, double accuracy) {
  if (const auto ends = Ends(At(point, "ci95"))) return *ends;
  const double half = kNormal95 * Number(point, "se").value_or(0);
  return {std::max(0.0, accuracy - half), std::min(1.0, accuracy + half)};
}

// The points of arms at what a question costs them in the unit `key`.
std::vector<Series> ArmPoints(const ReportInput& input, const char* key) {
  std::map<std::string, double> share;  // of bootstrap draws with the arm on the frontier
  for (const Json& entry : List(input.summary, "frontier")) {
    const auto p = Number(At(entry, "probability"), key);
    if (p) share[Text(entry, "arm")] = *p;
  }
  std::vector<Series> out;
  for (const Json& arm : List(input.summary, "arms")) {
    const auto cost = Number(At(arm, "cost"), key), accuracy = Number(arm, "accuracy");
    if (!cost || *cost <= 0 || !accuracy) continue;
    Series s{Text(arm, "name"), {{*cost, *accuracy}}};
    s.line = false;
    s.query = input.index.Arm(s.label, 'x');
    if (const auto ends = Ends(At(arm, "ci95"))) s.band = {*ends};
    if (!share.empty()) s.sizes = {share[s.label]};
    out.push_back(std::move(s));
  }
  return out;
}

// The steps of the observed frontier: points that no cheaper or equally dear one reaches.
Series Frontier(const std::vector<Series>& points) {
  std::vector<std::pair<double, double>> sorted;
  sorted.reserve(points.size());
  for (const Series& s : points) sorted.push_back(s.points[0]);
  std::sort(sorted.begin(), sorted.end(),
            [](const auto& a, const auto& b) { return a.first != b.first ? a.first < b.first : a.second > b.second; });
  Series line{"frontier as observed", {}};
  line.dashed = true;
  double best = -1;
  for (const auto& [x, y] : sorted) {
    if (y <= best) continue;
    if (!line.points.empty()) line.points.emplace_back(x, best);
    line.points.emplace_back(x, y);
    best = y;
  }
  return line;
}

}  // namespace

std::string ComputeFigure(const ReportInput& input) {
  std::vector<Series> series;
  for (const Json& curve : List(input.summary, "curves")) {
    Series s{"vote of " + Text(curve, "arm"), {}};
    for (const Json& p : List(curve, "points")) {
      const auto accuracy = Number(p, "accuracy"), cost = Number(p, "cost");
      if (!cost || !accuracy) continue;
      s.points.emplace_back(*cost, *accuracy);
      s.band.push_back(Band(p, *accuracy));
    }
    if (s.points.size() > 1) series.push_back(std::move(s));
  }
  const std::vector<Series> points = ArmPoints(input, "flops");
  if (points.size() + series.size() < 2) return "";
  series.insert(series.end(), points.begin(), points.end());
  LineChart chart{"FLOP per question", "accuracy, %", true};
  const Json primary = PrimaryContrast(input.summary);
  const auto at = Number(At(ArmNamed(input.summary, Text(primary, "a")), "cost"), "flops");
  if (at && *at > 0) chart.mark_x = at, chart.mark_label = "cost of " + Text(primary, "a");
  std::string caption =
      "Numbered points are arms with their 95&nbsp;% intervals; lines are majorities of k of an arm's votes over all "
      "subsets "
      "of size k, with 95&nbsp;% bands. The cost axis is logarithmic.";
  return Heading("compute", "F1", "Accuracy against compute") +
         Figure([&](double width) { return LineSvg(chart, series, width); }, caption);
}

std::string ParetoFigure(const ReportInput& input) {
  static constexpr std::pair<const char*, const char*> kUnits[] = {{"flops", "FLOP"},
                                                                   {"weight_bytes", "weight bytes read"},
                                                                   {"output_tokens", "output tokens"},
                                                                   {"calls", "calls"},
                                                                   {"seconds", "seconds"},
                                                                   {"joules", "energy, J"},
                                                                   {"usd", "price, $"},
                                                                   {"resident_bytes", "resident bytes"}};
  std::vector<std::pair<std::string, std::string>> tabs;
  for (const auto& [key, label] : kUnits) {
    std::vector<Series> series = ArmPoints(input, key);
    if (series.size() < 2) continue;
    series.push_back(Frontier(series));
    const LineChart chart{fmt::format("{} per question", label), "accuracy, %", true};
    tabs.emplace_back(label, Figure([&](double width) { return LineSvg(chart, series, width); },
                                    fmt::format("Accuracy against {} per question.", label)));
  }
  if (tabs.empty()) return "";
  return Heading("pareto", "F2", "Who is worth their cost") + Tabs("pareto", tabs) +
         (List(input.summary, "frontier").empty() ? ""
                                                  : "<p class=\"note\">The larger a point, the more often its arm is "
                                                    "on the frontier when questions are drawn "
                                                    "anew.</p>\n");
}

std::string ForestFigure(const ReportInput& input) {
  const Json contrasts = List(input.summary, "contrasts");
  if (contrasts.empty()) return "";
  std::vector<ForestRow> rows;
  for (const Json& c : contrasts) {
    ForestRow row{Text(c, "a") + " − " + Text(c, "b"), Number(c, "difference").value_or(0), Ends(At(c, "ci95")),
                  Flag(c, "primary"), Number(c, "margin")};
    row.query = Both(input.index.Arm(Text(c, "a"), 'c'), input.index.Arm(Text(c, "b"), 'x'));
    rows.push_back(std::move(row));
  }
  std::string out =
      "<h2 id=\"contrasts\"><span class=\"label\">F3</span>Differences between arms</h2>\n" +
      Figure([&](double width) { return ForestSvg(rows, width); },
             "Difference in accuracy on the same items with 95&nbsp;% intervals (Student's t on question means, over "
             "clusters "
             "where there are any). The shaded band is the declared margin; the primary contrast is coloured.");
  std::vector<std::pair<std::string, std::string>> tabs;
  for (const Json& c : contrasts) {
    const Json strata = List(c, "strata");
    if (strata.empty()) continue;
    std::vector<ForestRow> parts;
    for (size_t i = 0; i < std::min(strata.size(), kStrataShown); ++i) {
      const Json& s = strata[i];
      const auto p = Number(s, "p_bh");
      ForestRow row{fmt::format("{} ({}){}", Text(s, "name"), Count(At(s, "n")), p && *p < 0.05 ? " *" : ""),
                    Number(s, "difference").value_or(0), Ends(At(s, "ci95"))};
      row.query = Both(input.index.Stratum(Text(s, "name")), input.index.Arm(Text(c, "a"), 'c'));
      parts.push_back(std::move(row));
    }
    for (const char* kind : {"macro", "micro"}) {
      ForestRow row{kind == std::string_view("macro") ? "mean of strata" : "all items",
                    Number(At(c, kind), "difference").value_or(0), Ends(At(At(c, kind), "ci95"))};
      row.diamond = true;
      parts.push_back(std::move(row));
    }
    tabs.emplace_back(
        Text(c, "a") + " − " + Text(c, "b"),
        Figure([&](double width) { return ForestSvg(parts, width); },
               fmt::format("{} − {} by stratum, exploratory. * below 5&nbsp;% after Benjamini and Hochberg.",
                           Escape(Text(c, "a")), Escape(Text(c, "b")))));
  }
  if (!tabs.empty()) out += "<h3>By stratum</h3>\n" + Tabs("strata", tabs);
  return out;
}

std::string VoteFigure(const ReportInput& input) {
  static constexpr std::pair<const char*, const char*> kLines[] = {
      {"accuracy", "majority of k (maj@k)"},
      {"any_right", "any of k right (pass@k)"},
      {"all_right", "all k right (pass^k)"},
      {"independent", "jury of two answers, independent"},
      {"correlated", "jury of two answers, as correlated"}};
  std::vector<std::pair<std::string, std::string>> tabs;
  for (const Json& curve : List(input.summary, "curves")) {
    const Json points = List(curve, "points");
    if (points.size() < 2) continue;
    std::vector<Series> series;
    for (const auto& [key, label] : kLines) {
      Series s{label, {}};
      s.dashed = std::string_view(key) == "independent" || std::string_view(key) == "correlated";
      for (const Json& p : points) {
        const auto y = Number(p, key), k = Number(p, "samples");
        if (!y || !k) continue;
        s.points.emplace_back(*k, *y);
        if (std::string_view(key) == "accuracy") s.band.push_back(Band(p, *y));
      }
      if (s.points.size() > 1) series.push_back(std::move(s));
    }
    const Json& last = points.back();
    std::string caption =
        fmt::format("Votes of {}: means over every subset of k votes, ties split, empty answers never win.",
                    Escape(Text(curve, "arm")));
    const auto maj = Number(last, "accuracy"), any = Number(last, "any_right"), free = Number(last, "independent");
    if (maj && any && free) {
      caption += fmt::format(
          " Of all {}: perfect selection would add {} points; {}.", Count(At(last, "samples")), Percent(*any - *maj),
          *free > *maj
              ? fmt::format("correlation costs {} against a jury of independent votes", Percent(*free - *maj))
              : std::string("the vote beats a jury that has only one wrong answer to choose, for wrong answers "
                            "scatter"));
    }
    tabs.emplace_back(Text(curve, "arm"), Figure(
                                              [&](double width) {
                                                return LineSvg({"votes k", "accuracy, %"}, series, width);
                                              },
                                              caption));
  }
  return tabs.empty() ? "" : Heading("vote", "F4", "What more votes bring") + Tabs("vote", tabs);
}

std::string GroupFigure(const ReportInput& input) {
  const Json group = At(input.summary, "group");
  if (!group.is_object()) return "";
  HeatMap map;
  std::map<std::string, size_t> index;
  std::vector<std::string> names;
  for (const Json& member : List(group, "members")) {
    index.emplace(Text(member, "name"), map.labels.size());
    names.push_back(Text(member, "name"));
    map.labels.push_back(fmt::format("{} {}", names.back(), Percent(At(member, "accuracy"))));
  }
  const size_t n = map.labels.size();
  map.lower.assign(n, std::vector<std::optional<double>>(n));
  map.upper = map.lower;
  map.queries.assign(n, std::vector<std::string>(n));
  std::string all_wrong;
  for (const std::string& name : names) {
    const std::string query = input.index.Member(name, 'x');
    all_wrong = all_wrong.empty() ? query : Both(all_wrong, query);
  }
  for (const Json& pair : List(group, "pairs")) {
    const auto a = index.find(Text(pair, "a")), b = index.find(Text(pair, "b"));
    if (a == index.end() || b == index.end()) continue;
    const auto [lo, hi] = std::minmax(a->second, b->second);
    map.lower[hi][lo] = Number(pair, "phi");
    map.upper[lo][hi] = Number(pair, "same_wrong");
    map.queries[lo][hi] = map.queries[hi][lo] =
        Both(input.index.Member(Text(pair, "a"), 'x'), input.index.Member(Text(pair, "b"), 'x'));
  }
  Table table({"Quantity", ">Value", "~Reading"});
  table.Row({"Oracle", Percent(At(group, "oracle"), 2), "some member is right: what perfect selection would reach"});
  table.Row({"All wrong",
             Link(all_wrong, fmt::format("{} (≤ {})", Percent(At(group, "all_wrong"), 2),
                                         Percent(At(group, "all_wrong_upper95"), 2))),
             "no member is right; upper 95 % bound (Clopper–Pearson)"});
  const auto plain = [&](const char* key) {
    const auto v = Number(group, key);
    return v ? fmt::format("{:.2f}", *v) : std::string("–");
  };
  table.Row(
      {"Mean error correlation φ", plain("mean_error_correlation"), "over pairs of members; 0 for independent errors"});
  table.Row({"Effective votes", plain("effective_votes"), fmt::format("n / (1 + (n − 1) φ) of {} members", n)});
  table.Row({"Same wrong answer", Percent(At(group, "same_wrong")), "given that both members of a pair are wrong"});
  std::string out = Heading("group", "F5", "The group: how its errors hang together") + table.Html();
  if (n < 2) return out;
  return out +
         Figure(
             [&](double width) { return HeatMapSvg(map, width); },
             "Below the diagonal: correlation φ of errors (orange if negative). Above: share of the same wrong answer "
             "when both are wrong. Beside each name its accuracy in&nbsp;%. A square leads to the items that both got "
             "wrong.");
}

namespace {

// How answers moved, and how far verifiers were right, where the run has revisions and verdicts.
std::string TalkTables(const Json& summary) {
  const Json flips = List(summary, "flips"), verifiers = List(summary, "verifiers");
  std::string out;
  if (!flips.empty()) {
    Table table(
        {"Arm", ">right to wrong", ">wrong to right", ">stayed right", ">stayed wrong", ">follows the crowd, %"});
    for (const Json& f : flips) {
      table.Row({Escape(Text(f, "arm")), Count(At(f, "right_to_wrong")), Count(At(f, "wrong_to_right")),
                 Count(At(f, "stayed_right")), Count(At(f, "stayed_wrong")), Percent(At(f, "conformity"))});
    }
    out += "<h3>Answers that were revised</h3>\n" + table.Html();
  }
  if (!verifiers.empty()) {
    Table table({"Arm", "verifier", ">of right answers accepted, %", ">95 % interval", ">of wrong answers accepted, %",
                 ">95 % interval", ">area under ROC"});
    for (const Json& v : verifiers) {
      const auto area = Number(v, "auc");
      table.Row({Escape(Text(v, "arm")), Escape(Text(v, "node")), Percent(At(v, "true_positive")),
                 Interval(At(v, "true_positive95"), false), Percent(At(v, "false_positive")),
                 Interval(At(v, "false_positive95"), false), area ? fmt::format("{:.3f}", *area) : "–"});
    }
    out += "<h3>Verifiers</h3>\n" + table.Html();
  }
  return out;
}

}  // namespace

std::string FlowFigure(const ReportInput& input) {
  std::vector<std::pair<std::string, std::string>> tabs;
  for (const Json& flow : List(input.summary, "flows")) {
    std::vector<FlowStage> stages;
    std::map<std::string, size_t> index;
    for (const Json& s : List(flow, "stages")) {
      const double runs = Number(s, "runs").value_or(0), right = Number(s, "right").value_or(0);
      const auto tokens = Number(s, "output_tokens");
      index.emplace(Text(s, "node"), stages.size());
      stages.push_back({Text(s, "node"),
                        tokens && *tokens > 0 ? Quantity(*tokens / std::max(1.0, runs)) + " tokens" : "", right,
                        runs - right});
    }
    if (stages.size() < 3) continue;  // one stage and its verdict: nothing is changed
    std::vector<FlowLink> links;
    double mended = 0, spoiled = 0;
    for (const Json& l : List(flow, "links")) {
      const auto from = index.find(Text(l, "from")), to = index.find(Text(l, "to"));
      if (from == index.end() || to == index.end() || from->second >= to->second) continue;
      const auto count = [&](const char* key) { return Number(l, key).value_or(0); };
      links.push_back({from->second,
                       to->second,
                       {{count("right_right"), count("right_wrong")}, {count("wrong_right"), count("wrong_wrong")}}});
      mended += count("wrong_right"), spoiled += count("right_wrong");
    }
    tabs.emplace_back(
        Text(flow, "arm"),
        Figure([&](double width) { return FlowSvg(stages, links, width); },
               fmt::format("{}: runs whose most frequent answer is right (above) or wrong (below) at each stage. "
                           "Over all steps {} became right and {} became wrong. Below each stage its output "
                           "tokens per run.",
                           Escape(Text(flow, "arm")), Count(mended), Count(spoiled))));
  }
  const std::string talk = TalkTables(input.summary);
  if (tabs.empty() && talk.empty()) return "";
  return Heading("flow", "F6", "What deliberation changes") + Tabs("flow", tabs) + talk;
}

}  // namespace conclave::report
