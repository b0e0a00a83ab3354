// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "engine/format/checkpoint.h"
#include "engine/tokenizer/tokenizer.h"

namespace conclave::engine {

// The tokenizer that comes with a checkpoint. FAILED_PRECONDITION MODEL_FILE_INVALID names what is missing, unknown or
// contradictory.
absl::StatusOr<std::unique_ptr<Tokenizer>> ReadTokenizer(const Checkpoint& checkpoint);

}  // namespace conclave::engine
