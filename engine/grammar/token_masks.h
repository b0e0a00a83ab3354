// SPDX-License-Identifier: Apache-2.0
// Which tokens may follow a state, found by walking the vocabulary's tree with the automaton.
//
// What a token may be hardly ever depends on how a text came to where it stands: within a string all is the same at
// any depth of nesting. So a state's mask is put together from those of its local states, which know no callers and are
// few, and only tokens that go on past the end of the innermost rule are looked at anew.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "engine/grammar/state_table.h"
#include "engine/grammar/vocabulary_trie.h"

namespace conclave::engine::grammar {

inline constexpr size_t kMaskBytesMax = 16 << 20;  // of all that are kept, per constraint

// Bit i % 64 of word i / 64 is token i; end tokens are in it where the text may end.
using TokenMask = std::shared_ptr<const std::vector<uint64_t>>;

// Keeps what it found. Not thread-safe; `trie` and `table` outlive it.
class TokenMasks {
 public:
  TokenMasks(const VocabularyTrie* trie, StateTable* table) : trie_(trie), table_(table) {}

  // Null: a limit of the table was met. The masks of what is allowed change neither with time nor with what is kept.
  TokenMask Of(StateId state);
  bool crowded() const { return bytes_ > kMaskBytesMax; }

 private:
  struct Local {
    std::vector<uint64_t> words;    // empty: `tokens` say it
    std::vector<TokenId> tokens;    // not many
    std::vector<int32_t> returned;  // nodes of the tree behind which the rule may have ended
    int32_t deepest = 0;            // nesting that the walk met
  };

  // Adds the tokens at `begin`.. below the tree's node whose depth is `depth`, from `from` on. False: a limit was met.
  template <typename Each>
  bool Walk(int32_t begin, int32_t end, int32_t depth, StateId from, Each each);
  const Local* LocalOf(std::span<const StateTable::Item> items);
  bool AddGroup(std::span<const StateTable::Item> items, std::vector<uint64_t>* words);
  void Set(int32_t node, std::vector<uint64_t>* words) const;

  const VocabularyTrie* const trie_;
  StateTable* const table_;
  absl::flat_hash_map<StateId, TokenMask> masks_;
  absl::flat_hash_map<StateId, std::unique_ptr<const Local>> locals_;
  size_t bytes_ = 0;
};

}  // namespace conclave::engine::grammar
