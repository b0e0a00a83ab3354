// SPDX-License-Identifier: Apache-2.0
// Matrices of AWQ, GPTQ and compressed-tensors checkpoints, and FP8 ones with their scales, as rows of group blocks.
// Formulas: specs/models.md section 4, "AWQ (gemm)" and "GPTQ"; words are 32 bits, little endian.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "engine/quant/row_reader.h"
#include "engine/tensor/dtype.h"

namespace conclave::engine::quant {

// How codes lie in words. p = 32 / bits codes to a word; N rows, K columns, G groups of columns.
enum class CodeLayout : uint8_t {
  kAwq,     // codes [K, N / 8], zeros [G, N / 8]: code i of a word is column 8 w + {0, 2, 4, 6, 1, 3, 5, 7}[i]; 4 bits
  kGptq,    // codes [K / p, N], zeros [G, N / p]: code i of a word is p w + i
  kPacked,  // codes [N, K / p], zeros [N / p, G]: the same
};

// Integer codes with a scale and zero point per row and group of columns: value = (code - zero) scale.
struct GroupedCodes {
  CodeLayout layout;
  int32_t bits;  // 4 or 8
  int64_t rows, columns;
  std::span<const std::byte> codes;
  std::span<const std::byte> scales;  // kAwq, kGptq: [G, N]; kPacked: [N, G]
  DType scale_format;                 // F16 or BF16
  std::span<const std::byte> zeros;   // empty: 2^(bits - 1) everywhere
  int32_t zero_offset;                // added to what `zeros` says: 1 in GPTQ's first version
  int64_t groups;                     // G
  // Which column element i of a row is; empty: column i. A permutation.
  std::span<const int32_t> order;
  // Of each block of the format, the group its elements belong to.
  std::vector<int32_t> block_groups;
};

// The largest block of `bits` codes that cuts every run of columns, `runs` long each, into whole ones; nullopt if the
// smallest, of 32, does not.
std::optional<DType> GroupFormat(int32_t bits, std::span<const int64_t> runs);

// Rows in `format`, which GroupFormat gave. Sizes were checked; zero points are at most 255.
class GroupedRows final : public RowReader {
 public:
  GroupedRows(GroupedCodes source, DType format) : source_(std::move(source)), format_(format) {}
  void Read(int64_t first, int64_t count, std::byte* out) const override;

 private:
  const GroupedCodes source_;
  const DType format_;
};

// The index of the first e4m3 code that is not a number. Kernels take such codes for numbers: a file must have none.
std::optional<int64_t> FindFp8Nan(std::span<const std::byte> codes);

// e4m3 codes [N, K] with scales [ceil(N / scale_rows), ceil(K / scale_columns)], as rows of FP8_G128.
class ScaledFp8Rows final : public RowReader {
 public:
  // scale_columns is a multiple of 128 or at least `columns`.
  ScaledFp8Rows(std::span<const std::byte> codes, int64_t columns, std::vector<float> scales, int64_t scale_rows,
                int64_t scale_columns)
      : codes_(codes),
        columns_(columns),
        scales_(std::move(scales)),
        scale_rows_(scale_rows),
        scale_columns_(scale_columns) {}
  void Read(int64_t first, int64_t count, std::byte* out) const override;

 private:
  const std::span<const std::byte> codes_;
  const int64_t columns_;
  const std::vector<float> scales_;
  const int64_t scale_rows_, scale_columns_;
};

}  // namespace conclave::engine::quant
