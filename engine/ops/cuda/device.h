// SPDX-License-Identifier: Apache-2.0
// The device, its memory and its errors, seen from the host.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace conclave::engine::cuda {

// OK, or INTERNAL with what was being done and the runtime's name for the error.
absl::Status ToStatus(cudaError_t error, std::string_view doing);

// FAILED_PRECONDITION if there is no device that this build's kernels run on, saying why.
struct DeviceFacts {
  int multiprocessors;
  int major, minor;  // compute capability
  int64_t block_shared_bytes_max;
  std::string name;
};
absl::StatusOr<DeviceFacts> FindDevice();

// Zeroed device memory, freed at the end. Small requests share an allocation.
class DeviceMemory {
 public:
  DeviceMemory() = default;
  ~DeviceMemory();
  DeviceMemory(const DeviceMemory&) = delete;
  DeviceMemory& operator=(const DeviceMemory&) = delete;

  // 256-byte aligned; zeroed on `stream`. RESOURCE_EXHAUSTED says what for, and how much is missing.
  absl::StatusOr<std::byte*> Allocate(int64_t bytes, std::string_view what, cudaStream_t stream);
  int64_t bytes() const { return bytes_; }

 private:
  std::vector<void*> allocations_;
  std::byte* chunk_ = nullptr;
  int64_t chunk_left_ = 0;
  int64_t bytes_ = 0;
};

// Page-locked host memory, freed at the end.
class PinnedMemory {
 public:
  PinnedMemory() = default;
  ~PinnedMemory();
  PinnedMemory(const PinnedMemory&) = delete;
  PinnedMemory& operator=(const PinnedMemory&) = delete;
  // Makes it at least this large; what it held is lost.
  absl::Status Reserve(int64_t bytes);
  std::byte* data() const { return data_; }
  int64_t size() const { return size_; }

 private:
  std::byte* data_ = nullptr;
  int64_t size_ = 0;
};

// Streams host bytes to the device through two pinned buffers, so that reading a file and the transfer overlap.
class Uploader {
 public:
  ~Uploader();
  static constexpr int64_t kPieceBytes = int64_t{16} << 20;

  // Rows of `row_bytes` to rows `pitch` bytes apart.
  absl::Status CopyRows(std::byte* to, int64_t pitch, std::span<const std::byte> from, int64_t row_bytes,
                        cudaStream_t stream);
  // A buffer for at most PieceBytes(row_bytes) of source bytes, free to be filled; then Sent() after enqueueing its
  // use.
  absl::StatusOr<std::byte*> Next(int64_t bytes);
  absl::Status Sent(cudaStream_t stream);

 private:
  PinnedMemory buffers_[2];
  cudaEvent_t done_[2] = {};
  int next_ = 0;
};

}  // namespace conclave::engine::cuda
