// SPDX-License-Identifier: Apache-2.0
#include "engine/text.h"

#include "common/check.h"
#include "common/status.h"
#include "engine/chat_template.h"
#include "engine/format/checkpoint.h"
#include "engine/tokenizer/read_tokenizer.h"

namespace conclave::engine {

absl::StatusOr<std::vector<TokenId>> TokenizeText(const Tokenizer& tokenizer, std::string_view text,
                                                  Vocabulary::SpecialTokens special, bool add_begin_of_sequence) {
  CONCLAVE_CHECK(text.size() <= kTextBytesMax);
  static_assert(kTextBytesMax <= kEncodeTextBytesMax);
  return tokenizer.Encode(
      text, special == Vocabulary::SpecialTokens::kParse ? Tokenizer::Special::kParse : Tokenizer::Special::kAsText,
      add_begin_of_sequence ? Tokenizer::AddBos::kIfModelDoes : Tokenizer::AddBos::kNo);
}

class Vocabulary::Impl {
 public:
  explicit Impl(std::unique_ptr<Tokenizer> t) : tokenizer(std::move(t)), chat_template(*tokenizer) {}

  const std::unique_ptr<Tokenizer> tokenizer;
  const ChatTemplate chat_template;
};

Vocabulary::Vocabulary(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Vocabulary::~Vocabulary() = default;

absl::StatusOr<std::unique_ptr<Vocabulary>> Vocabulary::Load(const std::string& path) {
  ASSIGN_OR_RETURN(const std::unique_ptr<Checkpoint> file, Checkpoint::OpenMetadata(path));
  ASSIGN_OR_RETURN(std::unique_ptr<Tokenizer> tokenizer, ReadTokenizer(*file));
  return std::unique_ptr<Vocabulary>(new Vocabulary(std::make_unique<Impl>(std::move(tokenizer))));
}

absl::StatusOr<std::vector<TokenId>> Vocabulary::Tokenize(std::string_view text, SpecialTokens special,
                                                          bool add_begin_of_sequence) const {
  return TokenizeText(*impl_->tokenizer, text, special, add_begin_of_sequence);
}

std::string Vocabulary::Detokenize(std::span<const TokenId> tokens) const {
  return impl_->tokenizer->Decode(tokens, Tokenizer::SpecialText::kAsText);
}

absl::StatusOr<ChatPrompt> Vocabulary::ApplyChatTemplate(std::string_view variables_json,
                                                         int64_t now_unix_seconds) const {
  return impl_->chat_template.RenderJson(variables_json, now_unix_seconds);
}

}  // namespace conclave::engine
