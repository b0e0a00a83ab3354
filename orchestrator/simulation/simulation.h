// SPDX-License-Identifier: Apache-2.0
// A whole orchestrator in a world of one thread: the executor with its machines, ledgers and budgets, the dispatcher
// with its pool of workers, a store, and clients who start runs, watch, lose their connection and come back, and
// cancel. A seed decides what goes wrong and when; the same seed gives the same log.
//
// What has to hold whatever happens, and is looked at for every seed:
//   every run that was acknowledged is in the store once, and ends; whatever happens comes to rest;
//   nothing is seen, acknowledged or dispatched before it is durable, and steps become durable in their order;
//   its events are numbered from 1 without gap or repeat, every call that began ended once, and every client saw
//   exactly these events in this order, over all its connections and all lives of the orchestrator;
//   its ledger is the sum of its calls, no budget is passed, and none runs out while there is room in it;
//   every text is the one that an undisturbed worker gives; without a loss the verdict is the undisturbed one;
//   nobody waits for a worker whose lease is over, none is given up that is heard of, and one that is back is told
//   what was given up;
//   an acknowledged cancellation ends the run soon; no worker goes on with work that nobody waits for; whoever watches
//   is told when an orchestrator stops.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace conclave::orchestrator {

struct SimReport {
  std::vector<std::string> violations;
  std::string log_hash;  // of all events, what clients saw, and when it ended
  int64_t virtual_ns = 0;
  // How much happened, so that a test can tell that its faults are not idle.
  int64_t runs = 0, events = 0, kills = 0, stops = 0, reconnects = 0, calls_lost = 0, retries = 0, cancelled = 0,
          exhausted = 0, worker_faults = 0, undisturbed = 0, hedges = 0, continued = 0, repairs = 0, lacking = 0;

  // Adds what happened; violations and hash stay.
  SimReport& operator+=(const SimReport& other);
};
// What happened, in one line.
std::string Describe(const SimReport& report);

// One world, from its beginning until every run has ended. Not thread-safe.
SimReport Simulate(uint64_t seed);

}  // namespace conclave::orchestrator
