// SPDX-License-Identifier: Apache-2.0
// Internal to engine/grammar: nested groups of alternatives while they are read, without recursion.
#pragma once

#include <optional>
#include <vector>

#include "engine/grammar/automaton.h"

namespace conclave::engine::grammar {

class SequenceStack {
 public:
  explicit SequenceStack(AutomatonBuilder* builder) : builder_(builder) { Open(0); }

  size_t depth() const { return groups_.size() - 1; }
  size_t opened_at() const { return groups_.back().position; }
  void Open(size_t position) { groups_.push_back({{}, {}, position}); }
  // What follows belongs to the next alternative.
  void Alternate() {
    Group& group = groups_.back();
    group.alternatives.push_back(group.sequence ? *group.sequence : builder_->Empty());
    group.sequence.reset();
  }
  // The innermost group as one part, its alternatives in it.
  AutomatonBuilder::Part Close() {
    Alternate();
    const AutomatonBuilder::Part part = builder_->Either(groups_.back().alternatives);
    groups_.pop_back();
    return part;
  }
  void Append(const AutomatonBuilder::Part& part) {
    std::optional<AutomatonBuilder::Part>& sequence = groups_.back().sequence;
    sequence = sequence ? builder_->Then(*sequence, part) : part;
  }

 private:
  struct Group {
    std::vector<AutomatonBuilder::Part> alternatives;
    std::optional<AutomatonBuilder::Part> sequence;
    size_t position;
  };
  AutomatonBuilder* const builder_;
  std::vector<Group> groups_;
};

}  // namespace conclave::engine::grammar
