// SPDX-License-Identifier: Apache-2.0
// From a VocabularyData, which is untrusted, to the tables of a Tokenizer.
#include <algorithm>
#include <array>
#include <cmath>
#include <map>

#include "common/check.h"
#include "common/status.h"
#include "engine/tokenizer/byte_level.h"
#include "engine/tokenizer/token_text.h"
#include "engine/tokenizer/tokenizer.h"
#include "engine/tokenizer/utf8.h"

namespace conclave::engine {
namespace {

constexpr size_t kMergesMax = kVocabularyTokensMax;

}  // namespace

class TokenizerBuilder {
 public:
  explicit TokenizerBuilder(VocabularyData vocabulary) : t_(new Tokenizer(std::move(vocabulary))) {}

  absl::StatusOr<std::unique_ptr<Tokenizer>> Build() {
    RETURN_IF_ERROR(CheckShape());
    RETURN_IF_ERROR(CheckIds());
    RETURN_IF_ERROR(DecodeTokens());
    FindEndTokens();
    FindSpecialTokens();
    RETURN_IF_ERROR(ByteLevel() ? BuildByteLevel() : BuildSentencePiece());
    RETURN_IF_ERROR(CheckCoverage());
    FindWholeWords();
    return std::move(t_);
  }

 private:
  using Symbol = BpeMerger::Symbol;

  bool ByteLevel() const { return vocabulary().model == TokenizerModel::kByteLevelBpe; }
  const VocabularyData& vocabulary() const { return t_->vocabulary_; }
  size_t size() const { return vocabulary().tokens.size(); }
  // A token that merges may make or use, and that plain text may become.
  bool IsPlain(size_t i) const {
    const TokenType type = vocabulary().types[i];
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
  void FindSpecialTokens();
  absl::Status BuildByteLevel();
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

absl::StatusOr<std::unique_ptr<Tokenizer>> Tokenizer::Create(VocabularyData vocabulary) {
  return TokenizerBuilder(std::move(vocabulary)).Build();
}

absl::Status TokenizerBuilder::CheckShape() const {
  const VocabularyData& v = vocabulary();
  if (v.tokens.empty() || v.tokens.size() > kVocabularyTokensMax) {
    return Error("the vocabulary has {} tokens, 1 to {} allowed", v.tokens.size(), kVocabularyTokensMax);
  }
  if (v.types.size() != v.tokens.size()) {
    return Error("{} token types for {} tokens", v.types.size(), v.tokens.size());
  }
  if (!ByteLevel() && v.scores.size() != v.tokens.size()) {
    return Error("{} token scores for {} tokens", v.scores.size(), v.tokens.size());
  }
  if (v.merges.size() > kMergesMax) return Error("{} merges, at most {} allowed", v.merges.size(), kMergesMax);
  for (size_t i = 0; i < v.tokens.size(); ++i) {
    if (v.tokens[i].size() > kTokenBytesMax) {
      return Error("token {} has {} bytes, at most {} allowed", i, v.tokens[i].size(), kTokenBytesMax);
    }
    if (v.types[i] < TokenType::kNormal || v.types[i] > TokenType::kByte) {
      return Error("token {} \"{}\" has the unknown type {}", i, Shown(v.tokens[i]), static_cast<int>(v.types[i]));
    }
    if (!ByteLevel() && !std::isfinite(v.scores[i])) {
      return Error("token {} \"{}\" has the score {}", i, Shown(v.tokens[i]), v.scores[i]);
    }
  }
  return absl::OkStatus();
}

absl::Status TokenizerBuilder::CheckIds() const {
  const VocabularyData& v = vocabulary();
  const std::array<std::pair<std::string_view, std::optional<TokenId>>, 6> ids = {
      {{"bos", v.bos}, {"eos", v.eos}, {"eot", v.eot}, {"eom", v.eom}, {"unknown", v.unknown}, {"padding", v.padding}}};
  for (const auto& [name, id] : ids) {
    if (id.has_value() && !t_->Contains(*id)) {
      return Error("the {} token is {}, but the vocabulary has {} tokens", name, *id, v.tokens.size());
    }
  }
  for (const TokenId id : v.ends) {
    if (!t_->Contains(id)) {
      return Error("an end token is {}, but the vocabulary has {} tokens", id, v.tokens.size());
    }
  }
  if (v.add_bos && !v.bos.has_value()) return Error("a bos token is to be added, but none is named");
  if (v.add_eos && !v.eos.has_value()) return Error("an eos token is to be added, but none is named");
  return absl::OkStatus();
}

absl::Status TokenizerBuilder::DecodeTokens() {
  const VocabularyData& v = vocabulary();
  t_->bytes_.reserve(size());
  t_->of_byte_.assign(256, -1);
  for (size_t i = 0; i < size(); ++i) {
    const std::string& text = v.tokens[i];
    t_->by_text_.Insert(text, static_cast<int32_t>(i));
    if (v.types[i] == TokenType::kByte) {
      const int byte = ParseByteToken(text);
      if (byte < 0) return Error("token {} \"{}\" is of type byte, \"<0x00>\" to \"<0xFF>\" expected", i, Shown(text));
      TokenId& token = t_->of_byte_[static_cast<size_t>(byte)];
      if (token < 0) token = static_cast<TokenId>(i);
      t_->bytes_.emplace_back(1, static_cast<char>(byte));
    } else if (!ByteLevel()) {
      t_->bytes_.push_back(ReplaceSpaceMarks(text));
    } else {
      const bool plain = v.types[i] == TokenType::kNormal || v.types[i] == TokenType::kUnused;
      std::optional<std::string> bytes = plain ? DecodeByteLevel(text) : std::nullopt;
      t_->bytes_.push_back(bytes.has_value() ? *std::move(bytes) : text);
    }
  }
  return absl::OkStatus();
}

void TokenizerBuilder::FindEndTokens() {
  VocabularyData& v = t_->vocabulary_;
  std::vector<TokenId>& ends = t_->end_tokens_;
  ends = v.ends;
  for (const std::optional<TokenId>& id : {v.eos, v.eot, v.eom}) {
    if (id.has_value()) ends.push_back(*id);
  }
  for (const std::string_view name : EndTokenNames()) {
    const std::optional<TokenId> token = t_->FindToken(name);
    if (!token.has_value() || v.types[static_cast<size_t>(*token)] == TokenType::kNormal) continue;
    ends.push_back(*token);
    if (!v.eot.has_value() && name != "<|endoftext|>" && name != "<|end_of_text|>") v.eot = token;
  }
  std::sort(ends.begin(), ends.end());
  ends.erase(std::unique(ends.begin(), ends.end()), ends.end());
}

void TokenizerBuilder::FindSpecialTokens() {
  const VocabularyData& v = vocabulary();
  t_->special_.resize(size());
  for (size_t i = 0; i < size(); ++i) {
    const TokenType type = v.types[i];
    const std::string& text = v.tokens[i];
    const auto id = static_cast<TokenId>(i);
    t_->special_[i] = type == TokenType::kControl || type == TokenType::kUnknown ||
                      (type == TokenType::kUserDefined && (IsMarker(text) || t_->IsEnd(id) || v.bos == id));
    const bool whole = t_->special_[i] || type == TokenType::kUserDefined;
    if (whole && !t_->bytes_[i].empty()) t_->whole_tokens_.Insert(t_->bytes_[i], id);
  }
}

absl::Status TokenizerBuilder::BuildByteLevel() {
  const absl::StatusOr<const PretokenizerSpec*> spec = FindPretokenizer(vocabulary().pre);
  if (!spec.ok()) return Annotate(spec.status(), vocabulary().source);
  ASSIGN_OR_RETURN(t_->pretokenizer_, Pretokenizer::Create((*spec)->patterns));
  t_->normalize_nfc_ = (*spec)->normalize_nfc;
  whole_words_first_ = (*spec)->whole_words_first;

  PieceTable pieces;  // by text in the byte-level alphabet
  for (size_t i = 0; i < size(); ++i) {
    if (IsPlain(i) && vocabulary().types[i] != TokenType::kUserDefined) {
      pieces.Insert(vocabulary().tokens[i], static_cast<int32_t>(i));
    }
  }
  for (size_t i = 0; i < size(); ++i) {  // user-defined ones are not written in the alphabet
    if (IsPlain(i) && vocabulary().types[i] == TokenType::kUserDefined) {
      pieces.Insert(EncodeByteLevel(t_->bytes_[i]), static_cast<int32_t>(i));
    }
  }
  t_->byte_symbols_.assign(256, PieceTable::kNone);
  for (size_t b = 0; b < 256; ++b) {
    const char byte = static_cast<char>(b);
    const std::string letter = EncodeByteLevel(std::string_view(&byte, 1));
    t_->byte_symbols_[b] = pieces.Find(letter);
    // DeepSeek's vocabularies lack the bytes that UTF-8 never uses, and spell them with user-defined tokens.
    const int32_t token = pieces.Find(letter) != PieceTable::kNone ? pieces.Find(letter) : t_->by_text_.Find(letter);
    if (token != PieceTable::kNone && IsPlain(static_cast<size_t>(token))) t_->of_byte_[b] = token;
  }
  for (size_t rank = 0; rank < vocabulary().merges.size(); ++rank) RETURN_IF_ERROR(AddMerge(rank, &pieces));
  return absl::OkStatus();
}

absl::Status TokenizerBuilder::AddMerge(size_t rank, PieceTable* pieces) {
  const std::string& merge = vocabulary().merges[rank];
  const size_t space = merge.find(' ', 1);
  if (space == std::string::npos || space + 1 == merge.size()) {
    return Error("merge {} is \"{}\", two pieces with a space between them expected", rank, Shown(merge));
  }
  const std::string left = merge.substr(0, space);
  const std::string right = merge.substr(space + 1);
  ASSIGN_OR_RETURN(const Symbol left_symbol, SymbolOf(left, rank, pieces));
  ASSIGN_OR_RETURN(const Symbol right_symbol, SymbolOf(right, rank, pieces));
  ASSIGN_OR_RETURN(const Symbol result, SymbolOf(left + right, rank, pieces));
  t_->merger_.AddRule(left_symbol, right_symbol, static_cast<uint32_t>(rank), result);
  return absl::OkStatus();
}

absl::StatusOr<TokenizerBuilder::Symbol> TokenizerBuilder::SymbolOf(std::string_view piece, size_t rank,
                                                                    PieceTable* pieces) {
  if (const int32_t known = pieces->Find(piece); known != PieceTable::kNone) return known;
  const std::optional<std::string> bytes = DecodeByteLevel(piece);
  if (!bytes.has_value() || bytes->size() > kTokenBytesMax) {
    return Error("merge {} \"{}\" is not in the byte-level alphabet or longer than {} bytes", rank,
                 Shown(vocabulary().merges[rank]), kTokenBytesMax);
  }
  const auto symbol = static_cast<Symbol>(size() + t_->extra_bytes_.size());
  t_->extra_bytes_.push_back(static_cast<uint32_t>(bytes->size()));
  pieces->Insert(piece, symbol);
  return symbol;
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

// Byte-level vocabularies may lack bytes (SmolLM2's lacks 21); what they cannot spell is left out, as by the models'
// own tokenizers, rather than turned into the unknown token, which for most of them is a special one.
absl::Status TokenizerBuilder::CheckCoverage() const {
  if (ByteLevel() || vocabulary().unknown.has_value()) return absl::OkStatus();
  for (size_t b = 0; b < 256; ++b) {
    if (t_->of_byte_[b] < 0) {
      return Error("no token for the byte 0x{:02x}, and no unknown token to stand for it", b);
    }
  }
  return absl::OkStatus();
}

// Most words of a text are tokens: one lookup instead of merging, for those that merging would give as well.
void TokenizerBuilder::FindWholeWords() {
  BpeMerger::Workspace workspace;
  std::vector<Symbol> symbols;
  for (size_t i = 0; i < size(); ++i) {
    if (!IsPlain(i)) continue;
    const std::string& word = ByteLevel() ? t_->bytes_[i] : vocabulary().tokens[i];
    if (word.empty()) continue;
    if (!whole_words_first_) {
      t_->ToSymbols(word, &symbols);
      t_->merger_.Merge(&symbols, &workspace);
      if (symbols.size() != 1 || symbols[0] != static_cast<Symbol>(i)) continue;
    }
    t_->words_.Insert(word, static_cast<int32_t>(i));
  }
}

}  // namespace conclave::engine
