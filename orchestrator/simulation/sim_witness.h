// SPDX-License-Identifier: Apache-2.0
// What must hold at every moment and not only at the end, looked at where it happens: nothing is seen, acknowledged or
// dispatched before it is durable, no worker is given up that is heard of, and no word comes of a call that has ended.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "conclave/deliberation/v1/deliberation.pb.h"
#include "orchestrator/backend/backend.h"
#include "orchestrator/simulation/sim_fleet.h"
#include "orchestrator/store/store.h"

namespace conclave::orchestrator {

// Knows what is durable. Outlives the processes of its world.
class SimWitness {
 public:
  SimWitness(const Store* disk, std::function<void(std::string)> violation)
      : disk_(disk), violation_(std::move(violation)) {}

  // The batch is on the disk from now on.
  void OnCommitted(const std::vector<WriteOp>& batch);
  // Somebody is shown an event.
  void OnSeen(const deliberation::v1::Event& event) const;
  // Somebody is told that a run is cancelled, or has ended before.
  void OnCancelAcknowledged(const std::string& run_id) const;

  // Calls of this seed whose start is durable and whose end is not.
  int32_t announced(uint64_t seed) const;
  void Violation(std::string what) const { violation_(std::move(what)); }

 private:
  const Store* const disk_;
  const std::function<void(std::string)> violation_;
  std::map<std::string, int64_t, std::less<>> last_;  // events of each run
  std::map<std::string, uint64_t> open_;              // calls begun and not ended, with their seeds
  std::map<uint64_t, int32_t> announced_;
};

// Stands between an executor and its backend.
class SimSwitchboard final : public Backend, public CallSink {
 public:
  SimSwitchboard(Backend* backend, const SimWitness* witness, const SimFleet* fleet)
      : backend_(backend), witness_(witness), fleet_(fleet) {}

  void Start(CallRequest request, CallSink* sink) override;
  void Cancel(CallId id) override { backend_->Cancel(id); }
  std::vector<MemberFacts> Describe() const override { return backend_->Describe(); }

  void OnDelta(CallId id, CallDelta delta) override;
  void OnDone(CallId id, CallOutcome outcome) override;

 private:
  struct Call {
    uint64_t seed = 0;
    CallSink* sink = nullptr;
  };

  Backend* const backend_;
  const SimWitness* const witness_;
  const SimFleet* const fleet_;
  std::unordered_map<CallId, Call> calls_;  // begun and not ended
  std::map<uint64_t, int32_t> in_flight_;   // of each seed
};

}  // namespace conclave::orchestrator
