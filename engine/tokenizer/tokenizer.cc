// SPDX-License-Identifier: Apache-2.0
#include "engine/tokenizer/tokenizer.h"

#include <utf8proc.h>

#include <algorithm>
#include <cstdlib>
#include <utility>

#include "common/check.h"
#include "common/status.h"
#include "engine/tokenizer/token_text.h"
#include "engine/tokenizer/utf8.h"

namespace conclave::engine {
namespace {

std::string MarkSpaces(std::string_view text, bool prefix) {
  std::string out;
  out.reserve(text.size() + text.size() / 2);
  if (prefix) out += kSpaceMark;
  for (const char c : text) {
    if (c == ' ') {
      out += kSpaceMark;
    } else {
      out += c;
    }
  }
  return out;
}

// What \w means to tokenizers (Rust's regex): Alphabetic, marks, decimal digits, connectors, joiners.
bool IsWordCharacter(char32_t c) {
  if (c == 0x200c || c == 0x200d) return true;
  if ((c >= 0x24b6 && c <= 0x24e9) || (c >= 0x1f130 && c <= 0x1f189)) return true;  // letters in circles and squares
  switch (utf8proc_category(static_cast<utf8proc_int32_t>(c))) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_PC:
      return true;
    default:
      return false;
  }
}

// Whether no word character stands before `begin` or at `end`.
bool StandsAlone(std::string_view text, size_t begin, size_t end) {
  if (end < text.size()) {
    const Utf8Char next = DecodeUtf8(text.substr(end));
    if (next.valid && IsWordCharacter(next.code_point)) return false;
  }
  size_t last = begin;
  while (last > 0 && begin - last < 4) {
    --last;
    if ((static_cast<uint8_t>(text[last]) & 0xc0) != 0x80) break;
  }
  if (last == begin) return true;
  const Utf8Char previous = DecodeUtf8(text.substr(last, begin - last));
  return !previous.valid || !IsWordCharacter(previous.code_point);
}

}  // namespace

// Memory of one Encode call, reused over its words.
struct Tokenizer::Scratch {
  std::span<const ByteRange> trusted;
  std::vector<uint32_t> ends;
  std::vector<BpeMerger::Symbol> symbols;
  BpeMerger::Workspace merge;
  bool space_prefix = false;  // SentencePiece: the next stretch of plain text gets one

  // How many bytes from `position` on are trusted.
  size_t TrustedBytes(size_t position) const {
    const auto range = std::upper_bound(trusted.begin(), trusted.end(), position,
                                        [](size_t p, const ByteRange& r) { return p < r.end; });
    return range != trusted.end() && range->begin <= position ? range->end - position : 0;
  }
};

absl::StatusOr<std::vector<TokenId>> Tokenizer::Encode(std::string_view text, Special special, AddBos add_bos) const {
  const ByteRange all = {0, text.size()};
  return Encode(text, special == Special::kParse ? std::span(&all, 1) : std::span<const ByteRange>(), add_bos);
}

absl::StatusOr<std::vector<TokenId>> Tokenizer::Encode(std::string_view text, std::span<const ByteRange> trusted,
                                                       AddBos add_bos) const {
  if (text.size() > kEncodeTextBytesMax) {
    return InvalidArgument("the text has {} bytes, at most {} can be tokenized at once", text.size(),
                           kEncodeTextBytesMax);
  }
  std::vector<TokenId> out;
  out.reserve(text.size() / 4 + 2);
  const bool marks = add_bos == AddBos::kIfModelDoes;
  const std::optional<TextPipeline>& pipeline = vocabulary_.pipeline;
  if (marks && pipeline.has_value()) out = pipeline->prefix;
  if (marks && !pipeline.has_value() && vocabulary_.add_bos) out.push_back(*vocabulary_.bos);
  Scratch scratch;
  scratch.trusted = trusted;
  scratch.space_prefix = vocabulary_.add_space_prefix;
  RETURN_IF_ERROR(TakeOutTokens(
      whole_tokens_, text, [&](size_t position) { return scratch.TrustedBytes(position); },
      [&](size_t begin, size_t end) {
        if (begin > 0) scratch.space_prefix = vocabulary_.add_space_prefix;
        return EncodePlain(text.substr(begin, end - begin), begin, &scratch, &out);
      },
      &out));
  if (marks && pipeline.has_value()) out.insert(out.end(), pipeline->suffix.begin(), pipeline->suffix.end());
  if (marks && !pipeline.has_value() && vocabulary_.add_eos) out.push_back(*vocabulary_.eos);
  return out;
}

// Appends the tokens of `trie` that stand in `text`; the stretches between go to `plain(begin, end)`.
template <typename TrustedBytes, typename Plain>
absl::Status Tokenizer::TakeOutTokens(const TokenTrie& trie, std::string_view text, TrustedBytes trusted_bytes,
                                      Plain plain, std::vector<TokenId>* out) const {
  size_t plain_begin = 0;
  size_t position = 0;
  while (position < text.size()) {
    position = trie.empty() ? text.size() : trie.NextCandidate(text, position);
    if (position == text.size()) break;
    const size_t trusted = trusted_bytes(position);
    size_t size = 0;
    const TokenId token = trie.LongestAt(text.substr(position), &size,
                                         [&](TokenId t, size_t n) { return n <= trusted || !special_[Index(t)]; });
    if (token < 0) {
      ++position;
      continue;
    }
    size_t begin = position, end = position + size;
    if (const auto it = added_.find(token); it != added_.end()) {
      if (it->second.single_word && !StandsAlone(text, begin, end)) {
        position = end;
        continue;
      }
      if (it->second.left_space) begin -= TrailingWhiteSpace(text.substr(plain_begin, begin - plain_begin));
      if (it->second.right_space) end += LeadingWhiteSpace(text.substr(end));
    }
    if (begin > plain_begin) RETURN_IF_ERROR(plain(plain_begin, begin));
    out->push_back(token);
    position = plain_begin = end;
  }
  return plain_begin < text.size() ? plain(plain_begin, text.size()) : absl::OkStatus();
}

absl::Status Tokenizer::EncodePlain(std::string_view text, size_t offset, Scratch* scratch,
                                    std::vector<TokenId>* out) const {
  std::string changed;
  if (vocabulary_.model == TokenizerModel::kSentencePieceBpe) {
    changed = MarkSpaces(text, std::exchange(scratch->space_prefix, false));
    return EncodeNormalized(changed, offset == 0, scratch, out);
  }
  // Where a text that was changed lies in the original is not known: special tokens in it need all of it trusted.
  const bool all_trusted = scratch->TrustedBytes(offset) >= text.size();
  if (normalizer_ != nullptr) {
    ASSIGN_OR_RETURN(changed, normalizer_->Apply(text, offset == 0));
    text = changed;
  }
  const auto trusted_bytes = [&](size_t position) -> size_t {
    if (normalizer_ != nullptr) return all_trusted ? SIZE_MAX : 0;
    return scratch->TrustedBytes(offset + position);
  };
  return TakeOutTokens(
      normalized_tokens_, text, trusted_bytes,
      [&](size_t begin, size_t end) {
        return EncodeNormalized(text.substr(begin, end - begin), offset == 0 && begin == 0, scratch, out);
      },
      out);
}

absl::Status Tokenizer::EncodeNormalized(std::string_view text, bool at_start, Scratch* scratch,
                                         std::vector<TokenId>* out) const {
  std::string changed;
  if (prepare_ != nullptr) {
    ASSIGN_OR_RETURN(changed, prepare_->Apply(text, at_start));
    text = changed;
  }
  if (text.size() > UINT32_MAX) return ResourceExhausted("normalisation makes {} bytes of a text", text.size());
  if (vocabulary_.model == TokenizerModel::kSentencePieceBpe) {
    SplitSentencePieceWords(text, &scratch->ends);
  } else {
    RETURN_IF_ERROR(pretokenizer_->Split(text, &scratch->ends));
  }
  uint32_t begin = 0;
  for (const uint32_t end : scratch->ends) {
    EncodeWord(text.substr(begin, end - begin), scratch, out);
    begin = end;
  }
  return absl::OkStatus();
}

// Where no piece holds a space mark after another character, no merge can cross from a character to a space mark, and
// the text falls into words that are encoded apart with the same result.
void Tokenizer::SplitSentencePieceWords(std::string_view text, std::vector<uint32_t>* ends) const {
  ends->clear();
  if (words_end_before_spaces_) {
    bool in_spaces = true;
    for (size_t i = 0; i < text.size();) {
      const bool space = text.substr(i, kSpaceMark.size()) == kSpaceMark;
      if (space && !in_spaces) ends->push_back(static_cast<uint32_t>(i));
      in_spaces = space;
      i += space ? kSpaceMark.size() : 1;
    }
  }
  ends->push_back(static_cast<uint32_t>(text.size()));
}

void Tokenizer::EncodeWord(std::string_view word, Scratch* scratch, std::vector<TokenId>* out) const {
  if (const int32_t token = words_.Find(word); token != PieceTable::kNone) {
    out->push_back(token);
    return;
  }
  ToSymbols(word, &scratch->symbols);
  merger_.Merge(&scratch->symbols, &scratch->merge);
  if (vocabulary_.pipeline.has_value()) {  // symbols are tokens
    out->insert(out->end(), scratch->symbols.begin(), scratch->symbols.end());
    return;
  }
  size_t begin = 0;
  for (const BpeMerger::Symbol symbol : scratch->symbols) {
    const size_t size = SymbolBytes(symbol);
    AppendSymbol(symbol, word.substr(begin, size), out);
    begin += size;
  }
  CONCLAVE_DCHECK(begin == word.size());
}

// A character or byte without a symbol becomes a number beyond all symbols that says how many bytes it covers. Such a
// number merges with nothing.
void Tokenizer::ToSymbols(std::string_view word, std::vector<BpeMerger::Symbol>* symbols) const {
  symbols->clear();
  if (vocabulary_.pipeline.has_value()) return ToTokens(word, symbols);
  const auto uncovered = static_cast<BpeMerger::Symbol>(bytes_.size() + extra_bytes_.size());
  if (ByteLevel()) {
    for (const char c : word) {
      const BpeMerger::Symbol symbol = byte_symbols_[static_cast<uint8_t>(c)];
      symbols->push_back(symbol >= 0 ? symbol : uncovered + 1);
    }
    return;
  }
  while (!word.empty()) {
    const size_t size = DecodeUtf8(word).bytes;
    const int32_t symbol = characters_.Find(word.substr(0, size));
    symbols->push_back(symbol != PieceTable::kNone ? symbol : uncovered + static_cast<BpeMerger::Symbol>(size));
    word.remove_prefix(size);
  }
}

// What is not covered becomes byte tokens, or the unknown token, or nothing at all: then its neighbours may merge. As
// tokenizers' BPE::merge_word, which keeps an unknown token back until a known one follows.
void Tokenizer::ToTokens(std::string_view word, std::vector<BpeMerger::Symbol>* symbols) const {
  bool unknown = false;
  while (!word.empty()) {
    const size_t size = ByteLevel() ? 1 : DecodeUtf8(word).bytes;
    const std::string_view unit = word.substr(0, size);
    word.remove_prefix(size);
    const BpeMerger::Symbol symbol =
        ByteLevel() ? byte_symbols_[static_cast<uint8_t>(unit[0])] : characters_.Find(unit);
    if (symbol >= 0) {
      if (std::exchange(unknown, false)) symbols->push_back(*vocabulary_.unknown);
      symbols->push_back(symbol);
      continue;
    }
    const auto token_of = [this](char c) { return of_byte_[static_cast<uint8_t>(c)]; };
    if (std::all_of(unit.begin(), unit.end(), [&](char c) { return token_of(c) >= 0; })) {
      for (const char c : unit) symbols->push_back(token_of(c));
    } else if (vocabulary_.unknown.has_value()) {
      if (unknown && !vocabulary_.pipeline->fuse_unknown) symbols->push_back(*vocabulary_.unknown);
      unknown = true;
    }
  }
  if (unknown) symbols->push_back(*vocabulary_.unknown);
}

size_t Tokenizer::SymbolBytes(BpeMerger::Symbol symbol) const {
  if (symbol < vocab_size()) {
    // Words over characters hold tokens as they are written: a space is its mark.
    return !ByteLevel() ? vocabulary_.tokens[Index(symbol)].size() : bytes_[Index(symbol)].size();
  }
  const auto extra = static_cast<size_t>(symbol - vocab_size());
  return extra < extra_bytes_.size() ? extra_bytes_[extra] : extra - extra_bytes_.size();
}

void Tokenizer::AppendSymbol(BpeMerger::Symbol symbol, std::string_view bytes, std::vector<TokenId>* out) const {
  if (symbol < vocab_size()) {
    out->push_back(symbol);
    return;
  }
  bool unknown = false;
  for (const char c : bytes) {
    const TokenId token = of_byte_[static_cast<uint8_t>(c)];
    if (token >= 0) {
      out->push_back(token);
    } else if (vocabulary_.model == TokenizerModel::kSentencePieceBpe && !std::exchange(unknown, true)) {
      out->push_back(*vocabulary_.unknown);  // once per character; Create saw to it that there is one
    }
  }
}

std::string Tokenizer::Decode(std::span<const TokenId> tokens, SpecialText special) const {
  std::string out;
  const bool strip_first = vocabulary_.pipeline.has_value() && vocabulary_.pipeline->strip_first_space;
  bool strip = vocabulary_.add_space_prefix || strip_first;
  for (const TokenId token : tokens) {
    if (!Contains(token)) continue;
    const TokenType type = Type(token);
    const bool control = type == TokenType::kControl || type == TokenType::kUnknown;
    if (control && special == SpecialText::kSkip) continue;
    // Encode puts a space before each stretch of plain text: at the start and after every token taken out whole.
    const bool whole = control || type == TokenType::kUserDefined;
    std::string_view bytes = bytes_[Index(token)];
    if (strip && !whole && bytes.starts_with(' ')) bytes.remove_prefix(1);
    strip = whole && vocabulary_.add_space_prefix;
    out += bytes;
  }
  return out;
}

std::optional<TokenId> Tokenizer::FindToken(std::string_view text) const {
  const int32_t token = by_text_.Find(text);
  if (token == PieceTable::kNone) return std::nullopt;
  return token;
}

bool Tokenizer::IsEnd(TokenId token) const { return std::binary_search(end_tokens_.begin(), end_tokens_.end(), token); }

}  // namespace conclave::engine
