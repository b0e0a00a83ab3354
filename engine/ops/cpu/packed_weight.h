// SPDX-License-Identifier: Apache-2.0
// Weights as the SIMD kernels read them: 16 columns interleaved, the same number of bits per weight as in the file.
//
// A group is 16 columns (rows n .. n+15 of w); missing ones are zero. Integer formats, per 32 elements of k:
//   nibbles   4 x 64 B: dword c of line u holds elements 4u..4u+3 (low) and 16+4u..16+4u+3 (high nibbles) of column c
//   bytes     8 x 64 B: dword c of line u holds elements 4u..4u+3 of column c, plus 128
//   fifth     64 B: bit t of byte j of dword c is bit 4 of element 4 t + j of column c
//   top two   2 x 64 B: bits 2 i.. of byte j of dword c of line h: bits 4..5 of element 16 h + 4 i + j
// Q2_K and Q3_K have their two lower bits as a plane of top twos, Q3_K its third as one of fifths; IQ4 has nibbles.
// so that a 64-byte line is one vpdpbusd operand. Then scales, 16 of each:
//   Q4_0, Q5_0, Q8_0: f16 d · Q4_1, Q5_1: f16 d, f16 m · Q4_K, Q5_K: u8 scale, u8 min · Q6_K, Q3_K: i8 scale of each
//   half · Q2_K: u8 scale and min of each half · IQ4_NL: f16 d · IQ4_XS: i8 scale · MXFP4: u8 exponent
// K-quants precede every 8 such blocks with f16 d (and f16 dmin). Plain formats are [K][16] elements.
// Group formats (INT4_G128 ..) have a line of u32 scales and zero points, then a group's codes, FP8 after each 128 of
// k, [..][16] codes, f32 scales.
#pragma once

#include <cstdint>
#include <span>

#include "engine/ops/cpu/kernels.h"

namespace conclave::engine::cpu {

// Bytes of a group of K columns.
int64_t PackedGroupBytes(WeightFormat format, int64_t k);

// Packs up to 16 rows as the file has them; rows beyond rows.size() are zero. `group`: PackedGroupBytes, zeroed.
void PackGroup(WeightFormat format, std::span<const std::byte* const> rows, int64_t k, std::byte* group);

// The column's elements as floats, bit for bit what DecodeRow gives for the row that was packed.
void UnpackColumn(WeightFormat format, const std::byte* group, int column, int64_t k, float* out);

}  // namespace conclave::engine::cpu
