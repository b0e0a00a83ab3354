// SPDX-License-Identifier: Apache-2.0
// The report of a run directory, from what is stored; no inference, no network. The page holds every figure and table
// and opens from disk; the items behind the numbers lie in files beside it and are read when asked for (pages.h).
#pragma once

#include <span>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "orchestrator/experiment/outcome.h"
#include "orchestrator/experiment/report/html.h"
#include "orchestrator/experiment/report/pages.h"

namespace conclave::report {

struct ReportInput {
  Json summary;   // as in summary.json
  Json manifest;  // as in manifest.json; null where there is none
  PageIndex index;
};

// The whole page. Everything that came from a model or a file is escaped.
std::string Render(const ReportInput& input);

// From summary.json and, where they are, manifest.json, outcomes.jsonl, votes.jsonl, items.jsonl and transcripts.jsonl
// of `directory` writes report.html with report_data/, summary.txt (the plain words), arms.csv, contrasts.csv and
// curves.csv. Returns the path of report.html. Errors name the file and line. The second form takes the outcomes that
// were just read.
absl::StatusOr<std::string> WriteReport(const std::string& directory);
absl::StatusOr<std::string> WriteReport(const std::string& directory, std::span<const experiment::Outcome> rows);

}  // namespace conclave::report
