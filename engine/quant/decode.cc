// SPDX-License-Identifier: Apache-2.0
#include <cstring>

#include "common/check.h"
#include "engine/quant/blocks.h"
#include "engine/quant/codec.h"
#include "engine/quant/group_codec.h"
#include "engine/quant/half.h"

namespace conclave::engine::quant {
namespace {

void Decode(const BlockQ4_0& b, float* y) {
  const float d = HalfToFloat(b.d);
  for (int j = 0; j < 16; ++j) {
    y[j] = static_cast<float>((b.q[j] & 15) - 8) * d;
    y[j + 16] = static_cast<float>((b.q[j] >> 4) - 8) * d;
  }
}

void Decode(const BlockQ4_1& b, float* y) {
  const float d = HalfToFloat(b.d), m = HalfToFloat(b.m);
  for (int j = 0; j < 16; ++j) {
    y[j] = static_cast<float>(b.q[j] & 15) * d + m;
    y[j + 16] = static_cast<float>(b.q[j] >> 4) * d + m;
  }
}

uint32_t Load32(const uint8_t* p) {
  uint32_t v;
  std::memcpy(&v, p, sizeof(v));
  return v;
}

void Decode(const BlockQ5_0& b, float* y) {
  const float d = HalfToFloat(b.d);
  const uint32_t high = Load32(b.high);
  for (int j = 0; j < 16; ++j) {
    y[j] = static_cast<float>(((b.q[j] & 15) | static_cast<int>((high >> j & 1) << 4)) - 16) * d;
    y[j + 16] = static_cast<float>(((b.q[j] >> 4) | static_cast<int>((high >> (j + 16) & 1) << 4)) - 16) * d;
  }
}

void Decode(const BlockQ5_1& b, float* y) {
  const float d = HalfToFloat(b.d), m = HalfToFloat(b.m);
  const uint32_t high = Load32(b.high);
  for (int j = 0; j < 16; ++j) {
    y[j] = static_cast<float>((b.q[j] & 15) | static_cast<int>((high >> j & 1) << 4)) * d + m;
    y[j + 16] = static_cast<float>((b.q[j] >> 4) | static_cast<int>((high >> (j + 16) & 1) << 4)) * d + m;
  }
}

void Decode(const BlockQ8_0& b, float* y) {
  const float d = HalfToFloat(b.d);
  for (int j = 0; j < 32; ++j) y[j] = static_cast<float>(b.q[j]) * d;
}

// Q4_K and Q5_K differ by the plane of fifth bits.
template <typename Block, typename High>
void DecodeScaledPairs(const Block& b, float* y, High high) {
  const float d = HalfToFloat(b.d), dmin = HalfToFloat(b.dmin);
  for (int s = 0; s < 8; ++s) {
    const ScaleMin sm = UnpackScaleMin(b.scales, s);
    const float scale = d * static_cast<float>(sm.scale), min = dmin * static_cast<float>(sm.min);
    for (int l = 0; l < 32; ++l) {
      const uint8_t byte = b.q[(s / 2) * 32 + l];
      const int q = (s % 2 == 0 ? byte & 15 : byte >> 4) + high(s, l);
      y[s * 32 + l] = scale * static_cast<float>(q) - min;
    }
  }
}

void Decode(const BlockQ4_K& b, float* y) {
  DecodeScaledPairs(b, y, [](int, int) { return 0; });
}

void Decode(const BlockQ5_K& b, float* y) {
  DecodeScaledPairs(b, y, [&b](int s, int l) { return (b.high[l] >> s & 1) << 4; });
}

void Decode(const BlockQ6_K& b, float* y) {
  const float d = HalfToFloat(b.d);
  for (int e = 0; e < kSuperBlock; ++e) {
    const int group = e / 16;
    const float scale = d * static_cast<float>(b.scales[group]);
    y[e] = scale * static_cast<float>(Q6Element(b, e) - 32);
  }
}

void Decode(const BlockQ2_K& b, float* y) {
  const float d = HalfToFloat(b.d), dmin = HalfToFloat(b.dmin);
  for (int e = 0; e < kSuperBlock; ++e) {
    const uint8_t sub = b.scales[e / 16];
    const float scale = d * static_cast<float>(sub & 15), min = dmin * static_cast<float>(sub >> 4);
    y[e] = scale * static_cast<float>(Q2Element(b.q, e)) - min;
  }
}

void Decode(const BlockQ3_K& b, float* y) {
  const float d = HalfToFloat(b.d);
  for (int e = 0; e < kSuperBlock; ++e) {
    const float scale = d * static_cast<float>(Q3Scale(b, e / 16));
    y[e] = scale * static_cast<float>(Q3Element(b, e) - 4);
  }
}

// Nibbles that number the values of a table.
void DecodeTable(float scale, const int8_t* table, const uint8_t* q, float* y) {
  for (int j = 0; j < 16; ++j) {
    y[j] = scale * static_cast<float>(table[q[j] & 15]);
    y[j + 16] = scale * static_cast<float>(table[q[j] >> 4]);
  }
}

void Decode(const BlockIQ4_NL& b, float* y) { DecodeTable(HalfToFloat(b.d), kIq4Values, b.q, y); }

void Decode(const BlockMXFP4& b, float* y) { DecodeTable(HalfE8m0Scale(b.e), kE2m1Doubled, b.q, y); }

void Decode(const BlockIQ4_XS& b, float* y) {
  for (int s = 0; s < 8; ++s) {
    const float scale = HalfToFloat(b.d) * static_cast<float>(Iq4XsScale(b, s));
    DecodeTable(scale, kIq4Values, b.q + 16 * s, y + kBlock * s);
  }
}

template <typename Block, int kElements>
void DecodeBlocks(const std::byte* row, std::span<float> out) {
  Block block;
  for (size_t i = 0; i < out.size(); i += kElements, row += sizeof(Block)) {
    std::memcpy(&block, row, sizeof(Block));
    Decode(block, out.data() + i);
  }
}

template <float (*kConvert)(uint16_t)>
void DecodeHalves(const std::byte* row, std::span<float> out) {
  for (size_t i = 0; i < out.size(); ++i) {
    uint16_t v;
    std::memcpy(&v, row + 2 * i, sizeof(v));
    out[i] = kConvert(v);
  }
}

}  // namespace

bool CanDecode(DType dtype) {
  switch (dtype) {
    case DType::kF32:
    case DType::kF16:
    case DType::kBF16:
    case DType::kQ4_0:
    case DType::kQ4_1:
    case DType::kQ5_0:
    case DType::kQ5_1:
    case DType::kQ8_0:
    case DType::kQ2_K:
    case DType::kQ3_K:
    case DType::kQ4_K:
    case DType::kQ5_K:
    case DType::kQ6_K:
    case DType::kIQ4_NL:
    case DType::kIQ4_XS:
    case DType::kMXFP4:
      return true;
    default:
      return IsGroupFormat(dtype);
  }
}

void DecodeRow(DType dtype, const std::byte* row, std::span<float> out) {
  CONCLAVE_CHECK(HasRowsOf(dtype, static_cast<int64_t>(out.size())));
  switch (dtype) {
    case DType::kF32:
      if (!out.empty()) std::memcpy(out.data(), row, out.size_bytes());
      return;
    case DType::kF16:
      return DecodeHalves<HalfToFloat>(row, out);
    case DType::kBF16:
      return DecodeHalves<Bfloat16ToFloat>(row, out);
    case DType::kQ4_0:
      return DecodeBlocks<BlockQ4_0, kBlock>(row, out);
    case DType::kQ4_1:
      return DecodeBlocks<BlockQ4_1, kBlock>(row, out);
    case DType::kQ5_0:
      return DecodeBlocks<BlockQ5_0, kBlock>(row, out);
    case DType::kQ5_1:
      return DecodeBlocks<BlockQ5_1, kBlock>(row, out);
    case DType::kQ8_0:
      return DecodeBlocks<BlockQ8_0, kBlock>(row, out);
    case DType::kQ2_K:
      return DecodeBlocks<BlockQ2_K, kSuperBlock>(row, out);
    case DType::kQ3_K:
      return DecodeBlocks<BlockQ3_K, kSuperBlock>(row, out);
    case DType::kQ4_K:
      return DecodeBlocks<BlockQ4_K, kSuperBlock>(row, out);
    case DType::kQ5_K:
      return DecodeBlocks<BlockQ5_K, kSuperBlock>(row, out);
    case DType::kQ6_K:
      return DecodeBlocks<BlockQ6_K, kSuperBlock>(row, out);
    case DType::kIQ4_NL:
      return DecodeBlocks<BlockIQ4_NL, kBlock>(row, out);
    case DType::kIQ4_XS:
      return DecodeBlocks<BlockIQ4_XS, kSuperBlock>(row, out);
    case DType::kMXFP4:
      return DecodeBlocks<BlockMXFP4, kBlock>(row, out);
    default:
      CONCLAVE_CHECK_MSG(IsGroupFormat(dtype), "DecodeRow: no decoder for this format");
      DecodeGroups(dtype, row, out);
  }
}

}  // namespace conclave::engine::quant
