// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/graph/diagnostics.h"

#include <algorithm>

#include "protos/textproto.h"

namespace conclave::orchestrator {

void Diagnostics::Add(int line, std::string what) {
  if (found_.size() >= kDiagnosticsMax) return;
  std::string place;
  if (!file_.empty()) place = line > 0 ? fmt::format("{}:{}: ", file_, line) : file_ + ": ";
  found_.emplace_back(line, place + what);
}

std::vector<std::string> Diagnostics::Sorted() const {
  std::vector<std::pair<int, std::string>> sorted = found_;
  std::stable_sort(sorted.begin(), sorted.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  std::vector<std::string> lines;
  lines.reserve(sorted.size());
  for (auto& [line, text] : sorted) lines.push_back(std::move(text));
  return lines;
}

std::string Suggest(std::string_view name, std::vector<std::string> known, std::string_view intro) {
  if (const std::string_view nearest = Nearest(name, known); !nearest.empty()) {
    return fmt::format("; did you mean \"{}\"?", nearest);
  }
  std::sort(known.begin(), known.end());
  known.erase(std::unique(known.begin(), known.end()), known.end());
  if (known.empty()) return "; there are none";
  return fmt::format("; {}: {}", intro, fmt::join(known, ", "));
}

}  // namespace conclave::orchestrator
