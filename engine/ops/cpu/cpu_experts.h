// SPDX-License-Identifier: Apache-2.0
// Mixtures of experts on the CPU: choosing experts, and their feed-forward networks over tokens bucketed by expert.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "engine/ops/cpu/cpu_gemm.h"
#include "engine/ops/cpu/cpu_weight.h"
#include "engine/ops/cpu/thread_pool.h"
#include "engine/ops/host_memory.h"
#include "engine/ops/ops.h"

namespace conclave::engine::cpu {

// Chooses `live` experts for one token. ids, weights [router.top_k]; bias ? [E]; scratch [RouteScratchFloats].
void RouteToken(const RouterSpec& router, const float* logits, const float* bias, int32_t live, int32_t* ids,
                float* weights, float* scratch);
inline int64_t RouteScratchFloats(int64_t experts) { return 4 * experts; }

// What the stacks of a model need of the workspace.
struct ExpertSizes {
  int64_t experts = 0;
  int64_t rows = 0, columns = 0;  // of the largest matrix
  int64_t row_blocks = 0;         // of a row of activations, in all orders that an expert wants
};

// Per layer: (token, slot) pairs are sorted by expert, then by token; in chunks of pairs: gather rows, gate and up
// products, activation, down product, weighted sum into the tokens. A token's sum runs in order of its experts' ids, so
// neither chunks, nor other tokens, nor threads change a bit of it.
class ExpertRunner {
 public:
  ExpertRunner(const Kernels& kernels, ThreadPool* pool) : kernels_(kernels), pool_(pool) {}

  absl::Status Prepare(int64_t tokens_max, int64_t slots_max, const ExpertSizes& sizes, HostMemory* memory);

  struct Call {
    float* y;              // [T, D]
    const float* x;        // [T, D]
    const int32_t* ids;    // [T, slots], -1: none; those that the stacks lack are skipped
    const float* weights;  // [T, slots]
    int64_t tokens, slots;
    const CpuStack* gate_up;
    const CpuStack* down;
    const float* gate_up_bias;  // [E, 2F], or null
    const float* down_bias;     // [E, D], or null
    GatedActivation activation;
    int32_t first_expert;  // of the stacks
    bool accumulate;
  };
  // `scratch(thread)` is what the kernels' products need.
  void Run(const Call& call, absl::FunctionRef<float*(int)> scratch);

 private:
  struct Pair {
    int32_t token;
    int32_t expert;
    float weight;
  };
  struct Bucket {  // pairs of one expert
    int32_t expert;
    int64_t begin, end;
  };
  struct Work {  // one task of a product
    int32_t expert;
    GemmRange range;
  };

  void Sort(const Call& call);
  void RunChunk(const Call& call, size_t first_bucket, int64_t begin, int64_t end,
                absl::FunctionRef<float*(int)> scratch);
  // Pair i's activations in 8 bits, in each order that its matrix of the stack wants.
  void Quantize(const CpuStack& stack, const Pair& pair, int64_t i, const float* x);
  void Multiply(const CpuStack& stack, size_t first_bucket, int64_t begin, int64_t end,
                absl::FunctionRef<float*(int)> scratch);

  const Kernels& kernels_;
  ThreadPool* const pool_;
  int64_t chunk_ = 0;                  // pairs of a chunk
  float* rows_ = nullptr;              // [chunk, columns]: inputs, later activations
  ActivationBlock* blocks_ = nullptr;  // [orders, chunk, columns / 32], the same in 8 bits
  float* products_ = nullptr;          // [chunk, rows]
  std::vector<Pair> pairs_;
  std::vector<int32_t> starts_;  // [E + 1]
  std::vector<Bucket> buckets_;
  std::vector<Work> work_;
};

}  // namespace conclave::engine::cpu
