// SPDX-License-Identifier: Apache-2.0
// Formats without a packed layout of their own, as others that have one and hold the same values bit for bit.
#pragma once

#include "absl/status/statusor.h"
#include "engine/ops/ops.h"

namespace conclave::engine::cuda {

// The format whose layout holds the source's values: its own where that has one; Q8_0 for IQ4_NL and MXFP4; Q6_K for
// Q3_K; for integer groups Q4_0 where every zero point is the middle, else Q8_0. Reads the source's scales.
// UNIMPLEMENTED for other formats, for columns in another order, and where a scale is not exact in half precision or a
// code not in 8 bits.
absl::StatusOr<DType> RepackedFormat(const WeightSource& source);

// The rows of a source in such a format. Keeps the source, not what it points to.
class RepackedRows final : public quant::RowReader {
 public:
  RepackedRows(const WeightSource& source, DType to) : source_(source), to_(to) {}
  void Read(int64_t first, int64_t count, std::byte* out) const override;

 private:
  const WeightSource source_;
  const DType to_;
};

}  // namespace conclave::engine::cuda
