// SPDX-License-Identifier: Apache-2.0
// Compiled constraints of one vocabulary, the last used ones kept: the calls of a role share one.
#pragma once

#include <functional>
#include <list>
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "common/mutex.h"
#include "engine/grammar/constraint.h"

namespace conclave::engine::grammar {

inline constexpr size_t kConstraintsKeptMax = 16;

// Thread-safe.
class ConstraintCache {
 public:
  // `make_trie` is called once, by the first Get.
  explicit ConstraintCache(std::function<std::shared_ptr<const VocabularyTrie>()> make_trie)
      : make_trie_(std::move(make_trie)) {}

  // Errors as of Constraint::Create.
  absl::StatusOr<std::shared_ptr<Constraint>> Get(Language language, std::string_view source);

 private:
  struct Entry {
    Language language;
    std::string source;
    std::shared_ptr<Constraint> constraint;
  };

  const std::function<std::shared_ptr<const VocabularyTrie>()> make_trie_;
  Mutex mutex_;
  std::shared_ptr<const VocabularyTrie> trie_ ABSL_GUARDED_BY(mutex_);
  std::list<Entry> entries_ ABSL_GUARDED_BY(mutex_);  // the last used first
};

}  // namespace conclave::engine::grammar
