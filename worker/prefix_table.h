// SPDX-License-Identifier: Apache-2.0
// The prefixes that clients hold in this process, and until when. A prefix is held on a lease: who does not renew it in
// time loses it, and only the work of computing it again is lost with it.
//
// What becomes free is returned, not done: the caller tells the engine, without any lock held.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/mutex.h"
#include "engine/engine.h"

namespace conclave::worker {

struct PinnedPrefix {
  engine::PinId pin = 0;
  std::shared_ptr<const std::vector<engine::TokenId>> tokens;
  std::string cache_salt;
};

// Thread-safe. Times are Clock::NowNs().
class PrefixTable {
 public:
  // `instance_id`: of the process; a name given out by another one is never mistaken for one of ours.
  explicit PrefixTable(std::string_view instance_id);

  // Room for one more, kept until Add or Forgo. RESOURCE_EXHAUSTED PREFIX_LIMIT, UNAVAILABLE DRAINING after Close.
  absl::Status Reserve();
  void Forgo();
  // The name of a prefix that is held from now on, or nothing after Close: then its pin is the caller's to release.
  std::optional<std::string> Add(PinnedPrefix prefix, int64_t expires_ns);

  // NOT_FOUND PREFIX_NOT_FOUND if it is not held, by this name and with this salt, at `now_ns`.
  absl::StatusOr<PinnedPrefix> Find(std::string_view id, std::string_view cache_salt, int64_t now_ns) const;
  // False if it is not held at `now_ns`: a lease that has run out does not come back.
  bool Renew(std::string_view id, int64_t now_ns, int64_t expires_ns);
  // The pin to release, if it was held.
  std::optional<engine::PinId> Remove(std::string_view id);
  std::vector<engine::PinId> TakeExpired(int64_t now_ns);
  // Holds nothing from now on. The pins to release.
  std::vector<engine::PinId> Close();

  int32_t size() const;
  int64_t tokens() const;  // of all prefixes; what several share counts for each

 private:
  struct Entry {
    PinnedPrefix prefix;
    int64_t expires_ns;
  };

  const std::string name_;  // names are this, "/" and a number
  mutable Mutex mutex_;
  std::map<std::string, Entry, std::less<>> held_ ABSL_GUARDED_BY(mutex_);
  int32_t reserved_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t made_ ABSL_GUARDED_BY(mutex_) = 0;
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace conclave::worker
