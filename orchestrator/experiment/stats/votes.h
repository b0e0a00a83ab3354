// SPDX-License-Identifier: Apache-2.0
// What k samples of a question, or k voters, are worth: unbiased estimates from N >= k of them, averaged exactly over
// all size-k subsets. Answers are counted by equivalence class (the grader's), never by string.
// Formulas: specs/evaluation.md §2; pass@k: Chen et al. 2021 (arXiv 2107.03374).
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "orchestrator/experiment/stats/estimate.h"

namespace conclave::stats {

// N above this is refused (nullopt): binomials stay exact enough in long double, and no question has more samples.
inline constexpr size_t kVotersMax = 4096;

// P(at least one of k is right), with c right of n: 1 - C(n-c, k) / C(n, k). nullopt if k is 0 or above n.
std::optional<double> PassAtK(size_t n, size_t c, size_t k);
// P(all k right): C(c, k) / C(n, k).
std::optional<double> PassAllK(size_t n, size_t c, size_t k);
// P(at least ceil(tau k) of k right) (G-Pass@k_tau, arXiv 2412.13147). REQUIRES: 0 < tau <= 1.
std::optional<double> PassShareK(size_t n, size_t c, size_t k, double tau);

// The votes on one question.
struct VoteCounts {
  uint32_t correct = 0;         // votes of the correct class
  std::vector<uint32_t> wrong;  // votes of each other class, in any order
  uint32_t no_answer = 0;       // ⊥: takes a seat, never wins, never ties

  uint64_t total() const;
};

// P(the correct class wins a plurality of k votes), ties between classes split equally, over all size-k subsets:
// Σ_m C(N_c, m) Σ_t share / (1 + t), by dynamic programming over the wrong classes. O(classes k²) per m. nullopt if k
// is 0 or above the total, or the total above kVotersMax. With k = 1 this is correct / total.
std::optional<double> MajorityAtK(const VoteCounts& votes, size_t k);

// The mean over questions of MajorityAtK for each k in `sizes`. A size that some question cannot serve gives n = 0.
std::vector<Estimate> VoteCurve(std::span<const VoteCounts> questions, std::span<const size_t> sizes,
                                std::span<const uint32_t> clusters = {});

// Condorcet's jury: P(majority of n right) for voters right with probability p, half of ties; independent for rho = 0,
// else beta-binomial with a = p(1-rho)/rho, b = (1-p)(1-rho)/rho. REQUIRES: 0 < p < 1, 0 <= rho < 1, n >= 1.
double CondorcetMajority(size_t n, double p, double rho = 0);

// n / (1 + (n-1) rho): independent voters worth as much as n with mean correlation rho (Kish 1965). nullopt where the
// denominator is not positive.
std::optional<double> EffectiveVotes(size_t n, double rho);

}  // namespace conclave::stats
