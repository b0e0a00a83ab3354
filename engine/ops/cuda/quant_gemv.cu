// SPDX-License-Identifier: Apache-2.0
// Products of block formats with up to 8 rows of activations, on the matrix units: a warp reads tiles of weights in the
// order of their mma operand, makes exact bf16 codes of them, multiplies bf16 activations, and applies each block's
// scale to the block's f32 sum. Only the activations are rounded. Bound by memory.
#include "engine/ops/cuda/device.cuh"

namespace conclave::engine::cuda {
namespace {

constexpr int kWarps = 8;
constexpr int kThreads = kWarps * 32;
constexpr int kRowTiles = 2;  // per warp
constexpr int kTokens = 8;    // columns of an mma

struct QuantArgs {
  float* y;
  int64_t y_stride;
  const uint16_t* x;
  int64_t x_stride;
  const uint8_t* w;
  PackedShape shape;
  int rows, m;
  int split;  // warps that share row tiles, each with its part of the column tiles
  bool add;
};

// What a lane holds of one tile.
template <int kBits, ScaleKind kScale>
struct Tile {
  static constexpr bool kHasSuper = kScale == ScaleKind::kSuper || kScale == ScaleKind::kSuper6;
  uint4 codes[kBits / 4];
  uint32_t scales[kScale == ScaleKind::kDM ? 4 : 2];
  uint32_t super[kScale == ScaleKind::kSuper ? 2 : 1];

  __device__ void Load(const QuantArgs& a, int64_t row_tile, int64_t column_tile, int lane) {
    const int64_t tile = row_tile * a.shape.column_tiles + column_tile;
    constexpr int kCodeBytes = kTileRows * kTileColumns * kBits / 8, kScaleBytes = kScale == ScaleKind::kDM ? 128 : 64;
    const uint8_t* at = a.w + tile * kCodeBytes + lane * 16;
#pragma unroll
    for (int i = 0; i < kBits / 4; ++i) codes[i] = LoadStreaming(at + i * 512);
    const uint8_t* scale = a.w + a.shape.scales_at + tile * kScaleBytes + lane / 4 * (kScaleBytes / 8);
    if constexpr (kScale == ScaleKind::kDM) {
      const uint4 v = LoadStreaming(scale);
      scales[0] = v.x, scales[1] = v.y, scales[2] = v.z, scales[3] = v.w;
    } else {
      const uint2 v = LoadStreaming8(scale);
      scales[0] = v.x, scales[1] = v.y;
    }
    if constexpr (kHasSuper) {
      constexpr int kSuperBytes = kScale == ScaleKind::kSuper ? 64 : 32;
      const int64_t super_tile = row_tile * ((a.shape.column_tiles + 3) / 4) + column_tile / 4;
      const auto* words = reinterpret_cast<const uint32_t*>(a.w + a.shape.supers_at + super_tile * kSuperBytes +
                                                            lane / 4 * (kSuperBytes / 8));
      super[0] = __ldg(words);
      if constexpr (kScale == ScaleKind::kSuper) super[1] = __ldg(words + 1);
    }
  }

  // Scale and min of row g + 8 * `high` in group `i`: 2 groups of 32, or 4 of 16 (kSuper6).
  __device__ ScaleMin Scale(int high, int i) const {
    if constexpr (kScale == ScaleKind::kD) {
      return {HalfBits(static_cast<uint16_t>(scales[high] >> (16 * i))), 0.0f};
    } else if constexpr (kScale == ScaleKind::kDM) {
      const float2 dm = __half22float2(reinterpret_cast<const __half2&>(scales[2 * high + i]));
      return {dm.x, dm.y};
    } else if constexpr (kScale == ScaleKind::kSuper) {
      const float2 dm = __half22float2(reinterpret_cast<const __half2&>(super[high]));
      const uint32_t pair = scales[high] >> (16 * i);
      return {dm.x * static_cast<float>(pair & 255u), -dm.y * static_cast<float>((pair >> 8) & 255u)};
    } else {
      const float d = HalfBits(static_cast<uint16_t>(super[0] >> (16 * high)));
      return {d * static_cast<float>(static_cast<int8_t>(scales[high] >> (8 * i))), 0.0f};
    }
  }

  // Codes of row g + 8 * `high` in group of 32 `i`: 8 columns as four bf16 pairs.
  template <int kBias>
  __device__ void Codes(int high, int i, uint32_t (&pairs)[4]) const {
    if constexpr (kBits == 4) {
      const uint32_t word = high == 0 ? (i == 0 ? codes[0].x : codes[0].y) : (i == 0 ? codes[0].z : codes[0].w);
      const __nv_bfloat162 offset = __float2bfloat162_rn(128.0f + kBias);
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const uint32_t bits = ((word >> (4 * j)) & 0x000f000fu) | 0x43004300u;  // 128 + code
        const __nv_bfloat162 v = __hsub2(reinterpret_cast<const __nv_bfloat162&>(bits), offset);
        pairs[j] = reinterpret_cast<const uint32_t&>(v);
      }
    } else {
      const uint4 v = codes[i];
      const uint32_t words[2] = {high == 0 ? v.x : v.z, high == 0 ? v.y : v.w};
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const uint32_t word = words[j / 2];
        const float low = __uint_as_float(__byte_perm(word, 0x4b000000u, j % 2 == 0 ? 0x7550 : 0x7552)) - 8388736.0f;
        const float top = __uint_as_float(__byte_perm(word, 0x4b000000u, j % 2 == 0 ? 0x7551 : 0x7553)) - 8388736.0f;
        pairs[j] = PackBf162(low, top);
      }
    }
  }
};

// sums += this lane's part of (16 rows) x (64 columns) times 8 tokens. b: [group of 32].
template <int kBits, ScaleKind kScale, int kBias>
__device__ void MultiplyTile(const Tile<kBits, kScale>& tile, const uint4 (&b)[2], const float (&x_sums)[2][4],
                             float (&sums)[4]) {
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    uint32_t low[4], high[4];
    tile.template Codes<kBias>(0, i, low);
    tile.template Codes<kBias>(1, i, high);
    if constexpr (kScale == ScaleKind::kSuper6) {
      // Lanes t < 2 hold the group's first 16 columns: two products, each with the other half's activations zero.
      const bool first = threadIdx.x % 4 < 2;
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const bool mine = first == (half == 0);
        float c[4] = {};
        MmaBf16(c, low[0], high[0], low[1], high[1], mine ? b[i].x : 0, mine ? b[i].y : 0);
        MmaBf16(c, low[2], high[2], low[3], high[3], mine ? b[i].z : 0, mine ? b[i].w : 0);
        const float s0 = tile.Scale(0, 2 * i + half).scale, s1 = tile.Scale(1, 2 * i + half).scale;
        sums[0] += s0 * c[0], sums[1] += s0 * c[1], sums[2] += s1 * c[2], sums[3] += s1 * c[3];
      }
    } else {
      float c[4] = {};
      MmaBf16(c, low[0], high[0], low[1], high[1], b[i].x, b[i].y);
      MmaBf16(c, low[2], high[2], low[3], high[3], b[i].z, b[i].w);
      const ScaleMin s0 = tile.Scale(0, i), s1 = tile.Scale(1, i);
      sums[0] += s0.scale * c[0], sums[1] += s0.scale * c[1], sums[2] += s1.scale * c[2], sums[3] += s1.scale * c[3];
      if constexpr (kScale != ScaleKind::kD) {
        sums[0] += s0.min * x_sums[i][0], sums[1] += s0.min * x_sums[i][1];
        sums[2] += s1.min * x_sums[i][2], sums[3] += s1.min * x_sums[i][3];
      }
    }
  }
}

template <int kBits, ScaleKind kScale, int kBias>
__global__ void __launch_bounds__(kThreads) QuantGemvKernel(QuantArgs a) {
  constexpr int kAhead = kBits == 4 ? 4 : 2;
  constexpr bool kHasMin = kScale == ScaleKind::kDM || kScale == ScaleKind::kSuper;
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
  const int part = warp % a.split;
  const int64_t first = (int64_t{blockIdx.x} * (kWarps / a.split) + warp / a.split) * kRowTiles;
  const int64_t end = a.shape.column_tiles;
  Tile<kBits, kScale> ring[kAhead][kRowTiles];
  const auto load = [&](int64_t column_tile, Tile<kBits, kScale>(&into)[kRowTiles]) {
    if (column_tile >= end) return;
#pragma unroll
    for (int r = 0; r < kRowTiles; ++r) {
      into[r].Load(a, min(first + r, a.shape.row_tiles - 1), column_tile, lane);
    }
  };
#pragma unroll
  for (int u = 0; u < kAhead; ++u) load(part + u * a.split, ring[u]);
  AllowNext();
  AwaitPrevious();
  float sums[kRowTiles][4] = {};
  const uint16_t* x = a.x + g * a.x_stride + t * 8;
  for (int64_t base = part; base < end; base += kAhead * a.split) {
#pragma unroll
    for (int u = 0; u < kAhead; ++u) {
      const int64_t column_tile = base + u * a.split;
      if (column_tile >= end) break;
      uint4 b[2];
      float x_sums[2][4] = {};
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        b[i] =
            g < a.m ? *reinterpret_cast<const uint4*>(x + column_tile * kTileColumns + i * 32) : make_uint4(0, 0, 0, 0);
        if constexpr (kHasMin) {
          constexpr uint32_t kOnes = 0x3f803f80u;
          MmaBf16(x_sums[i], kOnes, kOnes, kOnes, kOnes, b[i].x, b[i].y);
          MmaBf16(x_sums[i], kOnes, kOnes, kOnes, kOnes, b[i].z, b[i].w);
        }
      }
#pragma unroll
      for (int r = 0; r < kRowTiles; ++r) MultiplyTile<kBits, kScale, kBias>(ring[u][r], b, x_sums, sums[r]);
      load(column_tile + kAhead * a.split, ring[u]);
    }
  }
  // Parts are added in the order of their columns.
  __shared__ float parts[kWarps][kRowTiles][kTileRows * kTokens];
#pragma unroll
  for (int r = 0; r < kRowTiles; ++r) {
    float* p = parts[warp][r];
    p[2 * t * kTileRows + g] = sums[r][0];
    p[(2 * t + 1) * kTileRows + g] = sums[r][1];
    p[2 * t * kTileRows + g + 8] = sums[r][2];
    p[(2 * t + 1) * kTileRows + g + 8] = sums[r][3];
  }
  __syncthreads();
  const int groups = kWarps / a.split, places = kRowTiles * kTileRows * a.m;
  for (int i = threadIdx.x; i < groups * places; i += kThreads) {
    const int group = i / places, token = i % places / (kRowTiles * kTileRows), row = i % (kRowTiles * kTileRows);
    const int64_t n = (int64_t{blockIdx.x} * groups + group) * kRowTiles * kTileRows + row;
    if (n >= a.rows) continue;
    float sum = 0;
    for (int j = 0; j < a.split; ++j) {
      sum += parts[group * a.split + j][row / kTileRows][token * kTileRows + row % kTileRows];
    }
    float* out = a.y + token * a.y_stride + n;
    *out = a.add ? *out + sum : sum;
  }
}

int Split(const Stream& s, int64_t groups, int64_t column_tiles) {
  int split = 1;
  while (split < kWarps && groups * split < int64_t{s.multiprocessors} * 16 && column_tiles >= 4 * split) split *= 2;
  return split;
}

template <int kBits, ScaleKind kScale, int kBias>
void Start(const Stream& s, const Product& p, const WeightPart& part) {
  const int64_t groups = (part.shape.row_tiles + kRowTiles - 1) / kRowTiles;
  const QuantArgs a = {p.y,
                       p.y_stride,
                       p.shadow.data,
                       p.shadow.stride,
                       part.data,
                       part.shape,
                       static_cast<int>(part.rows),
                       static_cast<int>(p.m),
                       Split(s, groups, part.shape.column_tiles),
                       p.add};
  const int64_t per_block = kWarps / a.split;
  Launch(s, QuantGemvKernel<kBits, kScale, kBias>, dim3(static_cast<unsigned>((groups + per_block - 1) / per_block)),
         dim3(kThreads), 0, a);
}

}  // namespace

void QuantGemv(const Stream& s, const Product& p, const WeightPart& part) {
  const bool four = part.shape.format.code_bits == 4;
  switch (part.shape.format.scale) {
    case ScaleKind::kD:
      return four ? Start<4, ScaleKind::kD, 8>(s, p, part) : Start<8, ScaleKind::kD, 0>(s, p, part);
    case ScaleKind::kDM:
      return four ? Start<4, ScaleKind::kDM, 0>(s, p, part) : Start<8, ScaleKind::kDM, 0>(s, p, part);
    case ScaleKind::kSuper:
      return four ? Start<4, ScaleKind::kSuper, 0>(s, p, part) : Start<8, ScaleKind::kSuper, 0>(s, p, part);
    case ScaleKind::kSuper6:
      return Start<8, ScaleKind::kSuper6, 0>(s, p, part);
  }
}

}  // namespace conclave::engine::cuda
