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

bool IsAscii(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return static_cast<uint8_t>(c) < 0x80; });
}

// Canonical composition; text that is not valid UTF-8 stays as it is.
std::string NormalizeNfc(std::string_view text) {
  utf8proc_uint8_t* composed = nullptr;
  const utf8proc_ssize_t size =
      utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()), static_cast<utf8proc_ssize_t>(text.size()),
                   &composed, static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE));
  if (size < 0) return std::string(text);
  std::string out(reinterpret_cast<const char*>(composed), static_cast<size_t>(size));
  std::free(composed);  // NOLINT(cppcoreguidelines-no-malloc): utf8proc allocates with malloc
  return out;
}

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

}  // namespace

// Memory of one Encode call, reused over its words.
struct Tokenizer::Scratch {
  std::vector<uint32_t> ends;
  std::vector<BpeMerger::Symbol> symbols;
  BpeMerger::Workspace merge;
  bool space_prefix = false;  // SentencePiece: the next stretch of plain text gets one
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
  if (add_bos == AddBos::kIfModelDoes && vocabulary_.add_bos) out.push_back(*vocabulary_.bos);
  Scratch scratch;
  scratch.space_prefix = vocabulary_.add_space_prefix;
  size_t plain_begin = 0;
  size_t position = 0;
  size_t range = 0;  // the first trusted range that ends after `position`
  while (position < text.size()) {
    position = whole_tokens_.empty() ? text.size() : whole_tokens_.NextCandidate(text, position);
    if (position == text.size()) break;
    while (range < trusted.size() && trusted[range].end <= position) ++range;
    const bool inside = range < trusted.size() && trusted[range].begin <= position;
    const size_t trusted_bytes = inside ? trusted[range].end - position : 0;
    size_t size = 0;
    const TokenId token = whole_tokens_.LongestAt(
        text.substr(position), &size, [&](TokenId t, size_t n) { return n <= trusted_bytes || !special_[Index(t)]; });
    if (token < 0) {
      ++position;
      continue;
    }
    RETURN_IF_ERROR(EncodePlain(text.substr(plain_begin, position - plain_begin), &scratch, &out));
    out.push_back(token);
    scratch.space_prefix = vocabulary_.add_space_prefix;
    position += size;
    plain_begin = position;
  }
  RETURN_IF_ERROR(EncodePlain(text.substr(plain_begin), &scratch, &out));
  if (add_bos == AddBos::kIfModelDoes && vocabulary_.add_eos) out.push_back(*vocabulary_.eos);
  return out;
}

absl::Status Tokenizer::EncodePlain(std::string_view text, Scratch* scratch, std::vector<TokenId>* out) const {
  if (text.empty()) return absl::OkStatus();
  std::string changed;
  if (vocabulary_.model == TokenizerModel::kSentencePieceBpe) {
    changed = MarkSpaces(text, std::exchange(scratch->space_prefix, false));
    text = changed;
    SplitSentencePieceWords(text, &scratch->ends);
  } else {
    if (normalize_nfc_ && !IsAscii(text)) {
      changed = NormalizeNfc(text);
      text = changed;
    }
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
  const auto uncovered = static_cast<BpeMerger::Symbol>(bytes_.size() + extra_bytes_.size());
  if (vocabulary_.model == TokenizerModel::kByteLevelBpe) {
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

size_t Tokenizer::SymbolBytes(BpeMerger::Symbol symbol) const {
  if (symbol < vocab_size()) {
    // In the words of SentencePiece a space is its mark.
    const bool marked = vocabulary_.model == TokenizerModel::kSentencePieceBpe;
    return marked ? vocabulary_.tokens[Index(symbol)].size() : bytes_[Index(symbol)].size();
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
  bool strip = vocabulary_.add_space_prefix;
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
