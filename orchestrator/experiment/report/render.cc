// SPDX-License-Identifier: Apache-2.0
// The page, section by section.
#include <fmt/format.h>

#include "orchestrator/experiment/report/assets.h"
#include "orchestrator/experiment/report/sections.h"
#include "orchestrator/experiment/report/words.h"

namespace conclave::report {
namespace {

constexpr std::string_view kOutcomeOptions =
    "<option value=\"x\">not right</option><option value=\"c\">right</option><option value=\"w\">wrong</option>"
    "<option value=\"n\">no answer</option><option value=\"t\">truncated</option><option value=\"e\">grader "
    "error</option><option value=\"f\">failed</option>";

std::string Head(const std::string& title) {
  return fmt::format(
      "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" "
      "content=\"width=device-width, initial-scale=1\">\n<title>{0} · Conclave</title>\n<style>{1}</style>\n"
      "<script data-base=\"{2}/\">{3}</script></head><body>\n",
      Escape(title), Stylesheet(), kDataFolder, Script());
}

std::string Words(const Json& summary) {
  std::string out;
  for (const std::string& sentence : SummaryInWords(summary)) out += "<p>" + Escape(sentence) + "</p>\n";
  if (!out.empty()) out = "<div class=\"words\">" + out + "</div>\n";
  for (const Json& warning : List(summary, "warnings")) {
    out += fmt::format("<div class=\"words warn\"><p>{}</p></div>\n",
                       Escape(warning.is_string() ? warning.get<std::string>() : warning.dump()));
  }
  return out;
}

// T8: what page.js fills.
std::string Items(const PageIndex& index) {
  if (index.items == 0) return "";
  std::string chips;
  const auto chip = [&](int flag, int64_t count, const char* what) {
    if (count > 0)
      chips += fmt::format("<button type=\"button\" data-q=\"f={}\">{} · {}</button> ", flag, what, Count(count));
  };
  chip(kSplit, index.split, "arms disagree");
  chip(kAllWrong, index.all_wrong, "nobody right");
  chip(kAllDisagree, index.all_disagree, "all answers differ");
  chip(kTruncated, index.truncated, "truncated");
  chip(kUnread, index.unread, "unread");
  return fmt::format(
      "<h2 id=\"items\"><span class=\"label\">T8</span>Items</h2>\n<div class=\"screen\">"
      "<form class=\"find\" id=\"find\"><select id=\"q-arm\" aria-label=\"arm\"><option value=\"\">any "
      "arm</option></select>"
      "<select id=\"q-is\" aria-label=\"outcome\">{0}</select><span>and</span>"
      "<select id=\"q-arm2\" aria-label=\"second arm\"><option value=\"\">any arm</option></select>"
      "<select id=\"q-is2\" aria-label=\"outcome of the second\">{0}</select>"
      "<select id=\"q-stratum\" aria-label=\"stratum\"{1}><option value=\"\">any stratum</option></select>"
      "<input id=\"q-id\" placeholder=\"part of an id\" size=\"14\"><button>Find</button></form>\n"
      "<form class=\"find chips\">{2}</form>\n<p class=\"soft\" id=\"found\">Choose, or click a number above.</p>\n"
      "<div id=\"list\"></div>\n<form class=\"find\"><button type=\"button\" id=\"more\" "
      "hidden>More</button></form></div>\n"
      "<p class=\"note\">{3} items; questions, answers and transcripts lie in <code>{4}/</code> beside this page and "
      "are "
      "read when asked for.</p>\n",
      kOutcomeOptions, index.strata.empty() ? " hidden" : "", chips, Count(index.items), kDataFolder);
}

std::string Method(const Json& summary) {
  const std::string rule = Text(At(summary, "design"), "selection_rule");
  return "<h2 id=\"method\">Method</h2>\n<p>Each item is graded once per arm and replicate; an arm's score on an item "
         "is "
         "the mean over replicates. Standard errors are over items, or over clusters of items where the benchmark has "
         "them "
         "(CR1). Differences are paired on items. McNemar's test is for items with one replicate; mid-p is the exact p "
         "less "
         "half the probability of the observed table. Holm's correction runs over all contrasts. Equivalence is two "
         "one-sided "
         "tests at 5&nbsp;%: the 90&nbsp;% interval lies inside ± margin. An answer that cannot be read counts as "
         "wrong and "
         "its cost is charged. An interval that cannot be formed is a dash, never zero.</p>\n" +
         (rule.empty() ? "" : "<p>How members were chosen: " + Escape(rule) + "</p>\n");
}

std::string Navigation(const std::string& body) {
  static constexpr std::pair<const char*, const char*> kSections[] = {{"contrasts", "Differences"},
                                                                      {"arms", "Arms"},
                                                                      {"compute", "Compute"},
                                                                      {"pareto", "Frontier"},
                                                                      {"vote", "Votes"},
                                                                      {"group", "Group"},
                                                                      {"flow", "Flow"},
                                                                      {"cost", "Cost"},
                                                                      {"audit", "Grading"},
                                                                      {"claims", "Claims"},
                                                                      {"items", "Items"},
                                                                      {"method", "Method"}};
  std::string out;
  for (const auto& [id, title] : kSections) {
    if (body.find(fmt::format("id=\"{}\"", id)) == body.npos) continue;
    out += fmt::format("<a href=\"#{}\">{}</a>", id, title);
  }
  return "<nav><div><button type=\"button\" id=\"theme\" title=\"dark or light\">◐</button>" + out + "</div></nav>\n";
}

}  // namespace

std::string Render(const ReportInput& input) {
  const Json& s = input.summary;
  const Json benchmark = At(s, "benchmark"), design = At(s, "design");
  const std::string title = Text(design, "name").empty() ? "Experiment" : Text(design, "name");
  std::string top = fmt::format("<main>\n<h1>{}</h1>\n", Escape(title));
  if (!Text(design, "question").empty()) top += fmt::format("<p>{}</p>\n", Escape(Text(design, "question")));
  top += fmt::format("<p class=\"soft\">{} · {} items · graded by {} · {} replicate{} · seed {}</p>\n",
                     Escape(Text(benchmark, "name")), Count(At(benchmark, "n")), Escape(Text(benchmark, "grader")),
                     Count(At(design, "replicates")), At(design, "replicates") == 1 ? "" : "s",
                     Escape(Text(design, "seed")));
  const std::string body = ForestFigure(input) + ContrastTable(input) + ArmTable(input) + ComputeFigure(input) +
                           MatchedTable(input) + ParetoFigure(input) + VoteFigure(input) + GroupFigure(input) +
                           FlowFigure(input) + AblationTable(input) + CostTable(input) + PowerTable(input) +
                           AuditTable(input) + ClaimTable(input) + Items(input.index) + Method(s) +
                           ManifestTable(input);
  const std::string files =
      "<p class=\"soft screen\">Data: <a href=\"summary.json\">summary.json</a> · <a "
      "href=\"summary.txt\">summary.txt</a> · <a "
      "href=\"arms.csv\">arms.csv</a> · <a href=\"contrasts.csv\">contrasts.csv</a> · <a "
      "href=\"curves.csv\">curves.csv</a> "
      "· <a href=\"outcomes.jsonl\">outcomes.jsonl</a></p>\n";
  return Head(title) + Navigation(body) + top + Words(s) + files + body + "</main></body></html>\n";
}

}  // namespace conclave::report
