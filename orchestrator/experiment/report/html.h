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
std::string WithMinus(std::string number);                     // "-0.13" -> "−0.13"
std::string PValue(const Json& value);                         // "0.031", "<0.001"
std::string Count(const Json& value);                          // 57398 -> "57,398"
std::string Quantity(const Json& value);  // three significant digits with a k, M, G, T, P, E suffix
std::string Interval(const Json& pair, bool is_signed, int digits = 1);  // [lo, hi] in points, or "–"

// Of JSON that may lack anything: the number at `key`, the text (other values as JSON writes them, "" for none), the
// value (null for none), the boolean (false for none), the array (empty for none), and a pair of numbers.
std::optional<double> Number(const Json& object, const char* key);
std::string Text(const Json& object, const char* key);
Json At(const Json& object, const char* key);
bool Flag(const Json& object, const char* key);
Json List(const Json& object, const char* key);
std::optional<std::pair<double, double>> Ends(const Json& pair);

// HTML that shows the items of a query (page.js) when clicked; as it is where the query is empty.
std::string Link(std::string_view query, std::string_view html);

// One of several views at a time on the screen, all of them on paper; the first is shown. `name` is unique on the page.
std::string Tabs(std::string_view name, const std::vector<std::pair<std::string, std::string>>& tabs);

// A table; cells are HTML already. Columns whose header starts with '>' are right-aligned, with '~' they wrap (the mark
// is dropped).
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

}  // namespace conclave::report
