// SPDX-License-Identifier: Apache-2.0
// From graded rows and votes to the whole of summary.json; and the same from the files of a run directory, so that what
// is stored as text can be analysed again, by us or after another program changed it.
#pragma once

#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "orchestrator/experiment/gather.h"

namespace conclave::experiment {

// Contrasts of arms without rows are left out, with a warning: an experiment that ended early may not have come to
// them.
absl::StatusOr<nlohmann::ordered_json> Analyse(Declaration declaration, std::span<const Outcome> rows,
                                               const Gatherer& gatherer);

// The declaration as manifest.json keeps it under "declaration".
nlohmann::ordered_json ToJson(const Declaration& declaration, const std::vector<std::string>& group);

// Reads outcomes.jsonl and, where they are, votes.jsonl and manifest.json of `directory`, and writes summary.json.
// Without a declaration every arm is compared with the last one. Returns the outcomes.
absl::StatusOr<std::vector<Outcome>> AnalyseDirectory(const std::string& directory);

}  // namespace conclave::experiment
