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
#include "orchestrator/store/reading_store.h"

namespace conclave::orchestrator {

class SimStore final : public ReadingStore {
 public:
  // `disk` holds what is durable and outlives this process's store. `die`: the process is killed, now.
  SimStore(SimWorld* world, Store* disk, SimWitness* witness, std::function<void()> die)
      : ReadingStore(disk), world_(world), witness_(witness), die_(std::move(die)) {}
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

 private:
  void Commit(std::vector<WriteOp> batch, int64_t asked_ns, const WriteDone& done);
  WriteResult Put(std::vector<WriteOp> batch);
  void OnRefused(const std::vector<std::string>& names);
  void OnWritten(const std::vector<std::string>& names, int64_t asked_ns);

  SimWorld* const world_;
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
