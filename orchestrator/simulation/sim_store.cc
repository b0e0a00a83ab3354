// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/simulation/sim_store.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>

#include "common/hash.h"
#include "common/status.h"

namespace conclave::orchestrator {
namespace {

// Names what steps of runs write: what follows something, and has an order.
std::vector<std::string> NamesOf(const std::vector<WriteOp>& batch) {
  std::vector<std::string> names;
  for (const WriteOp& op : batch) {
    if (const auto* events = std::get_if<AppendEvents>(&op)) {
      names.push_back(fmt::format("{}: event {}", events->run_id, events->first_sequence_number));
    } else if (const auto* input = std::get_if<RecordInput>(&op)) {
      names.push_back(fmt::format("{}: input {:08x} after event {}", input->run_id,
                                  static_cast<uint32_t>(Fnv1a64(input->input)), input->after_sequence_number));
    }
  }
  return names;
}

}  // namespace

void SimStore::Write(std::vector<WriteOp> batch, WriteDone done) {
  if (starting_) return done(Put(std::move(batch)));
  // One writer: batches become durable in the order of the calls.
  busy_until_ns_ = std::max(busy_until_ns_, world_->now_ns()) + world_->Between(0, faults_.delay_max_ns);
  world_->After(busy_until_ns_ - world_->now_ns(), [this, alive = alive_, asked_ns = world_->now_ns(),
                                                    batch = std::move(batch), done = std::move(done)]() mutable {
    if (*alive) Commit(std::move(batch), asked_ns, done);
  });
}

void SimStore::Commit(std::vector<WriteOp> batch, int64_t asked_ns, const WriteDone& done) {
  const std::vector<std::string> names = NamesOf(batch);
  if (world_->now_ns() < faults_.full_until_ns && (!faults_.tight || world_->OneIn(2))) {
    OnRefused(names);
    WriteResult full{.status = ResourceExhausted("STORE_FULL: the simulated disk is full"), .batch = std::move(batch)};
    return done(std::move(full));
  }
  if (faults_.fail_one_in > 0 && world_->OneIn(faults_.fail_one_in)) {
    return done({.status = DataLoss("STORE_IO: the simulated disk failed")});
  }
  const bool dies = faults_.die_one_in > 0 && world_->OneIn(faults_.die_one_in);
  if (dies && world_->OneIn(2)) return die_();  // accepted, never written
  WriteResult result = Put(std::move(batch));
  result.status.ok() ? OnWritten(names, asked_ns) : OnRefused(names);
  if (dies) return die_();  // written, never acknowledged
  done(std::move(result));
}

WriteResult SimStore::Put(std::vector<WriteOp> batch) {
  const std::vector<WriteOp> copy = batch;
  WriteResult result;
  inner()->Write(std::move(batch), [&](WriteResult written) { result = std::move(written); });
  if (result.status.ok() && result.existing_run_id.empty()) witness_->OnCommitted(copy);
  return result;
}

void SimStore::OnRefused(const std::vector<std::string>& names) {
  for (const std::string& name : names) {
    refused_.try_emplace(name, ++refusals_, 0).first->second.second = world_->now_ns();
  }
}

// Once an executor knows that something was not written, what comes later waits behind it.
void SimStore::OnWritten(const std::vector<std::string>& names, int64_t asked_ns) {
  if (names.empty()) return;
  int64_t order = std::numeric_limits<int64_t>::max();
  for (const std::string& name : names) {
    const auto refused = refused_.find(name);
    if (refused == refused_.end()) continue;
    order = std::min(order, refused->second.first);
    refused_.erase(refused);
  }
  for (const auto& [name, refused] : refused_) {
    if (refused.first < order && refused.second < asked_ns) {
      witness_->Violation(fmt::format("{} was handed in {} ms after it was said that {} was not written", names.front(),
                                      (asked_ns - refused.second) / kSimMs, name));
    }
  }
}

}  // namespace conclave::orchestrator
