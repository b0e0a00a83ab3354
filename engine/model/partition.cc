// SPDX-License-Identifier: Apache-2.0
#include "engine/model/partition.h"

#include <algorithm>
#include <string_view>

#include "common/check.h"
#include "common/status.h"

namespace conclave::engine {
namespace {

// Part `rank` of `count` units, as even as can be: the first ranks have one more.
Range Deal(int64_t count, int32_t rank, int32_t ranks) {
  const int64_t each = count / ranks, more = count % ranks;
  return {each * rank + std::min<int64_t>(rank, more), each + (rank < more ? 1 : 0)};
}

// Columns are dealt out in units of a power of two.
Range DealColumns(int64_t columns, int32_t rank, int32_t ranks) {
  int64_t unit = kSplitColumns;
  while (unit > 1 && (columns % unit != 0 || columns / unit < ranks)) unit /= 2;
  return Deal(columns / unit, rank, ranks).Times(unit);
}

absl::Status CheckEven(int64_t count, std::string_view what, int32_t ranks) {
  if (count % ranks == 0) return absl::OkStatus();
  return InvalidArgument("ranks is {}: {} {} cannot be dealt out evenly; take a number that divides {}", ranks, count,
                         what, count);
}

absl::Status CheckEnough(int64_t count, std::string_view what, int32_t ranks) {
  if (count >= ranks) return absl::OkStatus();
  return InvalidArgument("ranks is {}: {} {} give not every rank a part; take at most {}", ranks, count, what, count);
}

absl::Status CheckSplit(const ModelSpec& spec, int32_t ranks) {
  RETURN_IF_ERROR(CheckEven(spec.heads, "attention heads", ranks));
  // All heads of latent attention share one key, which every rank has.
  if (spec.kv_heads % ranks != 0 && ranks % spec.kv_heads != 0) {
    return InvalidArgument("ranks is {}: {} key/value heads neither divide it nor are divided by it", ranks,
                           spec.kv_heads);
  }
  if (spec.head_norm_whole) {
    return Unimplemented("ranks is {}: {}'s norm over all heads of a layer cannot be split; take 1", ranks,
                         spec.family);
  }
  if (spec.num_expert_layers() < spec.layers) {
    RETURN_IF_ERROR(CheckEnough(spec.feed_forward, "feed-forward columns", ranks));
  }
  if (spec.experts) {
    RETURN_IF_ERROR(CheckEven(spec.experts->router.experts, "experts", ranks));
    if (spec.experts->shared_feed_forward > 0) {
      RETURN_IF_ERROR(CheckEnough(spec.experts->shared_feed_forward, "columns of the shared expert", ranks));
    }
  }
  return CheckEnough(spec.vocab, "rows of the vocabulary", ranks);
}

Partition PartOf(const ModelSpec& spec, int32_t rank, int32_t ranks) {
  Partition part = {.rank = rank, .ranks = ranks};
  part.heads = Deal(spec.heads, rank, ranks);
  // The heads of one group lie together, so a rank's own are of one group, or of whole ones.
  part.kv_heads =
      spec.kv_heads >= ranks ? Deal(spec.kv_heads, rank, ranks) : Range{int64_t{rank} * spec.kv_heads / ranks, 1};
  part.feed_forward = DealColumns(spec.feed_forward, rank, ranks);
  if (spec.experts) {
    part.shared_feed_forward = DealColumns(spec.experts->shared_feed_forward, rank, ranks);
    part.experts = Deal(spec.experts->router.experts, rank, ranks);
  }
  part.vocab = Deal(spec.vocab, rank, ranks);
  return part;
}

}  // namespace

absl::StatusOr<std::vector<Partition>> PlanPartition(const ModelSpec& spec, int32_t ranks) {
  if (ranks < 1 || ranks > kRanksMax) return InvalidArgument("ranks is {}: must be in [1, {}]", ranks, kRanksMax);
  if (ranks > 1) RETURN_IF_ERROR(CheckSplit(spec, ranks));
  std::vector<Partition> parts;
  parts.reserve(static_cast<size_t>(ranks));
  for (int32_t rank = 0; rank < ranks; ++rank) parts.push_back(PartOf(spec, rank, ranks));
  return parts;
}

Partition WholeModel(const ModelSpec& spec) { return PartOf(spec, 0, 1); }

ModelSpec SpecOfRank(const ModelSpec& spec, const Partition& part) {
  ModelSpec own = spec;
  own.heads = static_cast<int32_t>(part.heads.count);
  own.kv_heads = static_cast<int32_t>(part.kv_heads.count);
  own.feed_forward = static_cast<int32_t>(part.feed_forward.count);
  if (own.experts) own.experts->shared_feed_forward = static_cast<int32_t>(part.shared_feed_forward.count);
  own.vocab = static_cast<int32_t>(part.vocab.count);
  return own;
}

}  // namespace conclave::engine
