// SPDX-License-Identifier: Apache-2.0
// Row-wise kernels over F32x16. Included inside the anonymous namespace of each instruction set's translation unit,
// after its simd_*.h; no std templates here (see kernels.h).
#pragma once

// e^x, about 2 ulp, clamped to [2^-126, 2^127]: Cody-Waite reduction by ln 2 and a degree-6 polynomial (Cephes expf).
inline F32x16 Exp(F32x16 x) {
  x = Min(Max(x, Broadcast(-87.33654f)), Broadcast(88.02969f));
  const F32x16 n = Round(Mul(x, Broadcast(1.44269504088896341f)));
  F32x16 r = Fma(n, Broadcast(-0.693359375f), x);
  r = Fma(n, Broadcast(2.12194440e-4f), r);
  F32x16 p = Broadcast(1.9875691500e-4f);
  p = Fma(p, r, Broadcast(1.3981999507e-3f));
  p = Fma(p, r, Broadcast(8.3334519073e-3f));
  p = Fma(p, r, Broadcast(4.1665795894e-2f));
  p = Fma(p, r, Broadcast(1.6666665459e-1f));
  p = Fma(p, r, Broadcast(5.0000001201e-1f));
  p = Fma(p, Mul(r, r), Add(r, Broadcast(1.0f)));
  return ScaleByPowerOfTwo(p, n);
}

inline void RmsNormRow(float* y, float* residual, const float* x, const float* gain, int64_t n, float eps) {
  F32x16 sum[4] = {Zero(), Zero(), Zero(), Zero()};
  for (int64_t i = 0; i < n; i += 16) {
    const int64_t left = n - i;
    F32x16 r = LoadN(residual + i, left);
    if (x != nullptr) {
      r = Add(r, LoadN(x + i, left));
      StoreN(residual + i, r, left);
    }
    sum[i / 16 % 4] = Fma(r, r, sum[i / 16 % 4]);
  }
  const float total = ReduceAdd(Add(Add(sum[0], sum[1]), Add(sum[2], sum[3])));
  const F32x16 scale = Broadcast(1.0f / __builtin_sqrtf(total / static_cast<float>(n) + eps));
  for (int64_t i = 0; i < n; i += 16) {
    const int64_t left = n - i;
    StoreN(y + i, Mul(Mul(LoadN(residual + i, left), scale), LoadN(gain + i, left)), left);
  }
}

inline void AddRow(float* y, const float* x, int64_t n) {
  for (int64_t i = 0; i < n; i += 16) StoreN(y + i, Add(LoadN(y + i, n - i), LoadN(x + i, n - i)), n - i);
}

inline void AddScaledRow(float* y, const float* x, float scale, int64_t n) {
  const F32x16 factor = Broadcast(scale);
  for (int64_t i = 0; i < n; i += 16) {
    StoreN(y + i, Fma(LoadN(x + i, n - i), factor, LoadN(y + i, n - i)), n - i);
  }
}

// Min and Max give their second operand where one is not a number: limits stand first, so that it stays.
inline void SwiGluRow(float* y, const float* gate, const float* up, int64_t n, const ActivationTerms& terms) {
  const F32x16 one = Broadcast(1.0f), alpha = Broadcast(-terms.alpha), offset = Broadcast(terms.up_offset);
  const F32x16 top = Broadcast(terms.limit), bottom = Broadcast(-terms.limit);
  for (int64_t i = 0; i < n; i += 16) {
    const F32x16 g = Min(top, LoadN(gate + i, n - i)), u = Max(bottom, Min(top, LoadN(up + i, n - i)));
    const F32x16 silu = Div(g, Add(one, Exp(Mul(alpha, g))));
    StoreN(y + i, Mul(silu, Add(u, offset)), n - i);
  }
}

inline void RopeInterleavedHead(float* head, const float* cosine, const float* sine, int64_t rotated) {
  for (int64_t i = 0; i < rotated; i += 16) {
    const int64_t left = rotated - i;
    const F32x16 x = LoadN(head + i, left);
    StoreN(head + i, Fma(x, LoadN(cosine + i, left), Mul(SwapPairs(x), LoadN(sine + i, left))), left);
  }
}

inline void RopeHalfSplitHead(float* head, const float* cosine, const float* sine, int64_t rotated) {
  const int64_t half = rotated / 2;
  for (int64_t i = 0; i < half; i += 16) {
    const int64_t left = half - i;
    const F32x16 a = LoadN(head + i, left), b = LoadN(head + half + i, left);
    const F32x16 c = LoadN(cosine + i, left), s = LoadN(sine + i, left);
    StoreN(head + i, Sub(Mul(a, c), Mul(b, s)), left);
    StoreN(head + half + i, Fma(a, s, Mul(b, c)), left);
  }
}
