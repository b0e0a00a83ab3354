// SPDX-License-Identifier: Apache-2.0
#include "tests/bench/cuda_measure.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <random>

#include "common/check.h"
#include "common/clock.h"
#include "engine/ops/ops_fixture.h"

namespace conclave::engine {

void Cuda(cudaError_t error) { CONCLAVE_CHECK_MSG(error == cudaSuccess, cudaGetErrorString(error)); }

double Seconds() { return static_cast<double>(Clock::System().NowNs()) * 1e-9; }

double Median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

std::string DeviceJson() {
  cudaDeviceProp device = {};
  int driver = 0, runtime = 0;
  Cuda(cudaGetDeviceProperties(&device, 0));
  Cuda(cudaDriverGetVersion(&driver));
  Cuda(cudaRuntimeGetVersion(&runtime));
  return fmt::format(
      "{{\"name\": \"{}\", \"compute_capability\": \"{}.{}\", \"multiprocessors\": {}, \"memory_bytes\": {}, "
      "\"l2_bytes\": {}, \"driver\": {}, \"runtime\": {}}}",
      device.name, device.major, device.minor, device.multiProcessorCount, device.totalGlobalMem, device.l2CacheSize,
      driver, runtime);
}

double CopyRate() {
  constexpr size_t kBytes = size_t{4} << 30;
  void *a = nullptr, *b = nullptr;
  Cuda(cudaMalloc(&a, kBytes));
  Cuda(cudaMalloc(&b, kBytes));
  Cuda(cudaMemset(a, 0x5a, kBytes));
  cudaEvent_t begin, end;
  Cuda(cudaEventCreate(&begin));
  Cuda(cudaEventCreate(&end));
  std::vector<double> seconds;
  for (int i = 0; i < 9; ++i) {
    Cuda(cudaEventRecord(begin));
    Cuda(cudaMemcpyAsync(b, a, kBytes, cudaMemcpyDeviceToDevice));
    Cuda(cudaEventRecord(end));
    Cuda(cudaEventSynchronize(end));
    float ms = 0;
    Cuda(cudaEventElapsedTime(&ms, begin, end));
    seconds.push_back(ms * 1e-3);
  }
  Cuda(cudaFree(a));
  Cuda(cudaFree(b));
  return 2 * static_cast<double>(kBytes) / Median(seconds);
}

double BlasRate() {
  constexpr int32_t kRows = 4096;
  constexpr int64_t kSide = 8192;
  const std::unique_ptr<Ops> ops = testing::Must(MakeOps({.kernel = "cuda"}));
  const std::vector<std::byte> bytes = RandomRows(DType::kBF16, kSide * kSide * 2);
  const WeightSource source = {DType::kBF16, kSide, kSide, bytes};
  const Weight& w = *testing::Must(ops->MakeWeight({&source, 1}, WeightUse::kMatmul));
  CONCLAVE_CHECK(ops->Prepare({kRows, 1, 1, 1, 1}, {1, 16, 16, false, 1.0f, 16}).ok());
  const View x = testing::Must(ops->Allocate(DType::kF32, {kRows, kSide}));
  const View y = testing::Must(ops->Allocate(DType::kF32, {kRows, kSide}));
  std::mt19937 rng(2);
  const std::vector<float> values = testing::Normal(&rng, static_cast<size_t>(64 * kSide));
  for (int64_t row = 0; row < kRows; row += 64) cuda::CopyBytes(x.row(row), values.data(), values.size() * 4);
  const auto wait = [&] { CONCLAVE_CHECK(ops->Download(View{nullptr, DType::kI8, Shape{0}}, {}).ok()); };
  std::vector<double> seconds;
  for (int i = 0; i < 7; ++i) {
    ops->Gemm(y, x, w, Accumulate::kSet);
    wait();
    const double begin = Seconds();
    for (int j = 0; j < 4; ++j) ops->Gemm(y, x, w, Accumulate::kSet);
    wait();
    seconds.push_back((Seconds() - begin) / 4);
  }
  return 2.0 * kRows * kSide * kSide / Median(seconds);
}

std::vector<std::byte> RandomRows(DType dtype, int64_t bytes) {
  std::mt19937 rng(1);
  const testing::TestWeight block(dtype, 64, 16384, &rng);
  std::vector<std::byte> all(static_cast<size_t>(bytes));
  for (size_t at = 0; at < all.size(); at += block.bytes.size()) {
    std::memcpy(all.data() + at, block.bytes.data(), std::min(block.bytes.size(), all.size() - at));
  }
  return all;
}

void Lines::Add(std::string_view what, double value, std::string_view unit, std::string_view note) {
  std::printf("%s\n", fmt::format("{:<46} {:>10.3f} {:<8} {}", what, value, unit, note).c_str());
  std::fflush(stdout);
  json_ += fmt::format("{}{{\"what\": \"{}\", \"value\": {:.6g}, \"unit\": \"{}\", \"note\": \"{}\"}}",
                       json_.empty() ? "" : ", ", what, value, unit, note);
}

void Lines::WriteJson(const std::string& path, const std::string& header) const {
  if (path.empty()) return;
  std::ofstream out(path);
  out << "{" << header << ", \"lines\": [" << json_ << "]}\n";
}

}  // namespace conclave::engine
