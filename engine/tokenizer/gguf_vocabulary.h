// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "absl/status/statusor.h"
#include "engine/format/gguf.h"
#include "engine/tokenizer/vocabulary.h"

namespace conclave::engine {

// The tokenizer.ggml.* metadata of a checkpoint or a vocabulary-only file. FAILED_PRECONDITION MODEL_FILE_INVALID for
// missing or contradictory keys and for a tokenizer model other than "gpt2" and "llama".
absl::StatusOr<VocabularyData> ReadVocabulary(const GgufFile& file);

}  // namespace conclave::engine
