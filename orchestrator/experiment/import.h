// SPDX-License-Identifier: Apache-2.0
// Results of other harnesses as outcomes: lm-evaluation-harness's samples_*.jsonl (--log_samples) and Inspect's logs,
// packed
// (.eval) or as JSON. Fields as those projects write them in 2025 and 2026; what cannot be told apart as right or wrong
// is an error, never a guess. Untrusted input.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "orchestrator/experiment/outcome.h"

namespace conclave::experiment {

struct Imported {
  std::vector<Outcome> rows;
  // What the log knows beside the verdicts, as lines of items.jsonl and transcripts.jsonl; empty for our own outcomes.
  std::vector<std::string> items, transcripts;
};

// Tells the format from what is in the file (.gz allowed for JSONL):
//   lm-evaluation-harness: a row per document and filter; the verdict is the row's first metric, which must be 0 or 1;
//     a filtered response of "[invalid]" is no answer. Several filters are several arms, "arm (filter)".
//   Inspect: a row per sample and epoch; C, I, N, true, false, 1 or 0 of the only scorer (several are several arms,
//     "arm (scorer)"); N is no answer, a sample with an error is failed; partial credit is an error.
//   else ReadOutcomes.
// `arm` names rows that name none. INVALID_ARGUMENT "file:line: what", for Inspect "file: sample ID: what".
absl::StatusOr<Imported> ImportOutcomes(const std::string& path, const std::string& arm,
                                        const std::string& cluster_field = "cluster");

}  // namespace conclave::experiment
