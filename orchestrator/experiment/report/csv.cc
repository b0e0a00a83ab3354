// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/experiment/report/csv.h"

namespace conclave::report {
namespace {

std::string Cell(const Json& value) {
  if (value.is_null()) return "";
  std::string text = value.is_string() ? value.get<std::string>() : value.dump();
  if (text.find_first_of(",\"\r\n") == text.npos) return text;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '"') text.insert(i++, 1, '"');
  }
  return "\"" + text + "\"";
}

std::string Line(const std::vector<Json>& cells) {
  std::string out;
  for (size_t i = 0; i < cells.size(); ++i) out += (i == 0 ? "" : ",") + Cell(cells[i]);
  return out + "\r\n";
}

// Lower or upper end of an interval, or null.
Json End(const Json& interval, size_t which) { return Ends(interval) ? interval[which] : Json(); }

}  // namespace

std::string ArmsCsv(const Json& summary) {
  static constexpr const char* kOutcomes[] = {"correct", "wrong", "no_answer", "truncated", "grader_error", "failed"};
  static constexpr const char* kCosts[] = {"calls",   "prompt_tokens", "cached_tokens", "output_tokens",
                                           "flops",   "weight_bytes",  "kv_bytes",      "lost_calls",
                                           "seconds", "estimated"};
  std::vector<Json> head = {"arm", "n", "accuracy", "se", "ci95_lo", "ci95_hi"};
  head.insert(head.end(), std::begin(kOutcomes), std::end(kOutcomes));
  head.insert(head.end(), std::begin(kCosts), std::end(kCosts));
  std::string out = Line(head);
  for (const Json& arm : List(summary, "arms")) {
    std::vector<Json> row = {At(arm, "name"),         At(arm, "n"),           At(arm, "accuracy"), At(arm, "se"),
                             End(At(arm, "ci95"), 0), End(At(arm, "ci95"), 1)};
    for (const char* key : kOutcomes) row.push_back(At(At(arm, "outcomes"), key));
    for (const char* key : kCosts) row.push_back(At(At(arm, "cost"), key));
    out += Line(row);
  }
  return out;
}

std::string ContrastsCsv(const Json& summary) {
  static constexpr const char* kFields[] = {"primary", "n", "clusters", "difference", "se"};
  static constexpr const char* kMore[] = {"correlation",   "a_only",      "b_only", "mcnemar_exact",
                                          "mcnemar_mid_p", "sign_flip_p", "p_holm", "margin",
                                          "equivalent",    "noninferior", "mde80"};
  std::vector<Json> head = {"a", "b"};
  head.insert(head.end(), std::begin(kFields), std::end(kFields));
  head.insert(head.end(), {"ci95_lo", "ci95_hi"});
  head.insert(head.end(), std::begin(kMore), std::end(kMore));
  std::string out = Line(head);
  for (const Json& c : List(summary, "contrasts")) {
    std::vector<Json> row = {At(c, "a"), At(c, "b")};
    for (const char* key : kFields) row.push_back(At(c, key));
    row.insert(row.end(), {End(At(c, "ci95"), 0), End(At(c, "ci95"), 1)});
    for (const char* key : kMore) row.push_back(At(c, key));
    out += Line(row);
  }
  return out;
}

std::string CurvesCsv(const Json& summary) {
  static constexpr const char* kFields[] = {"samples",   "cost",      "accuracy",    "se",
                                            "any_right", "all_right", "independent", "correlated"};
  std::vector<Json> head = {"arm"};
  head.insert(head.end(), std::begin(kFields), std::end(kFields));
  std::string out = Line(head);
  for (const Json& curve : List(summary, "curves")) {
    for (const Json& point : List(curve, "points")) {
      std::vector<Json> row = {At(curve, "arm")};
      for (const char* key : kFields) row.push_back(At(point, key));
      out += Line(row);
    }
  }
  return out;
}

}  // namespace conclave::report
