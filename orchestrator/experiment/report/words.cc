// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/experiment/report/words.h"

#include <fmt/format.h>

#include <cmath>

namespace conclave::report {
namespace {

constexpr double kAlpha = 0.05;
constexpr size_t kNamedMax = 4;  // contrasts that a sentence lists by name

std::string Points(const Json& value) { return SignedPercent(value, 1) + " points"; }

std::string WithInterval(const Json& contrast) {
  const std::string points = Points(At(contrast, "difference"));
  if (!Ends(At(contrast, "ci95"))) return points + ", no interval can be formed";
  return fmt::format("{}, 95 % interval {}", points, Interval(At(contrast, "ci95"), true));
}

// The p-value that belongs to a contrast: of its own test, or corrected for all of them.
std::optional<double> PValueOf(const Json& contrast, bool corrected) {
  if (corrected) return Number(contrast, "p_holm");
  const auto exact = Number(contrast, "mcnemar_exact");
  return exact ? exact : Number(contrast, "sign_flip_p");
}

// +1: shown to be more accurate, -1: less, 0: neither. `interval_only`: the interval would say more than the test does.
int Shown(const Json& contrast, bool corrected, bool* interval_only = nullptr) {
  const auto ends = Ends(At(contrast, "ci95"));
  if (!ends || (ends->first <= 0 && ends->second >= 0)) return 0;
  const auto p = PValueOf(contrast, corrected);
  if (!p || *p >= kAlpha) {
    if (interval_only != nullptr) *interval_only = true;
    return 0;
  }
  return ends->first > 0 ? 1 : -1;
}

std::string AboutPrimary(const Json& c) {
  const std::string a = Text(c, "a"), b = Text(c, "b");
  bool interval_only = false;
  const int shown = Shown(c, /*corrected=*/false, &interval_only);
  const std::string on = fmt::format(" on the same {} items", Count(At(c, "n")));
  if (shown != 0) {
    return fmt::format("{} is {} accurate than {}{}: {}.", a, shown > 0 ? "more" : "less", b, on, WithInterval(c));
  }
  if (interval_only) {
    return fmt::format(
        "Whether {} or {} is more accurate is on the border{}: the interval excludes zero, the test does "
        "not. {}.",
        a, b, on, WithInterval(c));
  }
  return fmt::format("The data do not tell {} and {} apart{}: {}.", a, b, on, WithInterval(c));
}

std::string AboutMargin(const Json& c) {
  const auto margin = Number(c, "margin");
  if (!margin || !Ends(At(c, "ci95"))) return "";
  const std::string within = fmt::format("{} points", Percent(*margin));
  if (Flag(c, "equivalent")) return fmt::format("The two are equivalent within the declared margin of {}.", within);
  std::string out =
      Flag(c, "noninferior")
          ? fmt::format("{} is not worse by more than the declared margin of {}; equivalence is not shown.",
                        Text(c, "a"), within)
          : fmt::format("Neither equivalence nor non-inferiority within {} is shown.", within);
  if (const Json mde = At(c, "mde80"); mde.is_number() && Shown(c, false) == 0) {
    out += fmt::format(" A true difference below {} points would usually have been missed.", Percent(mde));
  }
  return out;
}

std::string AboutCost(const Json& summary, const Json& c) {
  const Json a = At(ArmNamed(summary, Text(c, "a")), "cost"), b = At(ArmNamed(summary, Text(c, "b")), "cost");
  const auto fa = Number(a, "flops"), fb = Number(b, "flops");
  if (!fa || !fb || *fa <= 0 || *fb <= 0) return "";
  const double ratio = *fa / *fb;
  const bool estimated = Flag(a, "estimated") || Flag(b, "estimated");
  return fmt::format("A question costs {} {:.2g} times the floating-point work that it costs {}{}.", Text(c, "a"),
                     ratio, Text(c, "b"), estimated ? " (estimated from model cards and text length)" : "");
}

std::string AboutMatched(const Json& summary) {
  for (const Json& m : List(summary, "matched")) {
    if (!Flag(m, "primary")) continue;
    const auto ends = Ends(At(m, "ci95"));
    if (!ends) return "";
    const std::string verdict = ends->first > 0    ? "more accurate"
                                : ends->second < 0 ? "less accurate"
                                                   : "neither shown to be more nor less accurate";
    return fmt::format("At equal cost ({}), {} is {} than the vote curve of {}: {}.", Text(m, "unit"), Text(m, "arm"),
                       verdict, Text(m, "against"), WithInterval(m));
  }
  return "";
}

std::string AboutOthers(const Json& summary, const Json& primary) {
  std::vector<std::string> better;
  size_t others = 0, open = 0;
  for (const Json& c : List(summary, "contrasts")) {
    if (c == primary) continue;
    ++others;
    const int shown = Shown(c, /*corrected=*/true);
    if (shown == 0) ++open;
    if (shown != 0) {
      better.push_back(fmt::format("{} over {} ({})", Text(c, shown > 0 ? "a" : "b"), Text(c, shown > 0 ? "b" : "a"),
                                   Points(std::abs(Number(c, "difference").value_or(0)))));
    }
  }
  if (others == 0) return "";
  std::string out = fmt::format("Of {} other contrast{}, {} show{} a difference after Holm's correction", others,
                                others == 1 ? "" : "s", better.size(), better.size() == 1 ? "s" : "");
  if (!better.empty()) {
    const size_t named = std::min(better.size(), kNamedMax);
    out += fmt::format(": {}{}", fmt::join(better.begin(), better.begin() + static_cast<std::ptrdiff_t>(named), ", "),
                       named < better.size() ? fmt::format(" and {} more", better.size() - named) : "");
  }
  return out + (open > 0 ? fmt::format("; {} {} open.", open, open == 1 ? "stays" : "stay") : std::string("."));
}

std::string AboutGroup(const Json& summary) {
  const Json group = At(summary, "group");
  const auto oracle = Number(group, "oracle");
  const size_t members = List(group, "members").size();
  if (!oracle || members < 2) return "";
  std::string out = fmt::format("Of {} members at least one is right on {} % of the items", members, Percent(*oracle));
  const auto phi = Number(group, "mean_error_correlation"), votes = Number(group, "effective_votes");
  if (phi) out += fmt::format("; their errors correlate by {} in the mean", WithMinus(fmt::format("{:.2f}", *phi)));
  if (votes) out += fmt::format(", so that their votes are worth {:.1f} independent ones", *votes);
  return out + ".";
}

}  // namespace

Json PrimaryContrast(const Json& summary) {
  const Json contrasts = List(summary, "contrasts");
  for (const Json& contrast : contrasts) {
    if (Flag(contrast, "primary")) return contrast;
  }
  return contrasts.size() == 1 ? contrasts[0] : Json();
}

Json ArmNamed(const Json& summary, const std::string& name) {
  for (const Json& arm : List(summary, "arms")) {
    if (Text(arm, "name") == name) return arm;
  }
  return Json();
}

std::vector<std::string> SummaryInWords(const Json& summary) {
  std::vector<std::string> out;
  const Json primary = PrimaryContrast(summary);
  const auto add = [&](std::string text) {
    if (!text.empty()) out.push_back(std::move(text));
  };
  if (primary.is_object()) {
    add(AboutPrimary(primary));
    add(AboutMargin(primary));
    add(AboutCost(summary, primary));
    add(AboutMatched(summary));
  }
  add(AboutOthers(summary, primary));
  add(AboutGroup(summary));
  return out;
}

std::vector<Claim> Claims(const Json& summary) {
  std::vector<Claim> out;
  for (const Json& c : List(summary, "contrasts")) {
    const std::string a = Text(c, "a"), b = Text(c, "b");
    const bool primary = Flag(c, "primary");
    const auto ends = Ends(At(c, "ci95"));
    const double margin = Number(c, "margin").value_or(0);
    const int shown = Shown(c, !primary);
    out.push_back({fmt::format("{} is more accurate than {}", a, b),
                   primary ? "95 % interval and McNemar's exact or sign-flip test"
                           : "95 % interval and test after Holm's correction",
                   shown > 0   ? Verdict::kSupported
                   : shown < 0 ? Verdict::kContradicted
                               : Verdict::kUndecided,
                   primary});
    const std::string within = Percent(margin) + " points";
    out.push_back({fmt::format("{} is not worse than {} by more than {}", a, b, within),
                   "90 % interval (one-sided t test at 5 %)",
                   Flag(c, "noninferior")           ? Verdict::kSupported
                   : ends && ends->second < -margin ? Verdict::kContradicted
                                                    : Verdict::kUndecided,
                   primary});
    const bool outside = ends && (ends->second < -margin || ends->first > margin);
    out.push_back({fmt::format("{} and {} are equivalent within {}", a, b, within),
                   "90 % interval (two one-sided t tests at 5 %)",
                   Flag(c, "equivalent") ? Verdict::kSupported
                   : outside             ? Verdict::kContradicted
                                         : Verdict::kUndecided,
                   primary});
  }
  return out;
}

std::string_view VerdictName(Verdict verdict) {
  return verdict == Verdict::kSupported      ? "supported"
         : verdict == Verdict::kContradicted ? "contradicted"
                                             : "undecided";
}

}  // namespace conclave::report
