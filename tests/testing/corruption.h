// SPDX-License-Identifier: Apache-2.0
// Damaged copies of a file's bytes: every length that it may be cut to, and random flips of bits.
#pragma once

#include <sys/resource.h>

#include <cstdint>
#include <cstdio>
#include <random>
#include <string_view>
#include <vector>

namespace conclave::testing {

inline constexpr int kFlippedCopies = 10000;

// check(bytes) for every size below the whole. The copy has exactly that size, so that a sanitizer sees a read
// beyond it.
template <typename Check>
void ForEveryTruncation(std::string_view file, Check check) {
  for (size_t size = 0; size < file.size(); ++size) {
    const std::vector<char> cut(file.begin(), file.begin() + static_cast<std::ptrdiff_t>(size));
    check(std::string_view(cut.data(), cut.size()));
  }
}

// check(bytes) for copies with 1 to 4 bits flipped.
template <typename Check>
void ForRandomFlips(std::string_view file, uint64_t seed, Check check) {
  std::printf("seed %llu\n", static_cast<unsigned long long>(seed));
  std::mt19937_64 random(seed);
  for (int i = 0; i < kFlippedCopies; ++i) {
    std::vector<char> bytes(file.begin(), file.end());
    const int flips = 1 + static_cast<int>(random() % 4);
    for (int j = 0; j < flips; ++j) bytes[random() % bytes.size()] ^= static_cast<char>(1 << (random() % 8));
    check(std::string_view(bytes.data(), bytes.size()));
  }
}

// Whether this process never had more memory than corrupt input may cost. Sanitizers keep what was freed.
inline bool MemoryStayedSmall() {
#if defined(__SANITIZE_ADDRESS__)
  return true;
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
  return true;
#endif
#endif
  constexpr int64_t kBytesMax = int64_t{512} << 20;
  rusage usage = {};
  getrusage(RUSAGE_SELF, &usage);
  return int64_t{usage.ru_maxrss} * 1024 <= kBytesMax;
}

}  // namespace conclave::testing
