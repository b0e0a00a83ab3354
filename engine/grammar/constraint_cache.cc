// SPDX-License-Identifier: Apache-2.0
#include "engine/grammar/constraint_cache.h"

#include <algorithm>

#include "common/status.h"

namespace conclave::engine::grammar {

absl::StatusOr<std::shared_ptr<Constraint>> ConstraintCache::Get(Language language, std::string_view source) {
  std::shared_ptr<const VocabularyTrie> trie;
  {
    MutexLock lock(&mutex_);
    const auto it = std::find_if(entries_.begin(), entries_.end(), [&](const Entry& entry) {
      return entry.language == language && entry.source == source;
    });
    if (it != entries_.end()) {
      entries_.splice(entries_.begin(), entries_, it);
      return it->constraint;
    }
    if (trie_ == nullptr) trie_ = make_trie_();
    trie = trie_;
  }
  // Others need not wait while this one compiles; two that come with the same text both do.
  ASSIGN_OR_RETURN(std::shared_ptr<Constraint> constraint, Constraint::Create(language, source, std::move(trie)));
  MutexLock lock(&mutex_);
  entries_.push_front({language, std::string(source), constraint});
  if (entries_.size() > kConstraintsKeptMax) entries_.pop_back();
  return constraint;
}

}  // namespace conclave::engine::grammar
