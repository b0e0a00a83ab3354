// SPDX-License-Identifier: Apache-2.0
#include "engine/step_batch.h"

namespace conclave::engine {

StepBatchBuilder::StepBatchBuilder(int32_t tokens_max, int32_t sequences_max, int32_t pages_max,
                                   int32_t logit_rows_max) {
  for (auto* of_tokens : {&tokens_, &positions_, &kv_slots_}) of_tokens->reserve(tokens_max);
  for (auto* of_sequences : {&q_indptr_, &page_indptr_, &kv_len_, &experts_}) of_sequences->reserve(sequences_max + 1);
  pages_.reserve(pages_max);
  logit_rows_.reserve(logit_rows_max);
  Clear();
}

void StepBatchBuilder::Clear() {
  for (auto* array : {&tokens_, &positions_, &kv_slots_, &pages_, &kv_len_, &logit_rows_, &experts_}) array->clear();
  q_indptr_.assign(1, 0);
  page_indptr_.assign(1, 0);
}

int32_t StepBatchBuilder::Add(const PagePool& pool, const BlockTable& table, std::span<const int32_t> tokens,
                              int32_t count, int32_t logits_from, int32_t experts) {
  int32_t rows = 0;
  for (int32_t position = table.tokens() - count; position < table.tokens(); ++position) {
    if (position >= logits_from) {
      logit_rows_.push_back(num_tokens());
      ++rows;
    }
    tokens_.push_back(tokens[position]);
    positions_.push_back(position);
    kv_slots_.push_back(table.Slot(pool, position));
  }
  q_indptr_.push_back(num_tokens());
  pages_.insert(pages_.end(), table.pages().begin(), table.pages().end());
  page_indptr_.push_back(static_cast<int32_t>(pages_.size()));
  kv_len_.push_back(table.tokens());
  if (experts > 0) experts_.push_back(experts);
  return rows;
}

StepBatch StepBatchBuilder::batch() const {
  return {.tokens = tokens_,
          .positions = positions_,
          .kv_slots = kv_slots_,
          .q_indptr = q_indptr_,
          .page_indptr = page_indptr_,
          .pages = pages_,
          .kv_len = kv_len_,
          .logit_rows = logit_rows_,
          .experts_per_token = experts_};
}

}  // namespace conclave::engine
