// SPDX-License-Identifier: Apache-2.0
// Which call runs on which worker, and which wait: the bookkeeping of a WorkerBackend, without gRPC, threads or clocks.
#pragma once

#include <cstdint>
#include <deque>
#include <string>
#include <unordered_map>
#include <vector>

#include "orchestrator/backend/backend.h"

namespace conclave::orchestrator {

// Not thread-safe: the backend holds its lock. Workers and members are indices.
class WorkerPool {
 public:
  WorkerPool(int32_t worker_count, int32_t calls_per_worker_max);

  // ---- Workers
  bool up(int32_t worker) const { return workers_[Index(worker)].up; }
  void SetUp(int32_t worker) { SetUp(worker, calls_per_worker_max_); }
  // With so many calls at a time, at most.
  void SetUp(int32_t worker, int32_t calls_max) {
    workers_[Index(worker)].up = true;
    workers_[Index(worker)].calls_max = calls_max;
  }
  // Its waiting calls go to the other candidates where one is up.
  void SetDown(int32_t worker);
  int32_t running(int32_t worker) const { return workers_[Index(worker)].running; }
  int32_t waiting(int32_t worker) const { return static_cast<int32_t>(workers_[Index(worker)].queue.size()); }

  // ---- Calls
  // Queues a call on the candidate with the fewest calls among those that are up, else among all; ties: `preferred`,
  // else the first.
  void Add(CallId call, std::vector<int32_t> candidates, int32_t preferred = -1);
  // A call that no longer waits or runs.
  void Remove(CallId call);
  // The next call to begin, with its worker; -1: none may begin now. It counts as running from here on.
  int32_t BeginNext(CallId* call);
  // Where the call is; -1: not here. Waiting calls are on the worker they wait for.
  int32_t WorkerOf(CallId call) const;

 private:
  struct Worker {
    bool up = false;
    int32_t calls_max = 0;
    int32_t running = 0;
    std::deque<CallId> queue;
  };
  struct Place {
    std::vector<int32_t> candidates;
    int32_t worker = -1;
    bool running = false;
  };
  static size_t Index(int32_t i) { return static_cast<size_t>(i); }
  int32_t Choose(const std::vector<int32_t>& candidates, int32_t preferred) const;

  const int32_t calls_per_worker_max_;
  std::vector<Worker> workers_;
  std::unordered_map<CallId, Place> places_;
};

}  // namespace conclave::orchestrator
