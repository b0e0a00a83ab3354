// SPDX-License-Identifier: Apache-2.0
// How one block of a file's format becomes one column of a packed group's block, and back: part of packed_weight.cc.
// The layouts are in packed_weight.h.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "engine/quant/blocks.h"
#include "engine/quant/half.h"

namespace conclave::engine::cpu::packed {

using quant::HalfToFloat;

constexpr int kLine = 64;

inline uint32_t Load32(const void* p) {
  uint32_t v;
  std::memcpy(&v, p, sizeof(v));
  return v;
}
inline void Store32(std::byte* p, uint32_t v) { std::memcpy(p, &v, sizeof(v)); }
inline uint16_t Load16(const std::byte* p) {
  uint16_t v;
  std::memcpy(&v, p, sizeof(v));
  return v;
}
inline void Store16(std::byte* p, uint16_t v) { std::memcpy(p, &v, sizeof(v)); }
inline uint8_t Byte(const std::byte* p) { return static_cast<uint8_t>(*p); }

// ---- Planes of one 32-element block and one column c. Codes are unsigned, codes[32].

inline void PutNibbles(const uint8_t* q, int c, std::byte* lines) {
  for (int u = 0; u < 4; ++u) Store32(lines + u * kLine + 4 * c, Load32(q + 4 * u));
}

inline void PutCodeNibbles(const uint8_t* codes, int c, std::byte* lines) {
  uint8_t q[16];
  for (int j = 0; j < 16; ++j) q[j] = static_cast<uint8_t>((codes[j] & 15) | ((codes[j + 16] & 15) << 4));
  PutNibbles(q, c, lines);
}

inline void GetNibbles(const std::byte* lines, int c, uint8_t* codes) {
  for (int j = 0; j < 16; ++j) {
    const uint8_t byte = Byte(lines + j / 4 * kLine + 4 * c + j % 4);
    codes[j] = byte & 15;
    codes[j + 16] = byte >> 4;
  }
}

// `bits`: bit e is bit 4 of element e. See the layout in the header.
inline void PutFifthBits(uint32_t bits, int c, std::byte* line) {
  uint32_t word = 0;
  for (int e = 0; e < 32; ++e) word |= (bits >> e & 1) << (8 * (e % 4) + e / 4);
  Store32(line + 4 * c, word);
}

inline void AddFifthBits(const std::byte* line, int c, uint8_t* codes) {
  const uint32_t word = Load32(line + 4 * c);
  for (int e = 0; e < 32; ++e) codes[e] |= static_cast<uint8_t>((word >> (8 * (e % 4) + e / 4) & 1) << 4);
}

// Bits 4 and 5: see the layout in the header.
inline void PutTopTwo(const uint8_t* codes, int c, std::byte* lines) {
  for (int h = 0; h < 2; ++h) {
    for (int j = 0; j < 4; ++j) {
      int byte = 0;
      for (int i = 0; i < 4; ++i) byte |= (codes[16 * h + 4 * i + j] >> 4) << (2 * i);
      lines[h * kLine + 4 * c + j] = static_cast<std::byte>(byte);
    }
  }
}

inline void AddTopTwo(const std::byte* lines, int c, uint8_t* codes) {
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

// ---- Two and three bits, and the four of IQ4, which number values of a table.

inline void PutTwoBits(const uint8_t* codes, int c, std::byte* lines) {
  uint8_t raised[32];
  for (int e = 0; e < 32; ++e) raised[e] = static_cast<uint8_t>((codes[e] & 3) << 4);
  PutTopTwo(raised, c, lines);
}

inline void GetTwoBits(const std::byte* lines, int c, uint8_t* codes) {
  std::memset(codes, 0, 32);
  AddTopTwo(lines, c, codes);
  for (int e = 0; e < 32; ++e) codes[e] >>= 4;
}

struct Q2_K {
  using File = quant::BlockQ2_K;
  static constexpr int kHeader = 64, kBytes = 2 * kLine + 32;
  static void PackHeader(const File& b, int c, std::byte* header) {
    Store16(header + 2 * c, b.d);
    Store16(header + 32 + 2 * c, b.dmin);
  }
  static void Pack(const File& b, int s, int c, std::byte* p) {
    uint8_t codes[32];
    for (int l = 0; l < 32; ++l) codes[l] = quant::Q2Element(b.q, s * 32 + l);
    PutTwoBits(codes, c, p);
    for (int half = 0; half < 2; ++half) p[128 + 16 * half + c] = static_cast<std::byte>(b.scales[2 * s + half]);
  }
  static void Unpack(const std::byte* header, const std::byte* p, int c, float* y) {
    uint8_t codes[32];
    GetTwoBits(p, c, codes);
    const float d = HalfToFloat(Load16(header + 2 * c)), dmin = HalfToFloat(Load16(header + 32 + 2 * c));
    for (int j = 0; j < 32; ++j) {
      const uint8_t sub = Byte(p + 128 + j / 16 * 16 + c);
      const float scale = d * static_cast<float>(sub & 15), min = dmin * static_cast<float>(sub >> 4);
      y[j] = scale * static_cast<float>(codes[j]) - min;
    }
  }
};

struct Q3_K {
  using File = quant::BlockQ3_K;
  static constexpr int kHeader = 32, kBytes = 3 * kLine + 32;
  static void PackHeader(const File& b, int c, std::byte* header) { Store16(header + 2 * c, b.d); }
  static void Pack(const File& b, int s, int c, std::byte* p) {
    uint8_t codes[32];
    uint32_t third = 0;
    for (int l = 0; l < 32; ++l) {
      codes[l] = quant::Q3Element(b, s * 32 + l);
      third |= static_cast<uint32_t>(codes[l] >> 2) << l;
    }
    PutTwoBits(codes, c, p);
    PutFifthBits(third, c, p + 128);
    for (int half = 0; half < 2; ++half)
      p[192 + 16 * half + c] = static_cast<std::byte>(quant::Q3Scale(b, 2 * s + half));
  }
  static void Unpack(const std::byte* header, const std::byte* p, int c, float* y) {
    uint8_t codes[32], third[32] = {};
    GetTwoBits(p, c, codes);
    AddFifthBits(p + 128, c, third);
    const float d = HalfToFloat(Load16(header + 2 * c));
    for (int j = 0; j < 32; ++j) {
      const float scale = d * static_cast<float>(static_cast<int8_t>(p[192 + j / 16 * 16 + c]));
      y[j] = scale * static_cast<float>((codes[j] | third[j] >> 2) - 4);
    }
  }
};

inline void UnpackTable(const std::byte* p, int c, float scale, const int8_t* table, float* y) {
  uint8_t codes[32];
  GetNibbles(p, c, codes);
  for (int j = 0; j < 32; ++j) y[j] = scale * static_cast<float>(table[codes[j]]);
}

struct IQ4_NL {
  using File = quant::BlockIQ4_NL;
  static constexpr int kBytes = 4 * kLine + 32;
  static void Pack(const File& b, int c, std::byte* p) {
    PutNibbles(b.q, c, p);
    Store16(p + 256 + 2 * c, b.d);
  }
  static void Unpack(const std::byte* p, int c, float* y) {
    UnpackTable(p, c, HalfToFloat(Load16(p + 256 + 2 * c)), quant::kIq4Values, y);
  }
};

struct MXFP4 {
  using File = quant::BlockMXFP4;
  static constexpr int kBytes = 4 * kLine + 16;
  static void Pack(const File& b, int c, std::byte* p) {
    PutNibbles(b.q, c, p);
    p[256 + c] = static_cast<std::byte>(b.e);
  }
  static void Unpack(const std::byte* p, int c, float* y) {
    UnpackTable(p, c, quant::HalfE8m0Scale(Byte(p + 256 + c)), quant::kE2m1Doubled, y);
  }
};

struct IQ4_XS {
  using File = quant::BlockIQ4_XS;
  static constexpr int kHeader = 32, kBytes = 4 * kLine + 16;
  static void PackHeader(const File& b, int c, std::byte* header) { Store16(header + 2 * c, b.d); }
  static void Pack(const File& b, int s, int c, std::byte* p) {
    PutNibbles(b.q + 16 * s, c, p);
    p[256 + c] = static_cast<std::byte>(quant::Iq4XsScale(b, s));
  }
  static void Unpack(const std::byte* header, const std::byte* p, int c, float* y) {
    const float scale = static_cast<float>(static_cast<int8_t>(p[256 + c]));
    UnpackTable(p, c, HalfToFloat(Load16(header + 2 * c)) * scale, quant::kIq4Values, y);
  }
};

}  // namespace conclave::engine::cpu::packed
