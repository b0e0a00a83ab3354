// SPDX-License-Identifier: Apache-2.0
// Benchmarks that are published as something else than JSONL: CSV (MMLU's subjects, Game of 24) and BIG-Bench Hard's
// JSON, one file or a folder of them. LoadItems (item.h) is the way in.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "orchestrator/experiment/benchmark/item.h"

namespace conclave::benchmark {

inline constexpr size_t kTableBytesMax = size_t{256} << 20;
inline constexpr size_t kTableFilesMax = 1024;  // of a folder

// Whether the path is a folder, or a file named .csv or .json.
bool IsTable(const std::string& path);

// `format` is "mmlu", "game24" or "bbh", or "" to tell it: .json is bbh, .csv is game24 where its first line names
// "Puzzles" and mmlu otherwise. Files of a folder are read in the order of their names.
absl::StatusOr<std::vector<Item>> LoadTables(const std::string& path, std::string_view format);

struct CsvRow {
  std::vector<std::string> fields;
  size_t line = 0;  // where it begins, from 1
};
// RFC 4180: fields in quotes may hold commas, line breaks and doubled quotes. INVALID_ARGUMENT "name:line: .." for a
// quote that never closes or is followed by more than a comma.
absl::StatusOr<std::vector<CsvRow>> ParseCsv(std::string_view text, std::string_view name);

}  // namespace conclave::benchmark
