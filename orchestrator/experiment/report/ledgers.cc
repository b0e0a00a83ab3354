// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include "orchestrator/experiment/report/sections.h"
#include "orchestrator/experiment/report/words.h"
#include "orchestrator/experiment/stats/estimate.h"

namespace conclave::report {
namespace {

constexpr size_t kClaimsShown = 12;

// Seconds as a person says them.
std::string Seconds(const Json& value) {
  if (!value.is_number()) return "–";
  const double s = value.get<double>();
  return s < 0.9995 ? fmt::format("{:.3g} ms", 1000 * s) : fmt::format("{:.3g} s", s);
}

// Columns beyond the usual that some arm has a cost for: key in "cost", header, unit in the cell.
struct Extra {
  const char* key;
  const char* header;
};
constexpr Extra kExtras[] = {{"joules", ">energy, J"}, {"usd", ">price, $"}, {"resident_bytes", ">resident bytes"}};

bool AnyArm(const Json& summary, const char* key) {
  for (const Json& arm : List(summary, "arms")) {
    if (Number(At(arm, "cost"), key)) return true;
  }
  return false;
}

// "12 (1.5 %, 0.8 to 2.6)": a count of the arm's n with Wilson's interval.
std::string Rate(const std::string& query, const Json& count, double n) {
  if (!count.is_number() || n <= 0) return "–";
  const double c = count.get<double>();
  const auto interval = stats::Wilson(static_cast<size_t>(c), static_cast<size_t>(n));
  const std::string text = fmt::format("{} ({} %, {} to {})", Count(count), Percent(c / n),
                                       interval ? Percent(interval->lo) : "–", interval ? Percent(interval->hi) : "–");
  return c > 0 ? Link(query, text) : text;
}

// Leaves of a JSON document as (path, value) rows, in order, without recursion on its depth.
std::vector<std::pair<std::string, std::string>> Leaves(const Json& json) {
  std::vector<std::pair<std::string, std::string>> out;
  const Json flat = json.flatten();
  for (const auto& [path, value] : flat.items()) {
    out.emplace_back(path.empty() ? path : path.substr(1), value.is_string() ? value.get<std::string>() : value.dump());
  }
  return out;
}

}  // namespace

std::string CostTable(const ReportInput& input) {
  std::vector<std::string> headers = {"Arm",   ">calls",        ">prompt tokens", ">cached",      ">output tokens",
                                      ">FLOP", ">weight bytes", ">KV bytes",      ">latency p50", ">latency p95"};
  std::vector<const char*> extras;
  for (const Extra& extra : kExtras) {
    if (!AnyArm(input.summary, extra.key)) continue;
    extras.push_back(extra.key);
    headers.emplace_back(extra.header);
  }
  headers.emplace_back(">FLOP per right answer");
  Table table(headers);
  bool estimated = false;
  for (const Json& arm : List(input.summary, "arms")) {
    const Json cost = At(arm, "cost"), latency = At(arm, "latency");
    estimated |= Flag(cost, "estimated");
    const std::string mark = Flag(cost, "estimated") ? "~" : "";
    const auto quantity = [&](const char* key) {
      const Json value = At(cost, key);
      return value.is_number() ? mark + Quantity(value) : std::string("–");
    };
    std::vector<std::string> row = {
        Escape(Text(arm, "name")),   Quantity(At(cost, "calls")), quantity("prompt_tokens"), quantity("cached_tokens"),
        quantity("output_tokens"),   quantity("flops"),           quantity("weight_bytes"),  quantity("kv_bytes"),
        Seconds(At(latency, "p50")), Seconds(At(latency, "p95"))};
    for (const char* key : extras) row.push_back(quantity(key));
    const auto flops = Number(cost, "flops"), accuracy = Number(arm, "accuracy");
    row.push_back(flops && accuracy && *flops > 0 && *accuracy > 0 ? mark + Quantity(*flops / *accuracy) : "–");
    table.Row(std::move(row));
  }
  std::string out = "<h2 id=\"cost\"><span class=\"label\">T4</span>Cost</h2>\n" + table.Html() +
                    "<p class=\"note\">Means per question; latency of a whole deliberation as it ran here.";
  if (estimated) out += " ~ estimated from model cards and text length, not measured.";
  return out + "</p>\n";
}

std::string AuditTable(const ReportInput& input) {
  Table table({"Arm", ">no answer", ">truncated", ">grader error or failed", ">right in the asked form",
               ">right, form forgiven"});
  for (const Json& arm : List(input.summary, "arms")) {
    const std::string name = Text(arm, "name");
    const Json outcomes = At(arm, "outcomes"), strict = At(arm, "strict");
    double n = 0;
    for (const Json& count : outcomes) n += count.is_number() ? count.get<double>() : 0;
    const double bad = Number(outcomes, "grader_error").value_or(0) + Number(outcomes, "failed").value_or(0);
    table.Row({Escape(name), Rate(input.index.Arm(name, 'n'), At(outcomes, "no_answer"), n),
               Rate(input.index.Arm(name, 't'), At(outcomes, "truncated"), n),
               Rate(input.index.Arm(name, Number(outcomes, "failed").value_or(0) > 0 ? 'f' : 'e'), bad, n),
               Rate("", At(strict, "correct"), n), Rate("", At(strict, "lenient_only"), n)});
  }
  const PageIndex& index = input.index;
  std::string chips;
  const auto chip = [&](int flag, int64_t count, const char* what) {
    if (count > 0)
      chips += fmt::format("<li>{}</li>", Link(fmt::format("f={}", flag), fmt::format("{} {}", Count(count), what)));
  };
  chip(kAllWrong, index.all_wrong, "items that no arm answers right");
  chip(kAllDisagree, index.all_disagree, "items on which every arm answers differently");
  chip(kTruncated, index.truncated, "items cut at the length limit in some arm");
  chip(kUnread, index.unread, "items without a readable answer in some arm");
  chip(kSplit, index.split, "items that some arms answer right and others not");
  return "<h2 id=\"audit\"><span class=\"label\">T5</span>Can the grading be trusted?</h2>\n" + table.Html() +
         "<p class=\"note\">Counts of answers with their share and its 95&nbsp;% Wilson interval. Verdicts are "
         "lenient; the last "
         "two columns say how many of the right ones had the form that the benchmark asks for.</p>\n" +
         (chips.empty() ? ""
                        : "<p>To look at by hand (also in <code>audit.jsonl</code>):</p>\n<ul>" + chips + "</ul>\n");
}

std::string ClaimTable(const ReportInput& input) {
  const std::vector<Claim> claims = Claims(input.summary);
  if (claims.empty()) return "";
  // Of many claims the primary contrast's stand alone, and the rest folded below them.
  const bool many = claims.size() > kClaimsShown;
  Table shown({"~Claim", "verdict", "~decided by"}), folded = shown;
  size_t hidden = 0;
  for (const Claim& claim : claims) {
    const std::string_view style = claim.verdict == Verdict::kSupported      ? "yes"
                                   : claim.verdict == Verdict::kContradicted ? "no"
                                                                             : "open";
    const bool fold = many && !claim.primary;
    hidden += fold ? 1 : 0;
    (fold ? folded : shown)
        .Row({Escape(claim.text), fmt::format("<span class=\"{}\">{}</span>", style, VerdictName(claim.verdict)),
              Escape(claim.test)},
             claim.primary ? "primary" : "");
  }
  std::string out = "<h2 id=\"claims\"><span class=\"label\">T7</span>Claims and what became of them</h2>\n";
  if (hidden < claims.size()) out += shown.Html();
  if (hidden > 0) {
    out +=
        fmt::format("<details><summary>{} claims of other contrasts</summary><div class=\"item\">{}</div></details>\n",
                    hidden, folded.Html());
  }
  return out +
         "<p class=\"note\">Each declared contrast is a test of three claims. Undecided is not “no difference”.</p>\n";
}

std::string ManifestTable(const ReportInput& input) {
  if (!input.manifest.is_object()) return "";
  Table table({"~Field", "~Value"});
  for (const auto& [path, value] : Leaves(input.manifest)) {
    table.Row({"<code>" + Escape(path) + "</code>", "<code>" + Escape(value) + "</code>"});
  }
  return "<h2 id=\"manifest\"><span class=\"label\">T9</span>Manifest</h2>\n<details><summary>Everything needed to "
         "repeat "
         "it: hashes of models, graphs, data, prompts and program</summary><div class=\"item\">" +
         table.Html() + "</div></details>\n";
}

}  // namespace conclave::report
