// SPDX-License-Identifier: Apache-2.0
// Attention of few rows (decode): the warps of a block divide the positions and merge at the end; keys and values go
// from memory to registers, already in the order of the matrix units. Also the merge of partial results.
#include "engine/ops/cuda/attention.cuh"

namespace conclave::engine::cuda {
namespace {

constexpr int kWarps = 4;

// LONG FUNCTION: one loop with its prefetch and the merge of the warps that ends it.
template <int kTiles, bool kExact>
__global__ void __launch_bounds__(kWarps * 32) NarrowKernel(AttentionArgs a) {
  extern __shared__ float shared[];  // [kWarps - 1][Attender::kPutFloats][32]
  AwaitPrevious();
  AllowNext();
  // There is room for an item of every block: it is read together with their number.
  const AttentionItem item = reinterpret_cast<const AttentionItem*>(a.step + a.offsets.narrow)[blockIdx.x];
  if (static_cast<int>(blockIdx.x) >= a.step[a.offsets.counts]) return;
  const int kv_head = blockIdx.y, warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const WarpRows rows = FindRows(a, item, 0, kv_head);
  const KvBlocks kv(a, item, kv_head);
  const int tiles_k = kExact ? kTiles : kv.tiles_k, tiles_v = kExact ? kTiles : kv.tiles_v;
  Attender<kTiles> attender;

  constexpr int kStep = kWarps * kPositionsOfTile;
  int position = FirstTile(a, rows, item.kv_begin) + warp * kPositionsOfTile;
  uint4 keys[kTiles];
  const auto load_keys = [&](int at) {
    if (at >= item.kv_end) return;
    const std::byte* from = kv.Keys(at) + lane * 16;
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile) {
      if (tile < tiles_k) keys[tile] = LoadStreaming(from + tile * 512);
    }
  };
  load_keys(position);
  attender.Begin(a, rows, kExact);
  for (; position < item.kv_end; position += kStep) {
    uint4 values[kTiles];
    const std::byte* from = kv.Values(position) + lane * 16;
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile) {
      if (tile < tiles_v) values[tile] = LoadStreaming(from + tile * 512);
    }
    float s[1][2][4];
    attender.Logits(tiles_k, s[0], [&](int tile) { return keys[tile]; });
    load_keys(position + kStep);
    MaskLogits(rows, position, item.kv_end, s[0]);
    attender.template Softmax<1>(s);
    attender.Values(tiles_v, s[0], [&](int tile) { return values[tile]; });
  }
  attender.End();

  constexpr int kFloats = Attender<kTiles>::kPutFloats;
  if (warp > 0) attender.Put(shared + (warp - 1) * kFloats * 32 + lane);
  __syncthreads();
  if (warp > 0) return;
  for (int other = 0; other < kWarps - 1; ++other) attender.Merge(shared + other * kFloats * 32 + lane);
  attender.Store(a, item, rows, kv_head, kExact);
}

// A warp per head and token. Partial results are added in the order of the plan; the lanes find them, 32 at a time.
__global__ void MergeKernel(AttentionArgs a) {
  AwaitPrevious();
  AllowNext();
  const int token = blockIdx.y, lane = threadIdx.x % 32, heads = a.group * a.kv.kv_heads, dim = a.kv.dim_v;
  const int head = static_cast<int>(blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32);
  const int begin = a.step[a.offsets.merge_of_token + token], end = a.step[a.offsets.merge_of_token + token + 1];
  if (head >= heads || begin == end) return;
  const auto* merges = reinterpret_cast<const int2*>(a.step + a.offsets.merges);
  const auto row_of = [&](int i) { return merges[i].x + head / a.group * merges[i].y + head % a.group; };
  float top = kNoLogit;
  for (int i = begin + lane; i < end; i += 32) top = fmaxf(top, a.partial_sums[row_of(i)].x);
  for (int offset = 16; offset > 0; offset /= 2) top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, offset));
  constexpr int kPieces = kValueElementsMax / 32;
  float values[kPieces] = {}, sum = 0;
  for (int first = begin; first < end; first += 32) {
    int row = 0;
    float weight = 0, share = 0;
    if (first + lane < end) {
      row = row_of(first + lane);
      const float2 part = a.partial_sums[row];
      weight = Exp2(part.x - top);
      share = part.y * weight;
    }
    sum += WarpSum(share);
    const int count = min(32, end - first);
#pragma unroll 2
    for (int i = 0; i < count; ++i) {
      const float* from = a.partial_values + int64_t{__shfl_sync(0xffffffffu, row, i)} * dim + lane;
      const float w = __shfl_sync(0xffffffffu, weight, i);
#pragma unroll
      for (int j = 0; j < kPieces; ++j) {
        if (j * 32 + lane < dim) values[j] += from[j * 32] * w;
      }
    }
  }
  const float scale = FinalScale(a, head, top, sum);
#pragma unroll
  for (int j = 0; j < kPieces; ++j) {
    const int d = j * 32 + lane;
    if (d >= dim) continue;
    const float value = values[j] * scale;
    a.y[(int64_t{token} * heads + head) * dim + d] = value;
    if (a.shadow.data != nullptr) a.shadow.data[token * a.shadow.stride + head * dim + d] = ToBf16(value);
  }
}

template <int kTiles, bool kExact>
void Start(const Stream& s, const AttentionArgs& a) {
  constexpr int kBytes = (kWarps - 1) * Attender<kTiles>::kPutFloats * 32 * static_cast<int>(sizeof(float));
  cudaFuncSetAttribute(NarrowKernel<kTiles, kExact>, cudaFuncAttributeMaxDynamicSharedMemorySize, kBytes);
  Launch(s, NarrowKernel<kTiles, kExact>, dim3(a.narrow_items, a.kv.kv_heads), dim3(kWarps * 32), kBytes, a);
}

}  // namespace

void AttendNarrow(const Stream& s, const AttentionArgs& args) {
  ForHeadWidth(args, [&]<int kTiles, bool kExact>() { Start<kTiles, kExact>(s, args); });
}

void MergePartials(const Stream& s, const AttentionArgs& args) {
  constexpr int kHeadsPerBlock = 4;
  const int heads = args.group * args.kv.kv_heads;
  Launch(s, MergeKernel, dim3((heads + kHeadsPerBlock - 1) / kHeadsPerBlock, args.tokens), dim3(kHeadsPerBlock * 32), 0,
         args);
}

}  // namespace conclave::engine::cuda
