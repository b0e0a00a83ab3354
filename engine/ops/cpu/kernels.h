// SPDX-License-Identifier: Apache-2.0
// The kernel table: everything of the CPU backend that depends on the instruction set. One table per set, each in a
// translation unit of its own compiled with that set's flags and no others. This header is included by all of them, so
// it holds plain data only: an inline function or a std template instantiated there could be merged by the linker with
// the baseline's copy and run on a CPU that lacks the instructions.
//
// The contract that makes results reproducible: each output element is computed by one fixed sequence of floating-point
// operations, which depends on its own row, column or (token, head) only: never on how many rows are computed together,
// on the split over threads, on the layout of pages or on who shares them. Integer sums are exact and free in order.
#pragma once

#include <cstddef>
#include <cstdint>

namespace conclave::engine::cpu {

// Columns of a weight that are computed together and, when repacked, lie interleaved.
inline constexpr int kGroupColumns = 16;
// Cached positions whose softmax is computed at once; later segments are merged by log-sum-exp in order of position.
inline constexpr int kSegment = 128;
// Positions of a transposed tile of keys; a page is a whole number of tiles.
inline constexpr int kTile = 16;
// Query rows (tokens x heads of a group) of one attention task.
inline constexpr int kAttendRows = 48;

enum class WeightFormat : uint8_t {
  kF32,
  kF16,
  kBF16,
  kQ4_0,
  kQ4_1,
  kQ5_0,
  kQ5_1,
  kQ8_0,
  kQ2_K,
  kQ3_K,
  kQ4_K,
  kQ5_K,
  kQ6_K,
  kIQ4_NL,
  kIQ4_XS,
  kMXFP4,
  kInt4_G32,
  kInt4_G64,
  kInt4_G128,
  kInt8_G32,
  kInt8_G128,
  kFp8_G128
};

// 32 activations of a row, rounded to 8 bits: x ~ scale q.
struct ActivationBlock {
  int8_t q[32];
  float scale;
  float scaled_sum;           // scale * sum of q: times a weight block's minimum
  int32_t negative_sum;       // -sum of q: times the offset of unsigned codes
  int32_t negative_low_half;  // -sum of q[0..15]
};

// y[m, n] for rows m_begin..m_end and the columns of groups group_begin..group_end of one weight part.
struct GemmArgs {
  WeightFormat format;
  const std::byte* weights;  // repacked groups, or rows as in the file (scalar)
  int64_t group_bytes;
  int64_t columns;  // N of the part; the last group may be partial
  int64_t k;
  int64_t group_begin, group_end;
  int64_t m_begin, m_end;
  const float* x;  // [M, K] for float formats and for scalar
  int64_t x_stride;
  const ActivationBlock* blocks;  // [M, K / 32] for block formats
  const int32_t* order;           // ? [K]; for scalar, whose x is as it was: element i of a row multiplies x[order[i]]
  float* y;                       // [M, >= N], its column 0 is the part's
  int64_t y_stride;
  bool accumulate;
  float* scratch;  // this thread's
};

// One token of an attention task.
struct AttendRow {
  int32_t token;
  int32_t position;
  const int32_t* pages;  // of its sequence
  int64_t partial;       // index of its first segment in `partials`
};

struct AttendArgs {
  const float* q;  // [T, H, Dk], rows q_stride elements apart
  int64_t q_stride;
  const std::byte* pages;
  int64_t page_bytes, head_bytes, value_offset;  // per page: kv heads of head_bytes, values value_offset into a head
  int32_t page_tokens, dim_k, dim_v, dim_v_padded;
  float scale;
  int32_t window;                  // a token sees its last `window` positions
  const float* sinks;              // [H], or null: logits of the softmax whose value is zero
  int32_t kv_head, heads;          // heads: H
  int32_t head_begin, head_count;  // query heads of this task, all of kv_head's group
  const AttendRow* rows;           // tokens; tokens * head_count <= kAttendRows (or one token)
  int32_t num_rows;
  int32_t segment_begin, segment_end;
  float* scratch;   // this thread's, attend_scratch_floats()
  float* y;         // [T, H, Dv]; written when partials is null
  float* partials;  // [partial + segment, H, 2 + dim_v_padded]: maximum, sum, unnormalised output
};

struct ActivationTerms {
  float alpha, limit, up_offset;
};

struct Kernels {
  const char* name;
  bool repacks;              // weights in groups; otherwise file rows, f32 activations
  int32_t kv_element_bytes;  // 2: f16, 4: f32

  // x [k], or x[order[0]], x[order[1]], .. if order is not null -> k / 32 blocks
  void (*quantize_row)(const float* x, const int32_t* order, int64_t k, ActivationBlock* blocks);
  void (*gemm)(const GemmArgs& args);
  // residual += x if x is not null; y = residual / rms(residual) * gain
  void (*rms_norm)(float* y, float* residual, const float* x, const float* gain, int64_t n, float eps);
  void (*add)(float* y, const float* x, int64_t n);
  // y += scale * x
  void (*add_scaled)(float* y, const float* x, float scale, int64_t n);
  // y = g sigmoid(alpha g) (u + up_offset), g = min(gate, limit), u = up cut to [-limit, limit]
  void (*swiglu)(float* y, const float* gate, const float* up, int64_t n, const ActivationTerms& terms);
  // In place on one head. Interleaved: cos, sin [2 pairs], each value twice, sin negative first. Half split: [pairs].
  void (*rope_interleaved)(float* head, const float* cos, const float* sin, int64_t rotated);
  void (*rope_half_split)(float* head, const float* cos, const float* sin, int64_t rotated);
  // Stores one head's key and value at `offset` of a page; `head` points at the head within the page.
  void (*kv_write)(std::byte* head, int64_t value_offset, int32_t offset, const float* k, int32_t dim_k, const float* v,
                   int32_t dim_v, int32_t dim_v_padded);
  int64_t (*attend_scratch_floats)(int32_t dim_k, int32_t dim_v_padded, int32_t rows);
  void (*attend)(const AttendArgs& args);
  // Merges the partials of heads head_begin.. of one row into y.
  void (*merge)(const AttendArgs& args, const AttendRow& row);
};

const Kernels& ScalarKernels();
const Kernels& Avx2Kernels();
const Kernels& Avx512Kernels();

}  // namespace conclave::engine::cpu
