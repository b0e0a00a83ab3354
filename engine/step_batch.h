// SPDX-License-Identifier: Apache-2.0
// Internal to the engine: the arrays of a StepBatch, allocated once for the largest step.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "engine/kv/block_table.h"
#include "engine/ops/ops.h"

namespace conclave::engine {

class StepBatchBuilder {
 public:
  StepBatchBuilder(int32_t tokens_max, int32_t sequences_max, int32_t pages_max, int32_t logit_rows_max);

  void Clear();
  // Adds one sequence's last `count` tokens stored in `table`: `tokens` are all its tokens, logits are wanted from
  // position `logits_from` on, and each token visits `experts` experts (0: a dense model). Returns the number of its
  // logit rows.
  int32_t Add(const PagePool& pool, const BlockTable& table, std::span<const int32_t> tokens, int32_t count,
              int32_t logits_from, int32_t experts);
  StepBatch batch() const;
  int32_t num_tokens() const { return static_cast<int32_t>(tokens_.size()); }
  int32_t num_logit_rows() const { return static_cast<int32_t>(logit_rows_.size()); }

 private:
  std::vector<int32_t> tokens_, positions_, kv_slots_, q_indptr_, page_indptr_, pages_, kv_len_, logit_rows_, experts_;
};

}  // namespace conclave::engine
