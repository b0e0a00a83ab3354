// SPDX-License-Identifier: Apache-2.0
// What this machine can do at most, measured beside the figure that is compared with it, on the same number of threads.
#pragma once

#include <functional>

namespace conclave::bench {

// Median seconds of one call of `body`, over at least `repeats` calls and `seconds_min` altogether.
double MedianSeconds(const std::function<void()>& body, int repeats = 7, double seconds_min = 0.3);

// Bytes per second read from memory by `threads` threads over buffers far larger than the caches.
double ReadBandwidth(int threads);

// Floating-point operations per second of independent fused multiply-adds in registers, in the widest vectors there
// are.
double FloatPeak(int threads);

// 8-bit multiply and add operations per second (vpdpbusd); 0 where the CPU has none.
double Int8Peak(int threads);

}  // namespace conclave::bench
