// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/experiment/report/html.h"

#include <fmt/format.h>

#include <cmath>

namespace conclave::report {
namespace {

constexpr std::string_view kMissing = "–";

// Length of the valid UTF-8 sequence at text[i], or 0.
size_t Utf8Length(std::string_view text, size_t i) {
  const auto byte = [&](size_t k) { return k < text.size() ? static_cast<uint8_t>(text[k]) : 0u; };
  const uint32_t b = byte(i);
  const size_t n = b < 0x80 ? 1 : b >= 0xC2 && b < 0xE0 ? 2 : b >= 0xE0 && b < 0xF0 ? 3 : b >= 0xF0 && b < 0xF5 ? 4 : 0;
  for (size_t k = 1; k < n; ++k) {
    if ((byte(i + k) & 0xC0) != 0x80) return 0;
  }
  if (b == 0xE0 && byte(i + 1) < 0xA0) return 0;
  if (b == 0xED && byte(i + 1) >= 0xA0) return 0;
  if (b == 0xF0 && byte(i + 1) < 0x90) return 0;
  if (b == 0xF4 && byte(i + 1) >= 0x90) return 0;
  return n;
}

}  // namespace

std::string Escape(std::string_view text) {
  std::string out;
  out.reserve(text.size() + text.size() / 8);
  for (size_t i = 0; i < text.size();) {
    const size_t n = Utf8Length(text, i);
    const char c = text[i];
    if (n == 0) {
      out += "\xEF\xBF\xBD";
    } else if (n > 1) {
      out += text.substr(i, n);
    } else if (c == '&') {
      out += "&amp;";
    } else if (c == '<') {
      out += "&lt;";
    } else if (c == '>') {
      out += "&gt;";
    } else if (c == '"') {
      out += "&quot;";
    } else if (c == '\'') {
      out += "&#39;";
    } else {
      out += (static_cast<uint8_t>(c) < 0x20 && c != '\n' && c != '\t') || c == 0x7f ? ' ' : c;
    }
    i += n == 0 ? 1 : n;
  }
  return out;
}

std::optional<double> Number(const Json& object, const char* key) {
  if (!object.is_object()) return std::nullopt;
  const auto it = object.find(key);
  if (it == object.end() || !it->is_number()) return std::nullopt;
  return it->get<double>();
}

std::string Percent(const Json& value, int digits) {
  return value.is_number() ? fmt::format("{:.{}f}", 100 * value.get<double>(), digits) : std::string(kMissing);
}

std::string SignedPercent(const Json& value, int digits) {
  if (!value.is_number()) return std::string(kMissing);
  const double points = 100 * value.get<double>();
  const std::string magnitude = fmt::format("{:.{}f}", std::abs(points), digits);
  return fmt::format("{}{}", points < 0 ? "−" : "+", magnitude);
}

std::string PValue(const Json& value) {
  if (!value.is_number()) return std::string(kMissing);
  const double p = value.get<double>();
  if (p < 0.001) return "&lt;0.001";
  return fmt::format("{:.3f}", p);
}

std::string Count(const Json& value) {
  if (!value.is_number()) return std::string(kMissing);
  const std::string digits = fmt::format("{:.0f}", std::abs(value.get<double>()));
  std::string out = value.get<double>() < 0 ? "−" : "";
  for (size_t i = 0; i < digits.size(); ++i) {
    if (i > 0 && (digits.size() - i) % 3 == 0) out += ',';
    out += digits[i];
  }
  return out;
}

std::string Quantity(const Json& value) {
  if (!value.is_number()) return std::string(kMissing);
  double v = value.get<double>();
  constexpr std::array<std::string_view, 7> kSuffix = {"", "k", "M", "G", "T", "P", "E"};
  size_t step = 0;
  while (std::abs(v) >= 999.5 && step + 1 < kSuffix.size()) v /= 1000, ++step;
  const int digits = std::abs(v) >= 99.95 || v == std::floor(v) ? 0 : std::abs(v) >= 9.995 ? 1 : 2;
  return fmt::format("{:.{}f}{}{}", v, digits, step > 0 ? " " : "", kSuffix[step]);
}

std::string Interval(const Json& pair, bool is_signed, int digits) {
  if (!pair.is_array() || pair.size() != 2) return std::string(kMissing);
  const auto print = [&](const Json& v) { return is_signed ? SignedPercent(v, digits) : Percent(v, digits); };
  return fmt::format("[{}, {}]", print(pair[0]), print(pair[1]));
}

void Table::Row(std::vector<std::string> cells, std::string_view row_class) {
  rows_.push_back({std::move(cells), std::string(row_class)});
}

std::string Table::Html() const {
  std::string out = "<div class=\"scroll\"><table><thead><tr>";
  std::vector<bool> right;
  for (const std::string& header : headers_) {
    right.push_back(header.starts_with(">"));
    out += fmt::format("<th{}>{}</th>", right.back() ? " class=\"r\"" : "", header.substr(right.back() ? 1 : 0));
  }
  out += "</tr></thead><tbody>\n";
  for (const OneRow& row : rows_) {
    out += row.row_class.empty() ? "<tr>" : fmt::format("<tr class=\"{}\">", row.row_class);
    for (size_t i = 0; i < row.cells.size(); ++i) {
      out += fmt::format("<td{}>{}</td>", i < right.size() && right[i] ? " class=\"r\"" : "", row.cells[i]);
    }
    out += "</tr>\n";
  }
  return out + "</tbody></table></div>\n";
}

std::string_view Stylesheet() {
  return R"css(
:root { --ink:#1b1f24; --soft:#57606a; --line:#d8dee4; --paper:#ffffff; --tint:#f6f8fa; --a:#0b62c4; --b:#c4550b; --good:#1a7f37; --bad:#b42318; }
@media (prefers-color-scheme: dark) {
  :root { --ink:#e6edf3; --soft:#9aa4af; --line:#30363d; --paper:#0d1117; --tint:#161b22; --a:#58a6ff; --b:#f0883e; --good:#3fb950; --bad:#ff7b72; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.55 system-ui, "Segoe UI", Roboto, "Helvetica Neue", sans-serif; }
main { max-width: 76rem; margin: 0 auto; padding: 2.5rem 1.25rem 5rem; }
h1 { font-size: 1.75rem; line-height: 1.2; margin: 0 0 .4rem; }
h2 { font-size: 1.2rem; margin: 2.8rem 0 .6rem; padding-top: .8rem; border-top: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 1.4rem 0 .4rem; }
p { margin: .5rem 0; max-width: 52rem; } .soft, figcaption, .note { color: var(--soft); font-size: .9rem; }
.verdict { margin: 1.2rem 0; max-width: 56rem; padding: .9rem 1.1rem; background: var(--tint); border-left: 4px solid var(--a); border-radius: 4px; }
.verdict p:first-child { margin-top: 0; } .verdict p:last-child { margin-bottom: 0; }
.warn { border-left-color: var(--b); }
.scroll { overflow-x: auto; margin: .8rem 0; }
table { border-collapse: collapse; width: 100%; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { padding: .38rem .6rem; text-align: left; border-bottom: 1px solid var(--line); white-space: nowrap; }
th { color: var(--soft); font-weight: 600; border-bottom-width: 2px; } .r { text-align: right; }
tr.primary td { font-weight: 600; }
td.wrap, .wrap td { white-space: normal; }
figure { margin: 1rem 0; } svg { max-width: 100%; height: auto; display: block; font: 12px system-ui, sans-serif; }
svg text { fill: var(--ink); } svg .soft { fill: var(--soft); }
details { border: 1px solid var(--line); border-radius: 6px; margin: .5rem 0; background: var(--tint); }
summary { cursor: pointer; padding: .55rem .8rem; } details[open] > summary { border-bottom: 1px solid var(--line); }
.item { padding: .4rem .9rem .9rem; } pre { white-space: pre-wrap; overflow-wrap: anywhere; background: var(--paper); border: 1px solid var(--line); border-radius: 4px; padding: .6rem .7rem; font: 13px/1.45 ui-monospace, "SFMono-Regular", Menlo, Consolas, monospace; max-height: 26rem; overflow: auto; }
.tag { display: inline-block; padding: 0 .45em; border-radius: 3px; font-size: .8rem; border: 1px solid currentColor; }
.correct { color: var(--good); } .wrong, .failed, .grader_error { color: var(--bad); } .no_answer, .truncated { color: var(--b); }
nav { font-size: .9rem; color: var(--soft); } nav a, a { color: var(--a); text-decoration: none; } nav a { margin-right: .9em; }
code { font: .88em ui-monospace, Menlo, Consolas, monospace; overflow-wrap: anywhere; }
@media (max-width: 40rem) { main { padding: 1.2rem .8rem 3rem; } h1 { font-size: 1.4rem; } }
@media print { details { break-inside: avoid; } body { font-size: 11pt; } }
)css";
}

}  // namespace conclave::report
