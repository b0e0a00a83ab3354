// SPDX-License-Identifier: Apache-2.0
#include "engine/ops/host_memory.h"

#include <sys/mman.h>

#include <limits>

#include "common/status.h"

namespace conclave::engine {
namespace {

constexpr int64_t kAlignment = 64;
constexpr int64_t kHugePage = int64_t{2} << 20;
constexpr int64_t kChunk = int64_t{32} << 20;  // only the pages written count

int64_t RoundUp(int64_t value, int64_t multiple) { return (value + multiple - 1) / multiple * multiple; }

}  // namespace

HostMemory::~HostMemory() {
  for (const Mapping& mapping : mappings_) munmap(mapping.data, static_cast<size_t>(mapping.size));
}

absl::StatusOr<std::byte*> HostMemory::Map(int64_t bytes) {
  // A huge page more, so that the part in use starts on a huge-page boundary: streaming weights then misses the TLB
  // 512 times less often.
  const int64_t size = RoundUp(bytes, kHugePage) + kHugePage;
  void* data = mmap(nullptr, static_cast<size_t>(size), PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (data == MAP_FAILED) {
    return ResourceExhausted("no memory for {} bytes of weights or buffers: free memory or lower the limits", bytes);
  }
  mappings_.push_back({static_cast<std::byte*>(data), size});
  const int64_t address = static_cast<int64_t>(reinterpret_cast<intptr_t>(data));
  std::byte* aligned = mappings_.back().data + (RoundUp(address, kHugePage) - address);
  madvise(aligned, static_cast<size_t>(size - kHugePage), MADV_HUGEPAGE);  // advice: failure is harmless
  return aligned;
}

absl::StatusOr<std::byte*> HostMemory::Allocate(int64_t bytes) {
  if (bytes < 0 || bytes > std::numeric_limits<int64_t>::max() / 4) {
    return ResourceExhausted("a buffer of {} bytes is not possible", bytes);
  }
  const int64_t rounded = RoundUp(bytes, kAlignment);
  if (rounded > chunk_left_) {
    if (rounded >= kChunk / 4) {
      ASSIGN_OR_RETURN(std::byte * own, Map(rounded));
      bytes_ += rounded;
      return own;
    }
    ASSIGN_OR_RETURN(chunk_, Map(kChunk));
    chunk_left_ = kChunk;
  }
  std::byte* result = chunk_;
  chunk_ += rounded;
  chunk_left_ -= rounded;
  bytes_ += rounded;
  return result;
}

}  // namespace conclave::engine
