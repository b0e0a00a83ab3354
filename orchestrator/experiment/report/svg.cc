// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/experiment/report/svg.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "orchestrator/experiment/report/html.h"
#include "orchestrator/experiment/report/svg_parts.h"

namespace conclave::report {

std::string OpenSvg(double width, double height, std::string_view label) {
  return fmt::format("<svg viewBox=\"0 0 {0:.0f} {1:.0f}\" width=\"{0:.0f}\" role=\"img\" aria-label=\"{2}\">\n", width,
                     height, Escape(label));
}

std::vector<double> NiceTicks(double lo, double hi, int count) {
  const double raw = (hi - lo) / count;
  const double power = std::pow(10.0, std::floor(std::log10(raw)));
  const double f = raw / power;
  const double step = power * (f < 1.5 ? 1 : f < 3.5 ? 2 : f < 7.5 ? 5 : 10);
  std::vector<double> ticks;
  const double first = std::ceil(lo / step);
  const auto last = static_cast<int>(std::floor(hi / step + 1e-9) - first);
  for (int i = 0; i <= last; ++i) ticks.push_back((first + i) * step);
  return ticks;
}

std::string Shorten(const std::string& text, size_t limit) {
  if (text.size() <= limit) return text;
  size_t cut = limit - 1;
  while (cut > 0 && (static_cast<uint8_t>(text[cut]) & 0xC0) == 0x80) --cut;
  return text.substr(0, cut) + "…";
}

std::string LinkSvg(std::string_view query, std::string svg) {
  if (query.empty()) return svg;
  return fmt::format("<a href=\"#items\" data-q=\"{}\">{}</a>\n", Escape(query), svg);
}

namespace {

// "+5", "−2.5", "0".
std::string SignedTick(double points) {
  const double rounded = std::round(points * 1e3) / 1e3;
  return fmt::format("{}{:g}", rounded > 0 ? "+" : rounded < 0 ? "−" : "", std::abs(rounded));
}

}  // namespace

std::string ForestSvg(const std::vector<ForestRow>& rows, double width) {
  const bool narrow = width < 600;
  // On a narrow page the label stands above its row.
  const double left = narrow ? 16 : 310, right = narrow ? 62 : 80, row_height = narrow ? 42 : 28, top = 14;
  double lo = -0.01, hi = 0.01;
  for (const ForestRow& row : rows) {
    lo = std::min({lo, row.difference, row.interval ? row.interval->first : 0});
    hi = std::max({hi, row.difference, row.interval ? row.interval->second : 0});
  }
  const double pad = 0.06 * (hi - lo);
  lo -= pad, hi += pad;
  const auto x = [&](double v) { return left + (v - lo) / (hi - lo) * (width - left - right); };
  const double bottom = top + row_height * static_cast<double>(rows.size());
  std::string svg = OpenSvg(width, bottom + 44, "Differences in accuracy with 95 % intervals");
  for (double t : NiceTicks(lo, hi, narrow ? 4 : 7)) {
    svg += fmt::format(
        "<line x1=\"{0:.1f}\" x2=\"{0:.1f}\" y1=\"{1}\" y2=\"{2:.1f}\" stroke=\"var(--line)\"/>"
        "<text class=\"soft\" x=\"{0:.1f}\" y=\"{3:.1f}\" text-anchor=\"middle\">{4}</text>\n",
        x(t), top - 4, bottom + 4, bottom + 20, SignedTick(100 * t));
  }
  svg += fmt::format(
      "<line x1=\"{0:.1f}\" x2=\"{0:.1f}\" y1=\"{1}\" y2=\"{2:.1f}\" stroke=\"var(--soft)\" stroke-width=\"1.5\"/>\n"
      "<text class=\"soft\" x=\"{3:.1f}\" y=\"{4:.1f}\" text-anchor=\"middle\">difference, percentage points</text>\n",
      x(0), top - 4, bottom + 4, (left + width - right) / 2, bottom + 38);
  for (size_t i = 0; i < rows.size(); ++i) {
    const ForestRow& row = rows[i];
    const double begin = top + row_height * static_cast<double>(i);
    const double y = begin + (narrow ? 29 : row_height / 2);
    const std::string_view colour = row.primary ? "var(--accent)" : row.diamond ? "var(--ink)" : "var(--soft)";
    std::string mark;
    if (row.margin) {
      mark += fmt::format(
          "<rect x=\"{:.1f}\" y=\"{:.1f}\" width=\"{:.1f}\" height=\"{:.1f}\" fill=\"var(--accent)\" "
          "opacity=\"0.09\"/>\n",
          x(std::max(lo, -*row.margin)), begin, x(std::min(hi, *row.margin)) - x(std::max(lo, -*row.margin)),
          row_height);
    }
    const double at = x(row.difference);
    if (row.diamond && row.interval) {
      mark += fmt::format("<path d=\"M{:.1f} {:.1f}L{:.1f} {:.1f}L{:.1f} {:.1f}L{:.1f} {:.1f}Z\" fill=\"{}\"/>\n",
                          x(row.interval->first), y, at, y - 7, x(row.interval->second), y, at, y + 7, colour);
    } else if (row.interval) {
      mark += fmt::format(
          "<line x1=\"{:.1f}\" x2=\"{:.1f}\" y1=\"{:.1f}\" y2=\"{:.1f}\" stroke=\"{}\" stroke-width=\"2.2\"/>\n",
          x(row.interval->first), x(row.interval->second), y, y, colour);
    }
    if (!row.diamond) {
      mark += fmt::format("<rect x=\"{:.1f}\" y=\"{:.1f}\" width=\"8\" height=\"8\" fill=\"{}\"/>\n", at - 4, y - 4,
                          colour);
    }
    mark += fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"{}\"{}>{}</text>\n", narrow ? 2 : left - 14,
                        narrow ? begin + 15 : y + 4, narrow ? "start" : "end",
                        row.primary || row.diamond ? " font-weight=\"600\"" : "",
                        Escape(Shorten(row.label, narrow ? 56 : 46)));
    mark += fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"end\">{}</text>\n", width - 4, y + 4,
                        SignedPercent(row.difference));
    svg += LinkSvg(row.query, std::move(mark));
  }
  return svg + "</svg>\n";
}

// Columns narrower than a number are numbered at distances only.
constexpr double kNumberWidth = 14;
constexpr size_t kNumbersApart = 5;

std::string HeatMapSvg(const HeatMap& map, double width) {
  const bool narrow = width < 600;
  const double left = narrow ? 146 : 250, top = 26;
  const double n = static_cast<double>(map.labels.size());
  const double cell = std::clamp((width - left - 4) / std::max(n, 1.0), 4.0, 44.0);
  const double row = std::max(cell, 13.0);
  std::string svg = OpenSvg(width, top + row * n + 8, "Error correlation between members");
  for (size_t i = 0; i < map.labels.size(); ++i) {
    const double y = top + row * static_cast<double>(i);
    svg += fmt::format("<text x=\"{}\" y=\"{:.1f}\" text-anchor=\"end\"{}>{} <tspan class=\"soft\">{}</tspan></text>\n",
                       left - 8, y + row / 2 + 4, narrow || row < 16 ? " font-size=\"10\"" : "",
                       Escape(Shorten(map.labels[i], narrow ? 20 : 36)), i + 1);
    if (cell >= kNumberWidth || i == 0 || (i + 1) % kNumbersApart == 0) {
      svg += fmt::format("<text class=\"soft\" x=\"{:.1f}\" y=\"{}\" text-anchor=\"middle\"{}>{}</text>\n",
                         left + cell * (static_cast<double>(i) + 0.5), top - 8, cell < 18 ? " font-size=\"8.5\"" : "",
                         i + 1);
    }
    for (size_t j = 0; j < map.labels.size(); ++j) {
      const double x = left + cell * static_cast<double>(j);
      const auto value = i == j ? std::nullopt : j < i ? map.lower[i][j] : map.upper[i][j];
      const std::string_view fill = value && *value < 0 ? "var(--accent2)" : j < i ? "var(--accent)" : "var(--good)";
      std::string mark = fmt::format(
          "<rect x=\"{:.1f}\" y=\"{:.1f}\" width=\"{:.1f}\" height=\"{:.1f}\" fill=\"{}\" fill-opacity=\"{:.3f}\">", x,
          y, cell - 1, row - 1, value ? fill : std::string_view("var(--tint)"),
          value ? std::min(1.0, std::abs(*value)) : 1.0);
      if (value) {
        mark += fmt::format("<title>{} and {}: {} {:.2f}</title>", Escape(map.labels[i]), Escape(map.labels[j]),
                            j < i ? "correlation of errors" : "same wrong answer", *value);
      }
      mark += "</rect>\n";
      if (value && cell >= 26) {
        mark +=
            fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"middle\" font-size=\"10.5\">.{:02.0f}</text>\n",
                        x + cell / 2 - 0.5, y + row / 2 + 3.5, std::min(99.0, std::round(100 * std::abs(*value))));
      }
      svg += LinkSvg(map.queries.empty() || !value ? std::string() : map.queries[i][j], std::move(mark));
    }
  }
  return svg + "</svg>\n";
}

}  // namespace conclave::report
