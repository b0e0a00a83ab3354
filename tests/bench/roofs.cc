// SPDX-License-Identifier: Apache-2.0
#include "tests/bench/roofs.h"

#include <immintrin.h>
#include <sys/mman.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <thread>
#include <vector>

namespace conclave::bench {
namespace {

using SteadyClock = std::chrono::steady_clock;

double Since(SteadyClock::time_point start) {
  return std::chrono::duration<double>(SteadyClock::now() - start).count();
}

// The result of a loop that the compiler must not drop.
template <typename T>
void Keep(const T& value) {
  asm volatile("" : : "m"(value) : "memory");
}

void OnThreads(int threads, const std::function<void(int)>& body) {
  std::vector<std::thread> others;
  for (int i = 1; i < threads; ++i) others.emplace_back(body, i);
  body(0);
  for (std::thread& other : others) other.join();
}

// Several streams, as the kernels read, on huge pages, as they allocate.
constexpr size_t kStreams = 4;

__attribute__((target("avx2"))) void ReadAvx2(const std::byte* p, size_t bytes) {
  __m256i sum[kStreams] = {};
  const size_t stride = bytes / kStreams / 64 * 64;
  for (size_t i = 0; i < stride; i += 64) {
    for (size_t j = 0; j < kStreams; ++j) {
      const auto* line = reinterpret_cast<const __m256i*>(p + j * stride + i);
      sum[j] = _mm256_add_epi64(_mm256_add_epi64(sum[j], _mm256_loadu_si256(line)), _mm256_loadu_si256(line + 1));
    }
  }
  const __m256i total = _mm256_add_epi64(_mm256_add_epi64(sum[0], sum[1]), _mm256_add_epi64(sum[2], sum[3]));
  Keep(total);
}

constexpr int kChains = 12;  // enough independent accumulators to hide the latency
constexpr int64_t kIterations = 4'000'000;

__attribute__((target("avx512f"))) void Fma512() {
  __m512 sum[kChains];
  for (int i = 0; i < kChains; ++i) sum[i] = _mm512_set1_ps(static_cast<float>(i));
  const __m512 a = _mm512_set1_ps(0.999f), b = _mm512_set1_ps(0.001f);
  for (int64_t n = 0; n < kIterations; ++n) {
#pragma GCC unroll 12
    for (int i = 0; i < kChains; ++i) sum[i] = _mm512_fmadd_ps(sum[i], a, b);
  }
  for (int i = 0; i < kChains; ++i) Keep(sum[i]);
}

__attribute__((target("avx2,fma"))) void Fma256() {
  __m256 sum[kChains];
  for (int i = 0; i < kChains; ++i) sum[i] = _mm256_set1_ps(static_cast<float>(i));
  const __m256 a = _mm256_set1_ps(0.999f), b = _mm256_set1_ps(0.001f);
  for (int64_t n = 0; n < kIterations; ++n) {
#pragma GCC unroll 12
    for (int i = 0; i < kChains; ++i) sum[i] = _mm256_fmadd_ps(sum[i], a, b);
  }
  for (int i = 0; i < kChains; ++i) Keep(sum[i]);
}

__attribute__((target("avx512f,avx512vnni"))) void Dot512() {
  __m512i sum[kChains];
  for (int i = 0; i < kChains; ++i) sum[i] = _mm512_set1_epi32(i);
  __m512i a = _mm512_set1_epi32(0x01020304);
  for (int64_t n = 0; n < kIterations; ++n) {
    asm volatile("" : "+v"(a));  // not a constant, or the loop would be folded
#pragma GCC unroll 12
    for (int i = 0; i < kChains; ++i) sum[i] = _mm512_dpbusd_epi32(sum[i], a, a);
  }
  for (int i = 0; i < kChains; ++i) Keep(sum[i]);
}

double RateOnThreads(int threads, double operations, void (*loop)()) {
  return operations * threads / MedianSeconds([&] { OnThreads(threads, [loop](int) { loop(); }); }, 5, 0.1);
}

}  // namespace

double MedianSeconds(const std::function<void()>& body, int repeats, double seconds_min) {
  body();
  std::vector<double> times;
  double total = 0;
  while (static_cast<int>(times.size()) < repeats || total < seconds_min) {
    const auto start = SteadyClock::now();
    body();
    times.push_back(Since(start));
    total += times.back();
  }
  std::nth_element(times.begin(), times.begin() + static_cast<int64_t>(times.size() / 2), times.end());
  return times[times.size() / 2];
}

double ReadBandwidth(int threads) {
  constexpr size_t kBytes = size_t{128} << 20;  // per thread
  const size_t total = kBytes * static_cast<size_t>(threads);
  void* memory = mmap(nullptr, total, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return 0;
  madvise(memory, total, MADV_HUGEPAGE);
  auto* buffer = static_cast<std::byte*>(memory);
  std::memset(buffer, 1, total);
  const double seconds = MedianSeconds(
      [&] {
        OnThreads(threads, [&](int i) {
          const std::byte* mine = buffer + static_cast<size_t>(i) * kBytes;
          if (__builtin_cpu_supports("avx2")) return ReadAvx2(mine, kBytes);
          uint64_t sum = 0, word;
          for (size_t j = 0; j < kBytes; j += sizeof(word)) {
            std::memcpy(&word, mine + j, sizeof(word));
            sum += word;
          }
          Keep(sum);
        });
      },
      9, 0.3);
  munmap(memory, total);
  return static_cast<double>(total) / seconds;
}

double FloatPeak(int threads) {
  constexpr double kPerLane = 2.0 * kChains * kIterations;
  if (__builtin_cpu_supports("avx512f")) return RateOnThreads(threads, 16 * kPerLane, Fma512);
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
    return RateOnThreads(threads, 8 * kPerLane, Fma256);
  }
  return 0;
}

double Int8Peak(int threads) {
  if (!__builtin_cpu_supports("avx512vnni")) return 0;
  return RateOnThreads(threads, 64 * 2.0 * kChains * kIterations, Dot512);
}

}  // namespace conclave::bench
