// SPDX-License-Identifier: Apache-2.0
// A world of one thread: a clock that jumps from one event to the next, and chance drawn from one seed. Whatever
// happens in it happens again with the same seed.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "common/clock.h"
#include "common/hash.h"

namespace conclave::orchestrator {

inline constexpr int64_t kSimMs = 1'000'000;
inline constexpr int64_t kSimSecond = 1'000 * kSimMs;

class SimWorld {
 public:
  explicit SimWorld(uint64_t seed) : state_(Mix64(seed)) {}
  SimWorld(const SimWorld&) = delete;
  SimWorld& operator=(const SimWorld&) = delete;

  // ---- Time
  const Clock& clock() const { return clock_; }
  int64_t now_ns() const { return clock_.NowNs(); }
  // Events of one moment happen in the order they were arranged.
  void After(int64_t delay_ns, std::function<void()> what) {
    events_.emplace(std::pair(now_ns() + delay_ns, arranged_++), std::move(what));
  }
  // The next event's time; -1: none.
  int64_t next_ns() const { return events_.empty() ? -1 : events_.begin()->first.first; }
  // Moves the clock, never past the next event.
  void MoveTo(int64_t ns) { clock_.AdvanceNs(ns - now_ns()); }
  // Lets the next event happen; there must be one.
  void HappenNext() {
    const auto next = events_.begin();
    MoveTo(next->first.first);
    const std::function<void()> what = std::move(next->second);
    events_.erase(next);
    what();
  }

  // ---- Chance
  uint64_t Draw() { return state_ = Mix64(state_); }
  // In [low, high].
  int64_t Between(int64_t low, int64_t high) {
    return low + static_cast<int64_t>(Draw() % static_cast<uint64_t>(high - low + 1));
  }
  bool OneIn(int64_t n) { return Between(1, n) == 1; }

 private:
  ManualClock clock_;
  uint64_t state_;
  int64_t arranged_ = 0;
  std::map<std::pair<int64_t, int64_t>, std::function<void()>> events_;
};

}  // namespace conclave::orchestrator
