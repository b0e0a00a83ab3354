// SPDX-License-Identifier: Apache-2.0
// Small pieces of HTML: escaping, tables, numbers as a paper prints them, and the one stylesheet.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace conclave::report {

using Json = nlohmann::ordered_json;

// & < > " ' escaped; control characters other than newline and tab become spaces; invalid UTF-8 becomes U+FFFD.
std::string Escape(std::string_view text);

// Numbers. A missing value (JSON null, or absent) prints as an en dash.
std::string Percent(const Json& value, int digits = 1);        // 0.8749 -> "87.5"
std::string SignedPercent(const Json& value, int digits = 1);  // 0.023 -> "+2.3", -0.001 -> "−0.1"
std::string PValue(const Json& value);                         // "0.031", "<0.001"
std::string Count(const Json& value);                          // 57398 -> "57,398"
std::string Quantity(const Json& value);  // three significant digits with a k, M, G, T, P, E suffix
std::string Interval(const Json& pair, bool is_signed, int digits = 1);  // [lo, hi] in points, or "–"

// The number at `key`, if it is one.
std::optional<double> Number(const Json& object, const char* key);

// A table; cells are HTML already. Columns whose header starts with '>' are right-aligned (the mark is dropped).
class Table {
 public:
  explicit Table(std::vector<std::string> headers) : headers_(std::move(headers)) {}
  void Row(std::vector<std::string> cells, std::string_view row_class = "");
  std::string Html() const;

 private:
  struct OneRow {
    std::vector<std::string> cells;
    std::string row_class;
  };
  std::vector<std::string> headers_;
  std::vector<OneRow> rows_;
};

// The report's stylesheet, without <style>.
std::string_view Stylesheet();

}  // namespace conclave::report
