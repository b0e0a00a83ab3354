// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/experiment/report/svg.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "orchestrator/experiment/report/html.h"
#include "orchestrator/experiment/report/svg_parts.h"

namespace conclave::report {
namespace {

constexpr double kTop = 14, kBottom = 320, kRight = 20;

// Data bounds and the mapping to the drawing area.
struct Axes {
  double x_lo = 1e300, x_hi = -1e300, y_lo = 1e300, y_hi = -1e300;
  bool log_x = false;
  double left = 58, width = kWide;

  double X(double v) const {
    const double t =
        log_x ? (std::log(v) - std::log(x_lo)) / (std::log(x_hi) - std::log(x_lo)) : (v - x_lo) / (x_hi - x_lo);
    return left + t * (width - left - kRight);
  }
  double Y(double v) const { return kBottom - (v - y_lo) / (y_hi - y_lo) * (kBottom - kTop); }
};

Axes FitAxes(const LineChart& chart, const std::vector<Series>& series, double width) {
  Axes axes;
  axes.log_x = chart.log_x, axes.width = width, axes.left = width < 600 ? 46 : 58;
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

// Ticks of the x axis: at most about six on a narrow figure.
std::vector<double> XTicks(const Axes& axes) {
  const int most = axes.width < 600 ? 5 : 9;
  if (!axes.log_x) return NiceTicks(axes.x_lo, axes.x_hi, most - 1);
  for (const std::vector<double>& steps : {std::vector<double>{1, 2, 5}, {1, 3}, {1}}) {
    std::vector<double> ticks;
    for (double p = std::pow(10.0, std::floor(std::log10(axes.x_lo))); p <= axes.x_hi; p *= 10) {
      for (double m : steps) {
        if (p * m >= axes.x_lo && p * m <= axes.x_hi) ticks.push_back(p * m);
      }
    }
    if (static_cast<int>(ticks.size()) <= most || steps.size() == 1) return ticks;
  }
  return {};
}

std::string DrawAxes(const LineChart& chart, const Axes& axes) {
  std::string svg;
  for (double t : NiceTicks(axes.y_lo, axes.y_hi, 5)) {
    svg += fmt::format(
        "<line x1=\"{}\" x2=\"{}\" y1=\"{:.1f}\" y2=\"{:.1f}\" stroke=\"var(--line)\"/>"
        "<text class=\"soft\" x=\"{}\" y=\"{:.1f}\" text-anchor=\"end\">{:g}</text>\n",
        axes.left, axes.width - kRight, axes.Y(t), axes.Y(t), axes.left - 8, axes.Y(t) + 4,
        std::round((chart.y_percent ? 100 * t : t) * 1e4) / 1e4);
  }
  for (double t : XTicks(axes)) {
    svg += fmt::format("<text class=\"soft\" x=\"{:.1f}\" y=\"{}\" text-anchor=\"middle\">{}</text>\n", axes.X(t),
                       kBottom + 18, Quantity(t));
  }
  svg += fmt::format(
      "<line x1=\"{0}\" x2=\"{1}\" y1=\"{2}\" y2=\"{2}\" stroke=\"var(--soft)\"/>\n"
      "<text class=\"soft\" x=\"{3}\" y=\"{4}\" text-anchor=\"middle\">{5}</text>\n",
      axes.left, axes.width - kRight, kBottom, axes.width / 2, kBottom + 38, Escape(chart.x_label));
  if (chart.mark_x && *chart.mark_x >= axes.x_lo && *chart.mark_x <= axes.x_hi) {
    const double x = axes.X(*chart.mark_x);
    const bool left_of_it = x > axes.width * 0.6;
    svg += fmt::format(
        "<line x1=\"{0:.1f}\" x2=\"{0:.1f}\" y1=\"{1}\" y2=\"{2}\" stroke=\"var(--soft)\" stroke-dasharray=\"5 4\"/>"
        "<text class=\"soft\" x=\"{3:.1f}\" y=\"{4}\" text-anchor=\"{5}\">{6}</text>\n",
        x, kTop, kBottom, x + (left_of_it ? -6 : 6), kBottom - 8, left_of_it ? "end" : "start",
        Escape(chart.mark_label));
  }
  return svg + fmt::format(
                   "<text class=\"soft\" x=\"12\" y=\"{0}\" transform=\"rotate(-90 12 {0})\" "
                   "text-anchor=\"middle\">{1}</text>\n",
                   (kTop + kBottom) / 2, Escape(chart.y_label));
}

std::string DrawSeries(const Axes& axes, const Series& s, size_t number, std::string_view colour) {
  std::string path, band_up, band_down, dots;
  for (size_t i = 0; i < s.points.size(); ++i) {
    const auto [px, py] = s.points[i];
    if (axes.log_x && px <= 0) continue;
    const double x = axes.X(px), y = axes.Y(py);
    path += fmt::format("{:.1f},{:.1f} ", x, y);
    const double radius = s.line ? 2.6 : s.sizes.empty() ? 5 : 3 + 6 * std::sqrt(s.sizes[i]);
    std::string dot = fmt::format(
        "<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"{:.1f}\" fill=\"{}\" fill-opacity=\"{}\"><title>{}: {} at "
        "{}</title></circle>",
        x, y, radius, colour, s.line ? 1 : 0.75, Escape(s.label), Percent(py), Quantity(px));
    if (!s.line) {
      dot += fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" font-size=\"11\">{}</text>", x + radius + 2, y - 3, number);
      if (!s.band.empty()) {
        dot += fmt::format("<line x1=\"{0:.1f}\" x2=\"{0:.1f}\" y1=\"{1:.1f}\" y2=\"{2:.1f}\" stroke=\"{3}\"/>", x,
                           axes.Y(s.band[i].first), axes.Y(s.band[i].second), colour);
      }
    } else if (!s.band.empty()) {
      band_up += fmt::format("{:.1f},{:.1f} ", x, axes.Y(s.band[i].second));
      band_down = fmt::format("{:.1f},{:.1f} ", x, axes.Y(s.band[i].first)) + band_down;
    }
    dots += LinkSvg(s.query, std::move(dot));
  }
  std::string svg;
  if (!band_up.empty())
    svg += fmt::format("<polygon points=\"{}{}\" fill=\"{}\" opacity=\"0.14\"/>\n", band_up, band_down, colour);
  if (s.line) {
    svg += fmt::format("<polyline points=\"{}\" fill=\"none\" stroke=\"{}\" stroke-width=\"2\"{}/>\n", path, colour,
                       s.dashed ? " stroke-dasharray=\"6 4\"" : "");
  }
  return svg + dots;
}

}  // namespace

std::string LineSvg(const LineChart& chart, const std::vector<Series>& series, double width) {
  const Axes axes = FitAxes(chart, series, width);
  constexpr double kLegendTop = kBottom + 60, kLegendRow = 19;
  const size_t columns = width < 600 ? 1 : 2;
  const size_t rows = (series.size() + columns - 1) / columns;
  std::string svg =
      OpenSvg(width, kLegendTop + kLegendRow * static_cast<double>(rows), chart.y_label + " against " + chart.x_label);
  svg += DrawAxes(chart, axes);
  for (size_t i = 0; i < series.size(); ++i) {
    const Series& s = series[i];
    const std::string_view colour = kPalette[i % kPalette.size()];
    svg += DrawSeries(axes, s, i + 1, colour);
    const double lx = axes.left + (i / rows == 0 ? 0 : width / 2 - 20);
    const double ly = kLegendTop + kLegendRow * static_cast<double>(i % rows);
    svg +=
        s.line
            ? fmt::format(
                  "<line x1=\"{:.1f}\" x2=\"{:.1f}\" y1=\"{:.1f}\" y2=\"{:.1f}\" stroke=\"{}\" stroke-width=\"3\"{}/>",
                  lx, lx + 16, ly - 4, ly - 4, colour, s.dashed ? " stroke-dasharray=\"5 3\"" : "")
            : fmt::format("<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"5\" fill=\"{}\" fill-opacity=\"0.75\"/>", lx + 8,
                          ly - 4, colour);
    svg += fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\">{}{}</text>\n", lx + 24, ly,
                       s.line ? std::string() : fmt::format("{} ", i + 1),
                       Escape(Shorten(s.label, width < 600 ? 42 : 50)));
  }
  return svg + "</svg>\n";
}

}  // namespace conclave::report
