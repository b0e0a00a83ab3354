// SPDX-License-Identifier: Apache-2.0
// Attention of few rows (decode): the warps of a block divide the positions and merge at the end; keys and values go
// from memory to registers, already in the order of the matrix units. Also the merge of partial results.
#include "engine/ops/cuda/attention.cuh"

namespace conclave::engine::cuda {
namespace {

constexpr int kWarps = 4;

// LONG FUNCTION: one loop with its prefetch and the merge of the warps that ends it.
template <int kTiles>
__global__ void __launch_bounds__(kWarps * 32) NarrowKernel(AttentionArgs a) {
  extern __shared__ float shared[];  // [kWarps - 1][2 kTiles * 4 + 4][32]
  AwaitPrevious();
  AllowNext();
  if (static_cast<int>(blockIdx.x) >= a.step[a.offsets.counts]) return;
  const AttentionItem item = reinterpret_cast<const AttentionItem*>(a.step + a.offsets.narrow)[blockIdx.x];
  const int kv_head = blockIdx.y, warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const WarpRows rows = FindRows(a, item, 0, kv_head);
  const KvBlocks kv(a, item, kv_head);
  Attender<kTiles> attender;

  constexpr int kStep = kWarps * kPositionsOfTile;
  int position = FirstTile(a, rows, item.kv_begin) + warp * kPositionsOfTile;
  uint4 keys[kTiles];
  const auto load_keys = [&](int at) {
    if (at >= item.kv_end) return;
    const std::byte* from = kv.Keys(at) + lane * 16;
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile) {
      if (tile < kv.tiles_k) keys[tile] = LoadStreaming(from + tile * 512);
    }
  };
  load_keys(position);
  attender.Begin(a, rows);
  for (; position < item.kv_end; position += kStep) {
    uint4 values[kTiles];
    const std::byte* from = kv.Values(position) + lane * 16;
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile) {
      if (tile < kv.tiles_v) values[tile] = LoadStreaming(from + tile * 512);
    }
    float s[1][2][4];
    attender.Logits(kv.tiles_k, s[0], [&](int tile) { return keys[tile]; });
    load_keys(position + kStep);
    MaskLogits(rows, position, item.kv_end, s[0]);
    attender.template Softmax<1>(s);
    attender.Values(kv.tiles_v, s[0], [&](int tile) { return values[tile]; });
  }
  attender.End();

  constexpr int kFloats = 2 * kTiles * 4 + 4;
  if (warp > 0) {
    float* to = shared + (warp - 1) * kFloats * 32 + lane;
#pragma unroll
    for (int i = 0; i < 2; ++i) to[(2 * i) * 32] = attender.top[i], to[(2 * i + 1) * 32] = attender.sum[i];
#pragma unroll
    for (int n = 0; n < 2 * kTiles; ++n) {
#pragma unroll
      for (int j = 0; j < 4; ++j) to[(4 + n * 4 + j) * 32] = attender.out[n][j];
    }
  }
  __syncthreads();
  if (warp > 0) return;
  for (int other = 0; other < kWarps - 1; ++other) {
    const float* from = shared + other * kFloats * 32 + lane;
    float mine[2], theirs[2];
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const float top = from[(2 * i) * 32], sum = from[(2 * i + 1) * 32], largest = fmaxf(top, attender.top[i]);
      mine[i] = exp2f(attender.top[i] - largest);
      theirs[i] = exp2f(top - largest);
      attender.sum[i] = attender.sum[i] * mine[i] + sum * theirs[i];
      attender.top[i] = largest;
    }
#pragma unroll
    for (int n = 0; n < 2 * kTiles; ++n) {
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        attender.out[n][j] = attender.out[n][j] * mine[j / 2] + from[(4 + n * 4 + j) * 32] * theirs[j / 2];
      }
    }
  }
  attender.Store(a, item, rows, kv_head);
}

// A warp per head and token.
__global__ void MergeKernel(AttentionArgs a) {
  AwaitPrevious();
  AllowNext();
  const int token = blockIdx.y, lane = threadIdx.x % 32, heads = a.group * a.kv.kv_heads, dim = a.kv.dim_v;
  const int head = static_cast<int>(blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32);
  const int begin = a.step[a.offsets.merge_of_token + token], end = a.step[a.offsets.merge_of_token + token + 1];
  if (head >= heads || begin == end) return;
  const int32_t* merges = a.step + a.offsets.merges;
  const int kv_head = head / a.group;
  const auto row_of = [&](int i) {
    return int64_t{merges[2 * i]} + int64_t{kv_head} * merges[2 * i + 1] + head % a.group;
  };
  float top = kNoLogit;
  for (int i = begin + lane; i < end; i += 32) top = fmaxf(top, a.partial_sums[row_of(i)].x);
  for (int offset = 16; offset > 0; offset /= 2) top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, offset));
  float values[kValueElementsMax / 32] = {}, sum = 0;
  for (int i = begin; i < end; ++i) {
    const int64_t row = row_of(i);
    const float2 part = a.partial_sums[row];
    const float weight = exp2f(part.x - top);
    sum += part.y * weight;
#pragma unroll
    for (int j = 0; j < kValueElementsMax / 32; ++j) {
      const int d = j * 32 + lane;
      if (d < dim) values[j] += a.partial_values[row * dim + d] * weight;
    }
  }
  const float scale = FinalScale(a, head, top, sum);
#pragma unroll
  for (int j = 0; j < kValueElementsMax / 32; ++j) {
    const int d = j * 32 + lane;
    if (d >= dim) continue;
    const float value = values[j] * scale;
    a.y[(int64_t{token} * heads + head) * dim + d] = value;
    if (a.shadow.data != nullptr) a.shadow.data[token * a.shadow.stride + head * dim + d] = ToBf16(value);
  }
}

template <int kTiles>
void Start(const Stream& s, const AttentionArgs& a) {
  constexpr int kBytes = (kWarps - 1) * (2 * kTiles * 4 + 4) * 32 * static_cast<int>(sizeof(float));
  cudaFuncSetAttribute(NarrowKernel<kTiles>, cudaFuncAttributeMaxDynamicSharedMemorySize, kBytes);
  Launch(s, NarrowKernel<kTiles>, dim3(a.narrow_items, a.kv.kv_heads), dim3(kWarps * 32), kBytes, a);
}

}  // namespace

void AttendNarrow(const Stream& s, const AttentionArgs& args) {
  const int tiles = args.kv.tiles_k > args.kv.tiles_v ? args.kv.tiles_k : args.kv.tiles_v;
  if (tiles <= 4) return Start<4>(s, args);
  if (tiles <= 8) return Start<8>(s, args);
  Start<16>(s, args);
}

void MergePartials(const Stream& s, const AttentionArgs& args) {
  constexpr int kHeadsPerBlock = 4;
  const int heads = args.group * args.kv.kv_heads;
  Launch(s, MergeKernel, dim3((heads + kHeadsPerBlock - 1) / kHeadsPerBlock, args.tokens), dim3(kHeadsPerBlock * 32), 0,
         args);
}

}  // namespace conclave::engine::cuda
