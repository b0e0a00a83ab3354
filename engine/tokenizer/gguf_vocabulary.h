// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "engine/format/gguf.h"
#include "engine/tokenizer/tokenizer.h"
#include "engine/tokenizer/vocabulary.h"

namespace conclave::engine {

// The tokenizer.ggml.* metadata of a checkpoint or a vocabulary-only file. FAILED_PRECONDITION MODEL_FILE_INVALID for
// missing or contradictory keys and for a tokenizer model other than "gpt2" and "llama".
absl::StatusOr<VocabularyData> ReadVocabulary(const GgufFile& file);

// The same, made into a tokenizer; its errors too are MODEL_FILE_INVALID.
absl::StatusOr<std::unique_ptr<Tokenizer>> ReadTokenizer(const GgufFile& file);

}  // namespace conclave::engine
