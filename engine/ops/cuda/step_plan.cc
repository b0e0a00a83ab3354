// SPDX-License-Identifier: Apache-2.0
#include "engine/ops/cuda/step_plan.h"

#include <algorithm>
#include <cstring>
#include <numeric>

#include "common/check.h"

namespace conclave::engine::cuda {
namespace {

// Blocks per multiprocessor that a step's attention aims at.
constexpr int32_t kBlocksPerMultiprocessor = 4;
// Those of shared prefixes fill a multiprocessor, and divide positions at a multiple of what they take at a time.
constexpr int32_t kTrunkBlocksPerMultiprocessor = 1;
constexpr int32_t kTrunkSplitMultiple = 64;
// A narrow item covers at least this many positions: shorter ones cost more in merging than they gain.
constexpr int32_t kSplitPositionsMin = 128;
// A prefix shorter than this is not worth a pass of its own.
constexpr int32_t kSharedPositionsMin = 128;
// Sequences with more new tokens than this (chunks of a prompt) attend to a shared prefix on their own: they read it
// once for many rows anyhow.
constexpr int32_t kSharerTokensMax = 16;

int32_t PowerOfTwo(int32_t n) {
  int32_t power = n > 0 ? 1 : 0;
  while (power < n) power *= 2;
  return power;
}

int64_t Align4(int64_t words) { return (words + 3) / 4 * 4; }

// Tokens of the order [begin, end) against positions [kv_begin, kv_end) of a page list.
struct Range {
  int32_t order_begin, order_end;
  int32_t pages_at, kv_begin, kv_end;
  bool more;    // other ranges of the same tokens follow or went before: the result is partial
  bool shared;  // every token sees every position
};

class Planner {
 public:
  Planner(const StepBatch& batch, const PlanShape& shape, StepPlan* plan)
      : batch_(batch), shape_(shape), plan_(plan), group_(shape.query_heads / shape.kv_heads) {}

  void Run() {
    OrderSequences();
    FindRanges();
    Split();
    ListMerges();
  }

 private:
  std::span<const int32_t> Pages(int32_t s) const {
    return batch_.pages.subspan(static_cast<size_t>(batch_.page_indptr[s]),
                                static_cast<size_t>(batch_.page_indptr[s + 1] - batch_.page_indptr[s]));
  }
  int32_t Tokens(int32_t s) const { return batch_.q_indptr[s + 1] - batch_.q_indptr[s]; }
  int32_t FirstPosition(int32_t s) const { return batch_.positions[batch_.q_indptr[s]]; }

  void OrderSequences() {
    sequences_.resize(batch_.kv_len.size());
    std::iota(sequences_.begin(), sequences_.end(), 0);
    std::sort(sequences_.begin(), sequences_.end(), [this](int32_t a, int32_t b) {
      const std::span<const int32_t> x = Pages(a), y = Pages(b);
      const auto [i, j] = std::mismatch(x.begin(), x.end(), y.begin(), y.end());
      if (i != x.end() && j != y.end()) return *i < *j;
      if (x.size() != y.size()) return x.size() < y.size();
      return a < b;
    });
    plan_->order.clear();
    for (const int32_t s : sequences_) {
      for (int32_t t = batch_.q_indptr[s]; t < batch_.q_indptr[s + 1]; ++t) plan_->order.push_back(t);
    }
  }

  // Whole pages that both begin with and that lie before the first new token of both.
  int32_t SharedPages(int32_t a, int32_t b) const {
    if (Tokens(a) > kSharerTokensMax || Tokens(b) > kSharerTokensMax) return 0;
    const std::span<const int32_t> x = Pages(a), y = Pages(b);
    const auto limit = static_cast<size_t>(std::min(FirstPosition(a), FirstPosition(b)) / shape_.page_tokens);
    const size_t n = std::min({x.size(), y.size(), limit});
    return static_cast<int32_t>(std::mismatch(x.begin(), x.begin() + n, y.begin()).first - x.begin());
  }

  // Runs of neighbours that share a prefix, grown while the pages not read again grow; the rest alone.
  void FindRanges() {
    ranges_.clear();
    int32_t order = 0;
    for (size_t i = 0; i < sequences_.size();) {
      size_t end = i + 1;
      int32_t shared = 0;
      int64_t saved = 0;
      for (size_t j = i + 1; j < sequences_.size(); ++j) {
        const int32_t pages = SharedPages(sequences_[i], sequences_[j]);
        const int32_t common = shared == 0 ? pages : std::min(shared, pages);
        const int64_t gain = int64_t{common} * static_cast<int64_t>(j - i);
        if (gain <= saved || common * shape_.page_tokens < kSharedPositionsMin) break;
        saved = gain;
        shared = common;
        end = j + 1;
      }
      const int32_t prefix = shared * shape_.page_tokens;
      int32_t tokens = 0;
      for (size_t j = i; j < end; ++j) tokens += Tokens(sequences_[j]);
      if (prefix > 0)
        ranges_.push_back({order, order + tokens, batch_.page_indptr[sequences_[i]], 0, prefix, true, true});
      for (size_t j = i; j < end; ++j) {
        const int32_t s = sequences_[j];
        ranges_.push_back(
            {order, order + Tokens(s), batch_.page_indptr[s], prefix, batch_.kv_len[s], prefix > 0, false});
        order += Tokens(s);
      }
      i = end;
    }
  }

  int32_t Rows(const Range& range) const { return (range.order_end - range.order_begin) * group_; }
  bool IsTrunk(const Range& range) const { return shape_.trunk_items && range.shared && Rows(range) > kRowsOfWideItem; }
  int32_t RowsOfItem(const Range& range) const {
    return IsTrunk(range) ? kRowsOfTrunkItem : Rows(range) <= kRowsOfNarrowItem ? kRowsOfNarrowItem : kRowsOfWideItem;
  }
  std::vector<AttentionItem>& ItemsOf(const Range& range) const {
    return IsTrunk(range) ? plan_->trunk : Rows(range) <= kRowsOfNarrowItem ? plan_->narrow : plan_->wide;
  }

  // Positions per block, so that all items together (of shared prefixes, or the rest) keep the device busy.
  int64_t PositionsPerBlock(bool trunk, int32_t blocks_per_multiprocessor) const {
    int64_t work = 0;  // positions, weighted by row tiles
    for (const Range& range : ranges_) {
      const int32_t tile = RowsOfItem(range);
      if (IsTrunk(range) == trunk) work += int64_t{range.kv_end - range.kv_begin} * ((Rows(range) + tile - 1) / tile);
    }
    const int64_t blocks = std::max<int64_t>(1, blocks_per_multiprocessor * shape_.multiprocessors / shape_.kv_heads);
    return (work + blocks - 1) / blocks;
  }

  // Longer splits where the partial results would not fit; unsplit ranges always do.
  void Split() {
    int64_t positions = kSplitPositionsMin;
    while (positions < PositionsPerBlock(false, kBlocksPerMultiprocessor)) positions *= 2;
    int64_t trunk = std::max<int64_t>(kSplitPositionsMin, PositionsPerBlock(true, kTrunkBlocksPerMultiprocessor));
    trunk = (trunk + kTrunkSplitMultiple - 1) / kTrunkSplitMultiple * kTrunkSplitMultiple;
    constexpr int64_t kMost = 1 << 30;
    while (!TrySplit(static_cast<int32_t>(std::min(positions, kMost)), static_cast<int32_t>(std::min(trunk, kMost)))) {
      positions *= 2;
      trunk *= 2;
    }
  }

  bool TrySplit(int32_t positions_of_rest, int32_t positions_of_trunk) {
    plan_->narrow.clear();
    plan_->wide.clear();
    plan_->trunk.clear();
    plan_->partial_rows = 0;
    partials_.assign(plan_->order.size(), {});
    bool any_split = false;
    for (const Range& range : ranges_) {
      const int32_t positions = IsTrunk(range) ? positions_of_trunk : positions_of_rest;
      const int32_t splits = std::max(1, (range.kv_end - range.kv_begin + positions - 1) / positions);
      any_split = any_split || splits > 1;
      for (int32_t split = 0; split < splits; ++split) {
        const int32_t begin = range.kv_begin + split * positions;
        AddItems(range, begin, std::min(range.kv_end, begin + positions), splits > 1 || range.more);
      }
      if (plan_->partial_rows > shape_.partial_rows_max) break;
    }
    CONCLAVE_CHECK(any_split || plan_->partial_rows <= shape_.partial_rows_max);
    return plan_->partial_rows <= shape_.partial_rows_max;
  }

  void AddItems(const Range& range, int32_t kv_begin, int32_t kv_end, bool partial) {
    const int32_t rows = Rows(range), first = range.order_begin * group_;
    const auto base = static_cast<int32_t>(plan_->partial_rows);
    if (partial) {
      for (int32_t i = range.order_begin; i < range.order_end; ++i) {
        partials_[static_cast<size_t>(i)].push_back({base + (i - range.order_begin) * group_, rows});
      }
      plan_->partial_rows += int64_t{rows} * shape_.kv_heads;
    }
    const int32_t tile = RowsOfItem(range);
    for (int32_t row = 0; row < rows; row += tile) {
      const AttentionItem item = {first + row, std::min(tile, rows - row), range.pages_at, kv_begin,
                                  kv_end,      partial ? base + row : -1,  rows,           0};
      ItemsOf(range).push_back(item);
    }
  }

  void ListMerges() {
    const size_t tokens = plan_->order.size();
    plan_->merge_of_token.assign(tokens + 1, 0);
    for (size_t i = 0; i < tokens; ++i) {
      plan_->merge_of_token[static_cast<size_t>(plan_->order[i]) + 1] = static_cast<int32_t>(partials_[i].size());
    }
    for (size_t t = 0; t < tokens; ++t) plan_->merge_of_token[t + 1] += plan_->merge_of_token[t];
    plan_->merges.assign(static_cast<size_t>(plan_->merge_of_token[tokens]) * 2, 0);
    for (size_t i = 0; i < tokens; ++i) {
      auto at = static_cast<size_t>(plan_->merge_of_token[static_cast<size_t>(plan_->order[i])]) * 2;
      for (const Partial& partial : partials_[i]) {
        plan_->merges[at++] = partial.row;
        plan_->merges[at++] = partial.rows;
      }
    }
  }

  struct Partial {
    int32_t row, rows;
  };

  const StepBatch& batch_;
  const PlanShape& shape_;
  StepPlan* const plan_;
  const int32_t group_;
  std::vector<int32_t> sequences_;
  std::vector<Range> ranges_;
  std::vector<std::vector<Partial>> partials_;  // by place in the order
};

}  // namespace

StepOffsets OffsetsOf(const StepKey& key) {
  constexpr int64_t kItemWords = sizeof(AttentionItem) / sizeof(int32_t);
  StepOffsets o = {};
  int64_t at = 0;
  const auto take = [&at](int64_t words) {
    const int64_t here = at;
    at = Align4(at + words);
    return here;
  };
  o.counts = take(3);
  o.tokens = take(key.tokens);
  o.positions = take(key.tokens);
  o.kv_slots = take(key.tokens);
  o.logit_rows = take(key.logit_rows);
  o.experts = take(key.tokens);
  o.order = take(key.tokens);
  o.merge_of_token = take(key.tokens + 1);
  o.narrow = take(key.narrow_items * kItemWords);
  o.wide = take(key.wide_items * kItemWords);
  o.trunk = take(key.trunk_items * kItemWords);
  o.merges = take(int64_t{key.merges} * 2);
  o.pages = take(key.pages);
  o.words = at;
  return o;
}

int64_t PartialRowsMax(const Ops::StepLimits& limits, int32_t multiprocessors) {
  // Two parts of every token that may share a prefix, and as many splits as the device has blocks.
  const int64_t sharers = std::min<int64_t>(limits.tokens_max, int64_t{limits.sequences_max} * kSharerTokensMax);
  return 2 * sharers * limits.query_heads +
         int64_t{kBlocksPerMultiprocessor} * multiprocessors * std::max(kRowsOfWideItem, limits.query_heads);
}

int64_t WordsMax(const Ops::StepLimits& limits, const PlanShape& shape) {
  const int64_t blocks = int64_t{kBlocksPerMultiprocessor} * shape.multiprocessors;
  const int64_t ranges = 2 * int64_t{limits.sequences_max};
  const int64_t tiles = int64_t{limits.tokens_max} * (shape.query_heads / shape.kv_heads) / kRowsOfWideItem;
  StepKey key;
  key.tokens = limits.tokens_max;
  key.logit_rows = limits.logit_rows_max;
  key.pages = PowerOfTwo(limits.pages_max);
  key.merges = PowerOfTwo(static_cast<int32_t>(shape.partial_rows_max / shape.query_heads));
  key.narrow_items = PowerOfTwo(static_cast<int32_t>(ranges + blocks));
  key.wide_items = key.trunk_items = PowerOfTwo(static_cast<int32_t>(ranges + tiles + blocks));
  return OffsetsOf(key).words;
}

void PlanStep(const StepBatch& batch, const PlanShape& shape, StepPlan* plan) {
  Planner(batch, shape, plan).Run();
  plan->key = {.tokens = static_cast<int32_t>(batch.tokens.size()),
               .logit_rows = static_cast<int32_t>(batch.logit_rows.size()),
               .pages = PowerOfTwo(static_cast<int32_t>(batch.pages.size())),
               .narrow_items = PowerOfTwo(static_cast<int32_t>(plan->narrow.size())),
               .wide_items = PowerOfTwo(static_cast<int32_t>(plan->wide.size())),
               .trunk_items = PowerOfTwo(static_cast<int32_t>(plan->trunk.size())),
               .merges = PowerOfTwo(static_cast<int32_t>(plan->merges.size() / 2))};
  plan->offsets = OffsetsOf(plan->key);
}

void WriteStep(const StepBatch& batch, const StepPlan& plan, int32_t* words) {
  const StepOffsets& o = plan.offsets;
  const auto put = [words](int64_t at, const auto& values) {
    if (!values.empty()) std::memcpy(words + at, values.data(), values.size() * sizeof(values[0]));
  };
  words[o.counts] = static_cast<int32_t>(plan.narrow.size());
  words[o.counts + 1] = static_cast<int32_t>(plan.wide.size());
  words[o.counts + 2] = static_cast<int32_t>(plan.trunk.size());
  put(o.tokens, batch.tokens);
  put(o.positions, batch.positions);
  put(o.kv_slots, batch.kv_slots);
  put(o.logit_rows, batch.logit_rows);
  for (size_t s = 0; s < batch.kv_len.size(); ++s) {
    const int32_t experts = batch.experts_per_token.empty() ? 0 : batch.experts_per_token[s];
    std::fill(words + o.experts + batch.q_indptr[s], words + o.experts + batch.q_indptr[s + 1], experts);
  }
  put(o.order, plan.order);
  put(o.merge_of_token, plan.merge_of_token);
  put(o.narrow, plan.narrow);
  put(o.wide, plan.wide);
  put(o.trunk, plan.trunk);
  put(o.merges, plan.merges);
  put(o.pages, batch.pages);
}

}  // namespace conclave::engine::cuda
