// SPDX-License-Identifier: Apache-2.0
// What stands around the grouped products: which pairs go to which matrix, the activation, the sum over a token's
// slots, what is copied past a product per head; and the products of F32 weights.
#include "engine/ops/cuda/grouped.cuh"

namespace conclave::engine::cuda {
namespace {

constexpr int kWarps = 8;
constexpr int kThreads = kWarps * 32;

unsigned Blocks(int64_t items) { return static_cast<unsigned>((items + kThreads - 1) / kThreads); }

__device__ int BlockSum(int value, int (&sums)[kWarps]) {
  for (int offset = 16; offset > 0; offset /= 2) value += __shfl_xor_sync(0xffffffffu, value, offset);
  __syncthreads();
  if (threadIdx.x % 32 == 0) sums[threadIdx.x / 32] = value;
  __syncthreads();
  int total = 0;
  for (int i = 0; i < kWarps; ++i) total += sums[i];
  return total;
}

// A block per matrix. Every block counts all pairs: which matrix has how many decides where its own lie.
__global__ void __launch_bounds__(kThreads) SortGroupsKernel(Groups groups, int pairs) {
  extern __shared__ int counts[];  // [matrices]
  __shared__ int sums[kWarps];
  AwaitPrevious();
  AllowNext();
  const int matrix = static_cast<int>(blockIdx.x), thread = static_cast<int>(threadIdx.x);
  for (int i = thread; i < groups.matrices; i += kThreads) counts[i] = 0;
  __syncthreads();
  for (int i = thread; i < pairs; i += kThreads) {
    const int id = groups.ids[i];
    if (id >= 0) atomicAdd(&counts[id], 1);
  }
  __syncthreads();
  int before = 0, items_before = 0;
  for (int i = thread; i < matrix; i += kThreads) {
    before += counts[i];
    items_before += (counts[i] + groups.tile - 1) / groups.tile;
  }
  before = BlockSum(before, sums);
  items_before = BlockSum(items_before, sums);
  const int count = counts[matrix], items = (count + groups.tile - 1) / groups.tile;
  if (matrix == groups.matrices - 1 && thread == 0) *groups.num_items = items_before + items;
  for (int i = thread; i < items; i += kThreads) {
    groups.sorted_items[items_before + i] = {matrix, before + i * groups.tile,
                                             min(groups.tile, count - i * groups.tile)};
  }
  if (count == 0) return;
  const int warp = thread / 32, lane = thread % 32;
  int at = before;
  for (int first = 0; first < pairs; first += kThreads) {
    const int pair = first + thread;
    const bool mine = pair < pairs && groups.ids[pair] == matrix;
    const unsigned votes = __ballot_sync(0xffffffffu, mine);
    __syncthreads();
    if (lane == 0) sums[warp] = __popc(votes);
    __syncthreads();
    int rank = at + __popc(votes & ((1u << lane) - 1u));
    for (int i = 0; i < kWarps; ++i) {
      if (i < warp) rank += sums[i];
      at += sums[i];
    }
    if (mine) groups.order[rank] = pair;
  }
}

// A thread per element of a pair's activated row, up to the stride.
__global__ void ActivateKernel(ActivateArgs a) {
  AwaitPrevious();
  AllowNext();
  const int64_t pair = blockIdx.y, i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  const int64_t stride = a.activated != nullptr ? a.activated_stride : a.width;
  const int expert = a.ids[pair];
  if (expert < 0 || i >= stride) return;
  float value = 0;
  if (i < a.width) {
    const float* row = a.gate_up + pair * 2 * a.width;
    float gate = row[i], up = row[a.width + i];
    if (a.bias != nullptr) {
      const float* bias = a.bias + expert * 2 * a.width;
      gate += bias[i];
      up += bias[a.width + i];
    }
    value = Gated(gate, up, a.activation);
    if (a.activated_f32 != nullptr) a.activated_f32[pair * a.width + i] = value;
  }
  if (a.activated != nullptr) a.activated[pair * stride + i] = ToBf16(value);
}

// A thread per element of y.
__global__ void CombineKernel(CombineArgs a) {
  AwaitPrevious();
  AllowNext();
  const int64_t token = blockIdx.y, i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i < a.width) a.y[token * a.width + i] = Combined<float>(a, token, i);
}

// A thread per element of a row of x, up to the shadow's stride or the end of the row.
__global__ void SplitHeadsKernel(SplitHeadsArgs a) {
  AwaitPrevious();
  AllowNext();
  const int64_t row = blockIdx.y + int64_t{blockIdx.z} * gridDim.y, i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (row >= a.rows) return;
  const int64_t whole = a.width + a.rest;
  const float* x = a.x + row * whole;
  if (i >= a.width && i < whole) a.y[row * a.y_stride + (a.y_stride - whole) + i] = x[i];
  if (a.shadow != nullptr && i < a.shadow_stride) {
    a.shadow[row * a.shadow_stride + i] = i < a.width ? ToBf16(x[i]) : uint16_t{0};
  }
}

constexpr int kF32Rows = 4;   // per warp, one after the other
constexpr int kF32Pairs = 8;  // at a time

// A warp per row of the weight: exact in f32. For small models.
__global__ void __launch_bounds__(kThreads) GroupedF32Kernel(GroupedProduct p, StackPart stack) {
  AwaitPrevious();
  AllowNext();
  const Group group = GroupOf(p.groups, static_cast<int>(blockIdx.x));
  if (group.matrix < 0) return;
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int64_t columns = stack.part.columns;
  const auto* matrix = reinterpret_cast<const float*>(stack.part.data + group.matrix * stack.matrix_bytes);
  for (int first = 0; first < group.count; first += kF32Pairs) {
    const float* x[kF32Pairs];
    int64_t pairs[kF32Pairs];
#pragma unroll
    for (int i = 0; i < kF32Pairs; ++i) {
      pairs[i] = PairOf(p.groups, group, min(first + i, group.count - 1));
      x[i] = p.x_f32 + pairs[i] / p.x_divisor * p.x_f32_stride;
    }
    for (int r = 0; r < kF32Rows; ++r) {
      const int64_t n = (int64_t{blockIdx.y} * kWarps + warp) * kF32Rows + r;
      if (n >= stack.part.rows) break;
      const float* row = matrix + n * PlainStride(columns);
      float sums[kF32Pairs] = {};
      for (int64_t k = lane; k < columns; k += 32) {
        const float w = row[k];
#pragma unroll
        for (int i = 0; i < kF32Pairs; ++i) sums[i] += w * x[i][k];
      }
#pragma unroll
      for (int i = 0; i < kF32Pairs; ++i) {
        const float sum = WarpSum(sums[i]);
        if (lane == 0 && first + i < group.count) p.y[pairs[i] * p.y_stride + stack.part.first_row + n] = sum;
      }
    }
  }
}

}  // namespace

void SortGroups(const Stream& s, const Groups& groups, int64_t pairs) {
  Launch(s, SortGroupsKernel, dim3(static_cast<unsigned>(groups.matrices)), dim3(kThreads),
         static_cast<size_t>(groups.matrices) * sizeof(int), groups, static_cast<int>(pairs));
}

void GroupedF32(const Stream& s, const GroupedProduct& p, const StackPart& stack) {
  constexpr int kRows = kWarps * kF32Rows;
  Launch(s, GroupedF32Kernel,
         dim3(static_cast<unsigned>(p.groups.items), static_cast<unsigned>((stack.part.rows + kRows - 1) / kRows)),
         dim3(kThreads), 0, p, stack);
}

void ActivatePairs(const Stream& s, const ActivateArgs& args) {
  const int64_t stride = args.activated != nullptr ? args.activated_stride : args.width;
  Launch(s, ActivateKernel, dim3(Blocks(stride), static_cast<unsigned>(args.pairs)), dim3(kThreads), 0, args);
}

void CombinePairs(const Stream& s, const CombineArgs& args) {
  Launch(s, CombineKernel, dim3(Blocks(args.width), static_cast<unsigned>(args.tokens)), dim3(kThreads), 0, args);
}

void SplitHeads(const Stream& s, const SplitHeadsArgs& args) {
  constexpr int64_t kRowsMax = 65535;
  const int64_t width = args.shadow != nullptr && args.shadow_stride > args.width + args.rest ? args.shadow_stride
                                                                                              : args.width + args.rest;
  const int64_t layers = (args.rows + kRowsMax - 1) / kRowsMax;
  Launch(s, SplitHeadsKernel,
         dim3(Blocks(width), static_cast<unsigned>((args.rows + layers - 1) / layers), static_cast<unsigned>(layers)),
         dim3(kThreads), 0, args);
}

}  // namespace conclave::engine::cuda
