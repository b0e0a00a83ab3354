// SPDX-License-Identifier: Apache-2.0
// What the benchmarks of the CUDA backend share: a device's copy rate, random weights, lines of results.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "engine/tensor/dtype.h"

namespace conclave::engine {

// Ends the program with the runtime's message if it is one.
void Cuda(cudaError_t error);
double Seconds();
double Median(std::vector<double> values);
// What the device is, as an object of JSON.
std::string DeviceJson();
// Bytes per second of a copy on the device, those read and those written.
double CopyRate();
// Operations per second of cuBLASLt's product of 4096 x 8192 by 8192 x 8192 in bf16, through an Ops of its own.
double BlasRate();
// Blocks of random values, repeated: every matrix is made from the front of it.
std::vector<std::byte> RandomRows(DType dtype, int64_t bytes);

// Results, printed as they come and kept for a file.
class Lines {
 public:
  void Add(std::string_view what, double value, std::string_view unit, std::string_view note);
  // `header`: members of the object before the lines, "\"shape\": \"32b\"". Nothing if the path is empty.
  void WriteJson(const std::string& path, const std::string& header) const;

 private:
  std::string json_;
};

}  // namespace conclave::engine
