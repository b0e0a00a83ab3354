// SPDX-License-Identifier: Apache-2.0
// A store whose disk takes time, runs full, has room for some and not for others, fails, and whose process may die
// between any two of its steps. What is durable outlives the process; what was only accepted does not.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "orchestrator/simulation/sim_witness.h"
#include "orchestrator/simulation/sim_world.h"
#include "orchestrator/store/store.h"

namespace conclave::orchestrator {

class SimStore final : public Store {
 public:
  // `disk` holds what is durable and outlives this process's store. `die`: the process is killed, now.
  SimStore(SimWorld* world, Store* disk, SimWitness* witness, std::function<void()> die)
      : world_(world), disk_(disk), witness_(witness), die_(std::move(die)) {}
  ~SimStore() override { *alive_ = false; }

  struct Faults {
    int64_t die_one_in = 0;     // commits after or before which the process is killed; 0: none
    int64_t fail_one_in = 0;    // commits that fail for good
    int64_t full_until_ns = 0;  // nothing fits until then
    bool tight = false;         // while it is full, there is room for every second batch
    int64_t delay_max_ns = 2 * kSimMs;
  };
  void set_faults(const Faults& faults) { faults_ = faults; }
  // While a process starts it waits for what it writes: no time passes, and nothing goes wrong.
  void set_starting(bool starting) { starting_ = starting; }

  void Write(std::vector<WriteOp> batch, WriteDone done) override;

  absl::StatusOr<StoredRun> GetRun(std::string_view run_id) const override { return disk_->GetRun(run_id); }
  absl::StatusOr<std::vector<StoredRun>> ListRuns(int64_t before_number, int64_t count) const override {
    return disk_->ListRuns(before_number, count);
  }
  absl::StatusOr<std::vector<StoredRun>> UnfinishedRuns() const override { return disk_->UnfinishedRuns(); }
  absl::StatusOr<std::vector<std::string>> ReadEvents(std::string_view run_id, int64_t after, int64_t count,
                                                      int64_t bytes) const override {
    return disk_->ReadEvents(run_id, after, count, bytes);
  }
  absl::StatusOr<std::vector<StoredInput>> ReadInputs(std::string_view run_id) const override {
    return disk_->ReadInputs(run_id);
  }
  absl::StatusOr<StoredRun> FindRequest(std::string_view request_id) const override {
    return disk_->FindRequest(request_id);
  }
  absl::StatusOr<std::string> GetGraph(std::string_view revision) const override { return disk_->GetGraph(revision); }
  absl::Status ReadResults(const std::function<absl::Status(const StoredResult&)>& visit) const override {
    return disk_->ReadResults(visit);
  }
  absl::StatusOr<std::optional<std::string>> GetMeta(std::string_view key) const override {
    return disk_->GetMeta(key);
  }

 private:
  void Commit(std::vector<WriteOp> batch, int64_t asked_ns, const WriteDone& done);
  WriteResult Put(std::vector<WriteOp> batch);
  void OnRefused(const std::vector<std::string>& names);
  void OnWritten(const std::vector<std::string>& names, int64_t asked_ns);

  SimWorld* const world_;
  Store* const disk_;
  SimWitness* const witness_;
  const std::function<void()> die_;
  const std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
  Faults faults_;
  bool starting_ = false;
  // What was not taken and is not written since: in which order, and when that was said the last time.
  std::map<std::string, std::pair<int64_t, int64_t>> refused_;
  int64_t refusals_ = 0;
  int64_t busy_until_ns_ = 0;
};

}  // namespace conclave::orchestrator
