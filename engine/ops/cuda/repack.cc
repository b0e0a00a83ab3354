// SPDX-License-Identifier: Apache-2.0
#include "engine/ops/cuda/repack.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "common/check.h"
#include "common/status.h"
#include "engine/ops/cuda/packed_layout.h"
#include "engine/ops/host_ops.h"
#include "engine/quant/blocks.h"
#include "engine/quant/group_blocks.h"

namespace conclave::engine::cuda {
namespace {

using quant::BlockIQ4_NL;
using quant::BlockMXFP4;
using quant::BlockQ3_K;
using quant::BlockQ4_0;
using quant::BlockQ6_K;
using quant::BlockQ8_0;

constexpr int kBlock = quant::kBlock;
constexpr int64_t kPieceBytes = int64_t{1} << 20;

bool IsHalf(float value) { return quant::HalfToFloat(quant::FloatToHalf(value)) == value; }

// Calls visit(bytes, blocks) on the source's blocks in pieces of whole rows.
template <typename Block, typename Visit>
void ForBlocks(const WeightSource& source, Visit visit) {
  const int64_t row_bytes = RowBytes(source.dtype, source.columns);
  const int64_t piece = std::max<int64_t>(1, kPieceBytes / row_bytes);
  std::vector<std::byte> rows(static_cast<size_t>(std::min(piece, source.rows) * row_bytes));
  for (int64_t row = 0; row < source.rows; row += piece) {
    const int64_t count = std::min(piece, source.rows - row);
    ReadRows(source, row, count, rows.data());
    for (int64_t at = 0; at < count * row_bytes; at += static_cast<int64_t>(sizeof(Block))) {
      Block block;
      std::memcpy(&block, rows.data() + at, sizeof(block));
      visit(block);
    }
  }
}

absl::Status Inexact(const WeightSource& source, float scale) {
  return Unimplemented(
      "{} weights with a scale of {}, which is not exact in half precision, on the CUDA backend; "
      "--device cpu computes with them",
      Name(source.dtype), scale);
}

// Whether all zero points are `middle`; a scale that is no half is an error.
template <typename Block>
absl::StatusOr<bool> ZerosAre(const WeightSource& source, int middle) {
  bool same = true;
  float inexact = 0;
  ForBlocks<Block>(source, [&](const Block& block) {
    same = same && block.scale.zero() == middle;
    if (!IsHalf(block.scale.scale())) inexact = block.scale.scale();
  });
  if (inexact != 0) return Inexact(source, inexact);
  return same;
}

template <int kSize>
absl::StatusOr<DType> Int4Format(const WeightSource& source) {
  ASSIGN_OR_RETURN(const bool middle, ZerosAre<quant::BlockInt4<kSize>>(source, 8));
  return middle ? DType::kQ4_0 : DType::kQ8_0;
}

template <int kSize>
absl::StatusOr<DType> Int8Format(const WeightSource& source) {
  ASSIGN_OR_RETURN(const bool middle, ZerosAre<quant::BlockInt8<kSize>>(source, 128));
  if (middle) return DType::kQ8_0;
  return Unimplemented("{} weights with zero points of their own on the CUDA backend; --device cpu computes with them",
                       Name(source.dtype));
}

absl::StatusOr<DType> MicroscaledFormat(const WeightSource& source) {
  float inexact = 0;
  ForBlocks<BlockMXFP4>(source, [&inexact](const BlockMXFP4& block) {
    const float scale = quant::HalfE8m0Scale(block.e);
    const auto is_zero = [](uint8_t codes) { return (codes & 0x77) == 0; };
    if (!IsHalf(scale) && !std::all_of(std::begin(block.q), std::end(block.q), is_zero)) inexact = scale;
  });
  if (inexact != 0) return Inexact(source, inexact);
  return DType::kQ8_0;
}

// Code of element e of 32: low nibbles first.
int Nibble32(const uint8_t* q, int e) { return e < 16 ? q[e] & 15 : q[e - 16] >> 4; }

void PutQ8(float scale, const auto& code_of, std::byte* out) {
  BlockQ8_0 block = {};
  block.d = quant::FloatToHalf(scale);
  for (int e = 0; e < kBlock; ++e) block.q[e] = static_cast<int8_t>(code_of(e));
  std::memcpy(out, &block, sizeof(block));
}

// One block of the source's to as many as it makes.
template <int kSize>
void Put(const quant::BlockInt4<kSize>& from, DType to, std::byte* out) {
  for (int b = 0; b < kSize / kBlock; ++b) {
    const uint8_t* q = from.q + 16 * b;
    if (to == DType::kQ4_0) {
      BlockQ4_0 block = {};
      block.d = quant::FloatToHalf(from.scale.scale());
      std::memcpy(block.q, q, sizeof(block.q));
      std::memcpy(out + b * sizeof(block), &block, sizeof(block));
    } else {
      PutQ8(
          from.scale.scale(), [&](int e) { return Nibble32(q, e) - from.scale.zero(); }, out + b * sizeof(BlockQ8_0));
    }
  }
}

template <int kSize>
void Put(const quant::BlockInt8<kSize>& from, DType /*to*/, std::byte* out) {
  for (int b = 0; b < kSize / kBlock; ++b) {
    PutQ8(
        from.scale.scale(), [&](int e) { return from.q[kBlock * b + e] - 128; }, out + b * sizeof(BlockQ8_0));
  }
}

void Put(const BlockIQ4_NL& from, DType /*to*/, std::byte* out) {
  PutQ8(
      quant::HalfToFloat(from.d), [&](int e) { return quant::kIq4Values[Nibble32(from.q, e)]; }, out);
}

void Put(const BlockMXFP4& from, DType /*to*/, std::byte* out) {
  // Of a scale that is no half all codes are zero.
  const float scale = quant::HalfE8m0Scale(from.e);
  PutQ8(
      IsHalf(scale) ? scale : 0.0f, [&](int e) { return quant::kE2m1Doubled[Nibble32(from.q, e)]; }, out);
}

void Put(const BlockQ3_K& from, DType /*to*/, std::byte* out) {
  BlockQ6_K block = {};
  block.d = from.d;
  for (int j = 0; j < 16; ++j) block.scales[j] = quant::Q3Scale(from, j);
  for (int e = 0; e < quant::kSuperBlock; ++e) {
    const int code = quant::Q3Element(from, e) - 4 + 32, half = e / 128, lane = e % 32, quarter = e % 128 / 32;
    block.low[half * 64 + quarter % 2 * 32 + lane] |= static_cast<uint8_t>((code & 15) << (quarter < 2 ? 0 : 4));
    block.high[half * 32 + lane] |= static_cast<uint8_t>((code >> 4) << (2 * quarter));
  }
  std::memcpy(out, &block, sizeof(block));
}

// Calls with<Block>() for a format that is repacked.
template <typename With>
void WithBlock(DType dtype, With with) {
  switch (dtype) {
    case DType::kIQ4_NL:
      return with.template operator()<BlockIQ4_NL>();
    case DType::kMXFP4:
      return with.template operator()<BlockMXFP4>();
    case DType::kQ3_K:
      return with.template operator()<BlockQ3_K>();
    case DType::kInt4_G32:
      return with.template operator()<quant::BlockInt4<32>>();
    case DType::kInt4_G64:
      return with.template operator()<quant::BlockInt4<64>>();
    case DType::kInt4_G128:
      return with.template operator()<quant::BlockInt4<128>>();
    case DType::kInt8_G32:
      return with.template operator()<quant::BlockInt8<32>>();
    case DType::kInt8_G128:
      return with.template operator()<quant::BlockInt8<128>>();
    default:
      CONCLAVE_CHECK_MSG(false, "not a format that is repacked");
  }
}

}  // namespace

absl::StatusOr<DType> RepackedFormat(const WeightSource& source) {
  if (!source.order.empty()) {
    return Unimplemented(
        "a {} weight whose columns are in another order on the CUDA backend; --device cpu computes "
        "with it",
        Name(source.dtype));
  }
  switch (source.dtype) {
    case DType::kIQ4_NL:
      return DType::kQ8_0;
    case DType::kMXFP4:
      return MicroscaledFormat(source);
    case DType::kQ3_K:
      return DType::kQ6_K;
    case DType::kInt4_G32:
      return Int4Format<32>(source);
    case DType::kInt4_G64:
      return Int4Format<64>(source);
    case DType::kInt4_G128:
      return Int4Format<128>(source);
    case DType::kInt8_G32:
      return Int8Format<32>(source);
    case DType::kInt8_G128:
      return Int8Format<128>(source);
    default:
      if (HasLayout(source.dtype)) return source.dtype;
      return Unimplemented("weights of format {} on the CUDA backend; --device cpu computes with them",
                           Name(source.dtype));
  }
}

void RepackedRows::Read(int64_t first, int64_t count, std::byte* out) const {
  const auto from_bytes = static_cast<size_t>(RowBytes(source_.dtype, source_.columns));
  std::vector<std::byte> row(from_bytes);
  for (int64_t n = 0; n < count; ++n) {
    ReadRows(source_, first + n, 1, row.data());
    WithBlock(source_.dtype, [&]<typename Block>() {
      const int64_t made = RowBytes(to_, Traits(source_.dtype).block_elements);
      for (size_t at = 0; at < from_bytes; at += sizeof(Block), out += made) {
        Block block;
        std::memcpy(&block, row.data() + at, sizeof(block));
        Put(block, to_, out);
      }
    });
  }
}

}  // namespace conclave::engine::cuda
