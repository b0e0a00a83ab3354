// SPDX-License-Identifier: Apache-2.0
#include "engine/ops/cuda/device.h"

#include <algorithm>
#include <cstring>

#include "common/status.h"

namespace conclave::engine::cuda {
namespace {

constexpr int64_t kAlignment = 256;
constexpr int64_t kChunk = int64_t{8} << 20;
constexpr int kComputeCapabilityMin = 80;

int64_t RoundUp(int64_t value, int64_t multiple) { return (value + multiple - 1) / multiple * multiple; }

absl::Status NoMemory(int64_t bytes, std::string_view what) {
  cudaGetLastError();  // the failed allocation is dealt with here
  size_t free = 0, total = 0;
  if (cudaMemGetInfo(&free, &total) != cudaSuccess) free = total = 0;
  const auto missing = std::max<int64_t>(0, bytes - static_cast<int64_t>(free));
  return ResourceExhausted(
      "device memory for {} does not fit: {} bytes wanted, {} of {} bytes free, {} bytes short; use a smaller model, "
      "fewer kv_bytes or lower step limits",
      what, bytes, free, total, missing);
}

}  // namespace

absl::Status ToStatus(cudaError_t error, std::string_view doing) {
  if (error == cudaSuccess) return absl::OkStatus();
  return Internal("CUDA error while {}: {} ({})", doing, cudaGetErrorName(error), cudaGetErrorString(error));
}

absl::StatusOr<DeviceFacts> FindDevice() {
  int count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  if (error != cudaSuccess || count == 0) {
    cudaGetLastError();
    return FailedPrecondition("no CUDA device: {}; run on a machine with an NVIDIA GPU and driver, or use --device cpu",
                              error == cudaSuccess ? "none found" : cudaGetErrorString(error));
  }
  cudaDeviceProp properties = {};
  RETURN_IF_ERROR(ToStatus(cudaGetDeviceProperties(&properties, 0), "reading device properties"));
  if (properties.major * 10 + properties.minor < kComputeCapabilityMin) {
    return FailedPrecondition("{} has compute capability {}.{}: at least 8.0 is needed", properties.name,
                              properties.major, properties.minor);
  }
  RETURN_IF_ERROR(ToStatus(cudaSetDevice(0), "choosing the device"));
  return DeviceFacts{properties.multiProcessorCount, properties.major, properties.minor,
                     static_cast<int64_t>(properties.sharedMemPerBlockOptin), properties.name};
}

DeviceMemory::~DeviceMemory() {
  for (void* allocation : allocations_) cudaFree(allocation);
}

absl::StatusOr<std::byte*> DeviceMemory::Allocate(int64_t bytes, std::string_view what, cudaStream_t stream) {
  const int64_t rounded = std::max(RoundUp(bytes, kAlignment), kAlignment);
  std::byte* result = nullptr;
  if (rounded > chunk_left_) {
    const int64_t size = rounded >= kChunk / 4 ? rounded : kChunk;
    void* data = nullptr;
    if (cudaMalloc(&data, static_cast<size_t>(size)) != cudaSuccess) return NoMemory(size, what);
    allocations_.push_back(data);
    RETURN_IF_ERROR(ToStatus(cudaMemsetAsync(data, 0, static_cast<size_t>(size), stream), "zeroing a buffer"));
    if (size == rounded) {
      bytes_ += rounded;
      return static_cast<std::byte*>(data);
    }
    chunk_ = static_cast<std::byte*>(data);
    chunk_left_ = size;
  }
  result = chunk_;
  chunk_ += rounded;
  chunk_left_ -= rounded;
  bytes_ += rounded;
  return result;
}

PinnedMemory::~PinnedMemory() { cudaFreeHost(data_); }

absl::Status PinnedMemory::Reserve(int64_t bytes) {
  if (bytes <= size_) return absl::OkStatus();
  cudaFreeHost(data_);
  data_ = nullptr;
  size_ = 0;
  void* data = nullptr;
  if (cudaHostAlloc(&data, static_cast<size_t>(bytes), cudaHostAllocDefault) != cudaSuccess) {
    cudaGetLastError();
    return ResourceExhausted("no page-locked host memory for {} bytes", bytes);
  }
  data_ = static_cast<std::byte*>(data);
  size_ = bytes;
  return absl::OkStatus();
}

Uploader::~Uploader() {
  for (cudaEvent_t event : done_) {
    if (event != nullptr) cudaEventDestroy(event);
  }
}

absl::StatusOr<std::byte*> Uploader::Next(int64_t bytes) {
  cudaEvent_t& event = done_[next_];
  if (event == nullptr) {
    RETURN_IF_ERROR(ToStatus(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), "creating an event"));
  } else {
    RETURN_IF_ERROR(ToStatus(cudaEventSynchronize(event), "uploading weights"));
  }
  RETURN_IF_ERROR(buffers_[next_].Reserve(std::max(bytes, kPieceBytes)));
  return buffers_[next_].data();
}

absl::Status Uploader::Sent(cudaStream_t stream) {
  RETURN_IF_ERROR(ToStatus(cudaEventRecord(done_[next_], stream), "uploading weights"));
  next_ ^= 1;
  return absl::OkStatus();
}

absl::Status Uploader::CopyRows(std::byte* to, int64_t pitch, std::span<const std::byte> from, int64_t row_bytes,
                                cudaStream_t stream) {
  const int64_t rows = static_cast<int64_t>(from.size()) / row_bytes;
  const int64_t piece = std::max<int64_t>(1, kPieceBytes / row_bytes);
  for (int64_t row = 0; row < rows; row += piece) {
    const int64_t count = std::min(piece, rows - row);
    ASSIGN_OR_RETURN(std::byte * buffer, Next(count * row_bytes));
    std::memcpy(buffer, from.data() + row * row_bytes, static_cast<size_t>(count * row_bytes));
    RETURN_IF_ERROR(ToStatus(
        cudaMemcpy2DAsync(to + row * pitch, static_cast<size_t>(pitch), buffer, static_cast<size_t>(row_bytes),
                          static_cast<size_t>(row_bytes), static_cast<size_t>(count), cudaMemcpyHostToDevice, stream),
        "uploading weights"));
    RETURN_IF_ERROR(Sent(stream));
  }
  return absl::OkStatus();
}

}  // namespace conclave::engine::cuda
