// SPDX-License-Identifier: Apache-2.0
// A constraint on a text: what it may be, and, as it grows, which tokens may come next.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "common/mutex.h"
#include "engine/grammar/automaton.h"
#include "engine/grammar/state_table.h"
#include "engine/grammar/token_masks.h"
#include "engine/grammar/vocabulary_trie.h"

namespace conclave::engine::grammar {

inline constexpr size_t kSourceBytesMax = 128 << 10;

enum class Language : uint8_t {
  kJsonSchema,  // json_schema.h
  kRegex,       // regex.h: the whole text matches
  kGrammar,     // ebnf.h: the rule "root"
};

// INVALID_ARGUMENT names the position: "at byte 12: ..", "at properties.age.type: ..".
absl::StatusOr<std::shared_ptr<const Automaton>> CompileAutomaton(Language language, std::string_view source);

class ConstraintMatcher;

// Shared by all texts under one constraint, with what was found out about its states. Thread-safe.
class Constraint {
 public:
  // Compiles, and finds the mask of an empty text. `trie` is shared by all constraints of a vocabulary.
  static absl::StatusOr<std::shared_ptr<Constraint>> Create(Language language, std::string_view source,
                                                            std::shared_ptr<const VocabularyTrie> trie);

 private:
  friend class ConstraintMatcher;
  Constraint(std::shared_ptr<const Automaton> automaton, std::shared_ptr<const VocabularyTrie> trie);
  // Forgets what was found when it has become much. Texts go on as before.
  void MakeRoom() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const std::shared_ptr<const Automaton> automaton_;
  const std::shared_ptr<const VocabularyTrie> trie_;
  Mutex mutex_;
  std::unique_ptr<StateTable> table_ ABSL_GUARDED_BY(mutex_);
  std::unique_ptr<TokenMasks> masks_ ABSL_GUARDED_BY(mutex_);
  std::vector<ConstraintMatcher*> matchers_ ABSL_GUARDED_BY(mutex_);  // whose states are numbers of table_
};

// One text. Thread-compatible.
class ConstraintMatcher {
 public:
  explicit ConstraintMatcher(std::shared_ptr<Constraint> constraint);
  ~ConstraintMatcher();
  ConstraintMatcher(const ConstraintMatcher&) = delete;
  ConstraintMatcher& operator=(const ConstraintMatcher&) = delete;

  // The tokens that may come next, end tokens where the text may end. RESOURCE_EXHAUSTED CONSTRAINT_TOO_AMBIGUOUS where
  // a text may stand in too many places at once.
  absl::StatusOr<TokenMask> Allowed();
  // The text goes on with `token`'s bytes. FAILED_PRECONDITION CONSTRAINT_VIOLATED if it may not; an end token may not.
  absl::Status Append(TokenId token);
  absl::Status AppendBytes(std::string_view bytes);

  bool complete() const;   // the text may end here
  bool exhausted() const;  // it must: nothing may follow

 private:
  friend class Constraint;
  const std::shared_ptr<Constraint> constraint_;
  StateId state_;  // guarded by the constraint's mutex
};

}  // namespace conclave::engine::grammar
