// SPDX-License-Identifier: Apache-2.0
// Internal to engine/tokenizer: the steps around the model in a tokenizer.json.
#pragma once

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/format/json.h"
#include "engine/tokenizer/vocabulary.h"

namespace conclave::engine {

// What the pre-tokenizer says about the symbols that merges work on.
struct HfSplit {
  bool byte_level = false;
};

// Each reads one section of `root` into `pipeline`. UNIMPLEMENTED names a kind or option that is not known,
// FAILED_PRECONDITION MODEL_FILE_INVALID a value that cannot be.
absl::Status ReadHfNormalizer(const JsonObject& root, TextPipeline* pipeline);
absl::StatusOr<HfSplit> ReadHfPreTokenizer(const JsonObject& root, TextPipeline* pipeline);
absl::Status ReadHfPostProcessor(const JsonObject& root, TextPipeline* pipeline);
// `byte_fallback`: the model spells characters by byte tokens, which the decoder must undo.
absl::Status ReadHfDecoder(const JsonObject& root, bool byte_level, bool byte_fallback, TextPipeline* pipeline);

}  // namespace conclave::engine
