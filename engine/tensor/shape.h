// SPDX-License-Identifier: Apache-2.0
// Up to four dimensions, slowest to fastest.
#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>

#include "common/check.h"

namespace conclave::engine {

class Shape {
 public:
  static constexpr int kRankMax = 4;

  Shape() = default;
  Shape(std::initializer_list<int64_t> dims) : Shape(std::span<const int64_t>(dims.begin(), dims.size())) {}
  explicit Shape(std::span<const int64_t> dims) : rank_(static_cast<int>(dims.size())) {
    CONCLAVE_CHECK(dims.size() <= kRankMax);
    for (int i = 0; i < rank_; ++i) dims_[i] = dims[i];
  }

  int rank() const { return rank_; }
  int64_t operator[](int i) const { return dims_[i]; }
  int64_t back() const { return dims_[rank_ - 1]; }
  // Product of the dimensions; 1 for rank 0. The dimensions were checked against overflow where they were read.
  int64_t elements() const {
    int64_t n = 1;
    for (int i = 0; i < rank_; ++i) n *= dims_[i];
    return n;
  }
  std::string ToString() const;  // "[3, 64]"

  friend bool operator==(const Shape& a, const Shape& b) = default;

 private:
  std::array<int64_t, kRankMax> dims_ = {};
  int rank_ = 0;
};

}  // namespace conclave::engine
