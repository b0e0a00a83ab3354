// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/experiment/benchmark/generator.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <unordered_set>
#include <utility>

#include "common/hash.h"
#include "common/status.h"
#include "orchestrator/experiment/benchmark/generator_kinds.h"
#include "orchestrator/experiment/benchmark/steps/families.h"

namespace conclave::benchmark {
namespace {

struct WordKind {
  std::string_view name;
  Puzzle (*make)(Dice& dice, int difficulty);
};
constexpr std::array<WordKind, 4> kWordKinds = {
    {{"arithmetic", MakeArithmetic}, {"knights", MakeKnights}, {"story", MakeStory}, {"string", MakeString}}};
constexpr std::string_view kAllFamilies = "steps";

// A question seen before, or of another split, is drawn again; so many repeats in a row mean that there are no more.
constexpr uint64_t kAttemptsMax = 100;
constexpr uint64_t kSplitAttemptsMax = 1000;

// A kind as asked for: one of the two makers.
struct Kind {
  std::string_view name;
  const WordKind* word = nullptr;
  const Family* family = nullptr;
  int low = 0, high = 0;  // difficulty
};

Puzzle Make(const Kind& kind, Dice& dice, int difficulty) {
  if (kind.word != nullptr) {
    Puzzle puzzle = kind.word->make(dice, difficulty);
    puzzle.solution += fmt::format("\n#### {}", puzzle.answer);
    return puzzle;
  }
  Problem problem = kind.family->make(dice, difficulty);
  const Worked worked = WorkRightly(problem);
  return {std::move(problem.question), worked.answer, SolutionText(worked)};
}

bool ReadNumber(std::string_view text, int* number) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), *number);
  return error == std::errc() && end == text.data() + text.size();
}

// The "4" or "2-6" behind a kind's colon.
absl::Status ReadDifficulty(std::string_view kind, std::string_view text, int* low, int* high) {
  const size_t dash = text.find('-');
  const bool range = dash != std::string_view::npos;
  if (!ReadNumber(text.substr(0, dash), low) || !ReadNumber(range ? text.substr(dash + 1) : text, high) || *low < 1 ||
      *high > kDifficultyMax || *low > *high) {
    return InvalidArgument("kind \"{}\": difficulty is \"{}\"; a number from 1 to {} or a range like 2-6 is needed",
                           kind, text, kDifficultyMax);
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<Kind>> KindsOf(const GeneratorOptions& options) {
  std::vector<Kind> kinds;
  const auto add = [&](std::string_view name, int low, int high) {
    const size_t before = kinds.size();
    for (const WordKind& kind : kWordKinds) {
      if (kind.name == name) kinds.push_back({kind.name, &kind, nullptr, low, high});
    }
    for (const Family& family : Families()) {
      if (family.name == name || name == kAllFamilies) kinds.push_back({family.name, nullptr, &family, low, high});
    }
    return kinds.size() > before;
  };
  if (options.kinds.empty()) {
    for (const WordKind& kind : kWordKinds) add(kind.name, options.difficulty, options.difficulty);
  }
  for (const std::string_view text : options.kinds) {
    const size_t colon = text.find(':');
    const std::string_view name = text.substr(0, colon);
    int low = options.difficulty;
    int high = options.difficulty;
    if (colon != std::string_view::npos) RETURN_IF_ERROR(ReadDifficulty(name, text.substr(colon + 1), &low, &high));
    if (!add(name, low, high)) {
      return InvalidArgument("unknown kind of item \"{}\"; known: {}, and {} for all with steps", name,
                             fmt::join(GeneratorKinds(), ", "), kAllFamilies);
    }
  }
  return kinds;
}

std::vector<std::string_view> KindNames() {
  std::vector<std::string_view> names;
  for (const WordKind& kind : kWordKinds) names.push_back(kind.name);
  for (const Family& family : Families()) names.push_back(family.name);
  std::sort(names.begin(), names.end());
  return names;
}

}  // namespace

std::span<const std::string_view> GeneratorKinds() {
  static const std::vector<std::string_view> names = KindNames();
  return names;
}

absl::StatusOr<std::vector<Item>> Generate(const GeneratorOptions& options) {
  if (options.count < 1 || options.count > kItemsMax) {
    return InvalidArgument("count is {}; 1 to {} items can be generated", options.count, kItemsMax);
  }
  if (options.difficulty < 1 || options.difficulty > kDifficultyMax) {
    return InvalidArgument("difficulty is {}; it goes from 1 to {}", options.difficulty, kDifficultyMax);
  }
  ASSIGN_OR_RETURN(const std::vector<Kind> kinds, KindsOf(options));
  const bool split = options.split.has_value();
  const uint64_t attempts_max = split ? kSplitAttemptsMax : kAttemptsMax;
  const std::string prefix = split ? fmt::format("synthetic-{}", SplitName(*options.split)) : "synthetic";
  std::vector<Item> items;
  items.reserve(options.count);
  std::unordered_set<std::string> questions;
  for (size_t number = 0; number < options.count; ++number) {
    const Kind& kind = kinds[number % kinds.size()];
    const int difficulty =
        kind.low + static_cast<int>(number / kinds.size() % static_cast<size_t>(kind.high - kind.low + 1));
    uint64_t attempt = 0;
    for (; attempt < attempts_max; ++attempt) {
      Dice dice(options.seed, Fnv1a64(kind.name, Mix64(number * attempts_max + attempt)));
      Puzzle puzzle = Make(kind, dice, difficulty);
      if (split && SplitOf(puzzle.question) != *options.split) continue;
      if (!questions.insert(puzzle.question).second) continue;
      Item& item = items.emplace_back();
      item.id = fmt::format("{}-{}-{}-{}", prefix, kind.name, options.seed, number);
      item.question = std::move(puzzle.question);
      item.answer = fmt::format("{}", puzzle.answer);
      item.solution = std::move(puzzle.solution);
      item.stratum = std::string(kind.name);
      break;
    }
    if (attempt == attempts_max) {
      return ResourceExhausted("no {} distinct items of kind \"{}\" at difficulty {}; ask for fewer or raise it",
                               options.count, kind.name, difficulty);
    }
  }
  return items;
}

}  // namespace conclave::benchmark
