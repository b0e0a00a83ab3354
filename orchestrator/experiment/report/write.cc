// SPDX-License-Identifier: Apache-2.0
// From a run directory to its report.
#include <filesystem>

#include "common/file.h"
#include "common/status.h"
#include "orchestrator/experiment/parse_json.h"
#include "orchestrator/experiment/report/csv.h"
#include "orchestrator/experiment/report/report.h"
#include "orchestrator/experiment/report/words.h"

namespace conclave::report {
namespace {

absl::StatusOr<Json> ReadJson(const std::string& path) {
  ASSIGN_OR_RETURN(const std::string text, ReadFile(path));
  Json json = experiment::ParseJson(text);
  if (json.is_discarded()) return DataLoss("{}: is not JSON", path);
  return json;
}

}  // namespace

absl::StatusOr<std::string> WriteReport(const std::string& directory, std::span<const experiment::Outcome> rows) {
  ReportInput input;
  ASSIGN_OR_RETURN(input.summary, ReadJson(directory + "/summary.json"));
  if (const std::string manifest = directory + "/manifest.json"; std::filesystem::exists(manifest)) {
    ASSIGN_OR_RETURN(input.manifest, ReadJson(manifest));
  }
  std::vector<std::string> members;
  for (const Json& member : List(At(input.summary, "group"), "members")) members.push_back(Text(member, "name"));
  ASSIGN_OR_RETURN(input.index, WritePages(directory, rows, members));
  std::string words;
  for (const std::string& sentence : SummaryInWords(input.summary)) words += sentence + "\n";
  RETURN_IF_ERROR(WriteFileAtomically(directory + "/summary.txt", words));
  RETURN_IF_ERROR(WriteFileAtomically(directory + "/arms.csv", ArmsCsv(input.summary)));
  RETURN_IF_ERROR(WriteFileAtomically(directory + "/contrasts.csv", ContrastsCsv(input.summary)));
  RETURN_IF_ERROR(WriteFileAtomically(directory + "/curves.csv", CurvesCsv(input.summary)));
  const std::string path = directory + "/report.html";
  RETURN_IF_ERROR(WriteFileAtomically(path, Render(input)));
  return path;
}

absl::StatusOr<std::string> WriteReport(const std::string& directory) {
  ASSIGN_OR_RETURN(const auto rows, experiment::ReadOutcomes(directory + "/outcomes.jsonl", "answers"));
  return WriteReport(directory, rows);
}

}  // namespace conclave::report
