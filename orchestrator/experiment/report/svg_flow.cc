// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/experiment/report/svg.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "orchestrator/experiment/report/html.h"
#include "orchestrator/experiment/report/svg_parts.h"

namespace conclave::report {
namespace {

constexpr double kTop = 34, kBar = 190, kGap = 26, kBarWidth = 14;

// Where the two boxes of a stage lie, and how much of each side is used by ribbons so far.
struct Column {
  double x = 0;
  std::array<double, 2> top = {}, height = {}, used_left = {}, used_right = {};
};

std::string Box(const Column& column, int side, double count) {
  if (count <= 0) return "";
  return fmt::format("<rect x=\"{:.1f}\" y=\"{:.1f}\" width=\"{}\" height=\"{:.1f}\" fill=\"{}\"/>\n", column.x,
                     column.top[static_cast<size_t>(side)], kBarWidth,
                     std::max(1.0, column.height[static_cast<size_t>(side)]), side == 0 ? "var(--good)" : "var(--bad)");
}

// A ribbon from one side of a box to another. Its colour is where it leads to.
std::string Ribbon(Column* from, Column* to, size_t was, size_t is, double height, double count) {
  const double x0 = from->x + kBarWidth, x1 = to->x, middle = (x0 + x1) / 2;
  const double y0 = from->top[was] + from->used_right[was], y1 = to->top[is] + to->used_left[is];
  from->used_right[was] += height, to->used_left[is] += height;
  static constexpr std::string_view kNames[2] = {"right", "wrong"};
  return fmt::format(
      "<path d=\"M{0:.1f} {1:.1f}C{2:.1f} {1:.1f} {2:.1f} {3:.1f} {4:.1f} {3:.1f}L{4:.1f} {5:.1f}C{2:.1f} {5:.1f} "
      "{2:.1f} {6:.1f} "
      "{0:.1f} {6:.1f}Z\" fill=\"{7}\" opacity=\"{8}\"><title>{9} to {10}: {11}</title></path>\n",
      x0, y0, middle, y1, x1, y1 + height, y0 + height, is == 0 ? "var(--flow-good)" : "var(--flow-bad)",
      was == is ? 0.35 : 0.85, kNames[was], kNames[is], Count(count));
}

}  // namespace

std::string FlowSvg(const std::vector<FlowStage>& stages, const std::vector<FlowLink>& links, double width) {
  double most = 1;
  for (const FlowStage& stage : stages) most = std::max(most, stage.right + stage.wrong);
  const double scale = kBar / most;
  std::vector<Column> columns(stages.size());
  const double step = stages.size() > 1 ? (width - 150) / static_cast<double>(stages.size() - 1) : 0;
  std::string svg = OpenSvg(width, kTop + kBar + kGap + 46, "Right and wrong from stage to stage");
  for (size_t i = 0; i < stages.size(); ++i) {
    Column& c = columns[i];
    c.x = 60 + step * static_cast<double>(i);
    c.height = {stages[i].right * scale, stages[i].wrong * scale};
    c.top = {kTop, kTop + c.height[0] + kGap};
  }
  for (const FlowLink& link : links) {
    for (size_t was = 0; was < 2; ++was) {
      for (size_t is = 0; is < 2; ++is) {
        const double count = link.counts[was][is];
        if (count > 0) svg += Ribbon(&columns[link.from], &columns[link.to], was, is, count * scale, count);
      }
    }
  }
  const size_t letters = static_cast<size_t>(std::max(6.0, (stages.size() > 1 ? step : width) / 7));
  for (size_t i = 0; i < stages.size(); ++i) {
    const Column& c = columns[i];
    svg += Box(c, 0, stages[i].right) + Box(c, 1, stages[i].wrong);
    const double x = c.x + kBarWidth / 2;
    svg += fmt::format("<text x=\"{:.1f}\" y=\"14\" text-anchor=\"middle\" font-weight=\"600\">{}</text>\n", x,
                       Escape(Shorten(stages[i].label, letters)));
    svg += fmt::format("<text x=\"{:.1f}\" y=\"28\" text-anchor=\"middle\">{}</text>\n", x, Count(stages[i].right));
    svg += fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"middle\">{}</text>\n", x,
                       c.top[1] + c.height[1] + 14, Count(stages[i].wrong));
    svg += fmt::format(
        "<text class=\"soft\" x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"middle\" font-size=\"11\">{}</text>\n", x,
        c.top[1] + c.height[1] + 30, Escape(Shorten(stages[i].detail, letters + 4)));
  }
  return svg + "</svg>\n";
}

}  // namespace conclave::report
