// SPDX-License-Identifier: Apache-2.0
// Internal to engine/tokenizer: from a VocabularyData, which is untrusted, to the tables of a Tokenizer.
#pragma once

#include <memory>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/status.h"
#include "engine/tokenizer/tokenizer.h"

namespace conclave::engine {

class TokenizerBuilder {
 public:
  explicit TokenizerBuilder(VocabularyData vocabulary) : t_(new Tokenizer(std::move(vocabulary))) {}

  absl::StatusOr<std::unique_ptr<Tokenizer>> Build() {
    RETURN_IF_ERROR(CheckShape());
    RETURN_IF_ERROR(CheckIds());
    RETURN_IF_ERROR(CheckPipeline());
    RETURN_IF_ERROR(DecodeTokens());
    FindEndTokens();
    RETURN_IF_ERROR(FindSpecialTokens());
    RETURN_IF_ERROR(BuildPipeline());
    switch (vocabulary().model) {
      case TokenizerModel::kByteLevelBpe:
        RETURN_IF_ERROR(BuildByteLevel());
        break;
      case TokenizerModel::kSentencePieceBpe:
        RETURN_IF_ERROR(BuildSentencePiece());
        break;
      case TokenizerModel::kCharacterBpe:
        RETURN_IF_ERROR(BuildCharacters());
        break;
    }
    RETURN_IF_ERROR(CheckCoverage());
    FindWholeWords();
    return std::move(t_);
  }

 private:
  using Symbol = BpeMerger::Symbol;

  bool ByteLevel() const { return t_->ByteLevel(); }
  bool Scored() const { return vocabulary().model == TokenizerModel::kSentencePieceBpe; }
  const VocabularyData& vocabulary() const { return t_->vocabulary_; }
  const TextPipeline* pipeline() const { return vocabulary().pipeline.has_value() ? &*vocabulary().pipeline : nullptr; }
  size_t size() const { return vocabulary().tokens.size(); }
  // A token that merges may make or use, and that plain text may become.
  bool IsPlain(size_t i) const {
    const TokenType type = vocabulary().types[i];
    if (pipeline() != nullptr && !pipeline()->in_merges[i]) return false;
    return !t_->special_[i] &&
           (type == TokenType::kNormal || type == TokenType::kUserDefined || type == TokenType::kUnused);
  }

  template <typename... Args>
  absl::Status Error(fmt::format_string<Args...> format, Args&&... args) const {
    return InvalidArgument("{}: {}", vocabulary().source, fmt::format(format, std::forward<Args>(args)...));
  }

  absl::Status CheckShape() const;
  absl::Status CheckIds() const;
  absl::Status DecodeTokens();
  void FindEndTokens();
  absl::Status CheckPipeline() const;
  absl::StatusOr<std::unique_ptr<Normalizer>> MakeNormalizer(const std::vector<NormalizerStep>& steps);
  absl::Status FindSpecialTokens();
  absl::Status BuildPipeline();
  absl::Status BuildCharacters();
  absl::Status BuildByteLevel();
  using MergeParts = std::pair<std::string_view, std::string_view>;
  absl::StatusOr<MergeParts> SplitMerge(size_t rank) const;
  absl::Status AddMerge(size_t rank, PieceTable* pieces);
  absl::StatusOr<Symbol> SymbolOf(std::string_view piece, size_t rank, PieceTable* pieces);
  absl::Status BuildSentencePiece();
  void AddCharacters(const PieceTable& pieces);
  void AddSplits(TokenId token, uint32_t rank, const PieceTable& pieces);
  absl::Status CheckCoverage() const;
  void FindWholeWords();

  std::unique_ptr<Tokenizer> t_;
  bool whole_words_first_ = false;
};

}  // namespace conclave::engine
