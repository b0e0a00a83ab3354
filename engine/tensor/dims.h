// SPDX-License-Identifier: Apache-2.0
// The one glossary of dimension letters. Shape comments list dimensions from slowest to fastest: `// [T, H, Dk] f32`.
//
//   T   tokens of one step, over all sequences          S   sequences of one step
//   D   model width (hidden size)                       F   feed-forward width
//   V   vocabulary                                      L   layers
//   H   query heads          G   key/value heads        Dk, Dv  width of one key / value head     R  rotated width
//   P   KV pages             B   tokens per KV page     E   experts     k   experts per token
//   M, N, K  a matrix product: y[M, N] = x[M, K] * w[N, K]^T. Row-major only; weights are always [N, K].
#pragma once
