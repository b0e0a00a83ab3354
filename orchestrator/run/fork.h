// SPDX-License-Identifier: Apache-2.0
// A past run that goes on otherwise: what happened up to an event stands, and from there a prompt or a member is
// another. Also where two courses of a run part.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "conclave/deliberation/v1/deliberation.pb.h"
#include "orchestrator/run/run_record.h"
#include "orchestrator/store/store.h"

namespace conclave::orchestrator {

struct ForkChange {
  int64_t at_event = 0;                             // the last one that stands
  std::map<std::string, std::string> prompts = {};  // node -> its new task (Jinja)
  std::map<std::string, RunMember> members = {};    // name in the record -> who takes its seats
};

// What to write so that an executor that starts on the store goes on with a new run, `run_id`, from there: the run and
// the events that stand, told anew by the changed graph from the recorded answers. Answers that stand keep their text,
// tokens and cost; what was read out of them stands, too. INVALID_ARGUMENT: no such event, node, member or template;
// FAILED_PRECONDITION: a call before that event would have been another one, so that the fork must be earlier.
absl::StatusOr<std::vector<WriteOp>> ForkRun(const RunRecord& record, const ForkChange& change,
                                             const std::string& run_id, int64_t unix_ns);

// The first call, in the order of the record, that is not the same now.
struct Divergence {
  int64_t event = 0;  // of the record; 0: none of it (the record ended earlier)
  std::string node_path;
  deliberation::v1::CallKey key;
  std::string what;           // "prompt", "text", "answer", "score", "lost", "not made", "end"
  int64_t at_byte = 0;        // of a text: the first byte that differs
  int64_t at_word = 0;        // and which word that is, from 1
  std::string recorded, now;  // a few words from there on
};
std::optional<Divergence> FirstDivergence(std::span<const deliberation::v1::Event> recorded,
                                          std::span<const deliberation::v1::Event> now);

}  // namespace conclave::orchestrator
