// SPDX-License-Identifier: Apache-2.0
// Benchmark items and where they come from: a JSONL file (.gz allowed), or a published table. See generator.h for items
// from nothing.
#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "orchestrator/experiment/benchmark/split.h"

namespace conclave::benchmark {

struct Item {
  std::string id;  // unique in its benchmark
  std::string question;
  std::string answer;                // the gold answer alone, as its grader reads it
  std::string solution;              // worked solution, where the source has one
  std::vector<std::string> choices;  // option texts in order A, B, ..; empty for open questions
  std::string cluster;  // items that share a passage, template or the like, sampled together; empty: its own
  std::string stratum;  // fixed part of the benchmark (subject, task); empty: none

  friend bool operator==(const Item&, const Item&) = default;
};

// Limits of an items file; one more is RESOURCE_EXHAUSTED.
inline constexpr size_t kItemsMax = 1'000'000;
inline constexpr size_t kChoicesMax = 26;  // A to Z

struct LoadOptions {
  // "items": our own form {"id","question","answer","choices"?,"cluster"?,"stratum"?}, no other field;
  // "gsm8k": the published form {"question","answer"}, the answer a worked solution ending "#### value"; ids are
  //   "gsm8k-main-<file stem>-#<line from 0>", those of the recorded answers for test.jsonl;
  // "recorded_items": {"id","question","gold"};
  // as published: "math" (MATH, MATH-500, AIME), "mmlu" (JSONL, a subject's CSV or a folder of them; subjects are
  //   strata), "mmlu_pro" (categories are strata), "arc", "bbh" (a task's JSON or the folder of all; tasks are strata),
  //   "humaneval" (the answer is what the code grader reads), "game24" (CSV; the answer is the puzzle),
  //   "knights_knaves" (strata by number of people);
  // "": told from the file's ending and the fields of the first line.
  std::string format;
  size_t limit = 0;            // first items (of the split) only; 0: all
  std::optional<Split> split;  // only items that PublishedSplitOf puts there
};

// Reads the whole file or gives one error: INVALID_ARGUMENT "file:line: what, and what to do" for the first line that
// is not a JSON object, lacks a field, has one of the wrong type or an id seen before; for an unknown format; and for a
// file without an item. Blank lines are skipped.
absl::StatusOr<std::vector<Item>> LoadItems(const std::string& path, const LoadOptions& options = {});

// The format names LoadItems accepts.
std::span<const std::string_view> ItemFormats();

}  // namespace conclave::benchmark
