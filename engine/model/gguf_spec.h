// SPDX-License-Identifier: Apache-2.0
// Internal to engine/model: a ModelSpec from the keys of a GGUF file.
#pragma once

#include "absl/status/statusor.h"
#include "engine/format/gguf.h"
#include "engine/model/model_spec.h"

namespace conclave::engine {

absl::StatusOr<ModelSpec> ReadGgufSpec(const GgufFile& file);

}  // namespace conclave::engine
