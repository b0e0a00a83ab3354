// SPDX-License-Identifier: Apache-2.0
#include "engine/tokenizer/tokenizer_builder.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "common/check.h"
#include "common/status.h"
#include "engine/tokenizer/byte_level.h"
#include "engine/tokenizer/token_text.h"
#include "engine/tokenizer/utf8.h"

namespace conclave::engine {
namespace {

constexpr size_t kMergesMax = kVocabularyTokensMax;

}  // namespace

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
  if (Scored() && v.scores.size() != v.tokens.size()) {
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
    if (Scored() && !std::isfinite(v.scores[i])) {
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

absl::Status TokenizerBuilder::CheckPipeline() const {
  if (pipeline() == nullptr) {
    if (vocabulary().model == TokenizerModel::kCharacterBpe) return Error("character BPE needs a pipeline");
    return absl::OkStatus();
  }
  if (pipeline()->in_merges.size() != size()) {
    return Error("{} marks of merges for {} tokens", pipeline()->in_merges.size(), size());
  }
  for (const std::vector<TokenId>* ids : {&pipeline()->prefix, &pipeline()->suffix}) {
    for (const TokenId id : *ids) {
      if (!t_->Contains(id)) return Error("a text is to begin or end with token {}, but there are {}", id, size());
    }
  }
  for (const AddedToken& added : pipeline()->added) {
    if (!t_->Contains(added.id)) return Error("an added token is {}, but there are {}", added.id, size());
  }
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<Normalizer>> TokenizerBuilder::MakeNormalizer(const std::vector<NormalizerStep>& steps) {
  absl::StatusOr<std::unique_ptr<Normalizer>> normalizer = Normalizer::Create(steps);
  if (!normalizer.ok()) return Annotate(normalizer.status(), vocabulary().source);
  return normalizer;
}

absl::Status TokenizerBuilder::DecodeTokens() {
  const VocabularyData& v = vocabulary();
  std::unique_ptr<Normalizer> decode;
  if (pipeline() != nullptr) {
    ASSIGN_OR_RETURN(decode, MakeNormalizer(pipeline()->decode));
  }
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
    } else if (decode != nullptr && !ByteLevel()) {
      const bool plain = v.types[i] == TokenType::kNormal || v.types[i] == TokenType::kUnused;
      ASSIGN_OR_RETURN(std::string bytes, plain ? decode->Apply(text, false) : text);
      t_->bytes_.push_back(std::move(bytes));
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

absl::Status TokenizerBuilder::FindSpecialTokens() {
  const VocabularyData& v = vocabulary();
  if (pipeline() != nullptr) {
    if (!pipeline()->normalize.empty()) {
      ASSIGN_OR_RETURN(t_->normalizer_, MakeNormalizer(pipeline()->normalize));
    }
    for (const AddedToken& added : pipeline()->added) t_->added_.emplace(added.id, added);
  }
  t_->special_.resize(size());
  for (size_t i = 0; i < size(); ++i) {
    const TokenType type = v.types[i];
    const std::string& text = v.tokens[i];
    const auto id = static_cast<TokenId>(i);
    t_->special_[i] = type == TokenType::kControl || type == TokenType::kUnknown ||
                      (type == TokenType::kUserDefined && (IsMarker(text) || t_->IsEnd(id) || v.bos == id));
    const bool whole = t_->special_[i] || type == TokenType::kUserDefined;
    if (!whole || t_->bytes_[i].empty()) continue;
    const auto added = t_->added_.find(id);
    if (pipeline() != nullptr && added == t_->added_.end()) continue;
    if (added == t_->added_.end() || !added->second.normalized) {
      t_->whole_tokens_.Insert(t_->bytes_[i], id);
      continue;
    }
    std::string normalized = t_->bytes_[i];
    if (t_->normalizer_ != nullptr) {
      ASSIGN_OR_RETURN(normalized, t_->normalizer_->Apply(normalized, false));
    }
    if (!normalized.empty()) t_->normalized_tokens_.Insert(normalized, id);
  }
  return absl::OkStatus();
}

// Splits and what comes before them: as the checkpoint spells them out, or by the name it gives them.
absl::Status TokenizerBuilder::BuildPipeline() {
  if (pipeline() != nullptr) {
    if (!pipeline()->prepare.empty()) {
      ASSIGN_OR_RETURN(t_->prepare_, MakeNormalizer(pipeline()->prepare));
    }
    absl::StatusOr<std::unique_ptr<Pretokenizer>> pretokenizer = Pretokenizer::Create(pipeline()->split);
    if (!pretokenizer.ok()) return Annotate(pretokenizer.status(), vocabulary().source);
    t_->pretokenizer_ = *std::move(pretokenizer);
    whole_words_first_ = pipeline()->whole_words_first;
    return absl::OkStatus();
  }
  if (!ByteLevel()) return absl::OkStatus();
  const absl::StatusOr<const PretokenizerSpec*> spec = FindPretokenizer(vocabulary().pre);
  if (!spec.ok()) return Annotate(spec.status(), vocabulary().source);
  ASSIGN_OR_RETURN(t_->pretokenizer_, Pretokenizer::Create((*spec)->patterns));
  if ((*spec)->normalize_nfc) {
    ASSIGN_OR_RETURN(t_->normalizer_, Normalizer::Create({{.kind = NormalizerStep::Kind::kNfc}}));
  }
  whole_words_first_ = (*spec)->whole_words_first;
  return absl::OkStatus();
}

absl::Status TokenizerBuilder::BuildByteLevel() {
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
    if (token != PieceTable::kNone && !t_->special_[static_cast<size_t>(token)]) t_->of_byte_[b] = token;
  }
  const size_t merges = vocabulary().merges.size();
  for (size_t i = 0; i < merges; ++i) {  // the first rule of a pair counts: in tokenizer.json that is the last
    RETURN_IF_ERROR(AddMerge(pipeline() != nullptr ? merges - 1 - i : i, &pieces));
  }
  return absl::OkStatus();
}

absl::StatusOr<TokenizerBuilder::MergeParts> TokenizerBuilder::SplitMerge(size_t rank) const {
  const std::string_view merge = vocabulary().merges[rank];
  const size_t space = merge.find(' ', 1);
  if (space == std::string_view::npos || space + 1 == merge.size()) {
    return Error("merge {} is \"{}\", two pieces with a space between them expected", rank, Shown(merge));
  }
  return MergeParts(merge.substr(0, space), merge.substr(space + 1));
}

absl::Status TokenizerBuilder::AddMerge(size_t rank, PieceTable* pieces) {
  ASSIGN_OR_RETURN(const MergeParts parts, SplitMerge(rank));
  const std::string left(parts.first), right(parts.second);
  ASSIGN_OR_RETURN(const Symbol left_symbol, SymbolOf(left, rank, pieces));
  ASSIGN_OR_RETURN(const Symbol right_symbol, SymbolOf(right, rank, pieces));
  ASSIGN_OR_RETURN(const Symbol result, SymbolOf(left + right, rank, pieces));
  t_->merger_.AddRule(left_symbol, right_symbol, static_cast<uint32_t>(rank), result);
  return absl::OkStatus();
}

absl::StatusOr<TokenizerBuilder::Symbol> TokenizerBuilder::SymbolOf(std::string_view piece, size_t rank,
                                                                    PieceTable* pieces) {
  if (const int32_t known = pieces->Find(piece); known != PieceTable::kNone) return known;
  if (pipeline() != nullptr) {
    return Error("merge {} is \"{}\", but \"{}\" is not in the vocabulary", rank, Shown(vocabulary().merges[rank]),
                 Shown(piece));
  }
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

// Byte-level vocabularies may lack bytes (SmolLM2's lacks 21); what they cannot spell is left out, as by the models'
// own tokenizers, rather than turned into the unknown token, which for most of them is a special one.
absl::Status TokenizerBuilder::CheckCoverage() const {
  if (!Scored() || vocabulary().unknown.has_value()) return absl::OkStatus();
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
