// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/experiment/benchmark/generator.h"

#include <fmt/ranges.h>

#include <array>
#include <unordered_set>
#include <utility>

#include "common/hash.h"
#include "common/status.h"
#include "orchestrator/experiment/benchmark/generator_kinds.h"

namespace conclave::benchmark {
namespace {

struct Kind {
  std::string_view name;
  Puzzle (*make)(Dice& dice, int difficulty);
};
constexpr std::array<Kind, 4> kKinds = {
    {{"arithmetic", MakeArithmetic}, {"knights", MakeKnights}, {"story", MakeStory}, {"string", MakeString}}};
constexpr std::array<std::string_view, 4> kKindNames = {"arithmetic", "knights", "story", "string"};

// A question seen before is drawn again; so many repeats in a row mean that there are no more.
constexpr uint64_t kAttemptsMax = 100;

absl::StatusOr<std::vector<Kind>> KindsOf(const std::vector<std::string>& names) {
  std::vector<Kind> kinds;
  if (names.empty()) return std::vector<Kind>(kKinds.begin(), kKinds.end());
  for (const std::string& name : names) {
    const size_t before = kinds.size();
    for (const Kind& kind : kKinds) {
      if (kind.name == name) kinds.push_back(kind);
    }
    if (kinds.size() == before) {
      return InvalidArgument("unknown kind of item \"{}\"; known: {}", name, fmt::join(kKindNames, ", "));
    }
  }
  return kinds;
}

}  // namespace

std::span<const std::string_view> GeneratorKinds() { return kKindNames; }

absl::StatusOr<std::vector<Item>> Generate(const GeneratorOptions& options) {
  if (options.count < 1 || options.count > kItemsMax) {
    return InvalidArgument("count is {}; 1 to {} items can be generated", options.count, kItemsMax);
  }
  if (options.difficulty < 1 || options.difficulty > kDifficultyMax) {
    return InvalidArgument("difficulty is {}; it goes from 1 to {}", options.difficulty, kDifficultyMax);
  }
  ASSIGN_OR_RETURN(const std::vector<Kind> kinds, KindsOf(options.kinds));
  std::vector<Item> items;
  items.reserve(options.count);
  std::unordered_set<std::string> questions;
  for (size_t number = 0; number < options.count; ++number) {
    const Kind& kind = kinds[number % kinds.size()];
    uint64_t attempt = 0;
    for (; attempt < kAttemptsMax; ++attempt) {
      Dice dice(options.seed, Fnv1a64(kind.name, Mix64(number * kAttemptsMax + attempt)));
      Puzzle puzzle = kind.make(dice, options.difficulty);
      if (!questions.insert(puzzle.question).second) continue;
      Item& item = items.emplace_back();
      item.id = fmt::format("synthetic-{}-{}-{}", kind.name, options.seed, number);
      item.question = std::move(puzzle.question);
      item.answer = fmt::format("{}", puzzle.answer);
      item.solution = fmt::format("{}\n#### {}", puzzle.solution, puzzle.answer);
      item.stratum = std::string(kind.name);
      break;
    }
    if (attempt == kAttemptsMax) {
      return ResourceExhausted("no {} distinct items of kind \"{}\" at difficulty {}; ask for fewer or raise it",
                               options.count, kind.name, options.difficulty);
    }
  }
  return items;
}

}  // namespace conclave::benchmark
