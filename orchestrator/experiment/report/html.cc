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

std::string WithMinus(std::string number) {
  if (number.starts_with('-')) number.replace(0, 1, "−");
  return number;
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

std::string Text(const Json& object, const char* key) {
  if (!object.is_object()) return "";
  const auto it = object.find(key);
  if (it == object.end() || it->is_null()) return "";
  return it->is_string() ? it->get<std::string>() : it->dump();
}

Json At(const Json& object, const char* key) {
  if (!object.is_object()) return Json();
  const auto it = object.find(key);
  return it == object.end() ? Json() : *it;
}

bool Flag(const Json& object, const char* key) {
  const Json value = At(object, key);
  return value.is_boolean() && value.get<bool>();
}

Json List(const Json& object, const char* key) {
  Json value = At(object, key);
  return value.is_array() ? value : Json::array();
}

std::optional<std::pair<double, double>> Ends(const Json& pair) {
  if (!pair.is_array() || pair.size() != 2 || !pair[0].is_number() || !pair[1].is_number()) return std::nullopt;
  return std::pair{pair[0].get<double>(), pair[1].get<double>()};
}

std::string Link(std::string_view query, std::string_view html) {
  if (query.empty()) return std::string(html);
  return fmt::format("<a class=\"q\" href=\"#items\" data-q=\"{}\">{}</a>", Escape(query), html);
}

std::string Tabs(std::string_view name, const std::vector<std::pair<std::string, std::string>>& tabs) {
  if (tabs.empty()) return "";
  if (tabs.size() == 1) return tabs[0].second;
  std::string out = fmt::format("<div class=\"tabs\" id=\"tabs-{}\">", name), rules;
  for (size_t i = 0; i < tabs.size(); ++i) {
    out += fmt::format("<input type=\"radio\" name=\"{0}\" id=\"{0}-{1}\"{2}><label for=\"{0}-{1}\">{3}</label>", name,
                       i, i == 0 ? " checked" : "", Escape(tabs[i].first));
    rules += fmt::format("{0}#{1}-{2}:checked ~ .tab-{2}", i == 0 ? "" : ",", name, i);
  }
  for (size_t i = 0; i < tabs.size(); ++i) out += fmt::format("<div class=\"tab tab-{}\">{}</div>", i, tabs[i].second);
  return out + fmt::format("</div><style>{}{{display:block}}</style>\n", rules);
}

void Table::Row(std::vector<std::string> cells, std::string_view row_class) {
  rows_.push_back({std::move(cells), std::string(row_class)});
}

std::string Table::Html() const {
  std::string out = "<div class=\"scroll stick\"><table><thead><tr>";
  std::vector<bool> right;
  for (const std::string& header : headers_) {
    right.push_back(header.starts_with(">"));
    const bool marked = right.back() || header.starts_with("~");
    out += fmt::format("<th{}>{}</th>", right.back() ? " class=\"r\"" : "", header.substr(marked ? 1 : 0));
  }
  out += "</tr></thead><tbody>\n";
  for (const OneRow& row : rows_) {
    out += row.row_class.empty() ? "<tr>" : fmt::format("<tr class=\"{}\">", row.row_class);
    for (size_t i = 0; i < row.cells.size(); ++i) {
      const bool wraps = headers_[i].starts_with("~");
      out += fmt::format("<td{}>{}</td>", right[i] ? " class=\"r\"" : wraps ? " class=\"wrap\"" : "", row.cells[i]);
    }
    out += "</tr>\n";
  }
  return out + "</tbody></table></div>\n";
}

}  // namespace conclave::report
