// SPDX-License-Identifier: Apache-2.0
// How the packed formats (packed_weight.h) are read: one block of 32 elements of k by 16 columns. Included like
// elementwise_inl.h, by the SIMD sets only.
#pragma once

// Codes<U>: elements 4U.. (low) and 16 + 4U.. (high).

template <int kShift>
struct Nibbles {
  static constexpr int kOffsetShift = kShift;  // codes are unsigned, 2^kShift too large; -1: no offset
  static constexpr bool kTwoScales = false, kBytes8 = false;
  template <int U>
  static void Read(const std::byte* p, Codes* low, Codes* high) {
    const Codes line = LoadLine(p + 64 * U);
    *low = LowNibbles(line);
    *high = HighNibbles(line);
  }
};

template <int kShift>
struct FiveBits : Nibbles<kShift> {
  template <int U>
  static void Read(const std::byte* p, Codes* low, Codes* high) {
    Nibbles<kShift>::template Read<U>(p, low, high);
    const Codes fifth = LoadLine(p + 256);  // bit t of byte j: element 4 t + j
    *low = OrBits<4 - U>(*low, fifth, 0x10);
    *high = OrBits<-U>(*high, fifth, 0x10);
  }
};

struct SixBits : Nibbles<5> {
  static constexpr bool kTwoScales = true;
  template <int U>
  static void Read(const std::byte* p, Codes* low, Codes* high) {
    Nibbles<5>::Read<U>(p, low, high);
    *low = OrBits<4 - 2 * U>(*low, LoadLine(p + 256), 0x30);
    *high = OrBits<4 - 2 * U>(*high, LoadLine(p + 320), 0x30);
  }
};

// Two lower bits per element, without an offset, or with a third bit above them and the offset 4.
struct TwoBits {
  static constexpr int kOffsetShift = -1;
  static constexpr bool kTwoScales = true, kBytes8 = false;
  template <int U>
  static void Read(const std::byte* p, Codes* low, Codes* high) {
    *low = OrBits<-2 * U>(NoCodes(), LoadLine(p), 3);
    *high = OrBits<-2 * U>(NoCodes(), LoadLine(p + 64), 3);
  }
};

struct ThreeBits : TwoBits {
  static constexpr int kOffsetShift = 2;
  template <int U>
  static void Read(const std::byte* p, Codes* low, Codes* high) {
    TwoBits::Read<U>(p, low, high);
    const Codes third = LoadLine(p + 128);
    *low = OrBits<2 - U>(*low, third, 4);
    *high = OrBits<-2 - U>(*high, third, 4);
  }
};

struct EightBits {
  static constexpr int kOffsetShift = kByteOffsetShift;
  static constexpr bool kTwoScales = false, kBytes8 = true;
  template <int U>
  static void Read(const std::byte* p, Codes* low, Codes* high) {
    *low = LoadLine(p + 64 * U);
    *high = LoadLine(p + 64 * U + 256);
  }
};

// Nibbles that number the values of a table, which are byte codes: 128 too large.
template <const uint8_t (&kTable)[16]>
struct TableNibbles {
  static constexpr int kOffsetShift = kByteOffsetShift;
  static constexpr bool kTwoScales = false, kBytes8 = true;
  template <int U>
  static void Read(const std::byte* p, Codes* low, Codes* high) {
    const Codes line = LoadLine(p + 64 * U);
    *low = LookUp(kTable, LowNibbles(line));
    *high = LookUp(kTable, HighNibbles(line));
  }
};
alignas(16) constexpr uint8_t kIq4Table[16] = {1,   24,  45,  63,  79,  93,  106, 118,
                                               129, 141, 153, 166, 181, 197, 217, 241};  // quant::kIq4Values + 128

// Simple blocks: f16 scales, and minima, follow the codes.
template <typename Bits, int kCodeBytes, bool kHasMin>
struct SimpleFormat : Bits {
  static constexpr bool kMin = kHasMin;
  static const std::byte* Block(const std::byte* group, int64_t b) {
    return group + b * (kCodeBytes + (kHasMin ? 64 : 32));
  }
  static void Scales(const std::byte* /*group*/, int64_t /*b*/, const std::byte* p, F32x16* scale, F32x16* min) {
    scale[0] = LoadF16(p + kCodeBytes);
    if constexpr (kHasMin) *min = LoadF16(p + kCodeBytes + 32);
  }
};
struct FormatQ4_0 : SimpleFormat<Nibbles<3>, 256, false> {};
struct FormatQ4_1 : SimpleFormat<Nibbles<-1>, 256, true> {};
struct FormatQ5_0 : SimpleFormat<FiveBits<4>, 320, false> {};
struct FormatQ5_1 : SimpleFormat<FiveBits<-1>, 320, true> {};
struct FormatIQ4_NL : SimpleFormat<TableNibbles<kIq4Table>, 256, false> {};
// 4-bit floats, doubled, under half of a power of two per block.
alignas(16) constexpr uint8_t kE2m1Table[16] = {128, 129, 130, 131, 132, 134, 136, 140,
                                                128, 127, 126, 125, 124, 122, 120, 116};  // quant::kE2m1Doubled + 128
struct FormatMXFP4 : TableNibbles<kE2m1Table> {
  static constexpr bool kMin = false;
  static const std::byte* Block(const std::byte* group, int64_t b) { return group + b * (256 + 16); }
  static void Scales(const std::byte* /*group*/, int64_t /*b*/, const std::byte* p, F32x16* scale, F32x16* /*min*/) {
    scale[0] = LoadHalfE8m0(p + 256);
  }
};
struct FormatQ8_0 : SimpleFormat<EightBits, 512, false> {};

// K-quants: a header of f16 d and dmin, then 8 blocks whose codes are followed by 8-bit scales.
template <typename Bits, int kCodeBytes, int kHeaderBytes, int kScaleBytes = 32>
struct SuperFormat : Bits {
  static constexpr int kBytes = kCodeBytes + kScaleBytes;
  static const std::byte* Header(const std::byte* group, int64_t b) {
    return group + b / 8 * (kHeaderBytes + 8 * kBytes);
  }
  static const std::byte* Block(const std::byte* group, int64_t b) {
    return Header(group, b) + kHeaderBytes + b % 8 * kBytes;
  }
};
template <typename Bits, int kCodeBytes>
struct ScaleMinFormat : SuperFormat<Bits, kCodeBytes, 64> {
  static constexpr bool kMin = true;
  static void Scales(const std::byte* group, int64_t b, const std::byte* p, F32x16* scale, F32x16* min) {
    const std::byte* header = ScaleMinFormat::Header(group, b);
    scale[0] = Mul(LoadF16(header), LoadU8(p + kCodeBytes));
    *min = Sub(Zero(), Mul(LoadF16(header + 32), LoadU8(p + kCodeBytes + 16)));
  }
};
struct FormatQ4_K : ScaleMinFormat<Nibbles<-1>, 256> {};
struct FormatQ5_K : ScaleMinFormat<FiveBits<-1>, 320> {};
// A signed scale of each half.
template <typename Bits, int kCodeBytes>
struct HalvesFormat : SuperFormat<Bits, kCodeBytes, 32> {
  static constexpr bool kMin = false;
  static void Scales(const std::byte* group, int64_t b, const std::byte* p, F32x16* scale, F32x16* /*min*/) {
    const F32x16 d = LoadF16(HalvesFormat::Header(group, b));
    scale[0] = Mul(d, LoadI8(p + kCodeBytes));
    scale[1] = Mul(d, LoadI8(p + kCodeBytes + 16));
  }
};
struct FormatQ6_K : HalvesFormat<SixBits, 384> {};
struct FormatQ3_K : HalvesFormat<ThreeBits, 192> {};
struct FormatQ2_K : SuperFormat<TwoBits, 128, 64> {
  static constexpr bool kMin = true;
  static void Scales(const std::byte* group, int64_t b, const std::byte* p, F32x16* scale, F32x16* min) {
    const std::byte* header = Header(group, b);
    const F32x16 d = LoadF16(header), dmin = Sub(Zero(), LoadF16(header + 32));
    for (int half = 0; half < 2; ++half) {
      scale[half] = Mul(d, LoadLowNibbles(p + 128 + 16 * half));
      min[half] = Mul(dmin, LoadHighNibbles(p + 128 + 16 * half));
    }
  }
};
struct FormatIQ4_XS : SuperFormat<TableNibbles<kIq4Table>, 256, 32, 16> {
  static constexpr bool kMin = false;
  static void Scales(const std::byte* group, int64_t b, const std::byte* p, F32x16* scale, F32x16* /*min*/) {
    scale[0] = Mul(LoadF16(Header(group, b)), LoadI8(p + 256));
  }
};
