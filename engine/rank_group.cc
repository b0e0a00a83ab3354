// SPDX-License-Identifier: Apache-2.0
#include "engine/rank_group.h"

#include <algorithm>
#include <utility>

#include "common/check.h"
#include "common/status.h"

namespace conclave::engine {

RankGroup::RankGroup(ModelSpec spec, std::vector<Rank> ranks, std::span<float> host_logits)
    : spec_(std::move(spec)), ranks_(std::move(ranks)), host_logits_(host_logits) {
  CONCLAVE_CHECK(!ranks_.empty());
  for (size_t rank = 1; rank < ranks_.size(); ++rank) threads_.emplace_back([this, rank] { Run(rank); });
}

RankGroup::~RankGroup() {
  {
    MutexLock lock(&mutex_);
    stop_ = true;
    begun_.SignalAll();
  }
  for (std::thread& thread : threads_) thread.join();
}

absl::Status RankGroup::Step(std::span<const PageCopy> copies, const StepBatch& batch, std::span<float> logits) {
  if (ranks_.size() == 1) {
    ranks_[0].decoder->CopyPages(copies);
    return ranks_[0].decoder->Forward(batch, logits);
  }
  copies_ = copies;
  batch_ = batch;
  logits_ = logits;
  {
    MutexLock lock(&mutex_);
    ++steps_;
    running_ = threads_.size();
    begun_.SignalAll();
  }
  StepOf(0);
  MutexLock lock(&mutex_);
  while (running_ > 0) ended_.Wait(&mutex_);
  return failure_;
}

absl::Status RankGroup::LastRouting(std::vector<int32_t>* ids, std::vector<float>* weights) {
  return ranks_[0].decoder->LastRouting(ids, weights);
}

void RankGroup::Run(size_t rank) {
  uint64_t seen = 0;
  while (true) {
    {
      MutexLock lock(&mutex_);
      while (steps_ == seen && !stop_) begun_.Wait(&mutex_);
      if (stop_) return;
      seen = steps_;
    }
    StepOf(rank);
    MutexLock lock(&mutex_);
    if (--running_ == 0) ended_.Signal();
  }
}

void RankGroup::StepOf(size_t rank) {
  const auto& [decoder, communicator, vocab] = ranks_[rank];
  const size_t rows = batch_.logit_rows.size(), width = static_cast<size_t>(vocab.count);
  const std::span<float> own = decoder->host_logits().first(rows * width);
  decoder->CopyPages(copies_);
  if (const absl::Status status = decoder->Forward(batch_, own); !status.ok()) {
    absl::Status failure;
    {
      MutexLock lock(&mutex_);
      if (failure_.ok()) failure_ = Annotate(status, fmt::format("rank {}", rank));
      failure = failure_;
    }
    return communicator->Abort(failure);
  }
  for (size_t row = 0; row < rows; ++row) {
    std::copy_n(own.begin() + row * width, width,
                logits_.begin() + row * static_cast<size_t>(spec_.vocab) + vocab.first);
  }
}

}  // namespace conclave::engine
