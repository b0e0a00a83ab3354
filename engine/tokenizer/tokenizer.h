// SPDX-License-Identifier: Apache-2.0
// Text to token ids and back, as the checkpoint's own tokenizer does it: byte-level BPE (GPT-2 and its successors),
// SentencePiece BPE (Llama 1 and 2, Mistral, Phi-3) and the character BPE of tokenizer.json.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "engine/tokenizer/bpe_merger.h"
#include "engine/tokenizer/piece_table.h"
#include "engine/tokenizer/pretokenizer.h"
#include "engine/tokenizer/token_trie.h"
#include "engine/tokenizer/vocabulary.h"

namespace conclave::engine {

inline constexpr size_t kEncodeTextBytesMax = 256 << 20;

// [begin, end) in bytes of a text.
struct ByteRange {
  size_t begin, end;
};

// Immutable, so thread-safe. Encoding takes time n log n at worst in the length of the text and does not recurse.
//
// Special tokens are those of type control or unknown, the text-ending ones, and user-defined ones that are written as
// markers ("<|user|>", "</s>", "[INST]"): whoever can write one into a prompt can pretend to be another speaker. They
// are recognised only inside byte ranges the caller vouches for (the text of the model's own chat template); anywhere
// else the same characters are plain text. Other user-defined tokens (runs of spaces, say) are recognised everywhere.
class Tokenizer {
 public:
  // INVALID_ARGUMENT naming token or merge and value. Takes time and memory linear in the vocabulary.
  static absl::StatusOr<std::unique_ptr<Tokenizer>> Create(VocabularyData vocabulary);

  enum class Special : uint8_t { kAsText, kParse };
  enum class AddBos : uint8_t { kNo, kIfModelDoes };

  // `trusted` are sorted and do not overlap; a special token must lie within one of them. kIfModelDoes adds the
  // begin-of-sequence token (and, for the rare model that wants one, the end) that the checkpoint asks for.
  // Malformed UTF-8 is encoded byte by byte. INVALID_ARGUMENT over kEncodeTextBytesMax, RESOURCE_EXHAUSTED where a
  // split pattern of the checkpoint takes too long.
  absl::StatusOr<std::vector<TokenId>> Encode(std::string_view text, std::span<const ByteRange> trusted,
                                              AddBos add_bos) const;
  // All of the text is trusted (kParse), or none of it.
  absl::StatusOr<std::vector<TokenId>> Encode(std::string_view text, Special special, AddBos add_bos) const;

  // The bytes the tokens stand for; not always valid UTF-8. kAsText writes special tokens as their text; kSkip leaves
  // control and unknown tokens out. Where Encode put a space before plain text, it is taken away again. Ids outside the
  // vocabulary stand for nothing.
  enum class SpecialText : uint8_t { kAsText, kSkip };
  std::string Decode(std::span<const TokenId> tokens, SpecialText special) const;

  TokenId vocab_size() const { return static_cast<TokenId>(vocabulary_.tokens.size()); }
  bool Contains(TokenId token) const { return token >= 0 && token < vocab_size(); }
  // REQUIRES for these four: Contains(token).
  std::string_view TokenText(TokenId token) const { return vocabulary_.tokens[Index(token)]; }  // as in the checkpoint
  std::string_view TokenBytes(TokenId token) const { return bytes_[Index(token)]; }  // what it adds to a text
  TokenType Type(TokenId token) const { return vocabulary_.types[Index(token)]; }
  bool IsSpecial(TokenId token) const { return special_[Index(token)]; }
  std::optional<TokenId> FindToken(std::string_view text) const;  // by its text in the checkpoint

  std::optional<TokenId> bos() const { return vocabulary_.bos; }
  std::optional<TokenId> eos() const { return vocabulary_.eos; }
  std::optional<TokenId> eot() const { return vocabulary_.eot; }  // ends a turn
  // Every token that ends a generation: eos, eot, eom, and what other names models give them. Sorted.
  std::span<const TokenId> end_tokens() const { return end_tokens_; }
  bool IsEnd(TokenId token) const;
  bool adds_bos() const { return vocabulary_.add_bos; }
  const std::string& chat_template() const { return vocabulary_.chat_template; }
  const VocabularyData& vocabulary() const { return vocabulary_; }

 private:
  friend class TokenizerBuilder;
  explicit Tokenizer(VocabularyData vocabulary) : vocabulary_(std::move(vocabulary)) {}

  struct Scratch;
  bool ByteLevel() const { return vocabulary_.model == TokenizerModel::kByteLevelBpe; }
  static size_t Index(TokenId token) { return static_cast<size_t>(token); }
  template <typename TrustedBytes, typename Plain>
  absl::Status TakeOutTokens(const TokenTrie& trie, std::string_view text, TrustedBytes trusted_bytes, Plain plain,
                             std::vector<TokenId>* out) const;
  absl::Status EncodePlain(std::string_view text, size_t offset, Scratch* scratch, std::vector<TokenId>* out) const;
  absl::Status EncodeNormalized(std::string_view text, bool at_start, Scratch* scratch,
                                std::vector<TokenId>* out) const;
  void SplitSentencePieceWords(std::string_view text, std::vector<uint32_t>* ends) const;
  void EncodeWord(std::string_view word, Scratch* scratch, std::vector<TokenId>* out) const;
  void ToSymbols(std::string_view word, std::vector<BpeMerger::Symbol>* symbols) const;
  void ToTokens(std::string_view word, std::vector<BpeMerger::Symbol>* symbols) const;
  void AppendSymbol(BpeMerger::Symbol symbol, std::string_view bytes, std::vector<TokenId>* out) const;
  size_t SymbolBytes(BpeMerger::Symbol symbol) const;

  VocabularyData vocabulary_;
  std::vector<std::string> bytes_;  // per token
  std::vector<bool> special_;
  std::vector<TokenId> end_tokens_;
  PieceTable by_text_;  // every token, by its text in the checkpoint

  // Plain text. Symbols are token ids, and from vocab_size() on pieces that merges pass through but that are no tokens.
  std::unique_ptr<Normalizer> normalizer_;  // null: nothing to do
  std::unique_ptr<Normalizer> prepare_;     // null: nothing to do
  bool words_end_before_spaces_ = false;    // SentencePiece: no piece has a space after anything else
  std::unique_ptr<Pretokenizer> pretokenizer_;
  PieceTable words_;  // bytes of the words that encode to one token
  BpeMerger merger_;
  std::vector<uint32_t> extra_bytes_;            // sizes of the symbols that are no tokens
  std::vector<BpeMerger::Symbol> byte_symbols_;  // [256], byte-level; -1 where merges know no such byte
  std::vector<TokenId> of_byte_;  // [256]: spells what no token covers; -1 where there is no token for it either
  PieceTable characters_;         // SentencePiece: symbols of single characters
  TokenTrie whole_tokens_;        // special and user-defined tokens
  TokenTrie normalized_tokens_;   // those of them that are looked for after the normaliser
  absl::flat_hash_map<TokenId, AddedToken> added_;  // those with properties of their own
};

}  // namespace conclave::engine
