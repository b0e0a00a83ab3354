// SPDX-License-Identifier: Apache-2.0
#include "cli/memory_roof.h"

#include <emmintrin.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <memory>
#include <thread>
#include <vector>

#include "common/clock.h"

namespace conclave::cli {
namespace {

// Sums 16-byte words in eight independent chains, so that only memory limits the loop.
uint64_t ReadAll(const __m128i* data, int64_t words) {
  __m128i sum[8] = {};
  for (int64_t i = 0; i + 8 <= words; i += 8) {
    _mm_prefetch(reinterpret_cast<const char*>(data + i + 64), _MM_HINT_T0);
    _mm_prefetch(reinterpret_cast<const char*>(data + i + 68), _MM_HINT_T0);
    for (int k = 0; k < 8; ++k) sum[k] = _mm_add_epi64(sum[k], _mm_load_si128(data + i + k));
  }
  for (int k = 1; k < 8; ++k) sum[0] = _mm_add_epi64(sum[0], sum[k]);
  return static_cast<uint64_t>(_mm_cvtsi128_si64(sum[0]));
}

}  // namespace

double MeasureReadBandwidth(int32_t threads, int64_t bytes, int32_t repeats) {
  const int64_t words = bytes / 16 / threads;
  std::vector<double> seconds(static_cast<size_t>(repeats));
  std::atomic<int32_t> arrived{0};
  std::atomic<uint64_t> keep{0};
  std::vector<int64_t> begin(static_cast<size_t>(repeats)),
      end(static_cast<size_t>(repeats) * static_cast<size_t>(threads));
  const auto meet = [&](int32_t round) {  // all threads leave together
    arrived.fetch_add(1);
    while (arrived.load() < (round + 1) * threads) std::this_thread::yield();
  };
  const auto work = [&](int32_t thread) {
    // Touched by its own thread. The pages are written, so they are not the one shared zero page.
    const std::unique_ptr<std::byte[]> storage(new std::byte[static_cast<size_t>(words) * 16]);  // 16-byte aligned
    auto* data = reinterpret_cast<__m128i*>(storage.get());
    std::memset(storage.get(), 1, static_cast<size_t>(words) * 16);
    for (int32_t r = 0; r < repeats; ++r) {
      meet(r);
      if (thread == 0) begin[static_cast<size_t>(r)] = Clock::System().NowNs();
      keep.fetch_add(ReadAll(data, words));
      end[static_cast<size_t>(r * threads + thread)] = Clock::System().NowNs();
    }
  };
  std::vector<std::thread> pool;
  for (int32_t t = 1; t < threads; ++t) pool.emplace_back(work, t);
  work(0);
  for (std::thread& thread : pool) thread.join();
  for (int32_t r = 0; r < repeats; ++r) {
    const auto first = end.begin() + static_cast<int64_t>(r) * threads;
    seconds[static_cast<size_t>(r)] =
        1e-9 * static_cast<double>(*std::max_element(first, first + threads) - begin[static_cast<size_t>(r)]);
  }
  std::nth_element(seconds.begin(), seconds.begin() + repeats / 2, seconds.end());
  return static_cast<double>(words * 16 * threads) / seconds[static_cast<size_t>(repeats / 2)];
}

}  // namespace conclave::cli
