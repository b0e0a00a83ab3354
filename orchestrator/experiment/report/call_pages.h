// SPDX-License-Identifier: Apache-2.0
// report_data/calls-N.js: what was said about each item, from transcripts.jsonl.
#pragma once

#include <string>
#include <unordered_map>
#include <vector>

#include "absl/status/statusor.h"

namespace conclave::report {

inline constexpr size_t kCallTextMax = 16'000;     // bytes of one call's text on a page
inline constexpr size_t kCallsPerItemMax = 2'000;  // more are counted and left in transcripts.jsonl
inline constexpr size_t kCallPageBytes = 400'000;  // a page ends with the item that passes this

// Where a line of transcripts.jsonl lies.
struct CallPlace {
  uint32_t item = 0;
  uint32_t bytes = 0;
  int64_t offset = 0;
};

// Writes the pages into `folder`. Returns each item's page, -1 for none; all -1 where there is no transcripts.jsonl.
// `items` and `arms` number names. DATA_LOSS "file:line" for a line that is no object.
absl::StatusOr<std::vector<int32_t>> WriteCallPages(const std::string& transcripts, const std::string& folder,
                                                    const std::unordered_map<std::string, uint32_t>& items,
                                                    const std::unordered_map<std::string, uint32_t>& arms);

}  // namespace conclave::report
