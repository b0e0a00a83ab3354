// SPDX-License-Identifier: Apache-2.0
// Any text as config.json: an error or a spec within its limits, and so for what it says of quantised weights.
#include <cmath>
#include <cstddef>
#include <cstdint>

#include "engine/model/hf_spec.h"
#include "engine/model/quantization.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  namespace engine = conclave::engine;
  const auto document = engine::JsonDocument::Parse("input", {reinterpret_cast<const char*>(data), size});
  if (!document.ok()) return 0;
  if (const auto object = (*document)->root().Object(); object.ok()) {
    const auto quantization = engine::ReadQuantization(*object);
    if (quantization.ok() && quantization->group_columns % 32 != 0) __builtin_trap();
    if (quantization.ok() && quantization->block_columns % 128 != 0) __builtin_trap();
  }
  const auto spec = engine::ReadHfSpec(**document);
  if (!spec.ok()) return 0;
  if (spec->layers < 1 || spec->heads % spec->kv_heads != 0 || spec->names == nullptr) __builtin_trap();
  if (static_cast<int32_t>(spec->inverse_frequency.size()) * 2 != spec->rotated) __builtin_trap();
  return 0;
}
