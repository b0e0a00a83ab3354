// SPDX-License-Identifier: Apache-2.0
#include "engine/text.h"

#include "common/check.h"
#include "common/status.h"
#include "engine/format/checkpoint.h"
#include "engine/tokenizer/read_tokenizer.h"

namespace conclave::engine {

std::vector<TokenId> TokenizeText(const Tokenizer& tokenizer, std::string_view text, Vocabulary::SpecialTokens special,
                                  bool add_begin_of_sequence) {
  CONCLAVE_CHECK(text.size() <= kTextBytesMax);
  static_assert(kTextBytesMax <= kEncodeTextBytesMax);
  auto tokens = tokenizer.Encode(
      text, special == Vocabulary::SpecialTokens::kParse ? Tokenizer::Special::kParse : Tokenizer::Special::kAsText,
      add_begin_of_sequence ? Tokenizer::AddBos::kIfModelDoes : Tokenizer::AddBos::kNo);
  CONCLAVE_CHECK(tokens.ok());  // its only error is the size
  return *std::move(tokens);
}

class Vocabulary::Impl {
 public:
  std::unique_ptr<Tokenizer> tokenizer;
};

Vocabulary::Vocabulary(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Vocabulary::~Vocabulary() = default;

absl::StatusOr<std::unique_ptr<Vocabulary>> Vocabulary::Load(const std::string& path) {
  ASSIGN_OR_RETURN(const std::unique_ptr<Checkpoint> file, Checkpoint::Open(path));
  auto impl = std::make_unique<Impl>();
  ASSIGN_OR_RETURN(impl->tokenizer, ReadTokenizer(*file));
  return std::unique_ptr<Vocabulary>(new Vocabulary(std::move(impl)));
}

std::vector<TokenId> Vocabulary::Tokenize(std::string_view text, SpecialTokens special,
                                          bool add_begin_of_sequence) const {
  return TokenizeText(*impl_->tokenizer, text, special, add_begin_of_sequence);
}

std::string Vocabulary::Detokenize(std::span<const TokenId> tokens) const {
  return impl_->tokenizer->Decode(tokens, Tokenizer::SpecialText::kAsText);
}

}  // namespace conclave::engine
