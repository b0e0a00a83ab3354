// SPDX-License-Identifier: Apache-2.0
// Fixed outcome vectors for the tests of this folder. The same formulas in numpy made the reference values:
//   i = arange(1319); a = (i*37+11)%101 < 70; b = (i*53+29)%97 < 58; k = ((i*i+3*i)%9)/8; c = (i*7+i//13)%44
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace conclave::stats {

struct OutcomeVectors {
  std::vector<double> a, b, k;
  std::vector<uint8_t> right_a, right_b;
  std::vector<uint32_t> clusters;

  OutcomeVectors() {
    for (uint32_t i = 0; i < 1319; ++i) {
      right_a.push_back((i * 37 + 11) % 101 < 70 ? 1 : 0);
      right_b.push_back((i * 53 + 29) % 97 < 58 ? 1 : 0);
      a.push_back(right_a.back());
      b.push_back(right_b.back());
      k.push_back(static_cast<double>((i * i + 3 * i) % 9) / 8);
      clusters.push_back((i * 7 + i / 13) % 44);
    }
  }
  static std::vector<double> Minus(const std::vector<double>& x, const std::vector<double>& y) {
    std::vector<double> d(x.size());
    for (size_t i = 0; i < x.size(); ++i) d[i] = x[i] - y[i];
    return d;
  }
};

}  // namespace conclave::stats
