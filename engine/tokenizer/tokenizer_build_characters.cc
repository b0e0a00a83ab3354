// SPDX-License-Identifier: Apache-2.0
// The two kinds of BPE over characters: merges by rank (tokenizer.json) and by score (SentencePiece).
#include <map>

#include "engine/tokenizer/token_text.h"
#include "engine/tokenizer/tokenizer_builder.h"
#include "engine/tokenizer/utf8.h"

namespace conclave::engine {

// Rules over tokens: what a merge joins and makes must be in the vocabulary. Of two rules for one pair the later
// counts.
absl::Status TokenizerBuilder::BuildCharacters() {
  PieceTable pieces;
  for (size_t i = 0; i < size(); ++i) {
    const std::string& text = vocabulary().tokens[i];
    if (!pipeline()->in_merges[i] || t_->special_[i] || text.empty()) continue;
    pieces.Insert(text, static_cast<int32_t>(i));
    if (DecodeUtf8(text).bytes == text.size()) t_->characters_.Insert(text, static_cast<int32_t>(i));
  }
  for (size_t rank = vocabulary().merges.size(); rank-- > 0;) {
    ASSIGN_OR_RETURN(const auto parts, SplitMerge(rank));
    const std::string whole = std::string(parts.first).append(parts.second);
    const int32_t left = pieces.Find(parts.first), right = pieces.Find(parts.second), result = pieces.Find(whole);
    if (left < 0 || right < 0 || result < 0) {
      return Error("merge {} is \"{}\", but \"{}\" is not in the vocabulary", rank, Shown(vocabulary().merges[rank]),
                   Shown(left < 0    ? parts.first
                         : right < 0 ? parts.second
                                     : std::string_view(whole)));
    }
    t_->merger_.AddRule(left, right, static_cast<uint32_t>(rank), result);
  }
  return absl::OkStatus();
}

// SentencePiece gives each piece a score, and of two neighbours whose concatenation is a piece merges those with the
// best. As rules: every split of a piece into two symbols, ranked by the piece's score.
absl::Status TokenizerBuilder::BuildSentencePiece() {
  PieceTable pieces;
  std::map<float, uint32_t, std::greater<>> ranks;
  bool words_end_before_spaces = true;
  for (size_t i = 0; i < size(); ++i) {
    if (!IsPlain(i) || vocabulary().tokens[i].empty()) continue;
    const std::string_view text = vocabulary().tokens[i];
    pieces.Insert(text, static_cast<int32_t>(i));
    ranks.emplace(vocabulary().scores[i], 0);
    std::string_view rest = text;
    while (rest.starts_with(kSpaceMark)) rest.remove_prefix(kSpaceMark.size());
    if (rest.find(kSpaceMark) != std::string_view::npos) words_end_before_spaces = false;
  }
  uint32_t next_rank = 0;
  for (auto& [score, rank] : ranks) rank = next_rank++;
  t_->words_end_before_spaces_ = words_end_before_spaces;
  AddCharacters(pieces);
  for (size_t i = 0; i < size(); ++i) {
    if (pieces.Find(vocabulary().tokens[i]) == static_cast<int32_t>(i)) {
      AddSplits(static_cast<TokenId>(i), ranks[vocabulary().scores[i]], pieces);
    }
  }
  return absl::OkStatus();
}

// Every character of a piece gets a symbol; those that are no pieces themselves one beyond the vocabulary.
void TokenizerBuilder::AddCharacters(const PieceTable& pieces) {
  for (size_t i = 0; i < size(); ++i) {
    std::string_view rest = vocabulary().tokens[i];
    if (pieces.Find(rest) != static_cast<int32_t>(i)) continue;
    while (!rest.empty()) {
      const size_t bytes = DecodeUtf8(rest).bytes;
      const std::string_view character = rest.substr(0, bytes);
      rest.remove_prefix(bytes);
      if (t_->characters_.Find(character) != PieceTable::kNone) continue;
      int32_t symbol = pieces.Find(character);
      if (symbol == PieceTable::kNone) {
        symbol = static_cast<int32_t>(size() + t_->extra_bytes_.size());
        t_->extra_bytes_.push_back(static_cast<uint32_t>(bytes));
      }
      t_->characters_.Insert(character, symbol);
    }
  }
}

void TokenizerBuilder::AddSplits(TokenId token, uint32_t rank, const PieceTable& pieces) {
  const std::string_view text = vocabulary().tokens[static_cast<size_t>(token)];
  const auto symbol_of = [&](std::string_view part) {
    const int32_t piece = pieces.Find(part);
    return piece != PieceTable::kNone ? piece : t_->characters_.Find(part);
  };
  for (size_t split = DecodeUtf8(text).bytes; split < text.size(); split += DecodeUtf8(text.substr(split)).bytes) {
    const Symbol left = symbol_of(text.substr(0, split));
    const Symbol right = symbol_of(text.substr(split));
    if (left >= 0 && right >= 0) t_->merger_.AddRule(left, right, rank, token);
  }
}

}  // namespace conclave::engine
