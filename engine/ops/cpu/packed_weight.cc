// SPDX-License-Identifier: Apache-2.0
#include "engine/ops/cpu/packed_weight.h"

#include <cstring>

#include "common/check.h"
#include "engine/ops/cpu/packed_formats.h"
#include "engine/ops/cpu/packed_groups.h"
#include "engine/quant/half.h"

namespace conclave::engine::cpu {
namespace {

using quant::HalfToFloat;

// ---- Whole columns

template <typename F, int kElements>
void PackBlocks(const std::byte* row, int c, int64_t k, std::byte* group) {
  for (int64_t b = 0; b < k / kElements; ++b) {
    typename F::File block;
    std::memcpy(&block, row + b * static_cast<int64_t>(sizeof(block)), sizeof(block));
    F::Pack(block, c, group + b * F::kBytes);
  }
}

template <typename F, int kElements>
void UnpackBlocks(const std::byte* group, int c, int64_t k, float* out) {
  for (int64_t b = 0; b < k / kElements; ++b) F::Unpack(group + b * F::kBytes, c, out + b * kElements);
}

template <typename F>
void PackSuperBlocks(const std::byte* row, int c, int64_t k, std::byte* group) {
  for (int64_t b = 0; b < k / quant::kSuperBlock; ++b) {
    typename F::File block;
    std::memcpy(&block, row + b * static_cast<int64_t>(sizeof(block)), sizeof(block));
    std::byte* header = group + b * (F::kHeader + 8 * F::kBytes);
    F::PackHeader(block, c, header);
    for (int s = 0; s < 8; ++s) F::Pack(block, s, c, header + F::kHeader + s * F::kBytes);
  }
}

template <typename F>
void UnpackSuperBlocks(const std::byte* group, int c, int64_t k, float* out) {
  for (int64_t b = 0; b < k / quant::kSuperBlock; ++b) {
    const std::byte* header = group + b * (F::kHeader + 8 * F::kBytes);
    for (int s = 0; s < 8; ++s) {
      F::Unpack(header, header + F::kHeader + s * F::kBytes, c, out + b * quant::kSuperBlock + s * quant::kBlock);
    }
  }
}

template <typename T>
void PackElements(const std::byte* row, int c, int64_t k, std::byte* group) {
  for (int64_t i = 0; i < k; ++i) {
    std::memcpy(group + (i * kGroupColumns + c) * static_cast<int64_t>(sizeof(T)),
                row + i * static_cast<int64_t>(sizeof(T)), sizeof(T));
  }
}

template <typename T, typename Convert>
void UnpackElements(const std::byte* group, int c, int64_t k, float* out, Convert convert) {
  for (int64_t i = 0; i < k; ++i) {
    T v;
    std::memcpy(&v, group + (i * kGroupColumns + c) * static_cast<int64_t>(sizeof(T)), sizeof(T));
    out[i] = convert(v);
  }
}

// What each format does; one list instead of three switches.
struct FormatFunctions {
  int64_t bytes, elements;  // of a group's smallest repeating unit
  void (*pack)(const std::byte* row, int c, int64_t k, std::byte* group);
  void (*unpack)(const std::byte* group, int c, int64_t k, float* out);
};

template <typename F, int kElements = quant::kBlock>
constexpr FormatFunctions Blocks() {
  return {F::kBytes, kElements, PackBlocks<F, kElements>, UnpackBlocks<F, kElements>};
}
template <typename F>
constexpr FormatFunctions Groups() {
  return Blocks<F, F::File::kElements>();
}
template <typename F>
constexpr FormatFunctions SuperBlocks() {
  return {F::kHeader + 8 * F::kBytes, quant::kSuperBlock, PackSuperBlocks<F>, UnpackSuperBlocks<F>};
}

void UnpackF32(const std::byte* g, int c, int64_t k, float* out) {
  UnpackElements<float>(g, c, k, out, [](float v) { return v; });
}
void UnpackF16(const std::byte* g, int c, int64_t k, float* out) {
  UnpackElements<uint16_t>(g, c, k, out, HalfToFloat);
}
void UnpackBF16(const std::byte* g, int c, int64_t k, float* out) {
  UnpackElements<uint16_t>(g, c, k, out, quant::Bfloat16ToFloat);
}

const FormatFunctions& Functions(WeightFormat format) {
  static constexpr FormatFunctions kF32 = {64, 1, PackElements<float>, UnpackF32};
  static constexpr FormatFunctions kF16 = {32, 1, PackElements<uint16_t>, UnpackF16};
  static constexpr FormatFunctions kBF16 = {32, 1, PackElements<uint16_t>, UnpackBF16};
  static constexpr FormatFunctions kQ4_0 = Blocks<packed::Q4_0>(), kQ4_1 = Blocks<packed::Q4_1>(),
                                   kQ5_0 = Blocks<packed::Q5_0>(), kQ5_1 = Blocks<packed::Q5_1>(),
                                   kQ8_0 = Blocks<packed::Q8_0>(), kQ4_K = SuperBlocks<packed::Q4_K>(),
                                   kQ5_K = SuperBlocks<packed::Q5_K>(), kQ6_K = SuperBlocks<packed::Q6_K>(),
                                   kQ2_K = SuperBlocks<packed::Q2_K>(), kQ3_K = SuperBlocks<packed::Q3_K>(),
                                   kIQ4_NL = Blocks<packed::IQ4_NL>(), kIQ4_XS = SuperBlocks<packed::IQ4_XS>(),
                                   kMXFP4 = Blocks<packed::MXFP4>();
  static constexpr FormatFunctions kInt4_G32 = Groups<packed::Int4<32>>(), kInt4_G64 = Groups<packed::Int4<64>>(),
                                   kInt4_G128 = Groups<packed::Int4<128>>(), kInt8_G32 = Groups<packed::Int8<32>>(),
                                   kInt8_G128 = Groups<packed::Int8<128>>(),
                                   kFp8_G128 = {0, 1, packed::Fp8::Pack, packed::Fp8::Unpack};
  switch (format) {
    case WeightFormat::kF32:
      return kF32;
    case WeightFormat::kF16:
      return kF16;
    case WeightFormat::kBF16:
      return kBF16;
    case WeightFormat::kQ4_0:
      return kQ4_0;
    case WeightFormat::kQ4_1:
      return kQ4_1;
    case WeightFormat::kQ5_0:
      return kQ5_0;
    case WeightFormat::kQ5_1:
      return kQ5_1;
    case WeightFormat::kQ8_0:
      return kQ8_0;
    case WeightFormat::kQ4_K:
      return kQ4_K;
    case WeightFormat::kQ5_K:
      return kQ5_K;
    case WeightFormat::kQ6_K:
      return kQ6_K;
    case WeightFormat::kQ2_K:
      return kQ2_K;
    case WeightFormat::kQ3_K:
      return kQ3_K;
    case WeightFormat::kIQ4_NL:
      return kIQ4_NL;
    case WeightFormat::kIQ4_XS:
      return kIQ4_XS;
    case WeightFormat::kMXFP4:
      return kMXFP4;
    case WeightFormat::kInt4_G32:
      return kInt4_G32;
    case WeightFormat::kInt4_G64:
      return kInt4_G64;
    case WeightFormat::kInt4_G128:
      return kInt4_G128;
    case WeightFormat::kInt8_G32:
      return kInt8_G32;
    case WeightFormat::kInt8_G128:
      return kInt8_G128;
    case WeightFormat::kFp8_G128:
      return kFp8_G128;
  }
  CONCLAVE_CHECK_MSG(false, "unknown weight format");
}

}  // namespace

int64_t PackedGroupBytes(WeightFormat format, int64_t k) {
  if (format == WeightFormat::kFp8_G128) return packed::Fp8::GroupBytes(k);  // its last block may be cut
  const FormatFunctions& f = Functions(format);
  CONCLAVE_CHECK(k % f.elements == 0);
  return k / f.elements * f.bytes;
}

void PackGroup(WeightFormat format, std::span<const std::byte* const> rows, int64_t k, std::byte* group) {
  const FormatFunctions& f = Functions(format);
  for (size_t c = 0; c < rows.size(); ++c) f.pack(rows[c], static_cast<int>(c), k, group);
}

void UnpackColumn(WeightFormat format, const std::byte* group, int column, int64_t k, float* out) {
  Functions(format).unpack(group, column, k, out);
}

}  // namespace conclave::engine::cpu
