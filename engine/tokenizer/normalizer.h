// SPDX-License-Identifier: Apache-2.0
// Changes a text before it is split into words: the normalisers of tokenizer.json, and what its pre-tokenisers add.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace conclave::engine {

struct NormalizerStep {
  enum class Kind : uint8_t {
    kNfc,
    kNfd,
    kNfkc,
    kNfkd,
    kPrepend,                    // `content` before a text that is not empty
    kPrependUnlessThere,         // `content` before a text that does not begin with it
    kPrependUnlessThereAtStart,  // the same, for the stretch at the very start of the text only
    kReplace,                    // every `pattern` by `content`
    kReplaceRegex,               // the same for an Oniguruma pattern; `content` is literal
    kStripLeft,                  // white space
    kStripRight,
  };
  Kind kind;
  std::string pattern = {};
  std::string content = {};
};

// Immutable, so thread-safe.
class Normalizer {
 public:
  // INVALID_ARGUMENT for a pattern that does not compile or an empty one.
  static absl::StatusOr<std::unique_ptr<Normalizer>> Create(std::vector<NormalizerStep> steps);
  ~Normalizer();

  bool identity() const { return steps_.empty(); }
  // `at_start`: the text is the beginning of all that is encoded. RESOURCE_EXHAUSTED if a pattern backtracks beyond its
  // limit, or the result grows beyond kNormalizedBytesMax.
  absl::StatusOr<std::string> Apply(std::string_view text, bool at_start) const;

 private:
  struct Compiled;
  explicit Normalizer(std::vector<NormalizerStep> steps);
  absl::StatusOr<std::string> Replace(size_t step, std::string_view text) const;

  std::vector<NormalizerStep> steps_;
  std::vector<std::unique_ptr<Compiled>> compiled_;  // per step; null where it has no regular expression
};

inline constexpr size_t kNormalizedBytesMax = size_t{1} << 30;

}  // namespace conclave::engine
