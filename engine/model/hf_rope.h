// SPDX-License-Identifier: Apache-2.0
// Internal to engine/model: the rotary parameters of a config.json, in both of the forms that transformers has written.
#pragma once

#include <cstdint>

#include "absl/status/statusor.h"
#include "engine/format/json.h"
#include "engine/model/rope.h"

namespace conclave::engine {

// Whether the family rotates a part of each head where partial_rotary_factor says so; otherwise that is refused.
enum class PartialRotation : uint8_t { kRefused, kRead };

// `rotated`: the width that is rotated in full. `context_tokens`: max_position_embeddings, the original context where
// none is given. UNIMPLEMENTED names a rope type or partial rotation that this program does not know.
absl::StatusOr<RopeParameters> ReadHfRope(const JsonObject& config, int32_t rotated, int32_t context_tokens,
                                          PartialRotation partial_rotation = PartialRotation::kRefused);

}  // namespace conclave::engine
