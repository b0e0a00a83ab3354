// SPDX-License-Identifier: Apache-2.0
// Any bytes: an error or a file whose every value and tensor can be read.
#include <cstddef>
#include <cstdint>

#include "engine/format/gguf.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  namespace engine = conclave::engine;
  const auto file = engine::GgufFile::Parse("input", std::as_bytes(std::span(data, size)));
  if (!file.ok()) return 0;
  uint64_t sum = 0;  // reads every byte that the file hands out
  const auto add = [&sum](std::span<const std::byte> bytes) {
    for (const std::byte b : bytes) sum += std::to_integer<uint64_t>(b);
  };
  for (const std::string_view key : (*file)->keys()) {
    const engine::GgufValue* value = (*file)->Find(key);
    if (value == nullptr) __builtin_trap();
    add(value->bytes);
    for (const std::string_view text : value->strings) add(std::as_bytes(std::span(text)));
    sum += (*file)->GetString(key).ok() + (*file)->GetU32(key).ok() + (*file)->GetU64(key).ok() +
           (*file)->GetF32(key).ok() + (*file)->GetBool(key).ok() + (*file)->GetStrings(key).ok() +
           (*file)->GetU32s(key).ok() + (*file)->GetI32s(key).ok() + (*file)->GetF32s(key).ok();
  }
  for (const engine::CheckpointTensor& tensor : (*file)->tensors()) {
    add(tensor.bytes);
    if ((*file)->FindTensor(tensor.name) != &tensor) __builtin_trap();
  }
  volatile uint64_t sink = sum;
  static_cast<void>(sink);
  return 0;
}
