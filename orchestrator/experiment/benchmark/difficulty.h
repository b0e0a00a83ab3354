// SPDX-License-Identifier: Apache-2.0
// The dial that every generated item has.
#pragma once

namespace conclave::benchmark {

inline constexpr int kDifficultyMax = 10;  // from 1

}  // namespace conclave::benchmark
