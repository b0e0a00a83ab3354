// SPDX-License-Identifier: Apache-2.0
// The first byte picks the language, the rest is the source: an error with a place, or an automaton in which every text
// that has been begun can go on or end.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "common/check.h"
#include "engine/grammar/constraint.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  namespace grammar = conclave::engine::grammar;
  if (size == 0) return 0;
  const auto language = static_cast<grammar::Language>(data[0] % 3);
  const std::string_view source(reinterpret_cast<const char*>(data) + 1, size - 1);
  const auto automaton = grammar::CompileAutomaton(language, source);
  if (!automaton.ok()) {
    CONCLAVE_CHECK(!automaton.status().message().empty());
    return 0;
  }
  grammar::StateTable table(*automaton);
  grammar::StateId state = table.start();
  uint32_t random = 1;
  for (int i = 0; i < 200 && state >= 0; ++i) {
    random = random * 1664525 + 1013904223;
    grammar::StateId next = grammar::kDead;
    for (uint32_t j = 0; j < 256 && next == grammar::kDead; ++j) {
      next = table.Step(state, static_cast<uint8_t>((random >> 13) + j));
    }
    CONCLAVE_CHECK(next != grammar::kDead || table.at(state).accepts);
    state = next;
  }
  return 0;
}
