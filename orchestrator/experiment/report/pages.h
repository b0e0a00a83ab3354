// SPDX-License-Identifier: Apache-2.0
// What lies behind the numbers, in files that the page reads when asked: report_data/grid.js (one character per
// outcome, so that a question to a million of them needs one file), items-N.js and calls-N.js. They are scripts,
// because a page opened from disk may load no other data. page.js is their reader.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "orchestrator/experiment/outcome.h"

namespace conclave::report {

inline constexpr size_t kItemsPerPage = 250;
inline constexpr size_t kQuestionBytesMax = 8'000;  // of one question on a page; more is cut with a note
inline constexpr char kDataFolder[] = "report_data";

// Of an item, as bits.
enum ItemFlag : int {
  kAllWrong = 1,     // no arm is right
  kAllDisagree = 2,  // two arms or more, all with different answers
  kTruncated = 4,    // cut at the length limit in some arm
  kUnread = 8,       // no readable answer in some arm
  kSplit = 16,       // some arm is right, another is not
};

// Names as the page's queries number them.
struct PageIndex {
  std::vector<std::string> arms, members, strata;
  int64_t items = 0;
  int64_t all_wrong = 0, all_disagree = 0, truncated = 0, unread = 0, split = 0;  // items with each flag

  // Queries, "" where a name is not known. `is`: c right, x not right, or w n t e f.
  std::string Arm(const std::string& name, char is) const;
  std::string Member(const std::string& name, char is) const;
  std::string Stratum(const std::string& name) const;
};

// "a & b", "" where either is.
std::string Both(const std::string& a, const std::string& b);

// Writes `directory`/report_data and audit.jsonl (the items with one of the first four flags) from the rows and, where
// they are, items.jsonl, votes.jsonl and transcripts.jsonl. `members`: whose own answers can be asked for. Errors name
// the file and line.
absl::StatusOr<PageIndex> WritePages(const std::string& directory, std::span<const experiment::Outcome> rows,
                                     const std::vector<std::string>& members);

// JSON for a script file: invalid UTF-8 replaced.
std::string Quoted(std::string_view text);
// The first `bytes_max` bytes at most, cut between characters, with a note.
std::string CutText(std::string_view text, size_t bytes_max);

}  // namespace conclave::report
