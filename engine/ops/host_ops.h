// SPDX-License-Identifier: Apache-2.0
// What the backends in host memory (reference, cpu) have in common: buffers, validation, the step's plan, copies.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "engine/ops/host_memory.h"
#include "engine/ops/ops.h"

namespace conclave::engine {

// The step as given, and per token the sequence it belongs to.
struct HostPlan : AttentionPlan {
  StepBatch batch;
  std::vector<int32_t> sequence_of_token;  // [T]
};

// OK if every source is whole rows of `columns` elements in a format that DecodeRow knows, and columns agree (kVector:
// one row each).
absl::Status CheckSources(std::span<const WeightSource> sources, WeightUse use);

// The same for a stack: `count` groups of equally many sources, all groups of one shape. `stack` gets that shape.
absl::Status CheckStack(std::span<const WeightSource> sources, int64_t count, StackUse use, WeightStack* stack);

// Bytes of the source's rows in its format.
int64_t SourceBytes(const WeightSource& source);
// Rows first .. first + count of the source to `out`, as RowReader::Read gives them.
void ReadRows(const WeightSource& source, int64_t first, int64_t count, std::byte* out);

// The sources of a kVector, decoded and joined. `out`: the sum of their columns.
void DecodeVector(std::span<const WeightSource> sources, float* out);

// OK if the limits are positive and the layout can be.
absl::Status CheckLimits(const Ops::StepLimits& limits, const KvLayout& layout);

// CHECKs the step's internal consistency against the limits.
void CheckBatch(const StepBatch& batch, const Ops::StepLimits& limits);

// CHECK what Attention, Route and ExpertFfn are given.
void CheckTerms(const AttentionTerms& terms, const Ops::StepLimits& limits);
void CheckRoute(const View& ids, const View& weights, const View& logits, const Weight* selection_bias,
                const RouterSpec& router);
void CheckExpertFfn(const View& y, const View& x, const View& ids, const View& weights, const WeightStack& gate_up,
                    const WeightStack& down, const ExpertTerms& terms, const Ops::StepLimits& limits);

class HostOps : public Ops {
 public:
  absl::StatusOr<View> Allocate(DType dtype, Shape shape) override;
  absl::StatusOr<std::span<float>> AllocateHost(int64_t elements) override;
  absl::Status Prepare(const StepLimits& limits, const KvLayout& layout) override;
  int64_t weight_bytes() const override { return weight_bytes_; }
  int64_t buffer_bytes() const override { return buffers_.bytes(); }
  absl::Status EndStep(const View& logits, std::span<float> host) override;
  absl::Status Download(const View& from, std::span<std::byte> host) override;
  void KvCopyPages(const View& pages, std::span<const int32_t> from, std::span<const int32_t> to) override;
  void GatherRows(const View& y, const View& x, const AttentionPlan& plan) override;

 protected:
  // Fills `plan`; no allocation after Prepare reserved its vectors.
  void FillPlan(const StepBatch& batch, HostPlan* plan);
  // Experts of token t under its sequence's policy; CHECKs the range.
  static int32_t ExpertsOf(const HostPlan& plan, int64_t t, const RouterSpec& router);

  HostMemory buffers_, results_;
  int64_t weight_bytes_ = 0;
  StepLimits limits_ = {};
  KvLayout layout_ = {};
};

}  // namespace conclave::engine
