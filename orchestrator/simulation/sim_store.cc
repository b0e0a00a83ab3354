// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/simulation/sim_store.h"

#include <algorithm>

#include "common/status.h"

namespace conclave::orchestrator {

void SimStore::Write(std::vector<WriteOp> batch, WriteDone done) {
  // One writer: batches become durable in the order of the calls.
  busy_until_ns_ = std::max(busy_until_ns_, world_->now_ns()) + world_->Between(0, faults_.delay_max_ns);
  world_->After(busy_until_ns_ - world_->now_ns(),
                [this, alive = alive_, batch = std::move(batch), done = std::move(done)]() mutable {
                  if (*alive) Commit(std::move(batch), done);
                });
}

void SimStore::Commit(std::vector<WriteOp> batch, const WriteDone& done) {
  if (world_->now_ns() < faults_.full_until_ns) {
    WriteResult full{.status = ResourceExhausted("STORE_FULL: the simulated disk is full"), .batch = std::move(batch)};
    return done(std::move(full));
  }
  if (faults_.fail_one_in > 0 && world_->OneIn(faults_.fail_one_in)) {
    return done({.status = DataLoss("STORE_IO: the simulated disk failed")});
  }
  const bool dies = faults_.die_one_in > 0 && world_->OneIn(faults_.die_one_in);
  if (dies && world_->OneIn(2)) return die_();  // accepted, never written
  WriteResult result;
  disk_->Write(std::move(batch), [&](WriteResult written) { result = std::move(written); });
  if (dies) return die_();  // written, never acknowledged
  done(std::move(result));
}

}  // namespace conclave::orchestrator
