// SPDX-License-Identifier: Apache-2.0
// Reads out of a run what its talk did.
#pragma once

#include "orchestrator/experiment/benchmark/item.h"
#include "orchestrator/experiment/deliberator.h"
#include "orchestrator/experiment/grade/grader.h"
#include "orchestrator/experiment/votes.h"

namespace conclave::experiment {

// A writer's answer at one place and at its next, of the same member and sample, is a revision; the majority that it
// may adopt is that of the place before. A judge's score (a call with a subject that compares nothing) is matched with
// the answers whose words its prompt shows: with all of them right, or all wrong, it is known what it judged; with
// none, or with both kinds, it is not.
Talk TalkOf(const RunRecord& record, const benchmark::Item& item, const grade::Grader& grader);

}  // namespace conclave::experiment
