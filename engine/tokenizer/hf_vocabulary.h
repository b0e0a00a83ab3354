// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "absl/status/statusor.h"
#include "engine/format/hf_checkpoint.h"
#include "engine/format/json.h"
#include "engine/tokenizer/vocabulary.h"

namespace conclave::engine {

// A tokenizer.json alone. FAILED_PRECONDITION MODEL_FILE_INVALID for a value that cannot be, UNIMPLEMENTED for a model,
// normaliser, pre-tokeniser, post-processor or decoder that is not known; each is named.
absl::StatusOr<VocabularyData> ReadHfVocabulary(const JsonDocument& tokenizer);

// The same with what the files beside it say: special tokens and chat template of tokenizer_config.json,
// chat_template.jinja, end tokens of generation_config.json and config.json.
absl::StatusOr<VocabularyData> ReadHfVocabulary(const HfDirectory& directory);

}  // namespace conclave::engine
