// SPDX-License-Identifier: Apache-2.0
// The machine's read bandwidth, measured: the roof that decoding speed is compared with.
#pragma once

#include <cstdint>

namespace conclave::cli {

// Bytes per second that `threads` threads read together from memory, the median of `repeats` passes over a buffer of
// `bytes` (choose it several times the last-level cache). Blocks for about a second.
double MeasureReadBandwidth(int32_t threads, int64_t bytes = int64_t{512} << 20, int32_t repeats = 9);

}  // namespace conclave::cli
