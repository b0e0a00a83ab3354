// SPDX-License-Identifier: Apache-2.0
// Internal to the engine: the ranks of one model, stepping together as if they were one decoder. Rank 0 computes on the
// caller's thread, each other rank on a thread of its own; all get the same batches in the same order, so their caches
// hold the same pages of the same tokens, each its own heads.
#pragma once

#include <cstdint>
#include <span>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "common/mutex.h"
#include "engine/comm/communicator.h"
#include "engine/model/decoder.h"
#include "engine/model/partition.h"

namespace conclave::engine {

class RankGroup {
 public:
  // Not owned. A single rank has no communicator.
  struct Rank {
    Decoder* decoder;
    Communicator* communicator;
    Range vocab;  // columns of the logits that its own are
  };

  // `spec`: of the whole model. `host_logits`: where the logits of a step go fastest, room for the largest step's
  // [O, V].
  RankGroup(ModelSpec spec, std::vector<Rank> ranks, std::span<float> host_logits);
  ~RankGroup();
  RankGroup(const RankGroup&) = delete;
  RankGroup& operator=(const RankGroup&) = delete;

  const ModelSpec& spec() const { return spec_; }
  std::span<float> host_logits() const { return host_logits_; }

  // One step: the copies in the order given, then Decoder::Forward. logits [O, V]. If a rank fails, the others are
  // released from waiting for it; the error, of the first that failed, names the rank, and there are no more steps.
  absl::Status Step(std::span<const PageCopy> copies, const StepBatch& batch, std::span<float> logits);
  // As of Decoder, whose routing is that of all ranks.
  absl::Status LastRouting(std::vector<int32_t>* ids, std::vector<float>* weights);

 private:
  void Run(size_t rank);
  void StepOf(size_t rank);

  const ModelSpec spec_;
  const std::vector<Rank> ranks_;
  const std::span<float> host_logits_;

  // Of the step being computed: written before it begins, read by all ranks.
  std::span<const PageCopy> copies_;
  StepBatch batch_;
  std::span<float> logits_;

  Mutex mutex_;
  CondVar begun_, ended_;
  uint64_t steps_ ABSL_GUARDED_BY(mutex_) = 0;  // begun
  size_t running_ ABSL_GUARDED_BY(mutex_) = 0;  // threads in the step
  bool stop_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Status failure_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::thread> threads_;
};

}  // namespace conclave::engine
