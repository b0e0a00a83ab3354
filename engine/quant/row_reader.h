// SPDX-License-Identifier: Apache-2.0
// Rows of a matrix that no file holds as they are wanted: put together while they are read.
#pragma once

#include <cstddef>
#include <cstdint>

namespace conclave::engine::quant {

// Immutable: any thread may read any rows.
class RowReader {
 public:
  virtual ~RowReader() = default;
  // Rows first .. first + count, each RowBytes of the matrix's format, end to end.
  virtual void Read(int64_t first, int64_t count, std::byte* out) const = 0;
};

}  // namespace conclave::engine::quant
