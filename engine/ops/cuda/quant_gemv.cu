// SPDX-License-Identifier: Apache-2.0
// Products of block formats with up to 8 rows of activations, on the matrix units: a warp reads tiles of weights in
// the order of their mma operand, makes exact bf16 codes of them, multiplies bf16 activations, and applies each block's
// scale to the block's f32 sum. Only the activations are rounded. Bound by memory: as many blocks as run at once walk
// over the row tiles, their warps divide the columns, and each warp's tiles arrive in shared memory some ahead of use.
#include "engine/ops/cuda/quant_stage.cuh"

namespace conclave::engine::cuda {
namespace {

constexpr int kWarps = 8;
constexpr int kThreads = kWarps * 32;
constexpr int kTokens = 8;  // columns of an mma
constexpr int kTiles = 2;   // a warp's, at a time
constexpr int kStep = kWarps * kTiles;
constexpr int kBlocksPerMultiprocessor = 3;
template <int kBits>
constexpr int kStagesOf = kBits == 4 ? 4 : 2;

// An operand of -136s. The registers are made of a.m, which is small, so that the compiler cannot know that they are
// constant and equal: it would copy them together anew for every product.
struct Operands {
  uint32_t minus[4];
  __device__ explicit Operands(const QuantArgs& a) {
#pragma unroll
    for (int i = 0; i < 4; ++i) minus[i] = 0xc308c308u | (static_cast<uint32_t>(a.m) >> (8 + i));
  }
};

// 16 bytes, and not later than what follows.
__device__ inline uint4 LoadNow(const void* p) {
  uint4 v;
  asm volatile("ld.global.v4.u32 {%0,%1,%2,%3}, [%4];" : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w) : "l"(p));
  return v;
}

// sums += this lane's part of (16 rows) x (64 columns) times 8 tokens. b: [group of 32].
template <int kBits, ScaleKind kScale, int kBias>
__device__ void MultiplyExactly(const Tile<kBits, kScale>& tile, const uint4 (&b)[2], const Operands& constant,
                                float (&sums)[4]) {
  constexpr bool kHasMin = kScale == ScaleKind::kDM || kScale == ScaleKind::kSuper;
  // 4-bit codes are used raw, that is with kRawOffset and 8 too much: a product begins with minus that times the sum of
  // x. Where there is a min the sum of x is wanted anyhow, and codes count from 8, of which the min makes up for.
  constexpr bool kRaw = kBits == 4;
  static_assert(!kRaw || kHasMin || kBias == 8, "what Operands holds");
  constexpr int kHalves = kScale == ScaleKind::kSuper6 ? 2 : 1;  // scales of a group
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    uint32_t low[4], high[4];
    if constexpr (kRaw) {
      const uint32_t words[2] = {tile.Word(0, i), tile.Word(1, i)};
#pragma unroll
      for (int j = 0; j < 4; ++j) low[j] = tile.Raw(words[0], j), high[j] = tile.Raw(words[1], j);
    } else {
      tile.template Codes<kBias>(0, i, low);
      tile.template Codes<kBias>(1, i, high);
    }
#pragma unroll
    for (int half = 0; half < kHalves; ++half) {
      ScaleMin s0 = tile.Scale(0, kHalves * i + half), s1 = tile.Scale(1, kHalves * i + half);
      if constexpr (kRaw && kHasMin) {
        s0.min = __fmaf_rn(8.0f, s0.scale, s0.min);
        s1.min = __fmaf_rn(8.0f, s1.scale, s1.min);
      }
      uint4 x = b[i];
      // Lanes t < 2 hold the group's first 16 columns: two products, each with the other half's activations zero.
      if (kHalves == 2 && (threadIdx.x % 4 < 2) != (half == 0)) x = make_uint4(0, 0, 0, 0);
      float c[4], x_sums[4];
      if constexpr (kHasMin) SumActivations(x, x_sums);
      if constexpr (kRaw && kHasMin) {
        c[0] = c[2] = -(tile.kRawOffset + 8) * x_sums[0];
        c[1] = c[3] = -(tile.kRawOffset + 8) * x_sums[1];
        MmaBf16(c, low[0], high[0], low[1], high[1], x.x, x.y);
      } else if constexpr (kRaw) {
        const uint32_t(&minus)[4] = constant.minus;
        MmaBf16Fresh(c, minus[0], minus[1], minus[2], minus[3], x.x, x.y);
        MmaBf16(c, minus[0], minus[1], minus[2], minus[3], x.z, x.w);
        MmaBf16(c, low[0], high[0], low[1], high[1], x.x, x.y);
      } else {
        MmaBf16Fresh(c, low[0], high[0], low[1], high[1], x.x, x.y);
      }
      MmaBf16(c, low[2], high[2], low[3], high[3], x.z, x.w);
      sums[0] += s0.scale * c[0], sums[1] += s0.scale * c[1], sums[2] += s1.scale * c[2], sums[3] += s1.scale * c[3];
      if constexpr (kHasMin) {
        sums[0] += s0.min * x_sums[0], sums[1] += s0.min * x_sums[1];
        sums[2] += s1.min * x_sums[2], sums[3] += s1.min * x_sums[3];
      }
    }
  }
}

// LONG FUNCTION: one walk over the tiles, its pipeline and the sum of the warps that ends each row tile.
template <int kBits, ScaleKind kScale, int kBias>
__global__ void __launch_bounds__(kThreads, kBlocksPerMultiprocessor) QuantGemvKernel(QuantArgs a) {
  constexpr int kStages = kStagesOf<kBits>;
  using StagedTiles = Staged<kBits, kScale, kTiles>;
  extern __shared__ uint4 ring[];  // [kWarps][kStages][StagedTiles::kBytes]
  __shared__ float parts[2][kWarps][kTokens * kTileRows];
  const int lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
  const int warp = __shfl_sync(0xffffffffu, static_cast<int>(threadIdx.x / 32), 0);  // known to be the warp's
  const int tiles = static_cast<int>(a.shape.column_tiles), row_tiles = static_cast<int>(a.shape.row_tiles);
  const int first = warp * kTiles;
  const std::byte* mine = reinterpret_cast<const std::byte*>(ring) + warp * kStages * StagedTiles::kBytes;
  const auto to = static_cast<uint32_t>(__cvta_generic_to_shared(mine));
  Walk<kBits, kScale, kTiles> walk(lane);
  int next_row = blockIdx.x;  // the walk's
  walk.Begin(a, next_row, first, kStep);
  const auto fetch = [&](int stage) {
    if (walk.left <= 0) {
      next_row += gridDim.x;
      if (first < tiles && next_row < row_tiles) walk.Begin(a, next_row, first, kStep);
    }
    if (walk.left > 0) walk.Fetch(to + stage * StagedTiles::kBytes, kStep);
    CommitCopies();
  };
  for (int stage = 0; stage < kStages - 1; ++stage) fetch(stage);
  AwaitPrevious();
  AllowNext();
  // Columns of the product beyond the last token are made of the last's activations, and not used.
  const uint16_t* x = a.x + min(g, a.m - 1) * a.x_stride + t * 8 + first * kTileColumns;
  const Operands constant(a);
  int stage = 0, half = 0;
  for (int row_tile = blockIdx.x; row_tile < row_tiles; row_tile += gridDim.x, half ^= 1) {
    float sums[4] = {};
    const uint16_t* from_x = x;
#pragma unroll 1
    for (int left = tiles - first; left > 0; left -= kStep) {
      uint4 b[kTiles][2];
#pragma unroll
      for (int i = 0; i < kTiles; ++i) {
        const uint16_t* from = from_x + (i < left ? i * kTileColumns : 0);
        b[i][0] = LoadNow(from), b[i][1] = LoadNow(from + 32);
      }
      from_x += kStep * kTileColumns;
      AwaitCopies<kStages - 2>();
      __syncwarp();  // also: all lanes have read the stage before, which is now filled again
      fetch(stage == 0 ? kStages - 1 : stage - 1);
      const std::byte* from = mine + stage * StagedTiles::kBytes;
#pragma unroll
      for (int i = 0; i < kTiles; ++i) {
        if (i > 0 && i >= left) break;
        const Tile<kBits, kScale> tile = StagedTiles::Read(from, i, lane);
        MultiplyExactly<kBits, kScale, kBias>(tile, b[i], constant, sums);
      }
      stage = stage + 1 == kStages ? 0 : stage + 1;
    }
    // Parts are added in the order of their warps.
    float* part = parts[half][warp] + 2 * t * kTileRows + g;
    part[0] = sums[0], part[8] = sums[2], part[kTileRows] = sums[1], part[kTileRows + 8] = sums[3];
    __syncthreads();
    if (static_cast<int>(threadIdx.x) < kTileRows * a.m) {
      const int token = threadIdx.x / kTileRows, row = row_tile * kTileRows + static_cast<int>(threadIdx.x) % kTileRows;
      if (row < a.rows) {
        float sum = 0;
#pragma unroll
        for (int w = 0; w < kWarps; ++w) sum += parts[half][w][threadIdx.x];
        float* out = a.y + token * a.y_stride + row;
        *out = a.add ? *out + sum : sum;
      }
    }
  }
}

template <int kBits, ScaleKind kScale, int kBias>
void Start(const Stream& s, const Product& p, const WeightPart& part) {
  const QuantArgs a = {p.y,
                       p.y_stride,
                       p.shadow.data,
                       p.shadow.stride,
                       part.data,
                       part.shape,
                       static_cast<int>(part.rows),
                       static_cast<int>(p.m),
                       1,
                       p.add};
  constexpr int kBytes = kWarps * kStagesOf<kBits> * Staged<kBits, kScale, kTiles>::kBytes;
  const auto kernel = QuantGemvKernel<kBits, kScale, kBias>;
  static const cudaError_t allowed = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kBytes);
  (void)allowed;
  const int64_t blocks = min(part.shape.row_tiles, int64_t{s.multiprocessors} * kBlocksPerMultiprocessor);
  Launch(s, kernel, dim3(static_cast<unsigned>(blocks)), dim3(kThreads), kBytes, a);
}

}  // namespace

void QuantGemv(const Stream& s, const Product& p, const WeightPart& part) {
  ForFormat(part.shape.format,
            [&]<int kBits, ScaleKind kScale, int kBias>() { Start<kBits, kScale, kBias>(s, p, part); });
}

}  // namespace conclave::engine::cuda
