// SPDX-License-Identifier: Apache-2.0
// Matrix products over repacked weights (gemm_formats_inl.h). Included like elementwise_inl.h, by the SIMD sets only.
//
// A register tile is R rows by C groups of 16 columns and runs over all of k. Per output element, and whatever R and C:
//   block formats: for each 32 of k in order: the exact integer dot product; y = fma(float(dot), w scale * x scale, y);
//                  formats with a minimum: y = fma(minimum, x scaled sum, y); a scale per half: the same for halves
//   plain formats: for each k in order: y = fma(x, w, y)
//   FP8: for each 128 of k in order: p = 0; for each k: p = fma(x, code, p); then y = fma(p, scale, y)
#pragma once

// ---- Tiles

template <int R, int C>
inline void StoreTile(const GemmArgs& a, int64_t group, int64_t row, const F32x16 (&sum)[R][C]) {
  for (int c = 0; c < C; ++c) {
    const int64_t column = (group + c) * kGroupColumns, left = a.columns - column;
    for (int r = 0; r < R; ++r) {
      float* y = a.y + (row + r) * a.y_stride + column;
      StoreN(y, a.accumulate ? Add(LoadN(y, left), sum[r][c]) : sum[r][c], left);
    }
  }
}

// The integer dot products of one block. dot[.][.][1] is used by formats with a scale per half block.
template <typename F, int R, int C, int U>
inline void DotStep(const std::byte* const (&block)[C], const ActivationBlock* const (&x)[R],
                    I32x16 (&dot)[R][C][F::kTwoScales ? 2 : 1]) {
  Codes low[C], high[C];
  for (int c = 0; c < C; ++c) F::template Read<U>(block[c], &low[c], &high[c]);
  for (int r = 0; r < R; ++r) {
    const Activations x_low = BroadcastActivations(x[r]->q + 4 * U);
    const Activations x_high = BroadcastActivations(x[r]->q + 4 * U + 16);
    for (int c = 0; c < C; ++c) {
      I32x16& first = dot[r][c][0];
      I32x16& second = dot[r][c][F::kTwoScales ? 1 : 0];
      if constexpr (F::kBytes8) {
        first = DotBytes(first, low[c], x_low);
        second = DotBytes(second, high[c], x_high);
      } else {
        first = Dot(first, low[c], x_low);
        second = Dot(second, high[c], x_high);
      }
    }
  }
}

// What a tile asks memory for while it computes: a share of the weights that come after its own, so that they arrive
// during the work of all tiles instead of holding up the first.
struct Ahead {
  const std::byte* next;
  int64_t bytes_per_block;  // of k

  inline void Fetch() {
    for (int64_t i = 0; i < bytes_per_block; i += 64) __builtin_prefetch(next + i);
    next += bytes_per_block;
  }
};

template <typename F, int R, int C>
inline void BlockTile(const GemmArgs& a, int64_t group, int64_t row, Ahead ahead) {
  constexpr int kScales = F::kTwoScales ? 2 : 1;
  const int64_t num_blocks = a.k / 32;
  const ActivationBlock* x[R];
  const std::byte* base[C];
  F32x16 sum[R][C];
  for (int r = 0; r < R; ++r) x[r] = a.blocks + (row + r) * num_blocks;
  for (int c = 0; c < C; ++c) base[c] = a.weights + (group + c) * a.group_bytes;
  for (int r = 0; r < R; ++r) {
    for (int c = 0; c < C; ++c) sum[r][c] = Zero();
  }
  for (int64_t b = 0; b < num_blocks; ++b) {
    const std::byte* block[C];
    for (int c = 0; c < C; ++c) block[c] = F::Block(base[c], b);
    ahead.Fetch();
    I32x16 dot[R][C][kScales];
    for (int r = 0; r < R; ++r) {
      for (int c = 0; c < C; ++c) {
        if constexpr (F::kOffsetShift < 0) {
          for (int i = 0; i < kScales; ++i) dot[r][c][i] = ZeroInt();
        } else if constexpr (F::kTwoScales) {
          dot[r][c][0] = ShiftedInt(x[r]->negative_low_half, F::kOffsetShift);
          dot[r][c][1] = ShiftedInt(x[r]->negative_sum - x[r]->negative_low_half, F::kOffsetShift);
        } else {
          dot[r][c][0] = ShiftedInt(x[r]->negative_sum, F::kOffsetShift);
        }
      }
    }
    DotStep<F, R, C, 0>(block, x, dot);
    DotStep<F, R, C, 1>(block, x, dot);
    DotStep<F, R, C, 2>(block, x, dot);
    DotStep<F, R, C, 3>(block, x, dot);
    for (int c = 0; c < C; ++c) {
      F32x16 scale[2], min[2];
      F::Scales(base[c], b, block[c], scale, min);
      for (int r = 0; r < R; ++r) {
        const F32x16 x_scale = Broadcast(x[r]->scale);
        for (int i = 0; i < kScales; ++i) {
          sum[r][c] = Fma(ToFloat(dot[r][c][i]), Mul(scale[i], x_scale), sum[r][c]);
        }
        if constexpr (F::kMin && F::kTwoScales) {
          const float low = x[r]->scale * static_cast<float>(-x[r]->negative_low_half);
          const float high = x[r]->scale * static_cast<float>(x[r]->negative_low_half - x[r]->negative_sum);
          sum[r][c] = Fma(min[0], Broadcast(low), sum[r][c]);
          sum[r][c] = Fma(min[1], Broadcast(high), sum[r][c]);
        } else if constexpr (F::kMin) {
          sum[r][c] = Fma(min[0], Broadcast(x[r]->scaled_sum), sum[r][c]);
        }
      }
    }
    for (int r = 0; r < R; ++r) ++x[r];
  }
  StoreTile<R, C>(a, group, row, sum);
}

struct PlainF32 {
  static constexpr int kBytes = 4;
  static F32x16 Read(const std::byte* p) { return Load(reinterpret_cast<const float*>(p)); }
};
struct PlainF16 {
  static constexpr int kBytes = 2;
  static F32x16 Read(const std::byte* p) { return LoadF16(p); }
};
struct PlainBF16 {
  static constexpr int kBytes = 2;
  static F32x16 Read(const std::byte* p) { return LoadBF16(p); }
};

template <typename F, int R, int C>
inline void PlainTile(const GemmArgs& a, int64_t group, int64_t row, Ahead /*ahead*/) {
  F32x16 sum[R][C];
  for (int r = 0; r < R; ++r) {
    for (int c = 0; c < C; ++c) sum[r][c] = Zero();
  }
  const float* x = a.x + row * a.x_stride;
  const std::byte* base = a.weights + group * a.group_bytes;
  for (int64_t k = 0; k < a.k; ++k) {
    F32x16 w[C];
    for (int c = 0; c < C; ++c) w[c] = F::Read(base + c * a.group_bytes + k * (kGroupColumns * F::kBytes));
    for (int r = 0; r < R; ++r) {
      const F32x16 value = Broadcast(x[r * a.x_stride + k]);
      for (int c = 0; c < C; ++c) sum[r][c] = Fma(value, w[c], sum[r][c]);
    }
  }
  StoreTile<R, C>(a, group, row, sum);
}

// Per 128 of k: the codes' products, then their scale.
template <typename F, int R, int C>
inline void ScaledTile(const GemmArgs& a, int64_t group, int64_t row, Ahead ahead) {
  F32x16 sum[R][C];
  for (int r = 0; r < R; ++r) {
    for (int c = 0; c < C; ++c) sum[r][c] = Zero();
  }
  const float* x = a.x + row * a.x_stride;
  const std::byte* base = a.weights + group * a.group_bytes;
  for (int64_t left = a.k; left > 0; left -= F::kGroup) {
    const int64_t count = left < F::kGroup ? left : F::kGroup;
    F32x16 part[R][C];
    for (int r = 0; r < R; ++r) {
      for (int c = 0; c < C; ++c) part[r][c] = Zero();
    }
    for (int64_t k = 0; k < count; ++k) {
      if (k % 32 == 0) ahead.Fetch();
      F32x16 w[C];
      for (int c = 0; c < C; ++c) w[c] = LoadFp8(base + c * a.group_bytes + k * kGroupColumns);
      for (int r = 0; r < R; ++r) {
        const F32x16 value = Broadcast(x[r * a.x_stride + k]);
        for (int c = 0; c < C; ++c) part[r][c] = Fma(value, w[c], part[r][c]);
      }
    }
    x += count;
    base += count * kGroupColumns;
    for (int c = 0; c < C; ++c) {
      const F32x16 scale = Mul(Load(reinterpret_cast<const float*>(base + c * a.group_bytes)), Broadcast(F::kUnit));
      for (int r = 0; r < R; ++r) sum[r][c] = Fma(part[r][c], scale, sum[r][c]);
    }
    base += 64;
  }
  StoreTile<R, C>(a, group, row, sum);
}

// ---- Loops over tiles

struct BlockKernel {
  template <typename F, int R, int C>
  static void Tile(const GemmArgs& a, int64_t group, int64_t row, Ahead ahead) {
    BlockTile<F, R, C>(a, group, row, ahead);
  }
  template <typename F>
  static constexpr int kRows = F::kTwoScales ? kGemmRowsTwoScales : kGemmRows;
};
struct PlainKernel {
  template <typename F, int R, int C>
  static void Tile(const GemmArgs& a, int64_t group, int64_t row, Ahead ahead) {
    PlainTile<F, R, C>(a, group, row, ahead);
  }
  template <typename F>
  static constexpr int kRows = kGemmRows;
};

struct ScaledKernel {
  template <typename F, int R, int C>
  static void Tile(const GemmArgs& a, int64_t group, int64_t row, Ahead ahead) {
    ScaledTile<F, R, C>(a, group, row, ahead);
  }
  template <typename F>
  static constexpr int kRows = kGemmRows;
};

// All rows of the task against one group or pair of groups: the weights come from memory once and are then in cache.
// Rows are cut into tiles of nearly equal height.
template <typename Kernel, typename F, int C>
inline void AllRows(const GemmArgs& a, int64_t group) {
  constexpr int kRows = Kernel::template kRows<F>;
  const int64_t rows = a.m_end - a.m_begin, tiles = (rows + kRows - 1) / kRows;
  int64_t row = a.m_begin;
  const std::byte* following = a.weights + (group + C) * a.group_bytes;
  const int64_t share = C * a.group_bytes / tiles;
  for (int64_t i = 0; i < tiles; ++i) {
    const int64_t height = rows * (i + 1) / tiles - rows * i / tiles;
    const Ahead ahead = {following + i * share, share / (a.k / 32 > 0 ? a.k / 32 : 1)};
    switch (height) {
      case 1:
        Kernel::template Tile<F, 1, C>(a, group, row, ahead);
        break;
      case 2:
        if constexpr (kRows >= 2) Kernel::template Tile<F, 2, C>(a, group, row, ahead);
        break;
      case 3:
        if constexpr (kRows >= 3) Kernel::template Tile<F, 3, C>(a, group, row, ahead);
        break;
      case 4:
        if constexpr (kRows >= 4) Kernel::template Tile<F, 4, C>(a, group, row, ahead);
        break;
      case 5:
        if constexpr (kRows >= 5) Kernel::template Tile<F, 5, C>(a, group, row, ahead);
        break;
      default:
        if constexpr (kRows >= 6) Kernel::template Tile<F, 6, C>(a, group, row, ahead);
        break;
    }
    row += height;
  }
}

template <typename Kernel, typename F>
inline void AllGroups(const GemmArgs& a) {
  int64_t group = a.group_begin;
  if constexpr (kGemmGroups == 2) {
    for (; group + 2 <= a.group_end; group += 2) AllRows<Kernel, F, 2>(a, group);
  }
  for (; group < a.group_end; ++group) AllRows<Kernel, F, 1>(a, group);
}

inline void PackedGemm(const GemmArgs& a) {
  switch (a.format) {
    case WeightFormat::kF32:
      return AllGroups<PlainKernel, PlainF32>(a);
    case WeightFormat::kF16:
      return AllGroups<PlainKernel, PlainF16>(a);
    case WeightFormat::kBF16:
      return AllGroups<PlainKernel, PlainBF16>(a);
    case WeightFormat::kQ4_0:
      return AllGroups<BlockKernel, FormatQ4_0>(a);
    case WeightFormat::kQ4_1:
      return AllGroups<BlockKernel, FormatQ4_1>(a);
    case WeightFormat::kQ5_0:
      return AllGroups<BlockKernel, FormatQ5_0>(a);
    case WeightFormat::kQ5_1:
      return AllGroups<BlockKernel, FormatQ5_1>(a);
    case WeightFormat::kQ8_0:
      return AllGroups<BlockKernel, FormatQ8_0>(a);
    case WeightFormat::kQ2_K:
      return AllGroups<BlockKernel, FormatQ2_K>(a);
    case WeightFormat::kQ3_K:
      return AllGroups<BlockKernel, FormatQ3_K>(a);
    case WeightFormat::kQ4_K:
      return AllGroups<BlockKernel, FormatQ4_K>(a);
    case WeightFormat::kQ5_K:
      return AllGroups<BlockKernel, FormatQ5_K>(a);
    case WeightFormat::kQ6_K:
      return AllGroups<BlockKernel, FormatQ6_K>(a);
    case WeightFormat::kIQ4_NL:
      return AllGroups<BlockKernel, FormatIQ4_NL>(a);
    case WeightFormat::kIQ4_XS:
      return AllGroups<BlockKernel, FormatIQ4_XS>(a);
    case WeightFormat::kMXFP4:
      return AllGroups<BlockKernel, FormatMXFP4>(a);
    case WeightFormat::kInt4_G32:
      return AllGroups<BlockKernel, FormatInt4_G32>(a);
    case WeightFormat::kInt4_G64:
      return AllGroups<BlockKernel, FormatInt4_G64>(a);
    case WeightFormat::kInt4_G128:
      return AllGroups<BlockKernel, FormatInt4_G128>(a);
    case WeightFormat::kInt8_G32:
      return AllGroups<BlockKernel, FormatInt8_G32>(a);
    case WeightFormat::kInt8_G128:
      return AllGroups<BlockKernel, FormatInt8_G128>(a);
    case WeightFormat::kFp8_G128:
      return AllGroups<ScaledKernel, ScaledFp8>(a);
  }
}

inline void QuantizeRow(const float* x, const int32_t* order, int64_t k, ActivationBlock* blocks) {
  for (int64_t b = 0; b < k / 32; ++b) {
    if (order == nullptr) {
      QuantizeBlock(x + 32 * b, blocks + b);
      continue;
    }
    float gathered[32];
    for (int64_t i = 0; i < 32; ++i) gathered[i] = x[order[32 * b + i]];
    QuantizeBlock(gathered, blocks + b);
  }
}

// The table of a SIMD set.
constexpr Kernels PackedKernels(const char* name) {
  return {
      .name = name,
      .repacks = true,
      .kv_element_bytes = sizeof(KvElement),
      .quantize_row = QuantizeRow,
      .gemm = PackedGemm,
      .rms_norm = RmsNormRow,
      .add = AddRow,
      .add_scaled = AddScaledRow,
      .swiglu = SwiGluRow,
      .rope_interleaved = RopeInterleavedHead,
      .rope_half_split = RopeHalfSplitHead,
      .kv_write = KvWriteHead,
      .attend_scratch_floats = AttendScratchFloats,
      .attend = AttendTask,
      .merge = MergeRow,
  };
}
