// SPDX-License-Identifier: Apache-2.0
// The report of a run directory: one self-contained HTML file, from what is stored; no inference, no network.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "orchestrator/experiment/report/html.h"

namespace conclave::report {

// What the page shows, besides the figures that it draws from `summary` (interface: summary.json).
struct ReportInput {
  Json summary;
  Json manifest;
  // Items on which arms disagree, most telling first: {id, question, gold, arms: [{arm, outcome, answer, calls: [{node,
  // member, sample, text, answer?, score?}]}]}.
  std::vector<Json> disagreements;
  int64_t disagreement_count = 0;  // in all, shown or not
};

// The whole page. Everything that came from a model or a file is escaped.
std::string Render(const ReportInput& input);

// Reads summary.json, manifest.json, items.jsonl, outcomes.jsonl and transcripts.jsonl of `directory`.
// Errors name the file and line.
absl::StatusOr<ReportInput> Load(const std::string& directory);

// Load, Render, and write `directory`/report.html. Returns its path.
absl::StatusOr<std::string> WriteReport(const std::string& directory);

}  // namespace conclave::report
