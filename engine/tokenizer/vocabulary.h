// SPDX-License-Identifier: Apache-2.0
// What a checkpoint says about its tokens, as plain data: the input of Tokenizer::Create.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "engine/tokenizer/normalizer.h"
#include "engine/tokenizer/pretokenizer.h"

namespace conclave::engine {

using TokenId = int32_t;

// Limits on what a checkpoint may declare; real ones have up to 262,144 tokens of up to a few hundred bytes.
inline constexpr size_t kVocabularyTokensMax = 1 << 22;
inline constexpr size_t kTokenBytesMax = 4096;

// Numbered as in GGUF (and SentencePiece).
enum class TokenType : uint8_t {
  kNormal = 1,
  kUnknown = 2,
  kControl = 3,      // <|im_end|>: has a meaning, never comes from plain text
  kUserDefined = 4,  // taken out of plain text whole, before any other splitting
  kUnused = 5,
  kByte = 6,  // <0x0A>: one byte, for what no piece covers
};

enum class TokenizerModel : uint8_t {
  kByteLevelBpe,      // GGUF "gpt2": merges by rank over bytes, after a split into words
  kSentencePieceBpe,  // GGUF "llama": merges by piece score over characters, spaces written as U+2581
  kCharacterBpe,      // tokenizer.json without ByteLevel: merges by rank over characters
};

// A token that is taken out of a text before any splitting, and how (tokenizers' AddedToken).
struct AddedToken {
  TokenId id;
  bool left_space = false;   // takes the white space before it along
  bool right_space = false;  // and behind it
  bool single_word = false;  // only where no word character stands beside it
  bool normalized = false;   // looked for in the text as the normaliser leaves it
};

// The steps of a tokenizer.json. GGUF files name a known sequence of them instead, see VocabularyData::pre.
struct TextPipeline {
  std::vector<NormalizerStep> normalize;  // before normalised added tokens are looked for
  std::vector<NormalizerStep> prepare;    // before the split into words
  std::vector<SplitRule> split;
  std::vector<AddedToken> added;
  std::vector<TokenId> prefix, suffix;  // around a text, where the model's own marks are asked for
  std::vector<bool> in_merges;          // per token: known to the merges; others only come whole
  std::vector<NormalizerStep> decode;   // of each token's text, where that is not byte-level
  bool whole_words_first = false;       // ignore_merges
  bool fuse_unknown = false;            // a run of unknown characters is one unknown token
  bool strip_first_space = false;       // of a decoded text
};

struct VocabularyData {
  std::string source;  // file or key prefix, for errors
  TokenizerModel model = TokenizerModel::kByteLevelBpe;
  std::string pre;                  // name of the split into words, see pretokenizer.h; byte-level only
  std::vector<std::string> tokens;  // as the checkpoint writes them
  std::vector<TokenType> types;     // one per token
  std::vector<float> scores;        // one per token; SentencePiece only
  std::vector<std::string> merges;  // "left right", best first; not for SentencePiece
  std::optional<TextPipeline> pipeline;
  bool add_bos = false;
  bool add_eos = false;
  bool add_space_prefix = false;  // SentencePiece: a space before the text and after each special token
  std::optional<TokenId> bos, eos, eot, eom, unknown, padding;
  std::vector<TokenId> ends;  // end a text besides eos, eot and eom
  std::string chat_template;  // Jinja source; empty if there is none
};

}  // namespace conclave::engine
