// SPDX-License-Identifier: Apache-2.0
#include "engine/tokenizer/read_tokenizer.h"

#include "common/check.h"
#include "common/status.h"
#include "engine/format/gguf.h"
#include "engine/tokenizer/gguf_vocabulary.h"

namespace conclave::engine {

absl::StatusOr<std::unique_ptr<Tokenizer>> ReadTokenizer(const Checkpoint& checkpoint) {
  CONCLAVE_CHECK(checkpoint.gguf() != nullptr);
  ASSIGN_OR_RETURN(VocabularyData vocabulary, ReadVocabulary(*checkpoint.gguf()));
  absl::StatusOr<std::unique_ptr<Tokenizer>> tokenizer = Tokenizer::Create(std::move(vocabulary));
  if (!tokenizer.ok()) return FailedPrecondition("MODEL_FILE_INVALID {}", Message(tokenizer.status()));
  return tokenizer;
}

}  // namespace conclave::engine
