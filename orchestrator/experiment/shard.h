// SPDX-License-Identifier: Apache-2.0
// A part of an experiment's items, so that many machines share one experiment: shard i of n takes the items i, i + n,
// ..
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace conclave::experiment {

inline constexpr int32_t kShardsMax = 100'000;

struct Shard {
  int32_t index = 1;  // from 1
  int32_t count = 1;  // 1: everything
  bool Has(size_t item) const { return item % static_cast<size_t>(count) == static_cast<size_t>(index - 1); }
  friend bool operator==(const Shard&, const Shard&) = default;
};

// "3/8". INVALID_ARGUMENT says what is needed.
absl::StatusOr<Shard> ParseShard(std::string_view text);

// Exactly the shards 1 .. n of one n, each once. INVALID_ARGUMENT names the first gap or overlap by the names given,
// which go with the shards.
absl::Status CheckComplete(const std::vector<Shard>& shards, const std::vector<std::string>& names);

}  // namespace conclave::experiment
