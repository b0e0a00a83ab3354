// SPDX-License-Identifier: Apache-2.0
// Products of block formats with 9 to 64 rows of activations on sm_90a: as quant_gemm.cu, with the matrix units' own
// way, which reads activations from shared memory and works while weights become bf16. Each warp of four holds 16 rows
// of the 64 that they multiply together.
#include "engine/ops/cuda/quant_gemm.cuh"

namespace conclave::engine::cuda {
namespace {

constexpr int kWarps = 16;
constexpr int kThreads = kWarps * 32;
constexpr int kWarpTiles = 2;  // row tiles of a warp
static_assert(kWarps * kWarpTiles == kGemmBlockTiles);
constexpr int kXStages = 3;
constexpr int kChunks = kTileColumns / 8;  // of 8 columns, in a step

// d += a b: 64 rows (16 per warp of four) by 16 columns, 16 deep. b: in shared memory, as a descriptor says.
__device__ inline void Wgmma(float (&d)[2][4], const uint32_t (&a)[4], uint64_t b) {
  asm volatile(
      "wgmma.mma_async.sync.aligned.m64n16k16.f32.bf16.bf16 {%0, %1, %2, %3, %4, %5, %6, %7}, {%8, %9, %10, %11}, %12, "
      "1, 1, 1, 0;"
      : "+f"(d[0][0]), "+f"(d[0][1]), "+f"(d[0][2]), "+f"(d[0][3]), "+f"(d[1][0]), "+f"(d[1][1]), "+f"(d[1][2]),
        "+f"(d[1][3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));
}
// The same by 32 columns.
__device__ inline void Wgmma(float (&d)[4][4], const uint32_t (&a)[4], uint64_t b) {
  asm volatile(
      "wgmma.mma_async.sync.aligned.m64n32k16.f32.bf16.bf16 "
      "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15}, "
      "{%16, %17, %18, %19}, %20, 1, 1, 1, 0;"
      : "+f"(d[0][0]), "+f"(d[0][1]), "+f"(d[0][2]), "+f"(d[0][3]), "+f"(d[1][0]), "+f"(d[1][1]), "+f"(d[1][2]),
        "+f"(d[1][3]), "+f"(d[2][0]), "+f"(d[2][1]), "+f"(d[2][2]), "+f"(d[2][3]), "+f"(d[3][0]), "+f"(d[3][1]),
        "+f"(d[3][2]), "+f"(d[3][3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));
}
// The same by 64 columns.
__device__ inline void Wgmma(float (&d)[8][4], const uint32_t (&a)[4], uint64_t b) {
  asm volatile(
      "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 "
      "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, %21, %22, %23, "
      "%24, %25, %26, %27, %28, %29, %30, %31}, "
      "{%32, %33, %34, %35}, %36, 1, 1, 1, 0;"
      : "+f"(d[0][0]), "+f"(d[0][1]), "+f"(d[0][2]), "+f"(d[0][3]), "+f"(d[1][0]), "+f"(d[1][1]), "+f"(d[1][2]),
        "+f"(d[1][3]), "+f"(d[2][0]), "+f"(d[2][1]), "+f"(d[2][2]), "+f"(d[2][3]), "+f"(d[3][0]), "+f"(d[3][1]),
        "+f"(d[3][2]), "+f"(d[3][3]), "+f"(d[4][0]), "+f"(d[4][1]), "+f"(d[4][2]), "+f"(d[4][3]), "+f"(d[5][0]),
        "+f"(d[5][1]), "+f"(d[5][2]), "+f"(d[5][3]), "+f"(d[6][0]), "+f"(d[6][1]), "+f"(d[6][2]), "+f"(d[6][3]),
        "+f"(d[7][0]), "+f"(d[7][1]), "+f"(d[7][2]), "+f"(d[7][3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));
}

__device__ inline void WgmmaBegin() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ inline void WgmmaCommit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
template <int kPending>
__device__ inline void WgmmaAwait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kPending) : "memory");
}

// A step's activations in shared memory: planes of 8 columns, of which a row is 16 bytes, in the order in which the
// weights' operands have them: plane 4 i + j holds of each 8 columns of a group of 32 the pair 2 j, 2 j + 1.
template <int kTokenTiles>
struct Activations {
  static constexpr int kPlaneBytes = kTokenTiles * kTokens * 16;
  static constexpr int kBytes = kChunks * kPlaneBytes;

  const uint16_t* from;  // this thread's 8 columns of a row, of step 0
  uint32_t to;           // and where their first pair goes
  bool has;

  __device__ Activations(const QuantArgs& a, int warp, int lane, uint32_t stages) {
    const int i = warp / kTokenTiles, row = warp % kTokenTiles * kTokens + lane / 4, t = lane % 4;
    has = i < 2;
    from = a.x + min(row, a.m - 1) * a.x_stride + i * 32 + t * 8;
    to = stages + i * 4 * kPlaneBytes + row * 16 + t * 4;
  }
  __device__ uint4 Load(int column) const {
    return has ? *reinterpret_cast<const uint4*>(from + column * kTileColumns) : make_uint4(0, 0, 0, 0);
  }
  __device__ void Put(int stage, const uint4& v) const {
    if (has) {
      const uint32_t at = to + stage * kBytes;
      const uint32_t words[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
      for (int j = 0; j < 4; ++j)
        asm volatile("st.shared.u32 [%0], %1;" ::"r"(at + j * kPlaneBytes), "r"(words[j]) : "memory");
    }
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
  }
  // Of 16 columns: two planes, from plane 2 `pair` on.
  __device__ static uint64_t Descriptor(uint32_t stages, int stage, int pair) {
    const uint32_t at = stages + stage * kBytes + pair * 2 * kPlaneBytes;
    return uint64_t{(at & 0x3ffff) >> 4} | (uint64_t{kPlaneBytes >> 4} << 16) | (uint64_t{128 >> 4} << 32);
  }
};

template <int kBits, ScaleKind kScale, int kTokenTiles>
struct Room {
  using StagedTile = Staged<kBits, kScale, 1>;
  static constexpr int kStages = kBits == 4 ? 6 : 4;
  static constexpr int kStageBytes = kGemmBlockTiles * StagedTile::kBytes;
  static constexpr int kBytes = kStages * kStageBytes + kXStages * Activations<kTokenTiles>::kBytes;
};

// The steps [begin, end) of a block of which this warp's four hold kTiles row tiles each, `first` and first + kWarps. A
// tile beyond `last` is multiplied as the last one, so that four warps always do the same.
template <int kBits, ScaleKind kScale, int kBias, int kTokenTiles, int kTiles>
__device__ void MultiplySteps(const QuantArgs& a, float* partial, int first, int last, int begin, int end, int warp,
                              int lane) {
  using RoomOf = Room<kBits, kScale, kTokenTiles>;
  using StagedTile = typename RoomOf::StagedTile;
  using X = Activations<kTokenTiles>;
  constexpr int kStages = RoomOf::kStages;
  extern __shared__ uint4 shared[];
  const auto* weights = reinterpret_cast<const std::byte*>(shared) + warp * StagedTile::kBytes;
  const auto to = static_cast<uint32_t>(__cvta_generic_to_shared(weights));
  const auto x_stages = static_cast<uint32_t>(__cvta_generic_to_shared(shared)) + kStages * RoomOf::kStageBytes;
  const int start = min(first, last - 1), step = min(kWarps, last - 1 - start);  // the second tile may be the first
  const ColumnWalk<kBits, kScale> walk(a, start, step, lane);
  const auto fetch = [&](int column, int stage) {
    if (kTiles > 0 && column < end) {
      walk.template Fetch<kTiles>(to + stage * RoomOf::kStageBytes, kWarps * StagedTile::kBytes, kTiles, column);
    }
    CommitCopies();
  };
  for (int s = 0; s < kStages - 1; ++s) fetch(begin + s, s);
  AwaitPrevious();
  AllowNext();
  const X x(a, warp, lane, x_stages);
  x.Put(0, x.Load(begin));
  uint4 next_x = x.Load(min(begin + 1, end - 1));
  __syncthreads();

  float sums[kTiles > 0 ? kTiles : 1][kTokenTiles][4] = {};
  int stage = 0, x_stage = 0;
#pragma unroll 1
  for (int column = begin; column < end; ++column) {
    const int x_next = x_stage + 1 == kXStages ? 0 : x_stage + 1;
    x.Put(x_next, next_x);
    next_x = x.Load(min(column + 2, end - 1));
    AwaitCopies<kStages - 2>();
    __syncwarp();  // also: all lanes have read the stage before, which is now filled again
    fetch(column + kStages - 1, stage == 0 ? kStages - 1 : stage - 1);
    const std::byte* from = weights + stage * RoomOf::kStageBytes;
#pragma unroll
    for (int j = 0; j < kTiles; ++j) {
      const Tile<kBits, kScale> tile = StagedTile::Read(from + j * kWarps * StagedTile::kBytes, 0, lane);
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        uint32_t low[4], high[4];
        Values<kBits, kScale, kBias>(tile, 0, i, low);
        Values<kBits, kScale, kBias>(tile, 1, i, high);
        const uint32_t operands[2][4] = {{low[0], high[0], low[1], high[1]}, {low[2], high[2], low[3], high[3]}};
        WgmmaBegin();
        Wgmma(sums[j], operands[0], X::Descriptor(x_stages, x_stage, 2 * i));
        Wgmma(sums[j], operands[1], X::Descriptor(x_stages, x_stage, 2 * i + 1));
        WgmmaCommit();
        WgmmaAwait<1>();  // the operands of the products before these are free
      }
    }
    stage = stage + 1 == kStages ? 0 : stage + 1;
    x_stage = x_next;
    __syncthreads();  // the next step's activations are there
  }
  WgmmaAwait<0>();
  if constexpr (kTiles > 0) {
#pragma unroll
    for (int j = 0; j < kTiles; ++j) {
      if (first + j * kWarps < last)
        StoreSums(a, partial, static_cast<int>(blockIdx.y), first + j * kWarps, lane, sums[j]);
    }
  }
}

template <int kBits, ScaleKind kScale, int kBias, int kTokenTiles>
__global__ void __launch_bounds__(kThreads, 1) QuantGemmHopperKernel(QuantArgs a, float* partial) {
  const int lane = threadIdx.x % 32;
  const int warp = __shfl_sync(0xffffffffu, static_cast<int>(threadIdx.x / 32), 0);
  const int row_tiles = static_cast<int>(a.shape.row_tiles), columns = static_cast<int>(a.shape.column_tiles);
  const auto blocks = static_cast<int>(gridDim.x), block = static_cast<int>(blockIdx.x);
  const int begin_tile = static_cast<int>(int64_t{row_tiles} * block / blocks);
  const int last = static_cast<int>(int64_t{row_tiles} * (block + 1) / blocks);
  const int part = static_cast<int>(blockIdx.y);
  const int begin = columns * part / a.split, end = columns * (part + 1) / a.split;
  const int of_four = begin_tile + warp / 4 * 4, first = begin_tile + warp;
  if (of_four + kWarps < last) {
    MultiplySteps<kBits, kScale, kBias, kTokenTiles, 2>(a, partial, first, last, begin, end, warp, lane);
  } else if (of_four < last) {
    MultiplySteps<kBits, kScale, kBias, kTokenTiles, 1>(a, partial, first, last, begin, end, warp, lane);
  } else {
    MultiplySteps<kBits, kScale, kBias, kTokenTiles, 0>(a, partial, first, last, begin, end, warp, lane);
  }
}

template <int kBits, ScaleKind kScale, int kBias, int kTokenTiles>
void Start(const Stream& s, const QuantArgs& a, const dim3& grid, float* partial) {
  constexpr int kBytes = Room<kBits, kScale, kTokenTiles>::kBytes;
  const auto kernel = QuantGemmHopperKernel<kBits, kScale, kBias, kTokenTiles>;
  static const cudaError_t allowed = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kBytes);
  (void)allowed;
  Launch(s, kernel, grid, dim3(kThreads), kBytes, a, partial);
}

}  // namespace

void QuantGemmHopper(const Stream& s, const QuantArgs& a, const dim3& grid, float* partial) {
  ForFormat(a.shape.format, [&]<int kBits, ScaleKind kScale, int kBias>() {
    if (a.m <= 16) return Start<kBits, kScale, kBias, 2>(s, a, grid, partial);
    if (a.m <= 32) return Start<kBits, kScale, kBias, 4>(s, a, grid, partial);
    Start<kBits, kScale, kBias, 8>(s, a, grid, partial);
  });
}

}  // namespace conclave::engine::cuda
