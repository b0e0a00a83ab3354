// SPDX-License-Identifier: Apache-2.0
// One graded answer: a row of outcomes.jsonl (interface: run directory), from this or any other harness.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "orchestrator/experiment/grade/grader.h"

namespace conclave::experiment {

// The grader's outcomes; `failed` is set where the deliberation itself failed. Only correct counts as right.
using OutcomeKind = grade::Outcome;
inline constexpr int kOutcomeKinds = 6;

struct Outcome {
  std::string arm;
  std::string id;  // item
  int32_t replicate = 0;
  OutcomeKind kind = OutcomeKind::kFailed;
  std::optional<OutcomeKind> strict;  // the verdict that asks for the benchmark's own form, where it is known
  std::string rule;                   // that found the answer, or why there is none
  std::string answer;                 // normalised; empty: none
  std::string gold;
  std::string cluster;  // empty: the item is its own
  std::string stratum;  // empty: none
  // Work of this deliberation: what was asked and said, the same in every run with the same seeds;
  double calls = 0, prompt_tokens = 0, output_tokens = 0;
  double lost_calls = 0;   // that ended without an answer for good: a worker died, a prompt did not fit
  bool estimated = false;  // some of the work is estimated from a card
  // and what was measured, which depends on what shared a batch or a cache, and on the clock.
  double cached_tokens = 0, flops = 0, weight_bytes = 0, kv_bytes = 0;
  double seconds = 0;  // wall time of the deliberation
  double usd = 0;      // list price, where every member that was asked has one
  friend bool operator==(const Outcome&, const Outcome&) = default;
};

// Where a row's measured fields begin; they are the last.
inline constexpr char kFirstMeasured[] = "cached_tokens";

// One JSON object on one line, without the newline: fields in a fixed order, those that are measured last, so that two
// runs with the same seeds give the same bytes up to kFirstMeasured.
std::string ToJsonLine(const Outcome& outcome);

// Reads a file of outcomes. Needs "id" and "outcome" (or "correct": true/false, or a numeric "score" of 0 or 1); "arm"
// defaults to `default_arm`. `cluster_field`, if not empty, names the field that holds the cluster.
// INVALID_ARGUMENT "file:line: what" for the first bad line, for an (arm, id, replicate) given twice, and for an empty
// file.
absl::StatusOr<std::vector<Outcome>> ReadOutcomes(const std::string& path, const std::string& default_arm,
                                                  const std::string& cluster_field = "cluster");

}  // namespace conclave::experiment
