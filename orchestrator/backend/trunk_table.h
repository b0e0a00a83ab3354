// SPDX-License-Identifier: Apache-2.0
// What the prompts of several calls begin with, by worker, and what of it is pinned there, so that no load evicts it
// between two rounds. Found in the prompts themselves: whatever call begins as a recent one of that worker did, for
// long enough, makes their common beginning a trunk. Losing a trunk costs its computation only. Pure: no clock, no
// connection.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "orchestrator/backend/backend.h"

namespace conclave::orchestrator {

inline constexpr size_t kTrunkBytesMin = 512;            // of text that is not pinned yet: some four KV pages
inline constexpr size_t kTrunkBytesMax = 64 << 10;       // of a prompt, more is not compared
inline constexpr size_t kRecentPromptsMax = 32;          // of a worker, to compare with
inline constexpr size_t kTrunksMax = 8;                  // of a worker; the one not used for longest goes first
inline constexpr int64_t kTrunkIdleNs = 60'000'000'000;  // unused for so long, a trunk is let go
inline constexpr int64_t kTrunkBeatNs = 5'000'000'000;   // leases (the worker's default, 15 s) are renewed so often
inline constexpr int64_t kTrunkAgainNs = 5'000'000'000;  // a worker that refused one is asked for none for so long

// Not thread-safe. Times are of one monotonic clock, in nanoseconds. Workers are indices.
class TrunkTable {
 public:
  explicit TrunkTable(int32_t workers) : workers_(static_cast<size_t>(workers)) {}

  // To be pinned; OnPinned must follow. `trunk` is a call whose prompt is the trunk.
  struct Wanted {
    int32_t worker = -1;
    uint64_t ticket = 0;
    CallRequest trunk;
  };
  // A call was answered there, so that its prompt is computed.
  std::optional<Wanted> OnEnd(int32_t worker, const CallRequest& request, int64_t now_ns);
  // How it went; `prefix_id` when `status` is OK. Returns ids to release. A worker that cannot pin (UNIMPLEMENTED,
  // FAILED_PRECONDITION) is not asked again before Forget.
  std::vector<std::string> OnPinned(int32_t worker, uint64_t ticket, const absl::Status& status,
                                    const std::string& prefix_id, int64_t now_ns);
  // The worker does not pin it any more.
  void OnLapsed(int32_t worker, const std::string& prefix_id);
  // The worker is another process now, or nobody knows: its pins are gone or will be.
  void Forget(int32_t worker);

  // Which of them computed, or pins, most of what this prompt begins with, if that is enough for a trunk; -1: none did.
  int32_t Warmest(const CallRequest& request, const std::vector<int32_t>& candidates) const;

  struct Due {
    int32_t worker = -1;
    std::vector<std::string> renew, release;
  };
  std::vector<Due> TakeDue(int64_t now_ns);
  // Everything, to be released.
  std::vector<Due> TakeAll();

  int32_t pinned(int32_t worker) const;

 private:
  // Prompts are compared as text, those of one `kind` only: calls of others may share no KV, since routing changes it
  // and a template may print the time, which is that of the run.
  struct Key {
    std::string kind, text;
  };
  struct Trunk {
    uint64_t ticket = 0;
    Key key;
    std::string prefix_id = {};  // "": being pinned
    int64_t used_ns = 0, renewed_ns = 0;
  };
  struct Worker {
    std::deque<Key> recent;  // the latest first
    std::vector<Trunk> trunks;
    bool able = true;
    int64_t again_ns = 0;
  };

  // How many bytes both begin with, or `known` where those are no more: what is no better is not looked through.
  static size_t CommonOrLess(const Key& a, const Key& b, size_t known);
  static bool BeginsWith(const Key& key, const Key& trunk);
  static Key KeyOf(const CallRequest& request);
  // Removes the pinned trunk that was not used for longest; "" if there is none.
  static std::string DropOldest(Worker* worker);

  std::vector<Worker> workers_;
  uint64_t tickets_ = 0;
};

// The first `bytes` of a prompt as it is compared: whole messages and the beginning of one, in whole characters.
std::vector<deliberation::v1::PromptMessage> FirstOfPrompt(const std::vector<deliberation::v1::PromptMessage>& prompt,
                                                           size_t bytes);

}  // namespace conclave::orchestrator
