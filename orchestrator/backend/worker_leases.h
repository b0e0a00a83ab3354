// SPDX-License-Identifier: Apache-2.0
// Which workers are known to live. A worker holds a lease, which everything it says renews; one that says nothing is
// asked, and one whose lease runs out is fenced: what ran there is given up and placed elsewhere, and when it is heard
// of again it is told so before it gets new work. What is given up of one that keeps its lease (a cancelled call that
// does not end) it is told with its next word. Pure: no clock, no connection.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace conclave::orchestrator {

inline constexpr int64_t kLeaseNs = 15'000'000'000;
inline constexpr int64_t kLeaseBeatNs = 5'000'000'000;  // silent for so long, a worker is asked
// Of one worker, what it is to be told at once: as many as one CancelRequests takes. The oldest are forgotten first.
inline constexpr size_t kFencedMax = 1024;

// Not thread-safe. Times are of one monotonic clock, in nanoseconds. Workers are indices.
class WorkerLeases {
 public:
  explicit WorkerLeases(int32_t workers) : workers_(static_cast<size_t>(workers)) {}

  // It has said who it is, and gets a lease. Returns the ids of requests that it may still be working on for nobody:
  // those of its fence, and none when it is another process than then. They count as told.
  std::vector<std::string> Grant(int32_t worker, std::string_view instance_id, int64_t now_ns);
  // It has said something. Without a lease nothing happens.
  void Renew(int32_t worker, int64_t now_ns);
  // A request that was given up there without an answer.
  void Fence(int32_t worker, std::string request_id, int64_t now_ns);
  bool held(int32_t worker) const { return workers_[Index(worker)].held; }

  // What workers are to be told that hold a lease and have been heard of since it was given up. It counts as told.
  std::vector<std::pair<int32_t, std::vector<std::string>>> TakeToTell();
  // Workers that have been silent for a beat, each once in a beat.
  std::vector<int32_t> TakeToAsk(int64_t now_ns);
  // Workers whose lease has run out now; they hold none any more.
  std::vector<int32_t> TakeExpired(int64_t now_ns);

 private:
  struct Worker {
    bool held = false;
    int64_t heard_ns = 0, asked_ns = 0;
    std::string instance_id;
    std::vector<std::string> fenced;  // request ids
    int64_t fenced_ns = 0;            // of the last of them
  };
  static size_t Index(int32_t i) { return static_cast<size_t>(i); }

  std::vector<Worker> workers_;
};

}  // namespace conclave::orchestrator
