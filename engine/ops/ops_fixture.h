// SPDX-License-Identifier: Apache-2.0
// Test and benchmark support: random weights in every format, and steps over paged sequences.
#pragma once

#include <cstdint>
#include <memory>
#include <numeric>
#include <random>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "common/check.h"
#include "engine/ops/cuda/cuda_ops.h"
#include "engine/ops/ops.h"
#include "engine/quant/codec.h"

namespace conclave::engine::testing {

inline constexpr DType kWeightDTypes[] = {
    DType::kF32,       DType::kF16,   DType::kBF16,     DType::kQ4_0,     DType::kQ4_1,      DType::kQ5_0,
    DType::kQ5_1,      DType::kQ8_0,  DType::kQ4_K,     DType::kQ5_K,     DType::kQ6_K,      DType::kQ3_K,
    DType::kIQ4_NL,    DType::kMXFP4, DType::kInt4_G32, DType::kInt4_G64, DType::kInt4_G128, DType::kInt8_G32,
    DType::kInt8_G128, DType::kQ2_K,  DType::kIQ4_XS,   DType::kFp8_G128};
// The last of them are not read by the CUDA backend, which says so: groups of 8 bits where, as here, zero points are
// not in the middle.
inline constexpr size_t kNotOnCuda = 5;

inline std::span<const DType> WeightDTypes(std::string_view backend) {
  const std::span<const DType> all = kWeightDTypes;
  return backend == "cuda" ? all.first(all.size() - kNotOnCuda) : all;
}

inline std::vector<float> Normal(std::mt19937* rng, size_t n, float sigma = 1.0f) {
  std::normal_distribution<float> normal(0.0f, sigma);
  std::vector<float> values(n);
  for (float& v : values) v = normal(*rng);
  return values;
}

// Rows of normal values in a file format.
struct TestWeight {
  TestWeight(DType dtype_in, int64_t rows_in, int64_t columns_in, std::mt19937* rng)
      : dtype(dtype_in), rows(rows_in), columns(columns_in) {
    bytes.resize(static_cast<size_t>(rows * RowBytes(dtype, columns)));
    for (int64_t n = 0; n < rows; ++n) {
      const std::vector<float> row = Normal(rng, static_cast<size_t>(columns), 0.05f);
      quant::EncodeRow(dtype, row, bytes.data() + n * RowBytes(dtype, columns));
    }
  }
  WeightSource source() const { return {dtype, rows, columns, bytes}; }

  DType dtype;
  int64_t rows, columns;
  std::vector<std::byte> bytes;
};

// Formats that are multiplied in f32, with rows of any length.
inline bool IsPlain(DType dtype) { return Traits(dtype).block_elements == 1 || Traits(dtype).cut_tail; }

inline std::unique_ptr<Ops> NewOps(const std::string& kernel, int threads = 2) {
  absl::StatusOr<std::unique_ptr<Ops>> ops = MakeOps({.kernel = kernel, .threads = threads});
  return ops.ok() ? *std::move(ops) : nullptr;
}

template <typename T>
T Must(absl::StatusOr<T> value) {
  CONCLAVE_CHECK_MSG(value.ok(), value.status().ToString().c_str());
  return *std::move(value);
}

// Matrices in a file format, and the stack an Ops makes of them. Each matrix has `parts` sources.
struct TestStack {
  TestStack(DType dtype, int64_t count, int64_t rows, int64_t columns, std::mt19937* rng, int64_t parts = 1) {
    for (int64_t i = 0; i < count * parts; ++i) files.emplace_back(dtype, rows / parts, columns, rng);
    for (const TestWeight& file : files) sources.push_back(file.source());
    matrices = count;
  }
  const WeightStack& Make(Ops* ops, StackUse use) const { return *Must(ops->MakeWeightStack(sources, matrices, use)); }

  std::vector<TestWeight> files;
  std::vector<WeightSource> sources;
  int64_t matrices;
};

inline View NewView(Ops* ops, Shape shape) { return Must(ops->Allocate(DType::kF32, shape)); }

inline View NewView(Ops* ops, Shape shape, std::span<const float> values) {
  const View view = NewView(ops, shape);
  CONCLAVE_CHECK(static_cast<size_t>(shape.elements()) == values.size());
  cuda::CopyBytes(view.data, values.data(), values.size_bytes());
  return view;
}

inline std::vector<float> Values(const View& view) {
  std::vector<float> values(static_cast<size_t>(view.shape.elements()));
  cuda::CopyBytes(values.data(), view.data, values.size() * sizeof(float));
  return values;
}

// The arrays behind a StepBatch.
struct TestBatch {
  std::vector<int32_t> tokens, positions, kv_slots, q_indptr = {0}, page_indptr = {0}, pages, kv_len, logit_rows;

  // `count` new tokens of a sequence whose pages are `table`, the first at `position`.
  void Add(int32_t position, int32_t count, std::span<const int32_t> table, int32_t page_tokens) {
    for (int32_t i = 0; i < count; ++i) {
      const int32_t p = position + i;
      tokens.push_back(p % 7);
      positions.push_back(p);
      kv_slots.push_back(table[static_cast<size_t>(p / page_tokens)] * page_tokens + p % page_tokens);
    }
    pages.insert(pages.end(), table.begin(), table.end());
    q_indptr.push_back(static_cast<int32_t>(tokens.size()));
    page_indptr.push_back(static_cast<int32_t>(pages.size()));
    kv_len.push_back(position + count);
    logit_rows.push_back(static_cast<int32_t>(tokens.size()) - 1);
  }
  StepBatch batch() const { return {tokens, positions, kv_slots, q_indptr, page_indptr, pages, kv_len, logit_rows}; }
};

inline double SquaredError(std::span<const float> a, std::span<const float> b) {
  CONCLAVE_CHECK(a.size() == b.size());
  double error = 0;
  for (size_t i = 0; i < a.size(); ++i) error += (double{a[i]} - b[i]) * (double{a[i]} - b[i]);
  return error;
}

// Normalised mean square error of a; b is the reference.
inline double Nmse(std::span<const float> a, std::span<const float> b) {
  double power = 0;
  for (const float v : b) power += double{v} * v;
  return SquaredError(a, b) / (power > 0 ? power : 1);
}

}  // namespace conclave::engine::testing
