// SPDX-License-Identifier: Apache-2.0
// How far two rows of logits are apart as distributions.
#pragma once

#include <cmath>
#include <span>

namespace conclave::testing {

// Kullback and Leibler's divergence of the softmax of `logits` from that of `expected`, in nat. Logits of a few tens.
template <typename Expected>
double Divergence(std::span<const float> logits, const Expected& expected) {
  double sum = 0, expected_sum = 0, divergence = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    sum += std::exp(double{logits[i]});
    expected_sum += std::exp(double{expected[i]});
  }
  for (size_t i = 0; i < expected.size(); ++i) {
    const double p = std::exp(double{expected[i]}) / expected_sum;
    divergence += p * ((expected[i] - std::log(expected_sum)) - (logits[i] - std::log(sum)));
  }
  return divergence;
}

}  // namespace conclave::testing
