// SPDX-License-Identifier: Apache-2.0
// Weights of the reference backend: rows as in the file, decoded when they are read.
#pragma once

#include <span>
#include <vector>

#include "common/check.h"
#include "engine/ops/host_ops.h"
#include "engine/quant/codec.h"

namespace conclave::engine {

// The rows of one source, in place unless a reader put them together.
struct ReferenceSource {
  explicit ReferenceSource(const WeightSource& source)
      : dtype(source.dtype), rows(source.rows), bytes(source.bytes), order(source.order.begin(), source.order.end()) {
    if (source.reader == nullptr) return;
    own.resize(static_cast<size_t>(SourceBytes(source)));
    ReadRows(source, 0, source.rows, own.data());
    bytes = own;
  }
  ReferenceSource(ReferenceSource&&) = default;

  void Row(int64_t n, std::span<float> out) const {
    const std::byte* row = bytes.data() + n * RowBytes(dtype, static_cast<int64_t>(out.size()));
    if (order.empty()) return quant::DecodeRow(dtype, row, out);
    std::vector<float> stored(out.size());
    quant::DecodeRow(dtype, row, stored);
    for (size_t i = 0; i < stored.size(); ++i) out[static_cast<size_t>(order[i])] = stored[i];
  }

  DType dtype;
  int64_t rows;
  std::span<const std::byte> bytes;
  std::vector<std::byte> own;
  std::vector<int32_t> order;
};

struct ReferenceWeight final : Weight {
  std::vector<ReferenceSource> sources;
  std::vector<float> vector;  // kVector: the decoded values

  // Row n, decoded, [K].
  void Row(int64_t n, std::span<float> out) const {
    for (const ReferenceSource& source : sources) {
      if (n < source.rows) return source.Row(n, out);
      n -= source.rows;
    }
    CONCLAVE_CHECK_MSG(false, "weight row out of range");
  }
};

struct ReferenceStack final : WeightStack {
  std::vector<ReferenceWeight> items;

  // x [K] times matrix i: y [N].
  std::vector<double> Times(int64_t i, std::span<const double> x) const {
    std::vector<double> y(static_cast<size_t>(rows));
    std::vector<float> row(static_cast<size_t>(columns));
    CONCLAVE_CHECK(i >= 0 && i < count && x.size() == row.size());
    for (size_t n = 0; n < y.size(); ++n) {
      items[static_cast<size_t>(i)].Row(static_cast<int64_t>(n), row);
      for (size_t k = 0; k < row.size(); ++k) y[n] += x[k] * row[k];
    }
    return y;
  }
};

}  // namespace conclave::engine
