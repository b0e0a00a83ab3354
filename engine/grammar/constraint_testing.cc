// SPDX-License-Identifier: Apache-2.0
#include "engine/grammar/constraint_testing.h"

#include <algorithm>

#include "common/check.h"

namespace conclave::engine::grammar {

bool Accepts(const std::shared_ptr<const Automaton>& automaton, std::string_view text) {
  StateTable table(automaton);
  StateId state = table.start();
  for (size_t i = 0; i < text.size() && state >= 0; ++i) state = table.Step(state, static_cast<uint8_t>(text[i]));
  CONCLAVE_CHECK(state != kTooMany);
  return state >= 0 && table.at(state).accepts;
}

SlowReader::SlowReader(const Automaton& automaton) : automaton_(&automaton) {
  places_ = Closed({{automaton.rule_start[Automaton::kStartRule]}}, &accepts_);
}

SlowReader::Places SlowReader::Closed(std::vector<std::vector<int32_t>> pending, bool* accepts) const {
  Places all(pending.begin(), pending.end());
  *accepts = false;
  const auto add = [&](std::vector<int32_t> place) {
    if (all.insert(place).second) pending.push_back(std::move(place));
  };
  while (!pending.empty()) {
    const std::vector<int32_t> place = std::move(pending.back());
    pending.pop_back();
    const auto node = static_cast<size_t>(place.back());
    if (automaton_->ends[node] != 0) {
      if (place.size() == 1) {
        *accepts = true;
      } else {
        add({place.begin(), place.end() - 1});
      }
    }
    for (const Edge& edge : automaton_->EdgesOf(place.back())) {
      if (edge.kind == Edge::Kind::kBytes) continue;
      std::vector<int32_t> next = place;
      next.back() = edge.target;
      if (edge.kind == Edge::Kind::kCall) {
        if (automaton_->only_ends[static_cast<size_t>(edge.target)] != 0) next.pop_back();
        next.push_back(automaton_->rule_start[static_cast<size_t>(edge.rule)]);
      }
      // All that the stack holds has to be completed within the limit.
      int32_t deepest = 0;
      for (size_t i = 0; i < next.size(); ++i) {
        deepest = std::max(deepest, static_cast<int32_t>(i) + automaton_->depth[static_cast<size_t>(next[i])]);
      }
      if (deepest <= kCallDepthMax) add(std::move(next));
    }
  }
  return all;
}

bool SlowReader::Append(std::string_view bytes) {
  Places places = places_;
  bool accepts = accepts_;
  for (const char c : bytes) {
    std::vector<std::vector<int32_t>> next;
    for (const std::vector<int32_t>& place : places) {
      for (const Edge& edge : automaton_->EdgesOf(place.back())) {
        const auto byte = static_cast<uint8_t>(c);
        if (edge.kind != Edge::Kind::kBytes || byte < edge.first || byte > edge.last) continue;
        next.push_back(place);
        next.back().back() = edge.target;
      }
    }
    if (next.empty()) return false;
    places = Closed(std::move(next), &accepts);
  }
  places_ = std::move(places);
  accepts_ = accepts;
  return true;
}

}  // namespace conclave::engine::grammar
