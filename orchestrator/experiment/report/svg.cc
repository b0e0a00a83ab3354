// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/experiment/report/svg.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "orchestrator/experiment/report/html.h"

namespace conclave::report {
namespace {

constexpr double kWidth = 860;
constexpr std::array<std::string_view, 8> kPalette = {"#0b62c4", "#c4550b", "#1a7f37", "#8250df",
                                                      "#bf3989", "#0a7ea4", "#9a6700", "#57606a"};

std::string Open(double height, std::string_view label) {
  return fmt::format("<svg viewBox=\"0 0 {:.0f} {:.0f}\" width=\"{:.0f}\" role=\"img\" aria-label=\"{}\">\n", kWidth,
                     height, kWidth, Escape(label));
}

// Ticks at 1, 2 or 5 times a power of ten, about `count` of them.
std::vector<double> NiceTicks(double lo, double hi, int count) {
  const double raw = (hi - lo) / count;
  const double power = std::pow(10.0, std::floor(std::log10(raw)));
  const double f = raw / power;
  const double step = power * (f < 1.5 ? 1 : f < 3.5 ? 2 : f < 7.5 ? 5 : 10);
  std::vector<double> ticks;
  for (double t = std::ceil(lo / step) * step; t <= hi + step * 1e-9; t += step)
    ticks.push_back(std::abs(t) < step * 1e-9 ? 0 : t);
  return ticks;
}

std::string Shorten(const std::string& text, size_t limit) {
  if (text.size() <= limit) return text;
  size_t cut = limit - 1;
  while (cut > 0 && (static_cast<uint8_t>(text[cut]) & 0xC0) == 0x80) --cut;
  return text.substr(0, cut) + "…";
}

}  // namespace

std::string ForestSvg(const std::vector<ForestRow>& rows) {
  constexpr double kLeft = 300, kRight = 110, kRow = 30, kTop = 14;
  double lo = -0.01, hi = 0.01;
  for (const ForestRow& row : rows) {
    lo = std::min({lo, row.difference, row.interval ? row.interval->first : 0});
    hi = std::max({hi, row.difference, row.interval ? row.interval->second : 0});
  }
  const double pad = 0.06 * (hi - lo);
  lo -= pad, hi += pad;
  const auto x = [&](double v) { return kLeft + (v - lo) / (hi - lo) * (kWidth - kLeft - kRight); };
  const double bottom = kTop + kRow * static_cast<double>(rows.size());
  std::string svg = Open(bottom + 44, "Differences in accuracy with 95 % intervals");
  for (double t : NiceTicks(lo, hi, 7)) {
    svg += fmt::format(
        "<line x1=\"{0:.1f}\" x2=\"{0:.1f}\" y1=\"{1}\" y2=\"{2:.1f}\" stroke=\"var(--line)\"/>"
        "<text class=\"soft\" x=\"{0:.1f}\" y=\"{3:.1f}\" text-anchor=\"middle\">{4:+g}</text>\n",
        x(t), kTop - 4, bottom + 4, bottom + 20, std::round(t * 1e5) / 1e3);
  }
  svg += fmt::format(
      "<line x1=\"{0:.1f}\" x2=\"{0:.1f}\" y1=\"{1}\" y2=\"{2:.1f}\" stroke=\"var(--soft)\" stroke-width=\"1.5\"/>\n",
      x(0), kTop - 4, bottom + 4);
  svg += fmt::format(
      "<text class=\"soft\" x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"middle\">difference, percentage points</text>\n",
      (kLeft + kWidth - kRight) / 2, bottom + 38);
  for (size_t i = 0; i < rows.size(); ++i) {
    const ForestRow& row = rows[i];
    const double y = kTop + kRow * (static_cast<double>(i) + 0.5);
    const std::string_view colour = row.primary ? "var(--a)" : "var(--soft)";
    if (row.margin) {
      svg += fmt::format(
          "<rect x=\"{:.1f}\" y=\"{:.1f}\" width=\"{:.1f}\" height=\"{}\" fill=\"var(--a)\" opacity=\"0.08\"/>\n",
          x(std::max(lo, -*row.margin)), y - kRow / 2, x(std::min(hi, *row.margin)) - x(std::max(lo, -*row.margin)),
          kRow);
    }
    if (row.interval) {
      svg += fmt::format(
          "<line x1=\"{:.1f}\" x2=\"{:.1f}\" y1=\"{:.1f}\" y2=\"{:.1f}\" stroke=\"{}\" stroke-width=\"2.5\"/>\n",
          x(row.interval->first), x(row.interval->second), y, y, colour);
    }
    svg += fmt::format("<rect x=\"{:.1f}\" y=\"{:.1f}\" width=\"9\" height=\"9\" fill=\"{}\"/>\n",
                       x(row.difference) - 4.5, y - 4.5, colour);
    svg += fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"end\"{}>{}</text>\n", kLeft - 14, y + 4,
                       row.primary ? " font-weight=\"600\"" : "", Escape(Shorten(row.label, 44)));
    svg += fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"end\">{}</text>\n", kWidth - 8, y + 4,
                       SignedPercent(row.difference));
  }
  return svg + "</svg>\n";
}

namespace {

// Data bounds and the mapping to the drawing area of a line chart.
struct Axes {
  double x_lo = 1e300, x_hi = -1e300, y_lo = 1e300, y_hi = -1e300;
  bool log_x = false;
  static constexpr double kLeft = 62, kRight = 18, kTop = 12, kBottom = 320;

  double X(double v) const {
    const double t =
        log_x ? (std::log(v) - std::log(x_lo)) / (std::log(x_hi) - std::log(x_lo)) : (v - x_lo) / (x_hi - x_lo);
    return kLeft + t * (kWidth - kLeft - kRight);
  }
  double Y(double v) const { return kBottom - (v - y_lo) / (y_hi - y_lo) * (kBottom - kTop); }
};

Axes FitAxes(const LineChart& chart, const std::vector<Series>& series) {
  Axes axes;
  axes.log_x = chart.log_x;
  for (const Series& s : series) {
    for (size_t i = 0; i < s.points.size(); ++i) {
      const auto [px, py] = s.points[i];
      if (chart.log_x && px <= 0) continue;
      axes.x_lo = std::min(axes.x_lo, px), axes.x_hi = std::max(axes.x_hi, px);
      axes.y_lo = std::min({axes.y_lo, py, s.band.empty() ? py : s.band[i].first});
      axes.y_hi = std::max({axes.y_hi, py, s.band.empty() ? py : s.band[i].second});
    }
  }
  if (axes.x_lo > axes.x_hi) axes.x_lo = 1, axes.x_hi = 2, axes.y_lo = 0, axes.y_hi = 1;
  const double y_pad = std::max(0.08 * (axes.y_hi - axes.y_lo), 0.005);
  axes.y_lo -= y_pad, axes.y_hi += y_pad;
  if (chart.log_x) {
    const double f = std::max(1.15, std::pow(axes.x_hi / axes.x_lo, 0.06));
    axes.x_lo /= f, axes.x_hi *= f;
  } else if (axes.x_hi == axes.x_lo) {
    axes.x_lo -= 1, axes.x_hi += 1;
  }
  return axes;
}

std::string DrawAxes(const LineChart& chart, const Axes& axes) {
  std::string svg;
  for (double t : NiceTicks(axes.y_lo, axes.y_hi, 5)) {
    svg += fmt::format(
        "<line x1=\"{}\" x2=\"{}\" y1=\"{:.1f}\" y2=\"{:.1f}\" stroke=\"var(--line)\"/>"
        "<text class=\"soft\" x=\"{}\" y=\"{:.1f}\" text-anchor=\"end\">{:g}</text>\n",
        Axes::kLeft, kWidth - Axes::kRight, axes.Y(t), axes.Y(t), Axes::kLeft - 8, axes.Y(t) + 4,
        std::round((chart.y_percent ? 100 * t : t) * 1e4) / 1e4);
  }
  std::vector<double> ticks;
  if (chart.log_x) {
    for (double p = std::pow(10.0, std::floor(std::log10(axes.x_lo))); p <= axes.x_hi; p *= 10) {
      for (double m : {1.0, 2.0, 5.0}) {
        if (p * m >= axes.x_lo && p * m <= axes.x_hi) ticks.push_back(p * m);
      }
    }
  } else {
    ticks = NiceTicks(axes.x_lo, axes.x_hi, 8);
  }
  for (double t : ticks) {
    svg += fmt::format("<text class=\"soft\" x=\"{:.1f}\" y=\"{}\" text-anchor=\"middle\">{}</text>\n", axes.X(t),
                       Axes::kBottom + 18, Quantity(t));
  }
  svg += fmt::format("<line x1=\"{0}\" x2=\"{1}\" y1=\"{2}\" y2=\"{2}\" stroke=\"var(--soft)\"/>\n", Axes::kLeft,
                     kWidth - Axes::kRight, Axes::kBottom);
  svg += fmt::format("<text class=\"soft\" x=\"{}\" y=\"{}\" text-anchor=\"middle\">{}</text>\n", kWidth / 2,
                     Axes::kBottom + 38, Escape(chart.x_label));
  return svg + fmt::format(
                   "<text class=\"soft\" x=\"14\" y=\"{0}\" transform=\"rotate(-90 14 {0})\" "
                   "text-anchor=\"middle\">{1}</text>\n",
                   (Axes::kTop + Axes::kBottom) / 2, Escape(chart.y_label));
}

std::string DrawSeries(const Axes& axes, const Series& s, std::string_view colour) {
  std::string path, band_up, band_down, dots;
  for (size_t i = 0; i < s.points.size(); ++i) {
    const auto [px, py] = s.points[i];
    if (axes.log_x && px <= 0) continue;
    path += fmt::format("{:.1f},{:.1f} ", axes.X(px), axes.Y(py));
    dots +=
        fmt::format("<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"{}\" fill=\"{}\"><title>{}: {} at {}</title></circle>\n",
                    axes.X(px), axes.Y(py), s.line ? 3 : 5, colour, Escape(s.label), Percent(py), Quantity(px));
    if (!s.band.empty()) {
      band_up += fmt::format("{:.1f},{:.1f} ", axes.X(px), axes.Y(s.band[i].second));
      band_down = fmt::format("{:.1f},{:.1f} ", axes.X(px), axes.Y(s.band[i].first)) + band_down;
    }
  }
  std::string svg;
  if (!band_up.empty())
    svg += fmt::format("<polygon points=\"{}{}\" fill=\"{}\" opacity=\"0.13\"/>\n", band_up, band_down, colour);
  if (s.line)
    svg += fmt::format("<polyline points=\"{}\" fill=\"none\" stroke=\"{}\" stroke-width=\"2\"/>\n", path, colour);
  return svg + dots;
}

}  // namespace

std::string LineSvg(const LineChart& chart, const std::vector<Series>& series) {
  const Axes axes = FitAxes(chart, series);
  constexpr double kLegendTop = Axes::kBottom + 58, kLegendRow = 20;
  const double rows = std::ceil(static_cast<double>(series.size()) / 2);
  std::string svg = Open(kLegendTop + kLegendRow * rows, chart.y_label + " against " + chart.x_label);
  svg += DrawAxes(chart, axes);
  for (size_t i = 0; i < series.size(); ++i) {
    const std::string_view colour = kPalette[i % kPalette.size()];
    svg += DrawSeries(axes, series[i], colour);
    const double lx = i % 2 == 0 ? Axes::kLeft : kWidth / 2 + 10;
    const double ly = kLegendTop + kLegendRow * static_cast<double>(i / 2);
    svg += fmt::format(
        "<rect x=\"{:.1f}\" y=\"{:.1f}\" width=\"14\" height=\"4\" fill=\"{}\"/><text x=\"{:.1f}\" "
        "y=\"{:.1f}\">{}</text>\n",
        lx, ly - 6, colour, lx + 22, ly, Escape(Shorten(series[i].label, 56)));
  }
  return svg + "</svg>\n";
}

std::string HeatMapSvg(const HeatMap& map) {
  constexpr double kLeft = 250, kTop = 30;
  const double n = static_cast<double>(map.labels.size());
  const double cell = std::clamp((kWidth - kLeft - 10) / std::max(n, 1.0), 12.0, 46.0);
  std::string svg = Open(kTop + cell * n + 10, "Error correlation between members");
  for (size_t i = 0; i < map.labels.size(); ++i) {
    const double y = kTop + cell * static_cast<double>(i);
    svg += fmt::format("<text x=\"{}\" y=\"{:.1f}\" text-anchor=\"end\">{} <tspan class=\"soft\">{}</tspan></text>\n",
                       kLeft - 10, y + cell / 2 + 4, Escape(Shorten(map.labels[i], 32)), i + 1);
    svg += fmt::format("<text class=\"soft\" x=\"{:.1f}\" y=\"{}\" text-anchor=\"middle\">{}</text>\n",
                       kLeft + cell * (static_cast<double>(i) + 0.5), kTop - 10, i + 1);
    for (size_t j = 0; j < map.labels.size(); ++j) {
      const double x = kLeft + cell * static_cast<double>(j);
      const auto value = i == j ? std::nullopt : j < i ? map.lower[i][j] : map.upper[i][j];
      const std::string_view fill = value && *value < 0 ? "var(--b)" : j < i ? "var(--a)" : "var(--good)";
      svg += fmt::format(
          "<rect x=\"{:.1f}\" y=\"{:.1f}\" width=\"{:.1f}\" height=\"{:.1f}\" fill=\"{}\" fill-opacity=\"{:.3f}\"/>\n",
          x, y, cell - 1, cell - 1, value ? fill : std::string_view("var(--tint)"),
          value ? std::min(1.0, std::abs(*value)) : 1.0);
      if (value && cell >= 26) {
        svg +=
            fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"middle\" font-size=\"10.5\">.{:02.0f}</text>\n",
                        x + cell / 2 - 0.5, y + cell / 2 + 3.5, std::min(99.0, std::round(100 * std::abs(*value))));
      }
    }
  }
  return svg + "</svg>\n";
}

}  // namespace conclave::report
