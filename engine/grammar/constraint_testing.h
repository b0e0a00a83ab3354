// SPDX-License-Identifier: Apache-2.0
// For tests: whole texts against a constraint, and a slow second reading of an automaton, a set of explicit stacks.
#pragma once

#include <set>
#include <string_view>
#include <vector>

#include "engine/grammar/constraint.h"

namespace conclave::engine::grammar {

// Whether `text` is one of the automaton's.
bool Accepts(const std::shared_ptr<const Automaton>& automaton, std::string_view text);

class SlowReader {
 public:
  explicit SlowReader(const Automaton& automaton);
  // False: no text begins like this. The reader stays as it was.
  bool Append(std::string_view bytes);
  bool complete() const { return accepts_; }

 private:
  // The node last in each; below it where calls return to.
  using Places = std::set<std::vector<int32_t>>;
  Places Closed(std::vector<std::vector<int32_t>> pending, bool* accepts) const;

  const Automaton* automaton_;  // outlives this
  Places places_;
  bool accepts_ = false;
};

}  // namespace conclave::engine::grammar
