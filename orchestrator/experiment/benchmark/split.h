// SPDX-License-Identifier: Apache-2.0
// Which part of the data a question belongs to, told from its text alone, so that nothing trained on is tested on.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "common/hash.h"

namespace conclave::benchmark {

enum class Split : uint8_t { kTrain, kDevelopment, kTest };

// 80, 10 and 10 % of all questions.
constexpr Split SplitOf(std::string_view question) {
  const uint64_t tenth = Mix64(Fnv1a64(question)) % 10;
  return tenth < 8 ? Split::kTrain : tenth == 8 ? Split::kDevelopment : Split::kTest;
}

// Of a published test set, which comes without a split: a fifth is for choosing, the rest for reporting. Another hash
// than SplitOf's, so that the two are independent.
constexpr Split PublishedSplitOf(std::string_view question) {
  return Mix64(Mix64(Fnv1a64(question))) % 5 == 0 ? Split::kDevelopment : Split::kTest;
}

// "train", "development" or "test"; nullopt for any other name.
constexpr std::optional<Split> SplitNamed(std::string_view name) {
  if (name == "train") return Split::kTrain;
  if (name == "development") return Split::kDevelopment;
  if (name == "test") return Split::kTest;
  return std::nullopt;
}

constexpr std::string_view SplitName(Split split) {
  return split == Split::kTrain ? "train" : split == Split::kTest ? "test" : "development";
}

}  // namespace conclave::benchmark
