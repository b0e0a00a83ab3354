// SPDX-License-Identifier: Apache-2.0
// The split of a text into words that merges never cross. Checkpoints name theirs (GGUF tokenizer.ggml.pre); the
// patterns are those of the models' own tokenizer.json files.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace conclave::engine {

// What comes with a name, besides the split.
struct PretokenizerSpec {
  std::string_view names;  // separated by spaces
  // PCRE2 patterns, applied one after another: each splits every piece of the one before into its matches and the
  // stretches between them.
  std::vector<std::string_view> patterns;
  bool whole_words_first = false;  // a word that is a token is that token, whatever the merges say
  bool add_bos = false;            // where the checkpoint does not say
  bool normalize_nfc = false;      // Unicode composition before the split
};

// The specs of all known names.
std::span<const PretokenizerSpec> PretokenizerSpecs();
// INVALID_ARGUMENT naming `name` and what is known.
absl::StatusOr<const PretokenizerSpec*> FindPretokenizer(std::string_view name);

// How a text is cut at the matches of a pattern (tokenizers' SplitDelimiterBehavior).
enum class SplitBehavior : uint8_t {
  kIsolated,            // each match is a piece, and each stretch between
  kMergedWithPrevious,  // a match ends the piece before it
  kMergedWithNext,      // a match begins the piece after it
  kContiguous,          // neighbouring matches are one piece
};

struct SplitRule {
  std::string pattern;  // PCRE2
  SplitBehavior behavior = SplitBehavior::kIsolated;
  bool invert = false;  // the stretches between are the matches
  bool ruby = false;    // ^ and $ match at line ends
};

// GPT-2's own split, which "ByteLevel" brings along in tokenizer.json.
std::string_view Gpt2Pattern();

// Thread-safe.
class Pretokenizer {
 public:
  // INVALID_ARGUMENT for a pattern that does not compile.
  static absl::StatusOr<std::unique_ptr<Pretokenizer>> Create(std::span<const std::string_view> patterns);
  static absl::StatusOr<std::unique_ptr<Pretokenizer>> Create(std::span<const SplitRule> rules);
  ~Pretokenizer();

  // Replaces `ends` by the end of each piece, in bytes; the last is text.size(). Pieces are not empty. Malformed UTF-8
  // matches no pattern and stays between the pieces around it. RESOURCE_EXHAUSTED if a pattern backtracks beyond
  // its limit, which none of the built-in ones can.
  absl::Status Split(std::string_view text, std::vector<uint32_t>* ends) const;

 private:
  struct Rule;
  explicit Pretokenizer(std::vector<Rule> rules);
  std::vector<Rule> rules_;
};

}  // namespace conclave::engine
