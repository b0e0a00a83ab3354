// SPDX-License-Identifier: Apache-2.0
// What a summary says beyond the arms' means: strata, latency, strict grading, how votes compare with a jury of
// independent members, and what the design can find. Adds to a summary that Summarize made. Pure.
#pragma once

#include <nlohmann/json.hpp>
#include <span>

#include "orchestrator/experiment/gather.h"

namespace conclave::experiment {

// Adds, where the data have them:
//   arms[].latency {p50, p95} seconds; arms[].strict {correct, lenient_only, neither}: right in the benchmark's own
//   form,
//     right but forgiven, not right;
//   contrasts[].strata [{name, n, difference, ci95, p, p_bh}] with "macro" and "micro" {difference, se, ci95}: p is
//     McNemar's mid-p (one replicate) or the sign-flip's, p_bh Benjamini-Hochberg over the strata (exploratory);
//   contrasts[].power {k_a, k_b, variance, between, sampling_a, sampling_b, items_for_1pp, samples_for_1pp}:
//   per-question
//     variance of the difference; between, sampling and samples_for_1pp (null: no number of samples is enough) with two
//     replicates or more;
//   curves[].points[].{any_right, all_right, independent, correlated} and curves[].vote_correlation: pass@k, pass^k,
//   and
//     Condorcet's jury with p = maj@1 for independent and for as correlated votes;
//   flows, see Gatherer.
void AddDetail(std::span<const Outcome> rows, const Gatherer& gatherer, nlohmann::ordered_json* summary);

}  // namespace conclave::experiment
