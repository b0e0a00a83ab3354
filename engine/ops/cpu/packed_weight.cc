// SPDX-License-Identifier: Apache-2.0
#include "engine/ops/cpu/packed_weight.h"

#include <cstring>

#include "common/check.h"
#include "engine/quant/blocks.h"
#include "engine/quant/half.h"

namespace conclave::engine::cpu {
namespace {

using quant::HalfToFloat;

constexpr int kLine = 64;

uint32_t Load32(const void* p) {
  uint32_t v;
  std::memcpy(&v, p, sizeof(v));
  return v;
}
void Store32(std::byte* p, uint32_t v) { std::memcpy(p, &v, sizeof(v)); }
uint16_t Load16(const std::byte* p) {
  uint16_t v;
  std::memcpy(&v, p, sizeof(v));
  return v;
}
void Store16(std::byte* p, uint16_t v) { std::memcpy(p, &v, sizeof(v)); }
uint8_t Byte(const std::byte* p) { return static_cast<uint8_t>(*p); }

// ---- Planes of one 32-element block and one column c. Codes are unsigned, codes[32].

void PutNibbles(const uint8_t* q, int c, std::byte* lines) {
  for (int u = 0; u < 4; ++u) Store32(lines + u * kLine + 4 * c, Load32(q + 4 * u));
}

void PutCodeNibbles(const uint8_t* codes, int c, std::byte* lines) {
  uint8_t q[16];
  for (int j = 0; j < 16; ++j) q[j] = static_cast<uint8_t>((codes[j] & 15) | ((codes[j + 16] & 15) << 4));
  PutNibbles(q, c, lines);
}

void GetNibbles(const std::byte* lines, int c, uint8_t* codes) {
  for (int j = 0; j < 16; ++j) {
    const uint8_t byte = Byte(lines + j / 4 * kLine + 4 * c + j % 4);
    codes[j] = byte & 15;
    codes[j + 16] = byte >> 4;
  }
}

// `bits`: bit e is bit 4 of element e. See the layout in the header.
void PutFifthBits(uint32_t bits, int c, std::byte* line) {
  uint32_t word = 0;
  for (int e = 0; e < 32; ++e) word |= (bits >> e & 1) << (8 * (e % 4) + e / 4);
  Store32(line + 4 * c, word);
}

void AddFifthBits(const std::byte* line, int c, uint8_t* codes) {
  const uint32_t word = Load32(line + 4 * c);
  for (int e = 0; e < 32; ++e) codes[e] |= static_cast<uint8_t>((word >> (8 * (e % 4) + e / 4) & 1) << 4);
}

// Bits 4 and 5: see the layout in the header.
void PutTopTwo(const uint8_t* codes, int c, std::byte* lines) {
  for (int h = 0; h < 2; ++h) {
    for (int j = 0; j < 4; ++j) {
      int byte = 0;
      for (int i = 0; i < 4; ++i) byte |= (codes[16 * h + 4 * i + j] >> 4) << (2 * i);
      lines[h * kLine + 4 * c + j] = static_cast<std::byte>(byte);
    }
  }
}

void AddTopTwo(const std::byte* lines, int c, uint8_t* codes) {
  for (int e = 0; e < 32; ++e) {
    const uint8_t byte = Byte(lines + e / 16 * kLine + 4 * c + e % 4);
    codes[e] |= static_cast<uint8_t>((byte >> (2 * (e % 16 / 4)) & 3) << 4);
  }
}

// ---- Formats. Pack: one block of column c into the group's block. Unpack: the same block's 32 elements, in the
// arithmetic of quant/decode.cc.

struct Q4_0 {
  using File = quant::BlockQ4_0;
  static constexpr int kBytes = 4 * kLine + 32;
  static void Pack(const File& b, int c, std::byte* p) {
    PutNibbles(b.q, c, p);
    Store16(p + 256 + 2 * c, b.d);
  }
  static void Unpack(const std::byte* p, int c, float* y) {
    uint8_t codes[32];
    GetNibbles(p, c, codes);
    const float d = HalfToFloat(Load16(p + 256 + 2 * c));
    for (int j = 0; j < 32; ++j) y[j] = static_cast<float>(codes[j] - 8) * d;
  }
};

struct Q4_1 {
  using File = quant::BlockQ4_1;
  static constexpr int kBytes = 4 * kLine + 64;
  static void Pack(const File& b, int c, std::byte* p) {
    PutNibbles(b.q, c, p);
    Store16(p + 256 + 2 * c, b.d);
    Store16(p + 288 + 2 * c, b.m);
  }
  static void Unpack(const std::byte* p, int c, float* y) {
    uint8_t codes[32];
    GetNibbles(p, c, codes);
    const float d = HalfToFloat(Load16(p + 256 + 2 * c)), m = HalfToFloat(Load16(p + 288 + 2 * c));
    for (int j = 0; j < 32; ++j) y[j] = static_cast<float>(codes[j]) * d + m;
  }
};

struct Q5_0 {
  using File = quant::BlockQ5_0;
  static constexpr int kBytes = 5 * kLine + 32;
  static void Pack(const File& b, int c, std::byte* p) {
    PutNibbles(b.q, c, p);
    PutFifthBits(Load32(b.high), c, p + 256);
    Store16(p + 320 + 2 * c, b.d);
  }
  static void Unpack(const std::byte* p, int c, float* y) {
    uint8_t codes[32];
    GetNibbles(p, c, codes);
    AddFifthBits(p + 256, c, codes);
    const float d = HalfToFloat(Load16(p + 320 + 2 * c));
    for (int j = 0; j < 32; ++j) y[j] = static_cast<float>(codes[j] - 16) * d;
  }
};

struct Q5_1 {
  using File = quant::BlockQ5_1;
  static constexpr int kBytes = 5 * kLine + 64;
  static void Pack(const File& b, int c, std::byte* p) {
    PutNibbles(b.q, c, p);
    PutFifthBits(Load32(b.high), c, p + 256);
    Store16(p + 320 + 2 * c, b.d);
    Store16(p + 352 + 2 * c, b.m);
  }
  static void Unpack(const std::byte* p, int c, float* y) {
    uint8_t codes[32];
    GetNibbles(p, c, codes);
    AddFifthBits(p + 256, c, codes);
    const float d = HalfToFloat(Load16(p + 320 + 2 * c)), m = HalfToFloat(Load16(p + 352 + 2 * c));
    for (int j = 0; j < 32; ++j) y[j] = static_cast<float>(codes[j]) * d + m;
  }
};

struct Q8_0 {
  using File = quant::BlockQ8_0;
  static constexpr int kBytes = 8 * kLine + 32;
  static void Pack(const File& b, int c, std::byte* p) {
    for (int t = 0; t < 8; ++t) Store32(p + t * kLine + 4 * c, Load32(b.q + 4 * t) ^ 0x80808080u);
    Store16(p + 512 + 2 * c, b.d);
  }
  static void Unpack(const std::byte* p, int c, float* y) {
    const float d = HalfToFloat(Load16(p + 512 + 2 * c));
    for (int j = 0; j < 32; ++j) y[j] = static_cast<float>(Byte(p + j / 4 * kLine + 4 * c + j % 4) - 128) * d;
  }
};

// K-quants: kHeader bytes, then 8 blocks of kBytes; block s of a super-block.

struct Q4_K {
  using File = quant::BlockQ4_K;
  static constexpr int kHeader = 64, kBytes = 4 * kLine + 32;
  static void PackHeader(const File& b, int c, std::byte* header) {
    Store16(header + 2 * c, b.d);
    Store16(header + 32 + 2 * c, b.dmin);
  }
  static void Pack(const File& b, int s, int c, std::byte* p) {
    uint8_t codes[32];
    for (int l = 0; l < 32; ++l) codes[l] = (b.q[s / 2 * 32 + l] >> (4 * (s % 2))) & 15;
    PutCodeNibbles(codes, c, p);
    const quant::ScaleMin sm = quant::UnpackScaleMin(b.scales, s);
    p[256 + c] = static_cast<std::byte>(sm.scale);
    p[272 + c] = static_cast<std::byte>(sm.min);
  }
  static void Unpack(const std::byte* header, const std::byte* p, int c, float* y) {
    uint8_t codes[32];
    GetNibbles(p, c, codes);
    Scale(header, Byte(p + 256 + c), Byte(p + 272 + c), c, codes, y);
  }
  static void Scale(const std::byte* header, uint8_t scale_code, uint8_t min_code, int c, const uint8_t* codes,
                    float* y) {
    const float scale = HalfToFloat(Load16(header + 2 * c)) * static_cast<float>(scale_code);
    const float min = HalfToFloat(Load16(header + 32 + 2 * c)) * static_cast<float>(min_code);
    for (int j = 0; j < 32; ++j) y[j] = scale * static_cast<float>(codes[j]) - min;
  }
};

struct Q5_K {
  using File = quant::BlockQ5_K;
  static constexpr int kHeader = 64, kBytes = 5 * kLine + 32;
  static void PackHeader(const File& b, int c, std::byte* header) {
    Store16(header + 2 * c, b.d);
    Store16(header + 32 + 2 * c, b.dmin);
  }
  static void Pack(const File& b, int s, int c, std::byte* p) {
    uint8_t codes[32];
    uint32_t fifth = 0;
    for (int l = 0; l < 32; ++l) {
      codes[l] = (b.q[s / 2 * 32 + l] >> (4 * (s % 2))) & 15;
      fifth |= static_cast<uint32_t>(b.high[l] >> s & 1) << l;
    }
    PutCodeNibbles(codes, c, p);
    PutFifthBits(fifth, c, p + 256);
    const quant::ScaleMin sm = quant::UnpackScaleMin(b.scales, s);
    p[320 + c] = static_cast<std::byte>(sm.scale);
    p[336 + c] = static_cast<std::byte>(sm.min);
  }
  static void Unpack(const std::byte* header, const std::byte* p, int c, float* y) {
    uint8_t codes[32];
    GetNibbles(p, c, codes);
    AddFifthBits(p + 256, c, codes);
    Q4_K::Scale(header, Byte(p + 320 + c), Byte(p + 336 + c), c, codes, y);
  }
};

struct Q6_K {
  using File = quant::BlockQ6_K;
  static constexpr int kHeader = 32, kBytes = 6 * kLine + 32;
  static void PackHeader(const File& b, int c, std::byte* header) { Store16(header + 2 * c, b.d); }
  static void Pack(const File& b, int s, int c, std::byte* p) {
    uint8_t codes[32];
    for (int l = 0; l < 32; ++l) codes[l] = quant::Q6Element(b, s * 32 + l);
    PutCodeNibbles(codes, c, p);
    PutTopTwo(codes, c, p + 256);
    p[384 + c] = static_cast<std::byte>(b.scales[2 * s]);
    p[400 + c] = static_cast<std::byte>(b.scales[2 * s + 1]);
  }
  static void Unpack(const std::byte* header, const std::byte* p, int c, float* y) {
    uint8_t codes[32];
    GetNibbles(p, c, codes);
    AddTopTwo(p + 256, c, codes);
    const float d = HalfToFloat(Load16(header + 2 * c));
    for (int half = 0; half < 2; ++half) {
      const float scale = d * static_cast<float>(static_cast<int8_t>(p[384 + 16 * half + c]));
      for (int j = 16 * half; j < 16 * half + 16; ++j) y[j] = scale * static_cast<float>(codes[j] - 32);
    }
  }
};

// ---- Whole columns

template <typename F>
void PackBlocks(const std::byte* row, int c, int64_t k, std::byte* group) {
  for (int64_t b = 0; b < k / quant::kBlock; ++b) {
    typename F::File block;
    std::memcpy(&block, row + b * static_cast<int64_t>(sizeof(block)), sizeof(block));
    F::Pack(block, c, group + b * F::kBytes);
  }
}

template <typename F>
void UnpackBlocks(const std::byte* group, int c, int64_t k, float* out) {
  for (int64_t b = 0; b < k / quant::kBlock; ++b) F::Unpack(group + b * F::kBytes, c, out + b * quant::kBlock);
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

template <typename F>
constexpr FormatFunctions Blocks() {
  return {F::kBytes, quant::kBlock, PackBlocks<F>, UnpackBlocks<F>};
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
  static constexpr FormatFunctions kQ4_0 = Blocks<Q4_0>(), kQ4_1 = Blocks<Q4_1>(), kQ5_0 = Blocks<Q5_0>(),
                                   kQ5_1 = Blocks<Q5_1>(), kQ8_0 = Blocks<Q8_0>(), kQ4_K = SuperBlocks<Q4_K>(),
                                   kQ5_K = SuperBlocks<Q5_K>(), kQ6_K = SuperBlocks<Q6_K>();
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
  }
  CONCLAVE_CHECK_MSG(false, "unknown weight format");
}

}  // namespace

int64_t PackedGroupBytes(WeightFormat format, int64_t k) {
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
