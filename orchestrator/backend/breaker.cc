// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/backend/breaker.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>

namespace conclave::orchestrator {
namespace {

// Of the last `window` ends.
int32_t FailuresIn(uint64_t last, int32_t window) {
  const uint64_t mask = window >= 64 ? ~uint64_t{0} : (uint64_t{1} << window) - 1;
  return std::popcount(last & mask);
}

}  // namespace

Breaker::Pass Breaker::Ask(int64_t now_ns) {
  if (!open_) return Pass::kYes;
  if (trying_ || now_ns < until_ns_) return Pass::kNo;
  trying_ = true;
  return Pass::kTrial;
}

void Breaker::Count(bool failed) {
  in_a_row_ = failed ? in_a_row_ + 1 : 0;
  last_ = last_ << 1 | (failed ? 1 : 0);
  counted_ = std::min(counted_ + 1, options_.window);
}

void Breaker::Succeeded(Pass pass) {
  // A call from before the pause says nothing about the server of now; the trial does.
  if (open_ && pass != Pass::kTrial) return;
  if (open_) {
    open_ = trying_ = false;
    pause_ns_ = options_.pause_ns;
    last_ = 0;
    counted_ = 0;
  }
  Count(false);
}

void Breaker::Failed(Pass pass, int64_t now_ns) {
  if (pass == Pass::kTrial) {
    trying_ = false;
    pause_ns_ = std::min(2 * pause_ns_, options_.pause_max_ns);
    until_ns_ = now_ns + pause_ns_;
  } else if (!open_) {
    Count(true);
    const bool half = counted_ >= options_.window && FailuresIn(last_, options_.window) >= options_.window_failures;
    open_ = half || in_a_row_ >= options_.failures;
    until_ns_ = now_ns + pause_ns_;
  }
}

void Breaker::Withdrawn(Pass pass) {
  if (pass == Pass::kTrial) trying_ = false;
}

std::string Breaker::Why() const {
  if (in_a_row_ >= options_.failures) return fmt::format("{} failures in a row", in_a_row_);
  return fmt::format("{} failures in {} calls", FailuresIn(last_, options_.window), options_.window);
}

}  // namespace conclave::orchestrator
