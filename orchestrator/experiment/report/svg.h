// SPDX-License-Identifier: Apache-2.0
// The report's figures as self-contained SVG. Colours come from the stylesheet's variables. Every figure is drawn for a
// width in pixels: the page carries a wide and a narrow one and shows what fits.
#pragma once

#include <optional>
#include <string>
#include <vector>

namespace conclave::report {

inline constexpr double kWide = 860;
inline constexpr double kNarrow = 380;

// Differences with their intervals, one row each, about a zero line. Values in accuracy (0.02 = 2 points).
struct ForestRow {
  std::string label;
  double difference = 0;
  std::optional<std::pair<double, double>> interval;
  bool primary = false;
  std::optional<double> margin = {};  // drawn as a band about zero
  bool diamond = false;               // a summary of rows above
  std::string query = {};
};
std::string ForestSvg(const std::vector<ForestRow>& rows, double width = kWide);

// Lines of y against x. With log_x the axis is logarithmic and non-positive x are left out.
struct Series {
  std::string label;
  std::vector<std::pair<double, double>> points;     // (x, y)
  std::vector<std::pair<double, double>> band = {};  // (low, high) per point, or empty
  bool line = true;                                  // false: points only, numbered
  bool dashed = false;
  std::vector<double> sizes = {};  // of points, in [0, 1]; empty: all alike
  std::string query = {};          // of its points
};
struct LineChart {
  std::string x_label, y_label;
  bool log_x = false;
  bool y_percent = true;
  std::optional<double> mark_x = {};  // a vertical line
  std::string mark_label = {};
};
std::string LineSvg(const LineChart& chart, const std::vector<Series>& series, double width = kWide);

// A square of values: below the diagonal `lower`, above it `upper`, both in [-1, 1] or absent; labels on the left.
struct HeatMap {
  std::vector<std::string> labels;
  std::vector<std::vector<std::optional<double>>> lower, upper;
  std::vector<std::vector<std::string>> queries = {};  // per cell, or empty
};
std::string HeatMapSvg(const HeatMap& map, double width = kWide);

// Right and wrong from stage to stage: columns of two boxes, ribbons as wide as the number of runs.
struct FlowStage {
  std::string label, detail;
  double right = 0, wrong = 0;
};
struct FlowLink {
  size_t from = 0, to = 0;   // stages, from < to
  double counts[2][2] = {};  // [was right ? 0 : 1][is right ? 0 : 1]
};
std::string FlowSvg(const std::vector<FlowStage>& stages, const std::vector<FlowLink>& links, double width = kWide);

}  // namespace conclave::report
