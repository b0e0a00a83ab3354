// SPDX-License-Identifier: Apache-2.0
// Fleet files (conclave.deliberation.v1.Fleet as textproto): who can answer, read and checked.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "conclave/deliberation/v1/deliberation.pb.h"
#include "conclave/deliberation/v1/fleet.pb.h"
#include "conclave/inference/v1/inference.pb.h"

namespace conclave::orchestrator {

// ---- Limits, tested at the limit and one above.
inline constexpr int kFleetMembersMax = 256;
inline constexpr int kReplicasMax = 64;
inline constexpr int kThreadsMax = 1024;
inline constexpr int kRanksMax = 64;
inline constexpr int kContextTokensMax = 1 << 24;
inline constexpr int kSequencesMax = 1024;
inline constexpr int kParallelCallsMax = 256;
inline constexpr int kMemberNameMax = 128;

// A checked fleet; paths are relative to the working directory or absolute, "~/" expanded with `home`.
struct LoadedFleet {
  deliberation::v1::Fleet fleet;
  std::string path;  // of the file; for messages
  // By member: what a file of its says of a model before anybody serves it, where somebody has looked.
  std::map<std::string, inference::v1::Model> models = {};

  // The fleet's default binding in the form of a run's.
  std::vector<deliberation::v1::Binding> Bindings() const;
  std::vector<std::string> MemberNames() const;
};

// INVALID_ARGUMENT with every error, one per line, "file:line: what; fix"; NOT_FOUND for a missing file.
absl::StatusOr<LoadedFleet> LoadFleet(const std::string& path, const std::string& home);

// The same for a fleet inside another file (an experiment): errors name `path` without lines. `directory`: what its
// paths are relative to.
absl::StatusOr<LoadedFleet> CheckFleet(deliberation::v1::Fleet fleet, const std::string& path,
                                       const std::string& directory, const std::string& home);

}  // namespace conclave::orchestrator
