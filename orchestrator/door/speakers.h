// SPDX-License-Identifier: Apache-2.0
// Who speaks into a mailbox: a member that is asked directly, or a deliberation, of which the last speaker is heard.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "orchestrator/backend/backend.h"
#include "orchestrator/door/teller.h"
#include "orchestrator/run/executor.h"

namespace conclave::orchestrator {

// A direct call that is lost is made again, with the same seed, so often, as long as no word of it was heard.
inline constexpr int32_t kDirectRetriesMax = 2;

// Thread-safe. What it started keeps it alive.
class Speaker {
 public:
  virtual ~Speaker() = default;
  // Nobody listens any more; the mailbox still hears the end.
  virtual void Cancel() = 0;
};

// `request` streams, with log-probabilities where the listener wants tokens. The backend outlives the call.
std::shared_ptr<Speaker> AskMember(Backend* backend, CallRequest request, Listener listener);

// The text of the node `result` is told while it is spoken where one member speaks it once; otherwise at the end of the
// run, which is when it is known. `stops` cut what is told, and nothing that the members say to one another.
std::shared_ptr<Speaker> AskGraph(Executor* executor, NewRun run, std::vector<std::string> stops, Listener listener);

}  // namespace conclave::orchestrator
