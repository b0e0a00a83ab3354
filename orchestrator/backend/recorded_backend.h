// SPDX-License-Identifier: Apache-2.0
// Members whose answers were recorded earlier: a call is answered by (model, item, sample) of a file.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "conclave/deliberation/v1/fleet.pb.h"
#include "orchestrator/backend/backend.h"
#include "orchestrator/experiment/benchmark/recorded.h"

namespace conclave::orchestrator {

struct RecordedMember {
  std::string name;
  std::string model;  // in the file
  std::string path;   // for listings
  std::shared_ptr<const benchmark::RecordedAnswers> answers;
  double weight = 1.0;
  std::optional<deliberation::v1::Card> card = {};  // costs; usage is estimated from it and from text lengths
};

// INVALID_ARGUMENT for a model that its file does not hold. Answers arrive inside Start; a call without an item, or for
// an item or sample that was not recorded, ends with NOT_FOUND RECORDING_MISSING; a P(True) call with
// FAILED_PRECONDITION CAPABILITY_MISSING.
absl::StatusOr<std::unique_ptr<Backend>> NewRecordedBackend(std::vector<RecordedMember> members);

}  // namespace conclave::orchestrator
