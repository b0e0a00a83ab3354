// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "engine/format/hf_checkpoint.h"
#include "engine/tokenizer/tokenizer.h"

namespace conclave::engine {

// The tokenizer that comes with a checkpoint. FAILED_PRECONDITION MODEL_FILE_INVALID names what is missing, unknown or
// contradictory.
absl::StatusOr<std::unique_ptr<Tokenizer>> ReadTokenizer(const Checkpoint& checkpoint);

// For a model directory without tokenizer.json: `vocab` tokens that are written "<0>", "<1>", .. and that plain text
// never becomes. Its end tokens are those of the configuration.
absl::StatusOr<std::unique_ptr<Tokenizer>> NumbersAsTokens(const HfDirectory& directory, TokenId vocab);
bool HasTokenizer(const Checkpoint& checkpoint);

}  // namespace conclave::engine
