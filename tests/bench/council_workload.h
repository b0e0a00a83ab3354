// SPDX-License-Identifier: Apache-2.0
// "council-20", the workload that other frameworks were measured with (definition: shared/workloads/council.py), run by
// our own graph, executor, ledger and store. Per question 20 members answer, a majority is taken, a critic and three
// verifiers speak; when the verifiers do not accept, a second round follows. Every reply is a pure function of the
// question, so calls, answers and the digest are the same for every framework.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "orchestrator/store/store.h"

namespace conclave::bench {

struct CouncilQuestion {
  std::string question;
  std::string steps;  // the published solution before its answer
  std::string gold;   // without thousands separators
};

// The first `count` questions of GSM8K's test.jsonl.
absl::StatusOr<std::vector<CouncilQuestion>> ReadCouncilQuestions(const std::string& path, size_t count);
// Questions of our own making in the same form, for machines without GSM8K.
std::vector<CouncilQuestion> MakeCouncilQuestions(size_t count);

struct CouncilResult {
  int64_t calls = 0;
  int64_t rounds = 0;
  int64_t right = 0;
  int64_t events = 0;
  std::string digest;  // 12 hex digits over [[answer, rounds], ..]
  double wall_seconds = 0;
  double cpu_seconds = 0;  // user and system, all threads
  int64_t peak_rss_bytes = 0;
};

// Runs all questions, `concurrency` at a time, with events, ledger and a budget that is checked before each call.
absl::StatusOr<CouncilResult> RunCouncil(const std::vector<CouncilQuestion>& questions, int concurrency,
                                         orchestrator::Store* store);

// What the definition says must come out, computed by a plain loop without graph or executor.
CouncilResult ExpectedCouncil(const std::vector<CouncilQuestion>& questions);

}  // namespace conclave::bench
