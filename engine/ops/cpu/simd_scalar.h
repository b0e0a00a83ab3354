// SPDX-License-Identifier: Apache-2.0
// Sixteen floats without instructions: the `scalar` kernels. Same interface as simd_avx2.h and simd_avx512.h; included
// by one translation unit, inside its anonymous namespace. Keys and values stay f32.
#pragma once

using KvElement = float;
inline constexpr int kRowTile = 1;  // rows of a register tile
inline constexpr int kKeyTiles = 1, kValueVectors = 1;

struct F32x16 {
  float v[16];
};

#define CONCLAVE_LANES for (int i = 0; i < 16; ++i)
inline F32x16 Zero() { return {}; }
inline F32x16 Broadcast(float x) {
  F32x16 r;
  CONCLAVE_LANES r.v[i] = x;
  return r;
}
inline F32x16 Load(const float* p) {
  F32x16 r;
  CONCLAVE_LANES r.v[i] = p[i];
  return r;
}
// Lanes n.. are zero.
inline F32x16 LoadN(const float* p, int64_t n) {
  F32x16 r = {};
  for (int64_t i = 0; i < n && i < 16; ++i) r.v[i] = p[i];
  return r;
}
inline void Store(float* p, F32x16 a) { CONCLAVE_LANES p[i] = a.v[i]; }
inline void StoreN(float* p, F32x16 a, int64_t n) {
  for (int64_t i = 0; i < n && i < 16; ++i) p[i] = a.v[i];
}
inline F32x16 Add(F32x16 a, F32x16 b) {
  CONCLAVE_LANES a.v[i] += b.v[i];
  return a;
}
inline F32x16 Sub(F32x16 a, F32x16 b) {
  CONCLAVE_LANES a.v[i] -= b.v[i];
  return a;
}
inline F32x16 Mul(F32x16 a, F32x16 b) {
  CONCLAVE_LANES a.v[i] *= b.v[i];
  return a;
}
inline F32x16 Div(F32x16 a, F32x16 b) {
  CONCLAVE_LANES a.v[i] /= b.v[i];
  return a;
}
inline F32x16 Max(F32x16 a, F32x16 b) {
  CONCLAVE_LANES a.v[i] = a.v[i] > b.v[i] ? a.v[i] : b.v[i];
  return a;
}
inline F32x16 Min(F32x16 a, F32x16 b) {
  CONCLAVE_LANES a.v[i] = a.v[i] < b.v[i] ? a.v[i] : b.v[i];
  return a;
}
// a * b + c
inline F32x16 Fma(F32x16 a, F32x16 b, F32x16 c) {
  CONCLAVE_LANES c.v[i] += a.v[i] * b.v[i];
  return c;
}
// a where lane < n, else b.
inline F32x16 FirstN(F32x16 a, F32x16 b, int64_t n) {
  CONCLAVE_LANES a.v[i] = i < n ? a.v[i] : b.v[i];
  return a;
}
// (x1, x0, x3, x2, ..)
inline F32x16 SwapPairs(F32x16 a) {
  F32x16 r;
  CONCLAVE_LANES r.v[i] = a.v[i ^ 1];
  return r;
}
// Nearest integer, for |x| < 2^22.
inline F32x16 Round(F32x16 a) {
  constexpr float kMagic = 12582912.0f;  // 1.5 * 2^23
  CONCLAVE_LANES {
    volatile float shifted = a.v[i] + kMagic;  // volatile: the sum must be rounded
    a.v[i] = shifted - kMagic;
  }
  return a;
}
// a * 2^n for integral n in [-126, 127].
inline F32x16 ScaleByPowerOfTwo(F32x16 a, F32x16 n) {
  CONCLAVE_LANES {
    const uint32_t bits = static_cast<uint32_t>(static_cast<int32_t>(n.v[i]) + 127) << 23;
    float scale;
    __builtin_memcpy(&scale, &bits, sizeof(scale));
    a.v[i] *= scale;
  }
  return a;
}
inline float ReduceAdd(F32x16 a) {
  for (int width = 8; width > 0; width /= 2) {
    for (int i = 0; i < width; ++i) a.v[i] += a.v[i + width];
  }
  return a.v[0];
}
inline float ReduceMax(F32x16 a) {
  for (int width = 8; width > 0; width /= 2) {
    for (int i = 0; i < width; ++i) a.v[i] = a.v[i] > a.v[i + width] ? a.v[i] : a.v[i + width];
  }
  return a.v[0];
}
inline F32x16 LoadKv(const KvElement* p) { return Load(p); }
inline void StoreKv(KvElement* p, F32x16 a) { Store(p, a); }
#undef CONCLAVE_LANES
