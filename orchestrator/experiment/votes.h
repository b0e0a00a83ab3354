// SPDX-License-Identifier: Apache-2.0
// What each member said before any deliberation, and how every stage of a run stood: a line of votes.jsonl. With
// outcomes.jsonl it is all that the statistics of a run directory need, so these can be computed anew from files.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "orchestrator/experiment/outcome.h"
#include "orchestrator/experiment/stats/deliberation.h"

namespace conclave::experiment {

struct Vote {
  std::string member;
  int32_t sample = 0;
  OutcomeKind kind = OutcomeKind::kNoAnswer;
  std::string answer_class;  // equal when equivalent; empty: none
  double flops = 0;
  double seconds = 0;  // from dispatch to the end; 0: not known
  friend bool operator==(const Vote&, const Vote&) = default;
};

// A node's utterances together, in the order of their first calls. Loops count each round as a stage of its own.
struct Stage {
  std::string node;   // path, e.g. "review[2].revise"
  int64_t calls = 0;  // with an answer or not
  OutcomeKind kind =
      OutcomeKind::kNoAnswer;  // of its most frequent answer; the first in (member, sample) order if tied
  double output_tokens = 0;
  friend bool operator==(const Stage&, const Stage&) = default;
};

// What the run's talk did: how writers changed their answers, and what judges made of them.
struct Talk {
  // A judge's score of an answer.
  struct Score {
    std::string node;  // without rounds: "review.verify"
    double score = 0;
    std::optional<bool> right;  // what was judged; nullopt: not to be told
    friend bool operator==(const Score&, const Score&) = default;
  };
  std::vector<stats::Revision> revisions;
  std::vector<Score> scores;
  friend bool operator==(const Talk&, const Talk&) = default;
};

struct RunVotes {
  std::string arm, id;
  int32_t replicate = 0;
  std::vector<Vote> votes;    // of the node that was the first to bring an answer, in (member, sample) order
  std::vector<Stage> stages;  // nodes whose calls bring answers
  Talk talk = {};
  friend bool operator==(const RunVotes&, const RunVotes&) = default;
};

// One JSON object on one line, without the newline.
std::string ToJsonLine(const RunVotes& run);

// Calls `visit` for each line. INVALID_ARGUMENT "file:line: what"; NOT_FOUND where there is no file.
absl::Status ReadVotes(const std::string& path, const std::function<void(RunVotes)>& visit);

}  // namespace conclave::experiment
