// SPDX-License-Identifier: Apache-2.0
// How the packed group formats (packed_groups.h) are read. Included like gemm_formats_inl.h, by the SIMD sets only.
#pragma once

// `kSize` elements share a line of scales and zero points. Byte codes lose an offset of 128 in the product.
template <typename Bits, int kSize>
struct GroupFormat : Bits {
  static constexpr bool kMin = true;
  static constexpr int kCodeBytes = Bits::kBytes8 ? 512 : 256, kBlocks = kSize / 32;
  static const std::byte* Header(const std::byte* group, int64_t b) {
    return group + b / kBlocks * (64 + kBlocks * kCodeBytes);
  }
  static const std::byte* Block(const std::byte* group, int64_t b) {
    return Header(group, b) + 64 + b % kBlocks * kCodeBytes;
  }
  static void Scales(const std::byte* group, int64_t b, const std::byte* /*p*/, F32x16* scale, F32x16* min) {
    F32x16 zero;
    LoadScalesAndZeros(Header(group, b), scale, &zero);
    *min = Mul(scale[0], Sub(Broadcast(Bits::kBytes8 ? 128.0f : 0.0f), zero));
  }
};
struct FormatInt4_G32 : GroupFormat<Nibbles<-1>, 32> {};
struct FormatInt4_G64 : GroupFormat<Nibbles<-1>, 64> {};
struct FormatInt4_G128 : GroupFormat<Nibbles<-1>, 128> {};
struct FormatInt8_G32 : GroupFormat<EightBits, 32> {};
struct FormatInt8_G128 : GroupFormat<EightBits, 128> {};

// e4m3 codes with a scale per 128 of k, times activations in f32.
struct ScaledFp8 {
  static constexpr int64_t kGroup = 128;
  static constexpr float kUnit = 256;  // LoadFp8 gives values this much too small
};
