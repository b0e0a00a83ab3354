// SPDX-License-Identifier: Apache-2.0
// Any bytes: an error or a file whose every tensor can be read.
#include <cstddef>
#include <cstdint>

#include "engine/format/safetensors.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  namespace engine = conclave::engine;
  const auto file = engine::SafetensorsFile::Parse("input", std::as_bytes(std::span(data, size)));
  if (!file.ok()) return 0;
  uint64_t sum = 0;
  for (const engine::CheckpointTensor& tensor : (*file)->tensors()) {
    for (const std::byte b : tensor.bytes) sum += std::to_integer<uint64_t>(b);
    if (tensor.name.empty()) __builtin_trap();
  }
  volatile uint64_t sink = sum;
  static_cast<void>(sink);
  return 0;
}
