// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/pick/confidence.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "common/check.h"

namespace conclave::orchestrator {

std::optional<TokenConfidence> Summarize(const TokenTrace& trace, int32_t window) {
  CONCLAVE_CHECK(window >= 1);
  const std::vector<float>& each = trace.confidences;
  if (each.empty()) return std::nullopt;
  const auto count = static_cast<double>(each.size());
  const size_t width = std::min(each.size(), static_cast<size_t>(window));
  // A sum over each window, from sums over all that comes before.
  std::vector<double> before(each.size() + 1, 0);
  for (size_t i = 0; i < each.size(); ++i) before[i + 1] = before[i] + static_cast<double>(each[i]);
  std::vector<double> windows;
  windows.reserve(each.size() - width + 1);
  for (size_t i = width; i <= each.size(); ++i)
    windows.push_back((before[i] - before[i - width]) / static_cast<double>(width));
  TokenConfidence summary;
  summary.token_count = static_cast<int32_t>(each.size());
  summary.mean_logprob = trace.logprob_sum / count;
  summary.mean = before.back() / count;
  summary.tail = windows.back();
  std::sort(windows.begin(), windows.end());
  summary.lowest = windows.front();
  const size_t tenth = (windows.size() + 9) / 10;
  summary.bottom = std::accumulate(windows.begin(), windows.begin() + static_cast<std::ptrdiff_t>(tenth), 0.0) /
                   static_cast<double>(tenth);
  return summary;
}

std::vector<double> LogOddsWeights(std::span<const Record> records, int32_t answers, double shrink, double clip) {
  CONCLAVE_CHECK(answers >= 2 && shrink >= 0 && clip > 0 && clip < 0.5);
  double correct = 0, total = 0;
  for (const Record& record : records) {
    CONCLAVE_CHECK(record.total >= 1 && record.correct >= 0 && record.correct <= record.total);
    correct += static_cast<double>(record.correct);
    total += static_cast<double>(record.total);
  }
  std::vector<double> weights;
  for (const Record& record : records) {
    const double seen = static_cast<double>(record.correct) + shrink * (correct / total);
    const double p = std::clamp(seen / (static_cast<double>(record.total) + shrink), clip, 1 - clip);
    weights.push_back(std::max(0.0, std::log(p * (answers - 1) / (1 - p))));
  }
  return weights;
}

}  // namespace conclave::orchestrator
