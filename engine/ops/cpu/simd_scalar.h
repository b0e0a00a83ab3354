// SPDX-License-Identifier: Apache-2.0
// Sixteen floats in the compiler's generic vectors of four, which every baseline has: the `scalar` kernels.
// Same interface as simd_avx2.h and simd_avx512.h; included by one translation unit, inside its anonymous namespace.
// Keys and values stay f32.
#pragma once

using KvElement = float;
inline constexpr int kRowTile = 2, kKeyTiles = 1, kValueVectors = 1;

using Lanes = float __attribute__((vector_size(16)));
using UnalignedLanes = float __attribute__((vector_size(16), aligned(4), may_alias));
using IntLanes = int32_t __attribute__((vector_size(16)));

struct F32x16 {
  Lanes v[4];
};

#define CONCLAVE_QUARTERS(expression)              \
  F32x16 r;                                        \
  for (int i = 0; i < 4; ++i) r.v[i] = expression; \
  return r

inline F32x16 Zero() { return {}; }
inline F32x16 Broadcast(float x) { CONCLAVE_QUARTERS((Lanes{x, x, x, x})); }
inline F32x16 Load(const float* p) { CONCLAVE_QUARTERS(*reinterpret_cast<const UnalignedLanes*>(p + 4 * i)); }
inline void Store(float* p, F32x16 a) {
  for (int i = 0; i < 4; ++i) *reinterpret_cast<UnalignedLanes*>(p + 4 * i) = a.v[i];
}
// Lanes n.. are zero.
inline F32x16 LoadN(const float* p, int64_t n) {
  if (n >= 16) return Load(p);
  float lanes[16] = {};
  for (int64_t i = 0; i < n; ++i) lanes[i] = p[i];
  return Load(lanes);
}
inline void StoreN(float* p, F32x16 a, int64_t n) {
  if (n >= 16) return Store(p, a);
  float lanes[16];
  Store(lanes, a);
  for (int64_t i = 0; i < n; ++i) p[i] = lanes[i];
}
inline F32x16 Add(F32x16 a, F32x16 b) { CONCLAVE_QUARTERS(a.v[i] + b.v[i]); }
inline F32x16 Sub(F32x16 a, F32x16 b) { CONCLAVE_QUARTERS(a.v[i] - b.v[i]); }
inline F32x16 Mul(F32x16 a, F32x16 b) { CONCLAVE_QUARTERS(a.v[i] * b.v[i]); }
inline F32x16 Div(F32x16 a, F32x16 b) { CONCLAVE_QUARTERS(a.v[i] / b.v[i]); }
inline F32x16 Max(F32x16 a, F32x16 b) { CONCLAVE_QUARTERS(a.v[i] > b.v[i] ? a.v[i] : b.v[i]); }
inline F32x16 Min(F32x16 a, F32x16 b) { CONCLAVE_QUARTERS(a.v[i] < b.v[i] ? a.v[i] : b.v[i]); }
// a * b + c, rounded twice
inline F32x16 Fma(F32x16 a, F32x16 b, F32x16 c) { CONCLAVE_QUARTERS(a.v[i] * b.v[i] + c.v[i]); }
// a where lane < n, else b.
inline F32x16 FirstN(F32x16 a, F32x16 b, int64_t n) {
  const int32_t bound = static_cast<int32_t>(n > 16 ? 16 : n);
  CONCLAVE_QUARTERS((IntLanes{4 * i, 4 * i + 1, 4 * i + 2, 4 * i + 3} < bound) ? a.v[i] : b.v[i]);
}
// (x1, x0, x3, x2, ..)
inline F32x16 SwapPairs(F32x16 a) { CONCLAVE_QUARTERS((Lanes{a.v[i][1], a.v[i][0], a.v[i][3], a.v[i][2]})); }
// Nearest integer, for |x| < 2^22: what the addition cannot hold is rounded away.
inline F32x16 Round(F32x16 a) {
  constexpr float kMagic = 12582912.0f;  // 1.5 * 2^23
  CONCLAVE_QUARTERS((a.v[i] + kMagic) - kMagic);
}
// a * 2^n for integral n in [-126, 127].
inline F32x16 ScaleByPowerOfTwo(F32x16 a, F32x16 n) {
  CONCLAVE_QUARTERS(a.v[i] * reinterpret_cast<Lanes>((__builtin_convertvector(n.v[i], IntLanes) + 127) << 23));
}
#undef CONCLAVE_QUARTERS
inline float ReduceAdd(F32x16 a) {
  float lanes[16];
  Store(lanes, a);
  for (int width = 8; width > 0; width /= 2) {
    for (int i = 0; i < width; ++i) lanes[i] += lanes[i + width];
  }
  return lanes[0];
}
inline float ReduceMax(F32x16 a) {
  float lanes[16];
  Store(lanes, a);
  for (int i = 1; i < 16; ++i) lanes[0] = lanes[i] > lanes[0] ? lanes[i] : lanes[0];
  return lanes[0];
}
inline F32x16 LoadKv(const KvElement* p) { return Load(p); }
inline void StoreKv(KvElement* p, F32x16 a) { Store(p, a); }
