// SPDX-License-Identifier: Apache-2.0
// What an experiment has used of its own budget. Runs are counted when they end: no further one is begun once a limit
// is reached, so that work may pass it by the runs that were in flight, never by more.
#pragma once

#include <cstdint>
#include <string>

#include "conclave/deliberation/v1/graph.pb.h"
#include "orchestrator/experiment/outcome.h"

namespace conclave::experiment {

// Not thread-safe.
class Spending {
 public:
  // Wall time counts from `begin_ns`.
  Spending(const deliberation::v1::Budget& budget, int64_t begin_ns) : budget_(budget), begin_ns_(begin_ns) {}

  void Add(const Outcome& run);
  // "output_tokens: 1200 of 1000 are used", the first limit in the order of Budget's fields; "" while all hold.
  std::string UsedUp() const;
  // The same for wall time.
  std::string TimeIsUp(int64_t now_ns) const;

 private:
  const deliberation::v1::Budget budget_;
  const int64_t begin_ns_;
  double prompt_tokens_ = 0, output_tokens_ = 0, calls_ = 0, flops_ = 0;
};

}  // namespace conclave::experiment
