// SPDX-License-Identifier: Apache-2.0
// How alike the members of a group err, and what that leaves for a vote to win. Definitions: specs/evaluation.md §2
// ("Diversity"); Kuncheva and Whitaker 2003. A member that is always right, or always wrong, correlates with nobody:
// nullopt, not 0.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "orchestrator/experiment/stats/estimate.h"

namespace conclave::stats {

// One answer per member and question. Views are borrowed for the call.
struct GroupOutcomes {
  size_t members = 0;
  std::span<const uint8_t> correct;  // [questions, members], row-major, 0 or 1
  std::span<const int32_t> answers;  // [questions, members], the answer's class within its question, < 0 for ⊥;
                                     // may be empty, then nothing is known about same wrong answers
  size_t questions() const { return members == 0 ? 0 : correct.size() / members; }
};

struct PairDiversity {
  size_t both = 0;  // N11: both right
  size_t a_only = 0;
  size_t b_only = 0;
  size_t neither = 0;                // N00
  size_t same_wrong_count = 0;       // both wrong with equivalent answers; ⊥ is like nothing
  std::optional<double> phi;         // correlation of the two error indicators
  std::optional<double> yule_q;      // (N11 N00 - N01 N10) / (N11 N00 + N01 N10)
  std::optional<double> same_wrong;  // share of equal answers among questions both got wrong
  double disagreement = 0;           // (N10 + N01) / N
  double double_fault = 0;           // N00 / N
};

struct GroupDiversity {
  size_t members = 0;
  size_t questions = 0;
  std::vector<double> accuracy;                  // per member
  std::vector<PairDiversity> pairs;              // (0,1), (0,2), .., (1,2), ..: see PairIndex
  double oracle = 0;                             // share of questions that at least one member got right: 1 - all_wrong
  double all_wrong = 0;                          // no vote among these members can win here
  std::optional<double> all_wrong_upper95;       // upper end of the two-sided 95 % Clopper-Pearson interval
  std::optional<double> mean_error_correlation;  // mean of the phi that exist
  std::optional<double> effective_votes;         // n / (1 + (n-1) mean phi)
  std::optional<double> same_wrong;              // pooled over pairs
};

// Where the pair (a, b), a < b < members, stands in GroupDiversity::pairs.
size_t PairIndex(size_t members, size_t a, size_t b);

// REQUIRES: sizes that fit together, members >= 1.
GroupDiversity Diversity(const GroupOutcomes& outcomes);

}  // namespace conclave::stats
