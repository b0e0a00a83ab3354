// SPDX-License-Identifier: Apache-2.0
// The SVG picture. Layout: every sequence is drawn in rows, a node below all it waits for; frames hold their bodies.
// Sizes come from the inside out, places from the outside in.
#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <optional>

#include "orchestrator/graph/draw.h"
#include "orchestrator/graph/drawing.h"

namespace conclave::orchestrator {
namespace {

constexpr double kCharacterWidth = 6.4;  // of the 11 px sans-serif used, on the wide side
constexpr double kLineHeight = 15;
constexpr double kPadding = 18;
constexpr double kColumnGap = 26;
constexpr double kRowGap = 46;
constexpr double kMargin = 24;
constexpr double kTitleHeight = 44;
constexpr double kLegendHeight = 34;
constexpr size_t kDetailCharacters = 64;

struct Box {
  double x = 0, y = 0, width = 0, height = 0, header = 0;
  double bottom() const { return y + height; }
};

class SvgDrawing {
 public:
  explicit SvgDrawing(const CompiledGraph& graph)
      : graph_(graph), lines_(LinesOf(graph)), boxes_(graph.nodes().size()), sizes_(graph.sequences().size()) {
    for (const CompiledNode& node : graph.nodes()) {
      for (std::string& detail : details_.emplace_back(DetailsOf(node, graph))) {
        detail = Shorten(detail, kDetailCharacters);
      }
    }
    // A container comes before what it holds: backwards is from the inside out.
    for (size_t i = graph.nodes().size(); i-- > 0;) Measure(graph.nodes()[i]);
    MeasureSequence(0);
    Place(0, kMargin, kMargin + kTitleHeight, sizes_[0].width);
  }

  std::string Draw() {
    const double width = std::max(sizes_[0].width, 520.0) + 2 * kMargin;
    const double height = sizes_[0].height + 2 * kMargin + kTitleHeight + kLegendHeight;
    out_ = fmt::format(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {0:.0f} {1:.0f}\" width=\"{0:.0f}\" "
        "height=\"{1:.0f}\" "
        "font-family=\"-apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif\" font-size=\"11\" "
        "fill=\"#1c232b\">\n"
        "<defs><marker id=\"arrow\" viewBox=\"0 0 8 8\" refX=\"7\" refY=\"4\" markerWidth=\"7\" markerHeight=\"7\" "
        "orient=\"auto-start-reverse\"><path d=\"M0 0.8 L7.2 4 L0 7.2 z\" fill=\"#5b6570\"/></marker></defs>\n"
        "<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n",
        width, height);
    Text(kMargin, kMargin + 12, 15, "600", "#1c232b", graph_.name());
    Text(kMargin, kMargin + 29, 11, "400", "#5b6570", Shorten(graph_.proto().description(), 110));
    for (const CompiledNode& node : graph_.nodes()) {
      if (IsFrame(node)) DrawNode(node);
    }
    for (size_t i = 0; i < lines_.size(); ++i) DrawLine(i);
    for (const CompiledNode& node : graph_.nodes()) {
      if (!IsFrame(node)) DrawNode(node);
    }
    DrawLegend(height - kMargin + 4);
    return std::move(out_) + "</svg>\n";
  }

 private:
  Box& At(int32_t index) { return boxes_[static_cast<size_t>(index)]; }
  const std::vector<std::string>& Details(int32_t index) const { return details_[static_cast<size_t>(index)]; }

  // Rows of a sequence: a node's row is one below the last of those it waits for.
  std::vector<std::vector<int32_t>> Rows(int32_t sequence) const {
    std::map<int32_t, size_t> row_of;
    std::vector<std::vector<int32_t>> rows;
    for (const int32_t index : graph_.sequence(sequence).nodes) {
      size_t row = 0;
      for (const int32_t before : graph_.node(index).after) row = std::max(row, row_of[before] + 1);
      row_of[index] = row;
      if (rows.size() <= row) rows.resize(row + 1);
      rows[row].push_back(index);
    }
    return rows;
  }

  void MeasureSequence(int32_t sequence) {
    Box& size = sizes_[static_cast<size_t>(sequence)];
    size = Box();
    for (const std::vector<int32_t>& row : Rows(sequence)) {
      double width = -kColumnGap, height = 0;
      for (const int32_t index : row) {
        width += At(index).width + kColumnGap;
        height = std::max(height, At(index).height);
      }
      size.width = std::max(size.width, width);
      size.height += height + (size.height > 0 ? kRowGap : 0);
    }
  }

  void Measure(const CompiledNode& node) {
    Box& box = At(node.index);
    double text = static_cast<double>(node.name.size() + NodeKindName(node.kind).size() + 3) * kCharacterWidth * 1.1;
    for (const std::string& detail : Details(node.index)) {
      text = std::max(text, static_cast<double>(detail.size()) * kCharacterWidth);
    }
    box.width = std::max(130.0, text + 2 * 12);
    box.header = 12 + kLineHeight * static_cast<double>(1 + Details(node.index).size());
    box.height = box.header;
    if (!IsFrame(node)) return;
    double inner_width = -kColumnGap, inner_height = 0;
    for (const int32_t inner : {node.body, node.then, node.otherwise}) {
      if (inner < 0) continue;
      MeasureSequence(inner);
      inner_width += sizes_[static_cast<size_t>(inner)].width + kColumnGap;
      inner_height = std::max(inner_height, sizes_[static_cast<size_t>(inner)].height);
    }
    // Room on the left for lines that pass a row by, on the right for what goes into the next round.
    const double sides = node.kind == NodeKind::kLoop ? 4.4 * kPadding : 0;
    box.width = std::max(box.width, inner_width + sides) + 2 * kPadding;
    box.height = box.header + kRowGap * 0.7 + inner_height + kPadding;
  }

  void Place(int32_t sequence, double x, double y, double width) {
    for (const std::vector<int32_t>& row : Rows(sequence)) {
      double row_width = -kColumnGap, row_height = 0;
      for (const int32_t index : row) {
        row_width += At(index).width + kColumnGap;
        row_height = std::max(row_height, At(index).height);
      }
      double at = x + (width - row_width) / 2;
      for (const int32_t index : row) {
        Box& box = At(index);
        box.x = at, box.y = y;
        at += box.width + kColumnGap;
        const CompiledNode& node = graph_.node(index);
        double inner_total = -kColumnGap;
        for (const int32_t inner : {node.body, node.then, node.otherwise}) {
          if (inner >= 0) inner_total += sizes_[static_cast<size_t>(inner)].width + kColumnGap;
        }
        double inner_x = box.x + (box.width - inner_total) / 2;
        for (const int32_t inner : {node.body, node.then, node.otherwise}) {
          if (inner < 0) continue;
          const double inner_width = sizes_[static_cast<size_t>(inner)].width;
          Place(inner, inner_x, box.y + box.header + kRowGap * 0.7, inner_width);
          inner_x += inner_width + kColumnGap;
        }
      }
      y += row_height + kRowGap;
    }
  }

  void Text(double x, double y, int size, std::string_view weight, std::string_view colour, std::string_view text) {
    out_ += fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" font-size=\"{}\" font-weight=\"{}\" fill=\"{}\">{}</text>\n",
                        x, y, size, weight, colour, XmlEscaped(text));
  }

  void DrawNode(const CompiledNode& node) {
    const Box& box = At(node.index);
    const KindColours colours = ColoursOf(node.kind);
    const bool result = node.index == graph_.result();
    out_ += fmt::format(
        "<rect data-node=\"{}\" x=\"{:.1f}\" y=\"{:.1f}\" width=\"{:.1f}\" height=\"{:.1f}\" rx=\"7\" fill=\"{}\" "
        "stroke=\"{}\" stroke-width=\"{}\"{}/>\n",
        XmlEscaped(PlaceOf(node, graph_)), box.x, box.y, box.width, box.height, colours.fill, colours.edge,
        result ? 2.4 : 1.2, IsFrame(node) ? " stroke-dasharray=\"6 4\"" : "");
    double y = box.y + 17;
    out_ += fmt::format(
        "<text x=\"{:.1f}\" y=\"{:.1f}\"><tspan font-weight=\"600\" font-size=\"12\">{}</tspan><tspan dx=\"7\" "
        "fill=\"{}\">{}</tspan></text>\n",
        box.x + 12, y, XmlEscaped(node.name), colours.edge, NodeKindName(node.kind));
    for (const std::string& detail : Details(node.index)) {
      y += kLineHeight;
      Text(box.x + 12, y, 11, "400", "#47515c", detail);
    }
  }

  // Lines that leave or reach one side of a box are spread over it.
  double Spread(const Box& box, size_t line, bool out) const {
    const auto end = [&](const DrawnLine& l) { return out ? l.from : l.to; };
    int before = 0, count = 0;
    for (size_t i = 0; i < lines_.size(); ++i) {
      if (lines_[i].kind == LineKind::kNextRound || end(lines_[i]) != end(lines_[line])) continue;
      if (out && lines_[i].from_inside != lines_[line].from_inside) continue;
      ++count;
      if (i < line) ++before;
    }
    return box.x + box.width * (before + 1.0) / (count + 1.0);
  }

  // The left edge of the boxes that a straight line between two boxes would cross; nothing when the way is free.
  std::optional<double> Obstacle(const DrawnLine& line, double x1, double y1, double x2, double y2) const {
    std::optional<double> left;
    for (const CompiledNode& node : graph_.nodes()) {
      const Box& box = boxes_[static_cast<size_t>(node.index)];
      if (IsFrame(node) || node.index == line.from || node.index == line.to) continue;
      if (box.y >= y2 || box.bottom() <= y1) continue;
      const double x = x1 + (x2 - x1) * (box.y + box.height / 2 - y1) / (y2 - y1);
      if (x < box.x - 4 || x > box.x + box.width + 4) continue;
      left = std::min(left.value_or(box.x), box.x);
    }
    return left;
  }

  void DrawLine(size_t index) {
    const DrawnLine& line = lines_[index];
    const Box& from = At(line.from);
    const Box& to = At(line.to);
    const char* dash = line.kind == LineKind::kValue  ? ""
                       : line.kind == LineKind::kSees ? " stroke-dasharray=\"5 3\""
                                                      : " stroke-dasharray=\"1.5 3\"";
    double x1, y1, x2, y2, cx1, cy1, cx2, cy2;
    if (line.kind == LineKind::kNextRound) {
      // Out to the right and back up.
      const bool to_frame = IsFrame(graph_.node(line.to)) && graph_.node(line.from).parent == line.to;
      x1 = from.x + from.width, y1 = from.y + from.height / 2;
      x2 = to_frame ? to.x + to.width - 10 : to.x + to.width;
      y2 = to_frame ? to.y + to.header : to.y + to.height / 2;
      const double out = std::max(x1, x2) + (to_frame ? 0 : 30);
      cx1 = out, cy1 = y1, cx2 = to_frame ? x2 : out, cy2 = to_frame ? y2 + 40 : y2;
    } else {
      x1 = Spread(from, index, true), y1 = line.from_inside ? from.y + from.header : from.bottom();
      x2 = Spread(to, index, false), y2 = to.y;
      const double bend = std::clamp((y2 - y1) / 2, 14.0, 60.0);
      cx1 = x1, cy1 = y1 + bend, cx2 = x2, cy2 = y2 - bend;
      if (const std::optional<double> left = Obstacle(line, x1, y1, x2, y2)) {
        // Past it on the left, and in at the side.
        x2 = to.x, y2 = to.y + to.height / 2;
        if (line.from_inside) {
          x1 = from.x + 14;
          cx1 = x1, cy1 = y2 - 10, cx2 = x1 + 6, cy2 = y2;
        } else {
          x1 = from.x, y1 = from.y + from.height / 2;
          cx1 = cx2 = std::min({*left, x1, x2}) - 30, cy1 = y1, cy2 = y2;
        }
      }
    }
    out_ += fmt::format(
        "<path data-from=\"{}\" data-to=\"{}\" d=\"M{:.1f} {:.1f} C{:.1f} {:.1f} {:.1f} {:.1f} {:.1f} {:.1f}\" "
        "fill=\"none\" stroke=\"#5b6570\" stroke-width=\"1.3\"{} marker-end=\"url(#arrow)\"/>\n",
        XmlEscaped(PlaceOf(graph_.node(line.from), graph_)), XmlEscaped(PlaceOf(graph_.node(line.to), graph_)), x1, y1,
        cx1, cy1, cx2, cy2, x2, y2, dash);
    if (line.label.empty()) return;
    // At the middle of the curve, on a white ground.
    out_ += fmt::format(
        "<text x=\"{:.1f}\" y=\"{:.1f}\" font-size=\"10\" text-anchor=\"middle\" fill=\"#5b6570\" stroke=\"#ffffff\" "
        "stroke-width=\"3\" paint-order=\"stroke\">{}</text>\n",
        (x1 + 3 * cx1 + 3 * cx2 + x2) / 8, (y1 + 3 * cy1 + 3 * cy2 + y2) / 8 + 3, XmlEscaped(line.label));
  }

  void DrawLegend(double y) {
    struct Entry {
      const char* dash;
      const char* text;
    };
    double x = kMargin;
    for (const Entry& entry :
         {Entry{"", "judged, picked from, repaired"}, Entry{" stroke-dasharray=\"5 3\"", "seen in a prompt"},
          Entry{" stroke-dasharray=\"1.5 3\"", "into the next round"}}) {
      out_ += fmt::format(
          "<path d=\"M{:.1f} {:.1f} h26\" stroke=\"#5b6570\" stroke-width=\"1.3\"{} marker-end=\"url(#arrow)\"/>\n", x,
          y - 4, entry.dash);
      Text(x + 33, y, 10, "400", "#5b6570", entry.text);
      x += 60 + static_cast<double>(std::string_view(entry.text).size()) * 5.6;
    }
  }

  const CompiledGraph& graph_;
  const std::vector<DrawnLine> lines_;
  std::vector<std::vector<std::string>> details_;
  std::vector<Box> boxes_;  // by node
  std::vector<Box> sizes_;  // by sequence
  std::string out_;
};

}  // namespace

std::string DrawSvg(const CompiledGraph& graph) { return SvgDrawing(graph).Draw(); }

}  // namespace conclave::orchestrator
