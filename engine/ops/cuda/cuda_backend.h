// SPDX-License-Identifier: Apache-2.0
// The CUDA backend's state. Its calls are recorded (cuda_ops.cc), enqueued (issue.cc) and, when a step's shape and
// calls come again, replayed as one graph (steps.cc).
#pragma once

#include <list>
#include <memory>
#include <vector>

#include "engine/ops/cuda/blas_lt.h"
#include "engine/ops/cuda/cuda_weight.h"
#include "engine/ops/cuda/device.h"
#include "engine/ops/cuda/fusion.h"
#include "engine/ops/cuda/kernels.h"
#include "engine/ops/cuda/op_record.h"
#include "engine/ops/cuda/step_plan.h"
#include "engine/ops/ops.h"

namespace conclave::engine::cuda {

class CudaOps final : public Ops {
 public:
  static absl::StatusOr<std::unique_ptr<Ops>> Create();
  ~CudaOps() override;

  std::string_view name() const override { return "cuda"; }
  DType kv_dtype() const override { return DType::kF16; }
  absl::StatusOr<const Weight*> MakeWeight(std::span<const WeightSource> sources, WeightUse use) override;
  absl::StatusOr<const WeightStack*> MakeWeightStack(std::span<const WeightSource> sources, int64_t count,
                                                     StackUse use) override;
  bool uses_sources_in_place() const override { return false; }
  absl::StatusOr<View> Allocate(DType dtype, Shape shape) override;
  absl::StatusOr<std::span<float>> AllocateHost(int64_t elements) override;
  absl::Status Prepare(const StepLimits& limits, const KvLayout& layout) override;
  int64_t weight_bytes() const override { return weights_.bytes(); }
  int64_t buffer_bytes() const override { return buffers_.bytes(); }
  const AttentionPlan& BeginStep(const StepBatch& batch) override;
  absl::Status EndStep(const View& logits, std::span<float> host) override;
  absl::Status Download(const View& from, std::span<std::byte> host) override;
  void Embed(const View& y, const Weight& table, const AttentionPlan& plan) override;
  void AddRmsNorm(const View& residual, const View& y, const View& x, const Weight& gain, float eps) override;
  void Gemm(const View& y, const View& x, const Weight& w, Accumulate accumulate) override;
  void AddBias(const View& y, const Weight& bias) override;
  void HeadRmsNorm(const View& x, int64_t row_stride, const Weight& gain, float eps) override;
  void Rope(const View& x, int64_t row_stride, const RopeSpec& rope, const AttentionPlan& plan) override;
  int64_t kv_page_bytes(const KvLayout& layout) const override;
  void KvWrite(const View& pages, const View& k, const View& v, int64_t row_stride, const AttentionPlan& plan) override;
  void KvCopyPages(const View& pages, std::span<const int32_t> from, std::span<const int32_t> to) override;
  void Attention(const View& y, const View& q, int64_t q_row_stride, const View& pages, const AttentionTerms& terms,
                 const AttentionPlan& plan) override;
  void SwiGlu(const View& y, const View& gate_up) override;
  void SigmoidGate(const View& y, const View& gate) override;
  void HeadGemm(const View& y, const View& x, const WeightStack& w) override;
  void Route(const View& ids, const View& weights, const View& logits, const Weight* selection_bias,
             const RouterSpec& router, const AttentionPlan& plan) override;
  void ExpertFfn(const View& y, const View& x, const View& ids, const View& weights, const WeightStack& gate_up,
                 const WeightStack& down, const ExpertTerms& terms, Accumulate accumulate) override;
  void GatherRows(const View& y, const View& x, const AttentionPlan& plan) override;
  absl::StatusOr<double> ReplaySeconds(int repeats);

 private:
  struct Plan : AttentionPlan {};
  // Cosines and sines of one RopeSpec; computed by the first Rope of a step that uses it.
  struct RopeTableOf {
    std::vector<float> frequency;
    float magnitude;
    const float* device_frequency;
    float2* table;  // [tokens_max, pairs]
    bool ready;
  };
  // Steps of one key: what their calls were, and the graph once they came twice.
  struct Recorded {
    StepKey key;
    std::vector<OpRecord> records;
    cudaGraphExec_t graph = nullptr;
  };

  explicit CudaOps(const DeviceFacts& facts);
  absl::Status PrepareWorkspaces();
  absl::Status PrepareGrouped();
  template <typename T>
  absl::Status AllocateArray(T** pointer, int64_t count, std::string_view what);
  // ---- Recording (cuda_ops.cc, steps.cc)
  void Do(const OpRecord& record);
  void Abandon();  // enqueues the calls that were held back, and holds no more back
  void StartReplay();
  void RecordStep();
  absl::Status Capture(Recorded* recorded);
  void Note(const absl::Status& status);
  void NoteLast(std::string_view doing);
  int32_t FindRope(const RopeSpec& rope);

  // ---- Enqueueing (issue.cc)
  void BeginIssue();
  void Issue(const OpRecord& record);
  void IssueAll(std::span<const OpRecord> records);  // fuses what it can
  const RopeTableOf& ReadyRope(int32_t index);
  void IssueAddRmsNorm(const OpRecord& r);
  void IssueGemm(const OpRecord& r);
  void MultiplyPart(const Product& product, const WeightPart& part);
  void MultiplyLarge(const Product& product, const WeightPart& part);
  void IssueRope(const OpRecord& r);
  void IssueKvWrite(const OpRecord& r);
  void IssueAttention(const OpRecord& r);
  // issue_grouped.cc
  void IssueRoute(const OpRecord& r);
  // With `route` (RoutesInside) and `norm`, what stands before and behind it in the same kernels.
  void IssueExpertFfn(const OpRecord& r, const OpRecord* route, const OpRecord* norm);
  bool RoutesInside(const ExpertFusion& fusion) const;  // or it has no Route
  RouteArgs RouteArgsOf(const OpRecord& r) const;
  struct ExpertPart {  // some tokens of a call
    int64_t token, tokens;
    const OpRecord *route, *norm;
    Shadow shadow;
  };
  void IssueExperts(const OpRecord& r, const ExpertPart& part);
  void CombineExperts(const OpRecord& r, const ExpertPart& part);
  void IssueHeadGemm(const OpRecord& r);
  void Multiply(const GroupedProduct& product, const StackPart& part);
  // A shadow for rows that are about to be written at `y`; empty if no product would use it.
  Shadow NewShadow(const void* y, int64_t rows, int64_t width);
  void Wrote(const void* y);
  Shadow ShadowOf(const void* x, int64_t rows, int64_t width);

  Stream stream_ = {};
  std::unique_ptr<BlasLt> blas_;
  WeightStore weights_;
  DeviceMemory buffers_;
  absl::Status fault_;  // the first; nothing is enqueued after it

  StepLimits limits_ = {};
  KvLayout layout_ = {};
  KvShape kv_ = {};
  PlanShape plan_shape_ = {};
  StepPlan step_;
  Plan plan_;
  int64_t step_words_max_ = 0;
  int32_t* step_words_ = nullptr;  // device
  PinnedMemory staged_step_, staged_logits_;
  std::list<PinnedMemory> results_;  // AllocateHost's
  uint16_t* shadow_ = nullptr;       // [tokens_max, columns_max rounded up]
  int64_t shadow_elements_ = 0;
  const void* shadow_of_ = nullptr;
  int64_t shadow_rows_ = 0, shadow_width_ = 0;
  uint16_t* dequantized_ = nullptr;
  int64_t dequantized_elements_ = 0;
  float* split_sums_ = nullptr;  // of QuantGemm
  float* partial_values_ = nullptr;
  float2* partial_sums_ = nullptr;
  std::vector<std::unique_ptr<RopeTableOf>> ropes_;
  GroupedRoom room_;
  Groups expert_groups_ = {};
  float *pair_values_ = nullptr, *activated_f32_ = nullptr;
  uint16_t *activated_ = nullptr, *head_shadow_ = nullptr;
  std::vector<RouterSpec> routers_;

  bool in_step_ = false, step_open_ = false;  // between BeginStep and EndStep; its block may still be copied
  bool recordable_ = false;
  const Recorded* expected_ = nullptr;  // calls are held back while they equal these
  size_t held_ = 0;
  bool replaying_ = false;  // their graph is on the stream
  std::vector<OpRecord> records_;
  std::list<Recorded> recorded_;  // most recently used first
};

}  // namespace conclave::engine::cuda
