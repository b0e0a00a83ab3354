// SPDX-License-Identifier: Apache-2.0
// Sixteen floats, sixteen 32-bit sums and sixty-four codes in one register each: AVX-512 F/BW/VL/DQ + VNNI. Included by
// one translation unit, inside its anonymous namespace.
#pragma once

using KvElement = uint16_t;  // f16
// Register tiles: query rows of attention, key tiles and value vectors; rows and column groups of a matrix product.
inline constexpr int kRowTile = 6, kKeyTiles = 2, kValueVectors = 4;
inline constexpr int kGemmRows = 6, kGemmGroups = 2, kGemmRowsTwoScales = 3;

struct F32x16 {
  __m512 v;
};

inline __mmask16 FirstMask(int64_t n) { return n >= 16 ? 0xffff : static_cast<__mmask16>((1u << n) - 1); }

inline F32x16 Zero() { return {_mm512_setzero_ps()}; }
inline F32x16 Broadcast(float x) { return {_mm512_set1_ps(x)}; }
inline F32x16 Load(const float* p) { return {_mm512_loadu_ps(p)}; }
// Lanes n.. are zero.
inline F32x16 LoadN(const float* p, int64_t n) { return {_mm512_maskz_loadu_ps(FirstMask(n), p)}; }
inline void Store(float* p, F32x16 a) { _mm512_storeu_ps(p, a.v); }
inline void StoreN(float* p, F32x16 a, int64_t n) { _mm512_mask_storeu_ps(p, FirstMask(n), a.v); }
inline F32x16 Add(F32x16 a, F32x16 b) { return {_mm512_add_ps(a.v, b.v)}; }
inline F32x16 Sub(F32x16 a, F32x16 b) { return {_mm512_sub_ps(a.v, b.v)}; }
inline F32x16 Mul(F32x16 a, F32x16 b) { return {_mm512_mul_ps(a.v, b.v)}; }
inline F32x16 Div(F32x16 a, F32x16 b) { return {_mm512_div_ps(a.v, b.v)}; }
inline F32x16 Max(F32x16 a, F32x16 b) { return {_mm512_max_ps(a.v, b.v)}; }
inline F32x16 Min(F32x16 a, F32x16 b) { return {_mm512_min_ps(a.v, b.v)}; }
// a * b + c
inline F32x16 Fma(F32x16 a, F32x16 b, F32x16 c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
// a where lane < n, else b.
inline F32x16 FirstN(F32x16 a, F32x16 b, int64_t n) { return {_mm512_mask_blend_ps(FirstMask(n), b.v, a.v)}; }
// (x1, x0, x3, x2, ..)
inline F32x16 SwapPairs(F32x16 a) { return {_mm512_permute_ps(a.v, 0xb1)}; }
inline F32x16 Round(F32x16 a) { return {_mm512_roundscale_ps(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)}; }
inline F32x16 ScaleByPowerOfTwo(F32x16 a, F32x16 n) { return {_mm512_scalef_ps(a.v, n.v)}; }
inline float ReduceAdd(F32x16 a) { return _mm512_reduce_add_ps(a.v); }
inline float ReduceMax(F32x16 a) { return _mm512_reduce_max_ps(a.v); }

inline F32x16 LoadF16(const void* p) { return {_mm512_cvtph_ps(_mm256_loadu_si256(static_cast<const __m256i*>(p)))}; }
inline F32x16 LoadBF16(const void* p) {
  const __m512i wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(static_cast<const __m256i*>(p)));
  return {_mm512_castsi512_ps(_mm512_slli_epi32(wide, 16))};
}
// Sixteen bytes as floats.
inline F32x16 LoadU8(const void* p) {
  return {_mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(static_cast<const __m128i*>(p))))};
}
inline F32x16 LoadI8(const void* p) {
  return {_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(static_cast<const __m128i*>(p))))};
}
// Sixteen bytes' nibbles as floats.
inline F32x16 LoadLowNibbles(const void* p) {
  const __m128i bytes = _mm_loadu_si128(static_cast<const __m128i*>(p));
  return {_mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_and_si128(bytes, _mm_set1_epi8(15))))};
}
inline F32x16 LoadHighNibbles(const void* p) {
  return {
      _mm512_cvtepi32_ps(_mm512_srli_epi32(_mm512_cvtepu8_epi32(_mm_loadu_si128(static_cast<const __m128i*>(p))), 4))};
}
// Sixteen lines of a group format's scale | zero point.
inline void LoadScalesAndZeros(const void* p, F32x16* scale, F32x16* zero) {
  const __m512i words = _mm512_loadu_si512(p), low = _mm512_set1_epi32(255);
  *scale = {_mm512_castsi512_ps(_mm512_andnot_si512(low, words))};
  *zero = {_mm512_cvtepi32_ps(_mm512_and_si512(words, low))};
}
// Sixteen e4m3 codes as floats, 256 times too small: a half's exponent has one bit more, and the bias 15 for 7.
inline F32x16 LoadFp8(const void* p) {
  const __m256i shifted = _mm256_slli_epi16(_mm256_cvtepu8_epi16(_mm_loadu_si128(static_cast<const __m128i*>(p))), 7);
  // The sign comes to bit 14; adding that bit moves it up.
  return {_mm512_cvtph_ps(_mm256_add_epi16(shifted, _mm256_and_si256(shifted, _mm256_set1_epi16(0x4000))))};
}
// Of sixteen exponents e, 2^(e - 128); 0 and 1 give subnormal numbers.
inline F32x16 LoadHalfE8m0(const void* p) {
  const __m512i e = _mm512_cvtepu8_epi32(_mm_loadu_si128(static_cast<const __m128i*>(p)));
  const __m512i normal = _mm512_slli_epi32(_mm512_sub_epi32(e, _mm512_set1_epi32(1)), 23);
  const __m512i subnormal = _mm512_sllv_epi32(_mm512_set1_epi32(0x00200000), e);
  const __mmask16 small = _mm512_cmplt_epi32_mask(e, _mm512_set1_epi32(2));
  return {_mm512_castsi512_ps(_mm512_mask_blend_epi32(small, normal, subnormal))};
}
inline F32x16 LoadKv(const KvElement* p) { return LoadF16(p); }
inline void StoreKv(KvElement* p, F32x16 a) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p),
                      _mm512_cvtps_ph(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}

// ---- Codes

struct Codes {  // 4 elements of each of 16 columns
  __m512i v;
};
struct I32x16 {
  __m512i v;
};
struct Activations {  // 4 elements of a row
  __m512i v;
};

inline Codes LoadLine(const std::byte* p) { return {_mm512_loadu_si512(p)}; }
inline Codes NoCodes() { return {_mm512_setzero_si512()}; }
// table[code] of codes below 16.
inline Codes LookUp(const uint8_t* table, Codes codes) {
  const __m128i values = _mm_load_si128(reinterpret_cast<const __m128i*>(table));
  return {_mm512_shuffle_epi8(_mm512_broadcast_i32x4(values), codes.v)};
}
inline Codes LowNibbles(Codes line) { return {_mm512_and_si512(line.v, _mm512_set1_epi8(15))}; }
inline Codes HighNibbles(Codes line) { return {_mm512_and_si512(_mm512_srli_epi32(line.v, 4), _mm512_set1_epi8(15))}; }
// codes | ((plane << left) & mask), a negative `left` shifting right.
template <int kLeft>
inline Codes OrBits(Codes codes, Codes plane, int mask) {
  __m512i shifted;
  if constexpr (kLeft >= 0) {
    shifted = _mm512_slli_epi32(plane.v, kLeft);
  } else {
    shifted = _mm512_srli_epi32(plane.v, -kLeft);
  }
  return {_mm512_or_si512(codes.v, _mm512_and_si512(shifted, _mm512_set1_epi8(static_cast<char>(mask))))};
}
inline Activations BroadcastActivations(const int8_t* q) {
  int32_t four;
  __builtin_memcpy(&four, q, sizeof(four));
  return {_mm512_set1_epi32(four)};
}
inline I32x16 ZeroInt() { return {_mm512_setzero_si512()}; }
// (x << shift) in every lane: the offset 2^shift of unsigned codes times the negated sum of the activations.
inline I32x16 ShiftedInt(int32_t x, int shift) { return {_mm512_slli_epi32(_mm512_set1_epi32(x), shift)}; }
inline I32x16 Dot(I32x16 sum, Codes w, Activations a) { return {_mm512_dpbusd_epi32(sum.v, w.v, a.v)}; }
// Byte codes carry an offset of 128 that ShiftedInt(negative sum, 7) takes off again.
inline constexpr int kByteOffsetShift = 7;
inline I32x16 DotBytes(I32x16 sum, Codes w, Activations a) { return Dot(sum, w, a); }
inline F32x16 ToFloat(I32x16 a) { return {_mm512_cvtepi32_ps(a.v)}; }

inline void QuantizeBlock(const float* x, ActivationBlock* block) {
  const __m512 a = _mm512_loadu_ps(x), b = _mm512_loadu_ps(x + 16);
  const float top = _mm512_reduce_max_ps(_mm512_max_ps(_mm512_abs_ps(a), _mm512_abs_ps(b)));
  const __m512 inverse = _mm512_set1_ps(top > 0 ? 127.0f / top : 0.0f);
  const __m512i qa = _mm512_cvtps_epi32(_mm512_mul_ps(a, inverse)), qb = _mm512_cvtps_epi32(_mm512_mul_ps(b, inverse));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(block->q), _mm512_cvtsepi32_epi8(qa));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(block->q + 16), _mm512_cvtsepi32_epi8(qb));
  const int32_t low = _mm512_reduce_add_epi32(qa), sum = low + _mm512_reduce_add_epi32(qb);
  block->scale = top / 127.0f;
  block->scaled_sum = block->scale * static_cast<float>(sum);
  block->negative_sum = -sum;
  block->negative_low_half = -low;
}
