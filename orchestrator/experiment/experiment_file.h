// SPDX-License-Identifier: Apache-2.0
// Experiment files (conclave.deliberation.v1.Experiment as textproto): read, checked, and turned into a plan.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "conclave/deliberation/v1/experiment.pb.h"
#include "orchestrator/experiment/runner.h"
#include "orchestrator/experiment/shard.h"

namespace conclave::experiment {

// ---- Limits, tested at the limit and one above.
inline constexpr int32_t kArmsMax = 64;
inline constexpr int32_t kReplicatesMax = 1024;
inline constexpr int32_t kConcurrencyMax = 1024;
inline constexpr size_t kArmNameMax = 64;
inline constexpr size_t kGeneratedNameMax = 256;  // of arms that the tool adds

struct LoadOptions {
  int32_t limit = 0;              // first items only, over the file's own limit; 0: as the file says
  std::vector<std::string> arms;  // these only; empty: all
  Shard shard = {};               // these of the items only
};

struct LoadedExperiment {
  deliberation::v1::Experiment file;
  std::string path;
  std::string directory;  // of the file; what it names is relative to it
  // Arms' requests name their graph as the file does: a shipped graph's name, or a path made absolute or relative to
  // the working directory. Bindings are the fleet's and then the arm's own.
  Plan plan;
  // The fleet: the file's own, or "" and fleet_path.
  std::string fleet_path;      // relative to the working directory, or "" for the file's own fleet
  std::string benchmark_path;  // likewise, or "" for the generator
  // Of all items, before a shard is taken.
  size_t items_total = 0;
  std::string items_sha256;
};

// Every error at once, one per line: "file:line: what; fix". INVALID_ARGUMENT; NOT_FOUND for a missing file.
absl::StatusOr<LoadedExperiment> LoadExperiment(const std::string& path, const LoadOptions& options);

// Sets the plan's arms and the declaration's contrasts and baselines from the file's: declared contrasts, or every
// declared arm against the last one, then every arm against its baselines.
void FillArms(const LoadOptions& options, LoadedExperiment* loaded);

// "best_member", "rival_curve", ..
std::string BaselineName(deliberation::v1::Baseline::Kind kind);
// "flops", "weight_bytes", ..; FLOPS for unspecified.
std::string CostUnitName(deliberation::v1::CostUnit unit);

// `name` as seen from `directory`: absolute names stay as they are.
std::string RelativeTo(const std::string& directory, const std::string& name);

}  // namespace conclave::experiment
