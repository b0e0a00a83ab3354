// SPDX-License-Identifier: Apache-2.0
// Runs an automaton: the sets of places where a text so far may stand, found once and numbered, with what each byte
// makes of them. For constraints without nesting that is a finite automaton that is built as far as texts need it.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "engine/grammar/automaton.h"

namespace conclave::engine::grammar {

inline constexpr size_t kStateItemsMax = 4096;     // places in one state
inline constexpr size_t kTableItemsMax = 1 << 20;  // in all states together
inline constexpr size_t kTableCellsMax = 1 << 22;  // states times byte classes

using StateId = int32_t;
inline constexpr StateId kDead = -1;     // no text goes on like this
inline constexpr StateId kTooMany = -2;  // a limit above was met

// Where a rule returns to: linked frames, equal ones shared.
using StackId = int32_t;
inline constexpr StackId kEmptyStack = 0;    // of the first rule: its end is the text's
inline constexpr StackId kUnknownStack = 1;  // of a local state: its end is whatever the caller makes of it

// Not thread-safe.
class StateTable {
 public:
  explicit StateTable(std::shared_ptr<const Automaton> automaton);

  struct Item {
    StackId stack;
    int32_t node;
    friend auto operator<=>(const Item&, const Item&) = default;
  };
  struct Frame {
    int32_t node;  // goes on here
    StackId below;
    int32_t depth;    // frames from here down, itself included
    int32_t deepest;  // nesting that it takes to complete what the frames hold, counted from the bottom
  };
  struct State {
    size_t begin, end;  // of its items
    bool accepts;       // the text may end here
    bool returns;       // of a local state: the rule may end here
    int32_t deepest;    // as of frames
  };

  StateId start() const { return start_; }
  // The state after `byte`. REQUIRES: state >= 0.
  StateId Step(StateId state, uint8_t byte) {
    const StateId known = next_[static_cast<size_t>(state) * classes_ + automaton_->byte_class[byte]];
    return known != kUnknown ? known : FindNext(state, byte);
  }

  const State& at(StateId state) const { return states_[static_cast<size_t>(state)]; }
  std::span<const Item> items(StateId state) const {
    return std::span(items_).subspan(at(state).begin, at(state).end - at(state).begin);
  }
  const Frame& frame(StackId stack) const { return frames_[static_cast<size_t>(stack)]; }
  size_t size() const { return states_.size(); }
  // Half of a limit is used: a good moment to begin anew.
  bool crowded() const { return items_.size() > kTableItemsMax / 2 || next_.size() > kTableCellsMax / 2; }

  // The state at `nodes` (sorted) of a rule whose caller is not known.
  StateId Local(std::span<const Item> items);
  // The state of the items alone, of one stack.
  StateId Only(std::span<const Item> items);
  // The state after the rule on top of `stack` has ended. REQUIRES: a stack with frames.
  StateId Returned(StackId stack);
  // The same state in another table of the same automaton, which knows nothing of this one's numbers.
  StateId CopyFrom(const StateTable& other, StateId state);

 private:
  static constexpr StateId kUnknown = -3;

  StateId FindNext(StateId state, uint8_t byte);
  void Visit(int32_t node, StackId stack);
  StackId Push(int32_t node, StackId below);
  StateId Close();  // of what was visited
  StateId Intern(bool accepts, bool returns);

  const std::shared_ptr<const Automaton> automaton_;
  const size_t classes_;
  std::vector<Frame> frames_;
  absl::flat_hash_map<uint64_t, StackId> frame_ids_;  // by node and stack below
  std::vector<State> states_;
  std::vector<Item> items_;
  std::vector<StateId> next_;  // [states, classes]
  absl::flat_hash_map<uint64_t, std::vector<StateId>> by_hash_;
  StateId start_ = kDead;

  std::vector<Item> pending_, found_;  // scratch
  absl::flat_hash_set<uint64_t> visited_;
};

}  // namespace conclave::engine::grammar
