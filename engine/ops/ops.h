// SPDX-License-Identifier: Apache-2.0
// All that a model may ask of a device. A model is written once over this interface; a backend (reference, cpu, cuda)
// knows no model. Pure virtual: no defaults, no fallback. The conformance test (ops_conformance_test.cc) is the
// specification: every op x dtype x odd shapes x backend against the fp64 reference.
//
// Threads: the step thread only. Startup calls return Status; math ops enqueue and cannot fail (shapes are CHECKed).
// Unless said otherwise views are f32, dense, row-major, in the backend's memory, and outputs do not alias inputs.
#pragma once

#include <cstdint>
#include <limits>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/quant/row_reader.h"
#include "engine/tensor/view.h"

namespace conclave::engine {

// A weight matrix [N, K] (a vector: [1, K]) in the backend's own layout. Owned by the Ops that made it; lives as long
// as it. Backends derive from it.
struct Weight {
  int64_t rows = 0;     // N, over all sources
  int64_t columns = 0;  // K

 protected:
  ~Weight() = default;
};

// Where a weight's rows come from: `bytes` holds `rows` rows of `columns` elements in `dtype`, as in the file.
// Row i of a head-permuted GGUF matrix etc. is the loader's business: Ops sees plain [rows, columns].
struct WeightSource {
  DType dtype;
  int64_t rows;     // N
  int64_t columns;  // K
  std::span<const std::byte> bytes;
  // Instead of bytes: gives the rows, and is used by the call that makes the weight only.
  const quant::RowReader* reader = nullptr;
  // ? [K], a permutation: element i of a row multiplies x[order[i]]. Copied. Of kMatmul and of experts, in the integer
  // group formats only.
  std::span<const int32_t> order = {};
};

// Several matrices [N, K] of one shape: a layer's experts, or one matrix per head. Owned like a Weight.
struct WeightStack {
  int64_t count = 0;    // E or H
  int64_t rows = 0;     // N of each
  int64_t columns = 0;  // K

 protected:
  ~WeightStack() = default;
};

enum class StackUse : uint8_t {
  kExperts,  // of ExpertFfn
  kHeads,    // of HeadGemm
};

enum class WeightUse : uint8_t {
  kMatmul,     // right-hand side of Gemm
  kEmbedding,  // rows are looked up by Embed; may be the same tensor as a kMatmul weight (tied output head)
  kEmbeddingAndMatmul,
  kVector,  // a norm's gain or a bias, [K]; kept in f32
};

// y = .. or y += ..
enum class Accumulate : uint8_t { kSet, kAdd };

// How rotary pairs lie in a head (specs: RoPE layout).
enum class RopeLayout : uint8_t {
  kInterleaved,  // (x0,x1), (x2,x3), ..   GGUF "llama"
  kHalfSplit,    // (x0,xR/2), (x1,xR/2+1), ..   "NEOX", Hugging Face Llama and Qwen
};

// Rotary embedding of the first `rotated` elements of each head: angle = position * inverse_frequency[i].
struct RopeSpec {
  RopeLayout layout;
  int32_t rotated;                           // R, even
  std::span<const float> inverse_frequency;  // [R/2], scaling already applied
  float magnitude = 1.0f;                    // multiplies cos and sin (YaRN attention factor)
};

// How a mixture of experts chooses (specs/models.md). Scores are the softmax over all experts, or a sigmoid each, of
// the router's logits; choices are scores plus the selection bias, if there is one.
struct RouterSpec {
  enum class Scores : uint8_t { kSoftmax, kSigmoid };
  enum class GroupScore : uint8_t { kMax, kTopTwoSum };  // of the group's choices: DeepSeek-V2, DeepSeek-V3

  int32_t experts = 0;  // E
  int32_t top_k = 0;    // the model's own, in [1, E]
  Scores scores = Scores::kSoftmax;
  // Only experts of the best `top_groups` of `groups` equal groups of neighbours can be chosen.
  int32_t groups = 1, top_groups = 1;
  GroupScore group_score = GroupScore::kMax;
  bool normalise = false;    // weights are divided by their sum, over those chosen
  float sum_epsilon = 0.0f;  // added to that sum
  float scale = 1.0f;        // then multiplies the weights
};

// What stands between an expert's two products: y = g sigmoid(alpha g) (u + up_offset), where g = min(gate, limit) and
// u = up cut to [-limit, limit]. As it is here: silu(gate) up.
struct GatedActivation {
  float alpha = 1.0f;
  float limit = std::numeric_limits<float>::infinity();
  float up_offset = 0.0f;
};

// What a mixture's experts have beyond their matrices.
struct ExpertTerms {
  const Weight* gate_up_bias = nullptr;  // ? [E * 2F] kVector, per expert gate | up
  const Weight* down_bias = nullptr;     // ? [E * D]
  GatedActivation activation;
  int32_t first_expert = 0;  // the stacks and biases hold experts from this id on; slots of all others are skipped
};

// One layer kind's key/value cache. Absorbed MLA is {1, 576, 512, true}: V is a prefix of K.
struct KvLayout {
  int32_t kv_heads;  // G
  int32_t dim_k, dim_v;
  bool v_in_k = false;
  float scale;          // multiplies q.k
  int32_t page_tokens;  // B
};

// What attention of some layers has beyond the layout.
struct AttentionTerms {
  int32_t window = 0;             // a token sees its last `window` positions, its own included; 0: all
  const Weight* sinks = nullptr;  // ? [H] kVector: one more logit in each head's softmax, whose value is zero
};

// One step's work, built by the scheduler. Sequence s owns tokens q_indptr[s]..q_indptr[s+1] and pages
// page_indptr[s]..page_indptr[s+1]; after the step its cache holds kv_len[s] tokens, the last of them the step's own.
// Token t of sequence s attends to positions 0..positions[t] of its sequence (causal); a sequence's tokens have
// consecutive positions. The spans stay valid until EndStep.
struct StepBatch {
  std::span<const int32_t> tokens, positions, kv_slots;  // [T]; kv_slot = page * B + offset within the page
  std::span<const int32_t> q_indptr, page_indptr;        // [S+1]
  std::span<const int32_t> pages;                        // [sum of pages], page ids
  std::span<const int32_t> kv_len;                       // [S]
  std::span<const int32_t> logit_rows;                   // [O] token indices whose logits are wanted
  std::span<const int32_t> experts_per_token = {};       // [S] in [1, top_k]; empty: the router's own top_k
};

// Planned once per step from the block tables (work split, shared-prefix groups). Owned by Ops, valid until EndStep.
// Backends derive from it.
struct AttentionPlan {
 protected:
  ~AttentionPlan() = default;
};

class Ops {
 public:
  virtual ~Ops() = default;

  virtual std::string_view name() const = 0;  // "reference", "scalar", "avx2", "avx512", "cuda"
  // Element format of the KV cache this backend wants.
  virtual DType kv_dtype() const = 0;

  // ---- Startup. RESOURCE_EXHAUSTED if it does not fit; UNIMPLEMENTED names op and dtype. Never inside a step.

  // One weight from sources stacked along N (fused Q|K|V, gate|up); all have the same `columns`, dtypes may differ. The
  // sources' bytes must stay valid as long as the Ops: a backend may use them in place instead of repacking.
  // kVector: the sources are vectors, [1, n] each, and are joined end to end (the biases of a fused Q|K|V).
  virtual absl::StatusOr<const Weight*> MakeWeight(std::span<const WeightSource> sources, WeightUse use) = 0;
  // `count` matrices: `sources` holds equally many for each, in order, stacked along N as in MakeWeight; all matrices
  // have the same shape. UNIMPLEMENTED where the backend has no HeadGemm or ExpertFfn, so that a model that needs them
  // is refused when it loads.
  virtual absl::StatusOr<const WeightStack*> MakeWeightStack(std::span<const WeightSource> sources, int64_t count,
                                                             StackUse use) = 0;
  // True if math ops read the sources' bytes; false if they were repacked, so that a mapped file's pages may be
  // dropped.
  virtual bool uses_sources_in_place() const = 0;
  // A buffer, zeroed, owned by the Ops. Its pages become resident when first written.
  virtual absl::StatusOr<View> Allocate(DType dtype, Shape shape) = 0;
  // Host memory that EndStep fills fastest, [elements], owned by the Ops; not part of buffer_bytes.
  virtual absl::StatusOr<std::span<float>> AllocateHost(int64_t elements) = 0;
  // Sizes private workspaces for the largest step. Called once, after the weights and before the first step.
  // INVALID_ARGUMENT for a KV layout the backend cannot do (page_tokens must be a multiple of 16, except for
  // reference), UNIMPLEMENTED for terms of attention that it lacks.
  struct StepLimits {
    int32_t tokens_max;                                       // T
    int32_t sequences_max;                                    // S
    int32_t pages_max;                                        // sum over sequences
    int32_t query_heads;                                      // H
    int32_t logit_rows_max;                                   // O
    int32_t experts_per_token = 0;                            // k, the largest of any layer; 0: no mixture of experts
    bool attention_windows = false, attention_sinks = false;  // of any layer
  };
  virtual absl::Status Prepare(const StepLimits& limits, const KvLayout& layout) = 0;
  // Bytes of weights as this backend holds them (in place: as in the file), and of everything else it allocated.
  virtual int64_t weight_bytes() const = 0;
  virtual int64_t buffer_bytes() const = 0;

  // ---- One step: BeginStep, math, EndStep.

  virtual const AttentionPlan& BeginStep(const StepBatch& batch) = 0;
  // The only synchronisation; device faults surface here. Copies `logits` [O, V] to `host` (same size).
  virtual absl::Status EndStep(const View& logits, std::span<float> host) = 0;
  // After EndStep: a view's bytes to `host` (same size), for counters and traces.
  virtual absl::Status Download(const View& from, std::span<std::byte> host) = 0;

  // y[t] = table[tokens[t]]                                      y [T, D]
  virtual void Embed(const View& y, const Weight& table, const AttentionPlan& plan) = 0;
  // residual += x (skipped when x is empty); y = residual / rms(residual) * gain, rms over D with eps inside the root.
  // y may alias x.                                               residual, y, x [T, D]; gain [D]
  virtual void AddRmsNorm(const View& residual, const View& y, const View& x, const Weight& gain, float eps) = 0;
  // y = x w^T (+ y). Accumulates in f32 or wider.                y [M, N], x [M, K], w [N, K]
  virtual void Gemm(const View& y, const View& x, const Weight& w, Accumulate accumulate) = 0;
  // y += bias, row-wise.                                         y [M, N]; bias [N]
  virtual void AddBias(const View& y, const Weight& bias) = 0;
  // Each head of each row normalised over its width, in place (Qwen3 q/k norm).  x [T, heads, Dk] with row stride
  virtual void HeadRmsNorm(const View& x, int64_t row_stride, const Weight& gain, float eps) = 0;
  // Rotates the heads of each token in place.                    x [T, heads, Dk], rows `row_stride` elements apart
  virtual void Rope(const View& x, int64_t row_stride, const RopeSpec& rope, const AttentionPlan& plan) = 0;
  // Stores the step's keys and values at kv_slots.               k, v [T, G, Dk|Dv], rows `row_stride` elements apart
  // pages: [P, kv_page_bytes(layout)] kI8, one buffer per layer; the layout inside a page is the backend's own. With
  // v_in_k, `v` is empty and values are the first Dv elements of the keys.
  virtual int64_t kv_page_bytes(const KvLayout& layout) const = 0;
  virtual void KvWrite(const View& pages, const View& k, const View& v, int64_t row_stride,
                       const AttentionPlan& plan) = 0;
  // Copies whole pages (copy-on-write fork), in the order given, outside or inside a step, before the step's writes.
  virtual void KvCopyPages(const View& pages, std::span<const int32_t> from, std::span<const int32_t> to) = 0;
  // softmax(q k^T * scale, causal) v over each sequence's pages.  y [T, H, Dv], q [T, H, Dk] with row stride
  virtual void Attention(const View& y, const View& q, int64_t q_row_stride, const View& pages,
                         const AttentionTerms& terms, const AttentionPlan& plan) = 0;
  // y = silu(gate) * up                                           y [T, F], gate_up [T, 2F] = gate | up
  virtual void SwiGlu(const View& y, const View& gate_up) = 0;
  // y[t] *= sigmoid(gate[t])                                      y [T, D], gate [T, 1]
  virtual void SigmoidGate(const View& y, const View& gate) = 0;
  // One product per head; what the heads of x have beyond K is copied behind it (the rotated part of MLA's query):
  //   y[t, h] = x[t, h, 0..K) w_h^T | x[t, h, K..K + R)           y [T, H, N + R], x [T, H, K + R], w H x [N, K]
  virtual void HeadGemm(const View& y, const View& x, const WeightStack& w) = 0;
  // Chooses each token's experts: as many as its sequence's experts_per_token, or the model's own top_k, best choice
  // first; of equal choices the lower id. Remaining slots: id -1, weight 0.
  //                                       ids [T, k] i32, weights [T, k], logits [T, E]; selection_bias ? [E] kVector
  virtual void Route(const View& ids, const View& weights, const View& logits, const Weight* selection_bias,
                     const RouterSpec& router, const AttentionPlan& plan) = 0;
  // y[t] (+)= sum over the token's slots of weight * (down_e activation(gate_e x[t], up_e x[t])), with the terms'
  // biases; weights of skipped slots and of experts that nobody chose are never read. The order of the sum depends on
  // the token's own ids only.
  //             y, x [T, D]; ids [T, k] i32, weights [T, k]; gate_up E x [2F, D] = gate | up, down E x [D, F]; y not x
  virtual void ExpertFfn(const View& y, const View& x, const View& ids, const View& weights, const WeightStack& gate_up,
                         const WeightStack& down, const ExpertTerms& terms, Accumulate accumulate) = 0;
  // y[o] = x[logit_rows[o]]                                       y [O, D], x [T, D]
  virtual void GatherRows(const View& y, const View& x, const AttentionPlan& plan) = 0;
};

struct OpsOptions {
  // "reference", "scalar", "avx2", "avx512" or "cuda"; "auto" takes the best this CPU runs, never a GPU.
  std::string kernel = "auto";
  int32_t threads = 0;  // of the CPU kernels; 0: one per core
};

// INVALID_ARGUMENT for an unknown kernel (names the known ones); FAILED_PRECONDITION for one this machine cannot run,
// UNIMPLEMENTED for "cuda" in a build without it.
absl::StatusOr<std::unique_ptr<Ops>> MakeOps(const OpsOptions& options);

}  // namespace conclave::engine
