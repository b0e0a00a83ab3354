// SPDX-License-Identifier: Apache-2.0
// Which part of a model each of several ranks holds and computes: a pure function of the spec.
//
// Heads are split, and with them the keys and values that are cached; of a feed-forward network, columns of its hidden
// layer; of a mixture, whole experts; of the output head, rows of the vocabulary. What follows attention and a
// feed-forward network is then a sum over the ranks. Every rank holds the embedding, norms, routers, the biases that
// are added to sums, and what latent attention has before its heads, and caches the whole latent.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/model/model_spec.h"

namespace conclave::engine {

inline constexpr int32_t kRanksMax = 64;
// Splits of a feed-forward network lie at multiples of this, or of the largest smaller power of two that gives every
// rank a part: the longest block of a quantised format.
inline constexpr int32_t kSplitColumns = 256;

struct Range {
  int64_t first = 0, count = 0;
  int64_t end() const { return first + count; }
  // Each unit made of `size` smaller ones.
  Range Times(int64_t size) const { return {first * size, count * size}; }
  friend bool operator==(const Range&, const Range&) = default;
};

struct Partition {
  int32_t rank = 0, ranks = 1;
  Range heads = {};
  Range kv_heads = {};             // where there are fewer than ranks, several ranks hold the same one
  Range feed_forward = {};         // of dense layers
  Range shared_feed_forward = {};  // of the expert that every token visits
  Range experts = {};
  Range vocab = {};  // rows of the output head
};

// One for each rank, in order. INVALID_ARGUMENT, with the numbers, for ranks that are not in [1, kRanksMax], heads or
// experts that cannot be dealt out evenly, key/value heads that neither divide the ranks nor are divided by them, or a
// feed-forward network or vocabulary with less than one column or row for each rank. UNIMPLEMENTED for a norm over all
// heads at once.
absl::StatusOr<std::vector<Partition>> PlanPartition(const ModelSpec& spec, int32_t ranks);

// All of it, for one rank.
Partition WholeModel(const ModelSpec& spec);

// The model that the rank's decoder computes: fewer heads, narrower networks, fewer logits. It still routes to all of
// the experts.
ModelSpec SpecOfRank(const ModelSpec& spec, const Partition& part);

}  // namespace conclave::engine
