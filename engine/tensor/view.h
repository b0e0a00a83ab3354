// SPDX-License-Identifier: Apache-2.0
// A dense row-major array somewhere in a device's memory: pointer, element format, shape. Trivially copyable, owns
// nothing, never kept past a step.
#pragma once

#include <cstddef>
#include <type_traits>

#include "engine/tensor/dtype.h"
#include "engine/tensor/shape.h"

namespace conclave::engine {

struct View {
  std::byte* data = nullptr;
  DType dtype = DType::kF32;
  Shape shape;

  bool empty() const { return data == nullptr; }

  // Typed access; the caller names the type it knows the view to hold.
  template <typename T>
  T* as() const {
    return reinterpret_cast<T*>(data);
  }
  // Row i of a rank-2 f32 view.
  float* row(int64_t i) const { return as<float>() + i * shape.back(); }

  // The first `n` slices along the slowest dimension: a buffer sized for the largest step, used for a smaller one.
  View Prefix(int64_t n) const;
};

static_assert(std::is_trivially_copyable_v<View>);

inline View View::Prefix(int64_t n) const {
  CONCLAVE_DCHECK(n <= shape[0]);
  View v = *this;
  std::array<int64_t, Shape::kRankMax> dims = {};
  for (int i = 0; i < shape.rank(); ++i) dims[i] = shape[i];
  dims[0] = n;
  v.shape = Shape(std::span<const int64_t>(dims.data(), shape.rank()));
  return v;
}

}  // namespace conclave::engine
