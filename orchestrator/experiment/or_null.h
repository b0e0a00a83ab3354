// SPDX-License-Identifier: Apache-2.0
// What may be missing, as JSON.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>

#include "orchestrator/experiment/stats/estimate.h"

namespace conclave::experiment {

template <typename T>
nlohmann::ordered_json OrNull(const std::optional<T>& value) {
  return value ? nlohmann::ordered_json(*value) : nlohmann::ordered_json();
}

// [lo, hi].
inline nlohmann::ordered_json OrNull(const std::optional<stats::Interval>& interval) {
  return interval ? nlohmann::ordered_json{interval->lo, interval->hi} : nlohmann::ordered_json();
}

}  // namespace conclave::experiment
