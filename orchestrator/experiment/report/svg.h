// SPDX-License-Identifier: Apache-2.0
// The report's figures as self-contained SVG. Colours come from the stylesheet's variables.
#pragma once

#include <optional>
#include <string>
#include <vector>

namespace conclave::report {

// Differences with their intervals, one row each, about a zero line. Values in accuracy (0.02 = 2 points).
struct ForestRow {
  std::string label;
  double difference;
  std::optional<std::pair<double, double>> interval;
  bool primary = false;
  std::optional<double> margin;  // drawn as a band about zero
};
std::string ForestSvg(const std::vector<ForestRow>& rows);

// Lines of y against x. With log_x the axis is logarithmic and non-positive x are left out.
struct Series {
  std::string label;
  std::vector<std::pair<double, double>> points;  // (x, y)
  std::vector<std::pair<double, double>> band;    // (low, high) per point, or empty
  bool line = true;                               // false: points only
};
struct LineChart {
  std::string x_label, y_label;
  bool log_x = false;
  bool y_percent = true;
};
std::string LineSvg(const LineChart& chart, const std::vector<Series>& series);

// A square of values: below the diagonal `lower`, above it `upper`, both in [-1, 1] or absent; labels on the left.
struct HeatMap {
  std::vector<std::string> labels;
  std::vector<std::vector<std::optional<double>>> lower, upper;
};
std::string HeatMapSvg(const HeatMap& map);

}  // namespace conclave::report
