// SPDX-License-Identifier: Apache-2.0
// Sixteen floats in two registers: AVX2 + FMA + F16C. Included by one translation unit, inside its anonymous namespace.
#pragma once

using KvElement = uint16_t;  // f16
inline constexpr int kRowTile = 3, kKeyTiles = 1, kValueVectors = 1;
inline constexpr int kGemmRows = 2, kGemmGroups = 1, kGemmRowsTwoScales = 1;

struct F32x16 {
  __m256 v[2];
};

// Lane masks of the first n of 8, for n clamped to 0..8.
inline __m256i FirstMask8(int64_t n) {
  const int bound = n < 0 ? 0 : n > 8 ? 8 : static_cast<int>(n);
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(bound), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

inline F32x16 Zero() { return {{_mm256_setzero_ps(), _mm256_setzero_ps()}}; }
inline F32x16 Broadcast(float x) { return {{_mm256_set1_ps(x), _mm256_set1_ps(x)}}; }
inline F32x16 Load(const float* p) { return {{_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}}; }
// Lanes n.. are zero.
inline F32x16 LoadN(const float* p, int64_t n) {
  if (n >= 16) return Load(p);
  return {{_mm256_maskload_ps(p, FirstMask8(n)), _mm256_maskload_ps(p + 8, FirstMask8(n - 8))}};
}
inline void Store(float* p, F32x16 a) {
  _mm256_storeu_ps(p, a.v[0]);
  _mm256_storeu_ps(p + 8, a.v[1]);
}
inline void StoreN(float* p, F32x16 a, int64_t n) {
  if (n >= 16) return Store(p, a);
  _mm256_maskstore_ps(p, FirstMask8(n), a.v[0]);
  _mm256_maskstore_ps(p + 8, FirstMask8(n - 8), a.v[1]);
}
#define CONCLAVE_HALVES(name, instruction) \
  inline F32x16 name(F32x16 a, F32x16 b) { return {{instruction(a.v[0], b.v[0]), instruction(a.v[1], b.v[1])}}; }
CONCLAVE_HALVES(Add, _mm256_add_ps)
CONCLAVE_HALVES(Sub, _mm256_sub_ps)
CONCLAVE_HALVES(Mul, _mm256_mul_ps)
CONCLAVE_HALVES(Div, _mm256_div_ps)
CONCLAVE_HALVES(Max, _mm256_max_ps)
CONCLAVE_HALVES(Min, _mm256_min_ps)
#undef CONCLAVE_HALVES
// a * b + c
inline F32x16 Fma(F32x16 a, F32x16 b, F32x16 c) {
  return {{_mm256_fmadd_ps(a.v[0], b.v[0], c.v[0]), _mm256_fmadd_ps(a.v[1], b.v[1], c.v[1])}};
}
// a where lane < n, else b.
inline F32x16 FirstN(F32x16 a, F32x16 b, int64_t n) {
  return {{_mm256_blendv_ps(b.v[0], a.v[0], _mm256_castsi256_ps(FirstMask8(n))),
           _mm256_blendv_ps(b.v[1], a.v[1], _mm256_castsi256_ps(FirstMask8(n - 8)))}};
}
// (x1, x0, x3, x2, ..)
inline F32x16 SwapPairs(F32x16 a) { return {{_mm256_permute_ps(a.v[0], 0xb1), _mm256_permute_ps(a.v[1], 0xb1)}}; }
inline F32x16 Round(F32x16 a) {
  return {{_mm256_round_ps(a.v[0], _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC),
           _mm256_round_ps(a.v[1], _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)}};
}
// a * 2^n for integral n in [-126, 127].
inline __m256 ScaleHalf(__m256 a, __m256 n) {
  const __m256i exponent = _mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)), 23);
  return _mm256_mul_ps(a, _mm256_castsi256_ps(exponent));
}
inline F32x16 ScaleByPowerOfTwo(F32x16 a, F32x16 n) { return {{ScaleHalf(a.v[0], n.v[0]), ScaleHalf(a.v[1], n.v[1])}}; }
inline float ReduceAdd(F32x16 a) {
  const __m256 eight = _mm256_add_ps(a.v[0], a.v[1]);
  __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  four = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(four, _mm_movehdup_ps(four)));
}
inline float ReduceMax(F32x16 a) {
  const __m256 eight = _mm256_max_ps(a.v[0], a.v[1]);
  __m128 four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  four = _mm_max_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_max_ss(four, _mm_movehdup_ps(four)));
}

inline __m128i LoadHalf(const void* p, int64_t offset) {
  return _mm_loadu_si128(reinterpret_cast<const __m128i*>(static_cast<const char*>(p) + offset));
}
inline F32x16 LoadF16(const void* p) { return {{_mm256_cvtph_ps(LoadHalf(p, 0)), _mm256_cvtph_ps(LoadHalf(p, 16))}}; }
inline F32x16 LoadBF16(const void* p) {
  return {{_mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(LoadHalf(p, 0)), 16)),
           _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(LoadHalf(p, 16)), 16))}};
}
// Sixteen bytes as floats.
inline F32x16 FromBytes(__m128i bytes) {
  return {{_mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(bytes)),
           _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_srli_si128(bytes, 8)))}};
}
inline F32x16 LoadU8(const void* p) { return FromBytes(LoadHalf(p, 0)); }
inline F32x16 LoadI8(const void* p) {
  const __m128i bytes = LoadHalf(p, 0);
  return {{_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bytes)),
           _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_srli_si128(bytes, 8)))}};
}
// Sixteen bytes' nibbles as floats.
inline F32x16 LoadLowNibbles(const void* p) { return FromBytes(_mm_and_si128(LoadHalf(p, 0), _mm_set1_epi8(15))); }
inline F32x16 LoadHighNibbles(const void* p) {
  return FromBytes(_mm_and_si128(_mm_srli_epi16(LoadHalf(p, 0), 4), _mm_set1_epi8(15)));
}
// Sixteen lines of a group format's scale | zero point.
inline void LoadScalesAndZeros(const void* p, F32x16* scale, F32x16* zero) {
  const __m256i low = _mm256_set1_epi32(255);
  for (int i = 0; i < 2; ++i) {
    const __m256i words = _mm256_loadu_si256(static_cast<const __m256i*>(p) + i);
    scale->v[i] = _mm256_castsi256_ps(_mm256_andnot_si256(low, words));
    zero->v[i] = _mm256_cvtepi32_ps(_mm256_and_si256(words, low));
  }
}
// Sixteen e4m3 codes as floats, 256 times too small: a half's exponent has one bit more, and the bias 15 for 7.
inline F32x16 LoadFp8(const void* p) {
  const __m256i shifted = _mm256_slli_epi16(_mm256_cvtepu8_epi16(LoadHalf(p, 0)), 7);
  // The sign comes to bit 14; adding that bit moves it up.
  const __m256i halves = _mm256_add_epi16(shifted, _mm256_and_si256(shifted, _mm256_set1_epi16(0x4000)));
  return {{_mm256_cvtph_ps(_mm256_castsi256_si128(halves)), _mm256_cvtph_ps(_mm256_extracti128_si256(halves, 1))}};
}
// Of exponents e, 2^(e - 128); 0 and 1 give subnormal numbers.
inline __m256 HalfE8m0(__m256i e) {
  const __m256i normal = _mm256_slli_epi32(_mm256_sub_epi32(e, _mm256_set1_epi32(1)), 23);
  const __m256i subnormal = _mm256_sllv_epi32(_mm256_set1_epi32(0x00200000), e);
  return _mm256_castsi256_ps(_mm256_blendv_epi8(normal, subnormal, _mm256_cmpgt_epi32(_mm256_set1_epi32(2), e)));
}
inline F32x16 LoadHalfE8m0(const void* p) {
  const __m128i bytes = LoadHalf(p, 0);
  return {{HalfE8m0(_mm256_cvtepu8_epi32(bytes)), HalfE8m0(_mm256_cvtepu8_epi32(_mm_srli_si128(bytes, 8)))}};
}
inline F32x16 LoadKv(const KvElement* p) { return LoadF16(p); }
inline void StoreKv(KvElement* p, F32x16 a) {
  constexpr int kNearest = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_cvtps_ph(a.v[0], kNearest));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p + 8), _mm256_cvtps_ph(a.v[1], kNearest));
}

// ---- Codes

struct Codes {  // 4 elements of each of 16 columns
  __m256i v[2];
};
struct I32x16 {
  __m256i v[2];
};
struct Activations {  // 4 elements of a row
  __m256i v;
};

inline Codes LoadLine(const std::byte* p) {
  return {{_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)),
           _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p + 32))}};
}
inline Codes NoCodes() { return {{_mm256_setzero_si256(), _mm256_setzero_si256()}}; }
// table[code] of codes below 16.
inline Codes LookUp(const uint8_t* table, Codes codes) {
  const __m256i values = _mm256_broadcastsi128_si256(_mm_load_si128(reinterpret_cast<const __m128i*>(table)));
  return {{_mm256_shuffle_epi8(values, codes.v[0]), _mm256_shuffle_epi8(values, codes.v[1])}};
}
inline Codes LowNibbles(Codes line) {
  const __m256i mask = _mm256_set1_epi8(15);
  return {{_mm256_and_si256(line.v[0], mask), _mm256_and_si256(line.v[1], mask)}};
}
inline Codes HighNibbles(Codes line) {
  return LowNibbles({{_mm256_srli_epi32(line.v[0], 4), _mm256_srli_epi32(line.v[1], 4)}});
}
template <int kLeft>
inline __m256i ShiftLeft(__m256i a) {
  if constexpr (kLeft >= 0) {
    return _mm256_slli_epi32(a, kLeft);
  } else {
    return _mm256_srli_epi32(a, -kLeft);
  }
}
// codes | ((plane << left) & mask), a negative `left` shifting right.
template <int kLeft>
inline Codes OrBits(Codes codes, Codes plane, int mask) {
  const __m256i bits = _mm256_set1_epi8(static_cast<char>(mask));
  return {{_mm256_or_si256(codes.v[0], _mm256_and_si256(ShiftLeft<kLeft>(plane.v[0]), bits)),
           _mm256_or_si256(codes.v[1], _mm256_and_si256(ShiftLeft<kLeft>(plane.v[1]), bits))}};
}
inline Activations BroadcastActivations(const int8_t* q) {
  int32_t four;
  __builtin_memcpy(&four, q, sizeof(four));
  return {_mm256_set1_epi32(four)};
}
inline I32x16 ZeroInt() { return {{_mm256_setzero_si256(), _mm256_setzero_si256()}}; }
// (x << shift) in every lane; 0 for the byte formats, whose offset DotBytes removes.
inline constexpr int kByteOffsetShift = -1;
inline I32x16 ShiftedInt(int32_t x, int shift) {
  const __m256i all = _mm256_slli_epi32(_mm256_set1_epi32(x), shift);
  return {{all, all}};
}
inline __m256i DotHalf(__m256i sum, __m256i w, __m256i a) {
  const __m256i pairs = _mm256_maddubs_epi16(w, a);  // codes of 6 bits: no saturation
  return _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}
inline I32x16 Dot(I32x16 sum, Codes w, Activations a) {
  return {{DotHalf(sum.v[0], w.v[0], a.v), DotHalf(sum.v[1], w.v[1], a.v)}};
}
// 255 * 127 * 2 would saturate 16 bits: |w| times a with w's sign does not.
inline __m256i DotSignedHalf(__m256i sum, __m256i w, __m256i a) {
  const __m256i q = _mm256_xor_si256(w, _mm256_set1_epi8(static_cast<char>(0x80)));
  return DotHalf(sum, _mm256_abs_epi8(q), _mm256_sign_epi8(a, q));
}
inline I32x16 DotBytes(I32x16 sum, Codes w, Activations a) {
  return {{DotSignedHalf(sum.v[0], w.v[0], a.v), DotSignedHalf(sum.v[1], w.v[1], a.v)}};
}
inline F32x16 ToFloat(I32x16 a) { return {{_mm256_cvtepi32_ps(a.v[0]), _mm256_cvtepi32_ps(a.v[1])}}; }

inline int32_t ReduceAddInt(__m256i a, __m256i b) {
  const __m256i eight = _mm256_add_epi32(a, b);
  __m128i four = _mm_add_epi32(_mm256_castsi256_si128(eight), _mm256_extracti128_si256(eight, 1));
  four = _mm_add_epi32(four, _mm_shuffle_epi32(four, 0x4e));
  return _mm_cvtsi128_si32(_mm_add_epi32(four, _mm_shuffle_epi32(four, 0xb1)));
}

inline void QuantizeBlock(const float* x, ActivationBlock* block) {
  const F32x16 a = Load(x), b = Load(x + 16);
  const F32x16 minus_a = Sub(Zero(), a), minus_b = Sub(Zero(), b);
  const float top = ReduceMax(Max(Max(a, minus_a), Max(b, minus_b)));
  const F32x16 inverse = Broadcast(top > 0 ? 127.0f / top : 0.0f);
  const F32x16 sa = Mul(a, inverse), sb = Mul(b, inverse);
  const __m256i q0 = _mm256_cvtps_epi32(sa.v[0]), q1 = _mm256_cvtps_epi32(sa.v[1]), q2 = _mm256_cvtps_epi32(sb.v[0]),
                q3 = _mm256_cvtps_epi32(sb.v[1]);
  // The packs interleave 128-bit lanes; the permutation puts the dwords back in order.
  const __m256i bytes = _mm256_packs_epi16(_mm256_packs_epi32(q0, q1), _mm256_packs_epi32(q2, q3));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(block->q),
                      _mm256_permutevar8x32_epi32(bytes, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7)));
  const int32_t low = ReduceAddInt(q0, q1), sum = low + ReduceAddInt(q2, q3);
  block->scale = top / 127.0f;
  block->scaled_sum = block->scale * static_cast<float>(sum);
  block->negative_sum = -sum;
  block->negative_low_half = -low;
}
