// SPDX-License-Identifier: Apache-2.0
#include "engine/tokenizer/read_tokenizer.h"

#include <filesystem>

#include "common/check.h"
#include "common/status.h"
#include "engine/format/gguf.h"
#include "engine/tokenizer/gguf_vocabulary.h"
#include "engine/tokenizer/hf_tokens.h"
#include "engine/tokenizer/hf_vocabulary.h"

namespace conclave::engine {

namespace {

constexpr const char* kTokenizerFile = "tokenizer.json";

absl::StatusOr<VocabularyData> Read(const Checkpoint& checkpoint) {
  if (checkpoint.gguf() != nullptr) return ReadVocabulary(*checkpoint.gguf());
  CONCLAVE_CHECK(checkpoint.hf() != nullptr);
  return ReadHfVocabulary(*checkpoint.hf());
}

}  // namespace

bool HasTokenizer(const Checkpoint& checkpoint) {
  return checkpoint.hf() == nullptr || std::filesystem::exists(checkpoint.hf()->FilePath(kTokenizerFile));
}

absl::StatusOr<std::unique_ptr<Tokenizer>> NumbersAsTokens(const HfDirectory& directory, TokenId vocab) {
  VocabularyData v;
  v.source = directory.path();
  v.pre = "gpt-2";
  v.types.assign(static_cast<size_t>(vocab), TokenType::kControl);
  for (TokenId id = 0; id < vocab; ++id) v.tokens.push_back(fmt::format("<{}>", id));
  ASSIGN_OR_RETURN(v.ends, ReadHfEndTokens(directory));
  return Tokenizer::Create(std::move(v));
}

absl::StatusOr<std::unique_ptr<Tokenizer>> ReadTokenizer(const Checkpoint& checkpoint) {
  ASSIGN_OR_RETURN(VocabularyData vocabulary, Read(checkpoint));
  absl::StatusOr<std::unique_ptr<Tokenizer>> tokenizer = Tokenizer::Create(std::move(vocabulary));
  if (!tokenizer.ok()) return FailedPrecondition("MODEL_FILE_INVALID {}", Message(tokenizer.status()));
  return tokenizer;
}

}  // namespace conclave::engine
