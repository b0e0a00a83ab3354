// SPDX-License-Identifier: Apache-2.0
// Products of block formats with 9 to 64 rows of activations, on the matrix units. A block holds up to 32 row tiles of
// the weight, some per warp, and passes over its columns once, weights and activations arriving in shared memory some
// steps ahead. Weights become bf16 (value and scale each rounded) in registers. Blocks divide row tiles and columns so
// that every multiprocessor has the same to do; where columns are divided a second kernel adds the sums in order.
#include "engine/ops/cuda/quant_gemm.cuh"

namespace conclave::engine::cuda {
namespace {

constexpr int kWarps = 8;
constexpr int kThreads = kWarps * 32;
constexpr int kWarpTiles = 4;  // row tiles of a warp
constexpr int kBlockTiles = kWarps * kWarpTiles;
static_assert(kBlockTiles == kGemmBlockTiles);
constexpr int kSharedBytesMax = 99 << 10;  // of a block, on sm_89
template <int kBits>
constexpr int kStagesOf = kBits == 4 ? 3 : 2;
constexpr int64_t kWavesMax = 8, kSplitMax = 16;  // that Divide tries

// What a block has in shared memory of a step, 64 columns: its row tiles, then the activations as rows of 128 bytes, in
// those of odd rows the halves changed about, so that 8 rows of a column lie in different banks.
template <int kBits, ScaleKind kScale, int kTokenTiles>
struct Step {
  using StagedTile = Staged<kBits, kScale, 1>;
  static constexpr int kWeightBytes = kBlockTiles * StagedTile::kBytes;
  static constexpr int kRowBytes = kTileColumns * 2;
  static constexpr int kBytes = kWeightBytes + kTokenTiles * kTokens * kRowBytes;

  __device__ static void FetchActivations(const QuantArgs& a, uint32_t to, int column_tile) {
    // A thread copies the same chunk of rows kRowsAtOnce apart.
    constexpr int kRowsAtOnce = kThreads * 16 / kRowBytes, kRows = kTokenTiles * kTokens;
    const int first = static_cast<int>(threadIdx.x) / 8, chunk = static_cast<int>(threadIdx.x) % 8;
    const uint16_t* from = a.x + first * a.x_stride + column_tile * kTileColumns + chunk * 8;
    to += kWeightBytes + first * kRowBytes + (chunk ^ (first % 2 * 4)) * 16;
#pragma unroll
    for (int row = 0; row < kRows; row += kRowsAtOnce) {
      if (kRows < kRowsAtOnce && first >= kRows) break;
      const bool exists = first + row < a.m;
      CopyAsync16Or0(to + row * kRowBytes, exists ? from + row * a.x_stride : a.x, exists);
    }
  }
  __device__ static uint4 Activations(const std::byte* from, int n, int i, int lane) {
    const int g = lane / 4, t = lane % 4;
    const int at = kWeightBytes + (n * kTokens + g) * kRowBytes + ((i * 4 + t) ^ (g % 2 * 4)) * 16;
    return *reinterpret_cast<const uint4*>(from + at);
  }
};

// sums += kTiles row tiles of this warp times the activations of a step.
template <int kBits, ScaleKind kScale, int kBias, int kTokenTiles, int kTiles>
__device__ void MultiplyStep(const std::byte* from, int warp, int lane, float (&sums)[kWarpTiles][kTokenTiles][4]) {
  using StepOf = Step<kBits, kScale, kTokenTiles>;
  Tile<kBits, kScale> tiles[kTiles];
#pragma unroll
  for (int j = 0; j < kTiles; ++j) {
    tiles[j] = StepOf::StagedTile::Read(from + (warp + j * kWarps) * StepOf::StagedTile::kBytes, 0, lane);
  }
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    uint32_t low[kTiles][4], high[kTiles][4];
#pragma unroll
    for (int j = 0; j < kTiles; ++j) {
      Values<kBits, kScale, kBias>(tiles[j], 0, i, low[j]);
      Values<kBits, kScale, kBias>(tiles[j], 1, i, high[j]);
    }
#pragma unroll
    for (int n = 0; n < kTokenTiles; ++n) {
      const uint4 b = StepOf::Activations(from, n, i, lane);
#pragma unroll
      for (int j = 0; j < kTiles; ++j) {
        MmaBf16(sums[j][n], low[j][0], high[j][0], low[j][1], high[j][1], b.x, b.y);
        MmaBf16(sums[j][n], low[j][2], high[j][2], low[j][3], high[j][3], b.z, b.w);
      }
    }
  }
}

// LONG FUNCTION: one pipeline.
template <int kBits, ScaleKind kScale, int kBias, int kTokenTiles>
__global__ void __launch_bounds__(kThreads, 1) QuantGemmKernel(QuantArgs a, float* partial) {
  constexpr int kStages = kStagesOf<kBits>;
  using StepOf = Step<kBits, kScale, kTokenTiles>;
  using StagedTile = typename StepOf::StagedTile;
  extern __shared__ uint4 ring[];  // [kStages][StepOf::kBytes]
  const int lane = threadIdx.x % 32;
  const int warp = __shfl_sync(0xffffffffu, static_cast<int>(threadIdx.x / 32), 0);
  const int row_tiles = static_cast<int>(a.shape.row_tiles), columns = static_cast<int>(a.shape.column_tiles);
  const int blocks = static_cast<int>(gridDim.x), block = static_cast<int>(blockIdx.x),
            part = static_cast<int>(blockIdx.y);
  const int first = static_cast<int>(int64_t{row_tiles} * block / blocks) + warp;
  const int last = static_cast<int>(int64_t{row_tiles} * (block + 1) / blocks);
  const int mine = (last - first + kWarps - 1) / kWarps;  // row tiles of this warp: first, first + kWarps, ..
  const int begin = columns * part / a.split, end = columns * (part + 1) / a.split;
  const auto* stages = reinterpret_cast<const std::byte*>(ring);
  const auto to = static_cast<uint32_t>(__cvta_generic_to_shared(ring));
  const ColumnWalk<kBits, kScale> walk(a, first, kWarps, lane);
  const auto fetch_weights = [&](int column, int stage) {
    walk.template Fetch<kWarpTiles>(to + stage * StepOf::kBytes + warp * StagedTile::kBytes,
                                    kWarps * StagedTile::kBytes, mine, column);
  };
#pragma unroll 1
  for (int s = 0; s < kStages - 1; ++s) {
    if (begin + s < end) fetch_weights(begin + s, s);
  }
  AwaitPrevious();
  AllowNext();
#pragma unroll 1
  for (int s = 0; s < kStages - 1; ++s) {
    if (begin + s < end) StepOf::FetchActivations(a, to + s * StepOf::kBytes, begin + s);
    CommitCopies();  // the first also holds all weights above
  }
  float sums[kWarpTiles][kTokenTiles][4] = {};
  int stage = 0;
#pragma unroll 1
  for (int column = begin; column < end; ++column) {
    AwaitCopies<kStages - 2>();
    __syncthreads();  // also: all warps have read the stage before, which is now filled again
    const int next = column + kStages - 1, free = stage == 0 ? kStages - 1 : stage - 1;
    if (next < end) {
      fetch_weights(next, free);
      StepOf::FetchActivations(a, to + free * StepOf::kBytes, next);
    }
    CommitCopies();
    const std::byte* from = stages + stage * StepOf::kBytes;
    switch (mine) {
      case 1:
        MultiplyStep<kBits, kScale, kBias, kTokenTiles, 1>(from, warp, lane, sums);
        break;
      case 2:
        MultiplyStep<kBits, kScale, kBias, kTokenTiles, 2>(from, warp, lane, sums);
        break;
      case 3:
        MultiplyStep<kBits, kScale, kBias, kTokenTiles, 3>(from, warp, lane, sums);
        break;
      case 4:
        MultiplyStep<kBits, kScale, kBias, kTokenTiles, 4>(from, warp, lane, sums);
        break;
      default:
        break;
    }
    stage = stage + 1 == kStages ? 0 : stage + 1;
  }
#pragma unroll
  for (int j = 0; j < kWarpTiles; ++j) {
    if (j < mine) StoreSums(a, partial, part, first + j * kWarps, lane, sums[j]);
  }
}

__global__ void AddSplitsKernel(QuantArgs a, const float* partial) {
  AwaitPrevious();
  AllowNext();
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x, size = int64_t{a.m} * a.rows;
  if (i >= size) return;
  float sum = 0;
  for (int split = 0; split < a.split; ++split) sum += partial[split * size + i];
  float* out = a.y + i / a.rows * a.y_stride + i % a.rows;
  *out = a.add ? *out + sum : sum;
}

// How blocks divide a product: row tiles among `blocks`, columns among `split` of them each.
struct Division {
  int blocks, split;
};

// The division of the least time: that of the slowest multiprocessor, and where columns are divided what the sums take.
// The constants are microseconds as measured on an H100: of a step, of a row tile in it, of starting, of bytes.
Division Divide(int64_t row_tiles, int64_t columns, int64_t m, int64_t multiprocessors, int64_t partial_elements) {
  const double step_cost = 0.25 + 0.0024 * static_cast<double>(m), tile_cost = 0.016 + 0.00045 * static_cast<double>(m);
  constexpr double kStartCost = 2, kBytesPerMicrosecond = 4.5e6;
  const int64_t fewest = (row_tiles + kBlockTiles - 1) / kBlockTiles;
  Division best = {static_cast<int>(fewest), 1};
  double least = 1e300;
  for (int64_t waves = 1; waves <= kWavesMax; ++waves) {
    for (int64_t split = 1; split <= min(kSplitMax, columns); ++split) {
      const int64_t blocks = min(row_tiles, waves * multiprocessors / split), sums = split * row_tiles * kTileRows * m;
      if (blocks < fewest || (split > 1 && sums > partial_elements)) continue;
      const auto tiles = static_cast<double>((row_tiles + blocks - 1) / blocks);
      const auto steps = static_cast<double>((columns + split - 1) / split);
      double cost = static_cast<double>(waves) * (steps * (step_cost + tiles * tile_cost) + kStartCost);
      if (split > 1) cost += kStartCost + 8.0 * static_cast<double>(sums) / kBytesPerMicrosecond;
      if (cost < least) least = cost, best = {static_cast<int>(blocks), static_cast<int>(split)};
    }
  }
  return best;
}

template <int kBits, ScaleKind kScale, int kBias, int kTokenTiles>
void Start(const Stream& s, const QuantArgs& a, const dim3& grid, float* partial) {
  constexpr int kBytes = kStagesOf<kBits> * Step<kBits, kScale, kTokenTiles>::kBytes;
  static_assert(kBytes <= kSharedBytesMax);
  const auto kernel = QuantGemmKernel<kBits, kScale, kBias, kTokenTiles>;
  static const cudaError_t allowed = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kBytes);
  (void)allowed;
  Launch(s, kernel, grid, dim3(kThreads), kBytes, a, partial);
}

void StartGeneral(const Stream& s, const QuantArgs& a, const dim3& grid, float* partial) {
  ForFormat(a.shape.format, [&]<int kBits, ScaleKind kScale, int kBias>() {
    if (a.m <= 16) return Start<kBits, kScale, kBias, 2>(s, a, grid, partial);
    if (a.m <= 32) return Start<kBits, kScale, kBias, 4>(s, a, grid, partial);
    Start<kBits, kScale, kBias, 8>(s, a, grid, partial);
  });
}

}  // namespace

void QuantGemm(const Stream& s, const Product& p, const WeightPart& part, float* partial, int64_t partial_elements) {
  const Division d = Divide(part.shape.row_tiles, part.shape.column_tiles, p.m, s.multiprocessors, partial_elements);
  const QuantArgs a = {p.y,
                       p.y_stride,
                       p.shadow.data,
                       p.shadow.stride,
                       part.data,
                       part.shape,
                       static_cast<int>(part.rows),
                       static_cast<int>(p.m),
                       d.split,
                       p.add};
  const dim3 grid(static_cast<unsigned>(d.blocks), static_cast<unsigned>(d.split));
  if (s.hopper) {
    QuantGemmHopper(s, a, grid, partial);
  } else {
    StartGeneral(s, a, grid, partial);
  }
  if (d.split > 1) {
    const int64_t size = p.m * part.rows;
    Launch(s, AddSplitsKernel, dim3(static_cast<unsigned>((size + kThreads - 1) / kThreads)), dim3(kThreads), 0, a,
           partial);
  }
}

}  // namespace conclave::engine::cuda
