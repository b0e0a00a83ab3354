// SPDX-License-Identifier: Apache-2.0
// The CPU backend: one implementation of Ops over a kernel table (kernels.h) and a thread pool.
//
// Results do not depend on the number of threads, on which tokens share a step, on page layout or on prefix sharing:
// a row's numbers are the same bits whatever it is computed with (kernels.h states the contract,
// ops_reproducibility_test.cc checks it).
#pragma once

#include <memory>

#include "absl/functional/function_ref.h"
#include "engine/ops/cpu/attention_plan.h"
#include "engine/ops/cpu/cpu_experts.h"
#include "engine/ops/cpu/cpu_weight.h"
#include "engine/ops/cpu/kernels.h"
#include "engine/ops/cpu/thread_pool.h"
#include "engine/ops/host_ops.h"
#include "engine/ops/ops.h"

namespace conclave::engine::cpu {

// `kernels` must be one this CPU runs. `threads` >= 1, the caller included.
std::unique_ptr<Ops> MakeCpuOps(const Kernels& kernels, int threads);

class CpuOps final : public HostOps {
 public:
  CpuOps(const Kernels& kernels, int threads) : kernels_(kernels), pool_(threads), experts_(kernels, &pool_) {}

  std::string_view name() const override { return kernels_.name; }
  DType kv_dtype() const override { return kernels_.kv_element_bytes == 2 ? DType::kF16 : DType::kF32; }
  bool uses_sources_in_place() const override { return !kernels_.repacks; }

  absl::StatusOr<const Weight*> MakeWeight(std::span<const WeightSource> sources, WeightUse use) override;
  absl::StatusOr<const WeightStack*> MakeWeightStack(std::span<const WeightSource> sources, int64_t count,
                                                     StackUse use) override;
  absl::Status Prepare(const StepLimits& limits, const KvLayout& layout) override;
  const AttentionPlan& BeginStep(const StepBatch& batch) override;

  void Embed(const View& y, const Weight& table, const AttentionPlan& plan) override;
  void AddRmsNorm(const View& residual, const View& y, const View& x, const Weight& gain, float eps) override;
  void Gemm(const View& y, const View& x, const Weight& w, Accumulate accumulate) override;
  void AddBias(const View& y, const Weight& bias) override;
  void HeadRmsNorm(const View& x, int64_t row_stride, const Weight& gain, float eps) override;
  void Rope(const View& x, int64_t row_stride, const RopeSpec& rope, const AttentionPlan& plan) override;
  int64_t kv_page_bytes(const KvLayout& layout) const override;
  void KvWrite(const View& pages, const View& k, const View& v, int64_t row_stride, const AttentionPlan& plan) override;
  void Attention(const View& y, const View& q, int64_t q_row_stride, const View& pages, const AttentionTerms& terms,
                 const AttentionPlan& plan) override;
  void SwiGlu(const View& y, const View& gate_up) override;
  void SigmoidGate(const View& y, const View& gate) override;
  void HeadGemm(const View& y, const View& x, const WeightStack& w) override;
  void Route(const View& ids, const View& weights, const View& logits, const Weight* selection_bias,
             const RouterSpec& router, const AttentionPlan& plan) override;
  void ExpertFfn(const View& y, const View& x, const View& ids, const View& weights, const WeightStack& gate_up,
                 const WeightStack& down, const ExpertTerms& terms, Accumulate accumulate) override;

 private:
  void ForRows(int64_t rows, int64_t width, absl::FunctionRef<void(int64_t)> body) { pool_.ForRows(rows, width, body); }
  void QuantizeRows(const View& x, const CpuWeight& w);
  const RopeTable& FindRopeTable(const RopeSpec& spec, CpuPlan* plan);
  int32_t DimVPadded() const { return (layout_.dim_v + 15) & ~15; }
  int64_t HeadBytes(const KvLayout& layout) const {
    return int64_t{layout.page_tokens} * (layout.dim_k + ((layout.dim_v + 15) & ~15)) * kernels_.kv_element_bytes;
  }
  AttentionShape Shape() const { return {limits_.query_heads, layout_.kv_heads, pool_.threads(), partials_max_}; }
  float* Scratch(int thread) const { return scratch_ + thread * scratch_floats_; }

  const Kernels& kernels_;
  ThreadPool pool_;
  WeightStore weights_;
  int64_t k_max_ = 0;
  int64_t row_blocks_max_ = 0;   // of a row of activations, in all orders that a weight wants
  int64_t head_blocks_max_ = 0;  // of a token's heads, in HeadGemm
  ExpertSizes expert_sizes_;
  ExpertRunner experts_;

  CpuPlan plan_;
  ActivationBlock* blocks_ = nullptr;       // [tokens_max, row_blocks_max]
  ActivationBlock* head_blocks_ = nullptr;  // [H, tokens_max, K / 32]
  float* scratch_ = nullptr;                // per thread
  int64_t scratch_floats_ = 0;
  float* partials_ = nullptr;
  int64_t partials_max_ = 0;  // segments of tokens
};

}  // namespace conclave::engine::cpu
