// SPDX-License-Identifier: Apache-2.0
// Any text as config.json: an error or a spec within its limits.
#include <cmath>
#include <cstddef>
#include <cstdint>

#include "engine/model/hf_spec.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  namespace engine = conclave::engine;
  const auto document = engine::JsonDocument::Parse("input", {reinterpret_cast<const char*>(data), size});
  if (!document.ok()) return 0;
  const auto spec = engine::ReadHfSpec(**document);
  if (!spec.ok()) return 0;
  if (spec->layers < 1 || spec->heads % spec->kv_heads != 0 || spec->names == nullptr) __builtin_trap();
  if (static_cast<int32_t>(spec->inverse_frequency.size()) * 2 != spec->rotated) __builtin_trap();
  return 0;
}
