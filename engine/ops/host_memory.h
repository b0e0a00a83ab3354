// SPDX-License-Identifier: Apache-2.0
// Zeroed memory straight from the kernel, for weights, KV pages and workspaces. Pages become resident when first
// written, so a generous plan costs only what is used.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"

namespace conclave::engine {

// Not thread-safe. Frees everything when destroyed.
class HostMemory {
 public:
  HostMemory() = default;
  ~HostMemory();
  HostMemory(const HostMemory&) = delete;
  HostMemory& operator=(const HostMemory&) = delete;

  // `bytes` zero bytes, 64-byte aligned. Small requests share a mapping. RESOURCE_EXHAUSTED names the size.
  absl::StatusOr<std::byte*> Allocate(int64_t bytes);

  template <typename T>
  absl::StatusOr<T*> AllocateArray(int64_t count) {
    absl::StatusOr<std::byte*> memory = Allocate(count * static_cast<int64_t>(sizeof(T)));
    if (!memory.ok()) return memory.status();
    return reinterpret_cast<T*>(*memory);
  }

  // Sum of the sizes asked for, rounded up to 64.
  int64_t bytes() const { return bytes_; }

 private:
  struct Mapping {
    std::byte* data;
    int64_t size;
  };
  absl::StatusOr<std::byte*> Map(int64_t bytes);

  std::vector<Mapping> mappings_;
  std::byte* chunk_ = nullptr;  // the rest of the newest shared mapping
  int64_t chunk_left_ = 0;
  int64_t bytes_ = 0;
};

}  // namespace conclave::engine
