// SPDX-License-Identifier: Apache-2.0
// Workers as processes of a simulated world: they stream tokens, die, come back as somebody else, freeze, are cut off,
// get slow, refuse, and go on with work that nobody waits for any more.
//
// What a worker says depends on prompt and seed alone, as with a real engine, so that a checker knows every text.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "conclave/inference/v1/inference.pb.h"
#include "orchestrator/backend/worker_transport.h"
#include "orchestrator/simulation/sim_world.h"

namespace conclave::orchestrator {

// The text that a call of this prompt and seed gets when nothing disturbs it, token by token.
std::vector<std::string> SimTokens(const std::vector<deliberation::v1::PromptMessage>& prompt, uint64_t seed,
                                   int32_t max_output_tokens);

class SimCall;

class SimFleet {
 public:
  SimFleet(SimWorld* world, int32_t workers);
  ~SimFleet();

  // The connections of one orchestrator process. Outlived by the fleet.
  std::unique_ptr<WorkerTransport> Connect();
  // Breaks all connections: whoever had them died. Calls end at once, so that nothing is owed to the dead.
  void Disconnect();

  // ---- Faults; each ends by itself.
  void Kill(int32_t worker, int64_t back_after_ns);
  // Neither works nor answers, but its connections live, as with SIGSTOP.
  void Freeze(int32_t worker, int64_t for_ns);
  // Nothing gets through, in either direction; the worker goes on.
  void CutOff(int32_t worker, int64_t for_ns);
  // So many times as long for a prompt and for a token.
  void SlowDown(int32_t worker, int64_t times, int64_t for_ns);
  // Refuses new requests, saying when to come back.
  void Overload(int32_t worker, int64_t for_ns);

  int32_t size() const { return static_cast<int32_t>(workers_.size()); }
  // Sequences in the batches of all workers.
  int32_t running() const;
  // Calls of the orchestrator to workers that have been silent for longer.
  int32_t waited_for_in_vain(int64_t silence_ns) const;
  // Sequences whose call has ended at the orchestrator, that a worker who could have been told so works on for longer.
  int32_t worked_on_in_vain(int64_t grace_ns) const;
  // How long nothing of this worker process has reached the orchestrator.
  int64_t SilenceOf(std::string_view instance_id) const;
  int64_t tokens_made() const { return tokens_made_; }

 private:
  friend class SimCall;
  friend class SimTransport;

  // A request in a worker's batch.
  struct Stream {
    std::shared_ptr<SimCall> call;  // null: its connection is gone
    std::string request_id;
    std::vector<std::string> tokens;
    size_t begun = 0;  // where it went on from
    size_t next = 0;
    int64_t prompt_tokens = 0;
    int32_t output_tokens_max = 0;
  };
  struct Worker {
    int64_t incarnation = 1;
    bool alive = true;
    int64_t frozen_until_ns = 0, cut_off_until_ns = 0, silent_since_ns = 0;
    int64_t heard_ns = 0;      // when the last that it sent came through
    int64_t delivered_ns = 0;  // the same, to somebody who waited for it
    int64_t slow_until_ns = 0, slow_times = 1, full_until_ns = 0;
    int64_t steps = 0;
    std::map<int64_t, Stream> streams;
  };
  using Reply = std::function<void(const absl::Status&)>;

  Worker& worker(int32_t i) { return workers_[static_cast<size_t>(i)]; }
  // Runs `what` at the worker, if the process of now still lives then; `lost` here if it does not.
  void ToWorker(int32_t index, std::function<void()> what, std::function<void()> lost);
  // Runs `what` here, once what the worker sends gets through.
  void FromWorker(int32_t index, int64_t* last_ns, std::function<void()> what);
  int64_t Latency() { return world_->Between(kSimMs / 10, 3 * kSimMs); }

  void Admit(int32_t index, std::shared_ptr<SimCall> call);
  void Advance(int32_t index, int64_t stream, int64_t incarnation);
  void CancelRequest(int32_t index, const std::string& request_id);
  void EndStream(int32_t index, int64_t stream, const absl::Status& status);
  void DropOrphans(int32_t index);
  void DropEnded(int32_t index, int64_t incarnation);
  int64_t Times(const Worker& worker) const { return world_->now_ns() < worker.slow_until_ns ? worker.slow_times : 1; }
  static int64_t SilentUntil(const Worker& worker) { return std::max(worker.frozen_until_ns, worker.cut_off_until_ns); }
  void EndAsk(int64_t number, const absl::Status& status);
  void Silence(int32_t index);
  std::string InstanceOf(int32_t index) const;

  SimWorld* const world_;
  std::vector<Worker> workers_;
  std::map<int64_t, std::weak_ptr<SimCall>> calls_;  // begun and not ended
  std::map<int64_t, Reply> asks_;                    // not answered
  int64_t next_stream_ = 1;
  int64_t next_call_ = 1;
  int64_t tokens_made_ = 0;
};

}  // namespace conclave::orchestrator
