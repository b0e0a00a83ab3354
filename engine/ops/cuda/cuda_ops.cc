// SPDX-License-Identifier: Apache-2.0
// Startup, and the calls as records.
#include "engine/ops/cuda/cuda_ops.h"

#include <algorithm>
#include <cstring>

#include "common/check.h"
#include "common/status.h"
#include "engine/ops/cuda/cuda_backend.h"
#include "engine/ops/host_ops.h"

namespace conclave::engine::cuda {
namespace {

// Block formats are dequantised in slices of this many elements.
constexpr int64_t kDequantizedElementsMax = int64_t{96} << 20;
constexpr int32_t kTokensMax = 65535;  // of a step: a dimension of grids
constexpr int kOverlapComputeCapabilityMajor = 9;

KvShape KvShapeOf(const KvLayout& layout) {
  KvShape kv = {};
  kv.kv_heads = layout.kv_heads;
  kv.dim_k = layout.dim_k;
  kv.dim_v = layout.dim_v;
  kv.page_tokens = layout.page_tokens;
  kv.tiles_k = (layout.dim_k + 15) / 16;
  kv.tiles_v = (layout.dim_v + 15) / 16;
  kv.v_in_k = layout.v_in_k;
  kv.page_bytes = int64_t{layout.kv_heads} * layout.page_tokens * 32 * (kv.tiles_k + (kv.v_in_k ? 0 : kv.tiles_v));
  return kv;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Ops>> MakeCudaOps() { return CudaOps::Create(); }

absl::StatusOr<double> ReplaySeconds(Ops* ops, int repeats) {
  CONCLAVE_CHECK(ops->name() == "cuda");
  return static_cast<CudaOps*>(ops)->ReplaySeconds(repeats);
}

void CopyBytes(void* to, const void* from, size_t bytes) {
  static const bool has_device = FindDevice().ok();
  if (!has_device) {
    std::memcpy(to, from, bytes);
    return;
  }
  CONCLAVE_CHECK(cudaDeviceSynchronize() == cudaSuccess);
  CONCLAVE_CHECK(cudaMemcpy(to, from, bytes, cudaMemcpyDefault) == cudaSuccess);
  // From pageable memory the copy above may return before its last piece has arrived.
  CONCLAVE_CHECK(cudaDeviceSynchronize() == cudaSuccess);
}

CudaOps::CudaOps(const DeviceFacts& facts) {
  stream_.overlap = facts.major >= kOverlapComputeCapabilityMajor;
  stream_.hopper = facts.major == 9 && facts.minor == 0;
  stream_.multiprocessors = facts.multiprocessors;
  stream_.block_shared_bytes_max = facts.block_shared_bytes_max;
}

CudaOps::~CudaOps() {
  for (const Recorded& recorded : recorded_) {
    if (recorded.graph != nullptr) cudaGraphExecDestroy(recorded.graph);
  }
  if (stream_.stream != nullptr) {
    cudaStreamSynchronize(stream_.stream);
    cudaStreamDestroy(stream_.stream);
  }
}

absl::StatusOr<std::unique_ptr<Ops>> CudaOps::Create() {
  ASSIGN_OR_RETURN(const DeviceFacts facts, FindDevice());
  std::unique_ptr<CudaOps> ops(new CudaOps(facts));
  RETURN_IF_ERROR(
      ToStatus(cudaStreamCreateWithFlags(&ops->stream_.stream, cudaStreamNonBlocking), "creating a stream"));
  ASSIGN_OR_RETURN(std::byte * workspace,
                   ops->buffers_.Allocate(BlasLt::kWorkspaceBytes, "cuBLASLt's workspace", ops->stream_.stream));
  ASSIGN_OR_RETURN(ops->blas_, BlasLt::Load(workspace));
  return ops;
}

absl::StatusOr<const Weight*> CudaOps::MakeWeight(std::span<const WeightSource> sources, WeightUse use) {
  RETURN_IF_ERROR(CheckSources(sources, use));
  ASSIGN_OR_RETURN(const CudaWeight* weight, weights_.Add(sources, use, stream_));
  return weight;
}

absl::StatusOr<const WeightStack*> CudaOps::MakeWeightStack(std::span<const WeightSource> sources, int64_t count,
                                                            StackUse use) {
  ASSIGN_OR_RETURN(const CudaStack* stack, weights_.AddStack(sources, count, use, stream_));
  return stack;
}

absl::StatusOr<View> CudaOps::Allocate(DType dtype, Shape shape) {
  int64_t bytes = Traits(dtype).block_bytes;
  CONCLAVE_CHECK(Traits(dtype).block_elements == 1);
  for (int i = 0; i < shape.rank(); ++i) {
    if (shape[i] < 0 || __builtin_mul_overflow(bytes, shape[i], &bytes)) {
      return ResourceExhausted("a buffer of shape {} is not possible", shape.ToString());
    }
  }
  ASSIGN_OR_RETURN(std::byte * data,
                   buffers_.Allocate(bytes, fmt::format("a buffer of shape {}", shape.ToString()), stream_.stream));
  return View{data, dtype, shape};
}

absl::StatusOr<std::span<float>> CudaOps::AllocateHost(int64_t elements) {
  PinnedMemory& memory = results_.emplace_back();
  RETURN_IF_ERROR(memory.Reserve(elements * static_cast<int64_t>(sizeof(float))));
  return std::span<float>(reinterpret_cast<float*>(memory.data()), static_cast<size_t>(elements));
}

int64_t CudaOps::kv_page_bytes(const KvLayout& layout) const { return KvShapeOf(layout).page_bytes; }

absl::Status CudaOps::Prepare(const StepLimits& limits, const KvLayout& layout) {
  RETURN_IF_ERROR(CheckLimits(limits, layout));
  if (layout.page_tokens % kPositionsOfTile != 0) {
    return InvalidArgument("KV pages of {} tokens: this backend wants a multiple of {}", layout.page_tokens,
                           kPositionsOfTile);
  }
  const int32_t k_max = layout.v_in_k ? kLatentElementsMax : kHeadElementsMax;
  const int32_t v_max = layout.v_in_k ? kValueElementsMax : kHeadElementsMax;
  if (layout.dim_k > k_max || layout.dim_v > v_max) {
    return InvalidArgument("KV heads of {} and {} elements: the CUDA backend does at most {} and {}", layout.dim_k,
                           layout.dim_v, k_max, v_max);
  }
  if (limits.tokens_max > kTokensMax) {
    return InvalidArgument("steps of {} tokens: the CUDA backend does at most {}", limits.tokens_max, kTokensMax);
  }
  limits_ = limits;
  layout_ = layout;
  kv_ = KvShapeOf(layout);
  if (kv_.v_in_k && LatentSharedBytes(kv_) > stream_.block_shared_bytes_max) {
    return Unimplemented("latent keys of {} elements on this device: they take {} bytes of shared memory, it has {}",
                         layout.dim_k, LatentSharedBytes(kv_), stream_.block_shared_bytes_max);
  }
  return PrepareWorkspaces();
}

template <typename T>
absl::Status CudaOps::AllocateArray(T** pointer, int64_t count, std::string_view what) {
  ASSIGN_OR_RETURN(std::byte * data, buffers_.Allocate(count * static_cast<int64_t>(sizeof(T)), what, stream_.stream));
  *pointer = reinterpret_cast<T*>(data);
  return absl::OkStatus();
}

absl::Status CudaOps::PrepareGrouped() {
  room_ = RoomFor(weights_.stack_sizes(), limits_.tokens_max, limits_.experts_per_token);
  if (room_.pairs > 0) {
    RETURN_IF_ERROR(AllocateArray(&pair_values_, room_.pair_floats, "results of experts"));
    RETURN_IF_ERROR(AllocateArray(&activated_, room_.activated, "activations of experts"));
    if (room_.activated_f32 > 0) {
      RETURN_IF_ERROR(AllocateArray(&activated_f32_, room_.activated_f32, "activations of experts"));
    }
    RETURN_IF_ERROR(AllocateArray(&expert_groups_.order, room_.pairs, "tokens of experts"));
    RETURN_IF_ERROR(AllocateArray(&expert_groups_.sorted_items, room_.items, "tokens of experts"));
    RETURN_IF_ERROR(AllocateArray(&expert_groups_.num_items, 1, "tokens of experts"));
  }
  if (room_.head_elements == 0) return absl::OkStatus();
  return AllocateArray(&head_shadow_, room_.head_elements, "activations of heads");
}

absl::Status CudaOps::PrepareWorkspaces() {
  RETURN_IF_ERROR(weights_.Finish(stream_));
  plan_shape_ = {.query_heads = limits_.query_heads,
                 .kv_heads = layout_.kv_heads,
                 .page_tokens = layout_.page_tokens,
                 .multiprocessors = stream_.multiprocessors,
                 .partial_rows_max = PartialRowsMax(limits_, stream_.multiprocessors),
                 .trunk_items = !layout_.v_in_k && stream_.block_shared_bytes_max >= kTrunkSharedBytes &&
                                std::max(layout_.dim_k, layout_.dim_v) <= kTrunkHeadElementsMax};
  step_words_max_ = WordsMax(limits_, plan_shape_);
  RETURN_IF_ERROR(AllocateArray(&step_words_, step_words_max_, "step plans"));
  RETURN_IF_ERROR(staged_step_.Reserve(step_words_max_ * static_cast<int64_t>(sizeof(int32_t))));
  RETURN_IF_ERROR(
      AllocateArray(&partial_values_, plan_shape_.partial_rows_max * layout_.dim_v, "partial results of attention"));
  RETURN_IF_ERROR(AllocateArray(&partial_sums_, plan_shape_.partial_rows_max, "partial results of attention"));
  shadow_elements_ = int64_t{limits_.tokens_max} * RoundUpTo(weights_.columns_max(), kTileColumns);
  RETURN_IF_ERROR(AllocateArray(&shadow_, shadow_elements_, "bf16 activations"));
  if (weights_.has_blocks())
    RETURN_IF_ERROR(AllocateArray(&split_sums_, kQuantGemmPartialElements, "sums of products"));
  dequantized_elements_ = std::min(weights_.dequantized_max(), kDequantizedElementsMax);
  // Any slice is at least a tile of rows.
  dequantized_elements_ = std::max(dequantized_elements_, kTileRows * RoundUpTo(weights_.columns_max(), kTileColumns));
  RETURN_IF_ERROR(AllocateArray(&dequantized_, dequantized_elements_, "dequantised weights"));
  RETURN_IF_ERROR(PrepareGrouped());
  return ToStatus(cudaStreamSynchronize(stream_.stream), "preparing workspaces");
}

// ---- Calls

void CudaOps::Embed(const View& y, const Weight& table, const AttentionPlan& /*plan*/) {
  CONCLAVE_CHECK(y.shape.back() == table.columns && y.shape[0] == step_.key.tokens);
  const auto* words = reinterpret_cast<const int32_t*>(staged_step_.data()) + step_.offsets.tokens;
  for (int32_t t = 0; t < step_.key.tokens; ++t) CONCLAVE_CHECK(words[t] >= 0 && words[t] < table.rows);
  OpRecord r = {.pointers = {y.data, static_cast<const CudaWeight*>(&table)}, .sizes = {y.shape[0]}};
  r.kind = OpKind::kEmbed;
  Do(r);
}

void CudaOps::AddRmsNorm(const View& residual, const View& y, const View& x, const Weight& gain, float eps) {
  CONCLAVE_CHECK(gain.columns == residual.shape.back() && y.shape == residual.shape);
  OpRecord r = {.pointers = {residual.data, y.data, x.data, static_cast<const CudaWeight*>(&gain)},
                .sizes = {residual.shape[0], residual.shape.back()},
                .numbers = {eps}};
  r.kind = OpKind::kAddRmsNorm;
  Do(r);
}

void CudaOps::Gemm(const View& y, const View& x, const Weight& w, Accumulate accumulate) {
  CONCLAVE_CHECK(x.shape.back() == w.columns && y.shape.back() == w.rows && x.shape[0] == y.shape[0]);
  CONCLAVE_CHECK(x.shape[0] <= limits_.tokens_max);
  OpRecord r = {.pointers = {y.data, x.data, static_cast<const CudaWeight*>(&w)}, .sizes = {x.shape[0]}};
  r.kind = OpKind::kGemm;
  r.flag = accumulate == Accumulate::kAdd ? 1 : 0;
  Do(r);
}

void CudaOps::AddBias(const View& y, const Weight& bias) {
  CONCLAVE_CHECK(bias.columns == y.shape.back());
  OpRecord r = {.pointers = {y.data, static_cast<const CudaWeight*>(&bias)}, .sizes = {y.shape[0], y.shape.back()}};
  r.kind = OpKind::kAddBias;
  Do(r);
}

void CudaOps::HeadRmsNorm(const View& x, int64_t row_stride, const Weight& gain, float eps) {
  CONCLAVE_CHECK(gain.columns == x.shape[2]);
  OpRecord r = {.pointers = {x.data, static_cast<const CudaWeight*>(&gain)},
                .sizes = {row_stride, x.shape[0], x.shape[1], x.shape[2]},
                .numbers = {eps}};
  r.kind = OpKind::kHeadRmsNorm;
  Do(r);
}

int32_t CudaOps::FindRope(const RopeSpec& rope) {
  for (size_t i = 0; i < ropes_.size(); ++i) {
    const RopeTableOf& known = *ropes_[i];
    if (known.magnitude == rope.magnitude && std::ranges::equal(known.frequency, rope.inverse_frequency)) {
      return static_cast<int32_t>(i);
    }
  }
  auto made = std::make_unique<RopeTableOf>();
  made->frequency.assign(rope.inverse_frequency.begin(), rope.inverse_frequency.end());
  made->magnitude = rope.magnitude;
  const auto bytes = static_cast<int64_t>(rope.inverse_frequency.size_bytes());
  const auto frequency = buffers_.Allocate(bytes, "rope frequencies", stream_.stream);
  const auto table = buffers_.Allocate(bytes * 2 * limits_.tokens_max, "rope tables", stream_.stream);
  Note(frequency.status());
  Note(table.status());
  if (fault_.ok()) {
    Note(ToStatus(cudaMemcpyAsync(*frequency, made->frequency.data(), static_cast<size_t>(bytes),
                                  cudaMemcpyHostToDevice, stream_.stream),
                  "uploading rope frequencies"));
    Note(ToStatus(cudaStreamSynchronize(stream_.stream), "uploading rope frequencies"));
    made->device_frequency = reinterpret_cast<const float*>(*frequency);
    made->table = reinterpret_cast<float2*>(*table);
  }
  ropes_.push_back(std::move(made));
  return static_cast<int32_t>(ropes_.size()) - 1;
}

void CudaOps::Rope(const View& x, int64_t row_stride, const RopeSpec& rope, const AttentionPlan& /*plan*/) {
  CONCLAVE_CHECK(rope.rotated % 2 == 0 && rope.rotated <= x.shape[2] && x.shape[0] == step_.key.tokens &&
                 rope.inverse_frequency.size() == static_cast<size_t>(rope.rotated / 2));
  if (rope.rotated == 0) return;
  OpRecord r = {.pointers = {x.data}, .sizes = {row_stride, x.shape[0], x.shape[1], x.shape[2]}};
  r.kind = OpKind::kRope;
  r.flag = FindRope(rope) * 2 + (rope.layout == RopeLayout::kInterleaved ? 1 : 0);
  Do(r);
}

void CudaOps::KvWrite(const View& pages, const View& k, const View& v, int64_t row_stride,
                      const AttentionPlan& /*plan*/) {
  CONCLAVE_CHECK(pages.shape.back() == kv_.page_bytes && k.shape[0] == step_.key.tokens);
  OpRecord r = {.pointers = {pages.data, k.data, v.data}, .sizes = {row_stride, k.shape[0]}};
  r.kind = OpKind::kKvWrite;
  Do(r);
}

void CudaOps::KvCopyPages(const View& pages, std::span<const int32_t> from, std::span<const int32_t> to) {
  CONCLAVE_CHECK(from.size() == to.size());
  if (in_step_) {
    Abandon();
    recordable_ = false;
  }
  // Those of one launch run together, so none of them may read or write what another one writes.
  PageCopies copies = {};
  int count = 0;
  const auto launch = [&] {
    if (count > 0 && fault_.ok()) CopyPages(stream_, pages.data, pages.shape.back(), copies, count);
    count = 0;
  };
  for (size_t i = 0; i < from.size(); ++i) {
    CONCLAVE_CHECK(from[i] >= 0 && from[i] < pages.shape[0] && to[i] >= 0 && to[i] < pages.shape[0]);
    bool apart = count == kCopiedPagesPerLaunch;
    for (int k = 0; k < count; ++k) {
      apart = apart || copies.to[k] == from[i] || copies.to[k] == to[i] || copies.from[k] == to[i];
    }
    if (apart) launch();
    copies.from[count] = from[i];
    copies.to[count++] = to[i];
  }
  launch();
  NoteLast("copying pages");
}

void CudaOps::Attention(const View& y, const View& q, int64_t q_row_stride, const View& pages,
                        const AttentionTerms& terms, const AttentionPlan& /*plan*/) {
  CheckTerms(terms, limits_);
  CONCLAVE_CHECK(pages.shape.back() == kv_.page_bytes && q.shape[0] == step_.key.tokens);
  const float* sinks = terms.sinks == nullptr ? nullptr : static_cast<const CudaWeight*>(terms.sinks)->vector;
  OpRecord r = {.pointers = {y.data, q.data, pages.data, sinks}, .sizes = {q_row_stride, terms.window}};
  r.kind = OpKind::kAttention;
  Do(r);
}

void CudaOps::SwiGlu(const View& y, const View& gate_up) {
  CONCLAVE_CHECK(gate_up.shape.back() == 2 * y.shape.back());
  OpRecord r = {.pointers = {y.data, gate_up.data}, .sizes = {y.shape[0], y.shape.back()}};
  r.kind = OpKind::kSwiGlu;
  Do(r);
}

void CudaOps::SigmoidGate(const View& y, const View& gate) {
  OpRecord r = {.pointers = {y.data, gate.data}, .sizes = {y.shape[0], y.shape.back()}};
  r.kind = OpKind::kSigmoidGate;
  Do(r);
}

void CudaOps::GatherRows(const View& y, const View& x, const AttentionPlan& /*plan*/) {
  CONCLAVE_CHECK(y.shape[0] == step_.key.logit_rows && y.shape.back() == x.shape.back());
  OpRecord r = {.pointers = {y.data, x.data}, .sizes = {y.shape[0], y.shape.back()}};
  r.kind = OpKind::kGatherRows;
  Do(r);
}

}  // namespace conclave::engine::cuda
