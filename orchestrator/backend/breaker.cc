// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/backend/breaker.h"

#include <algorithm>

namespace conclave::orchestrator {

Breaker::Pass Breaker::Ask(int64_t now_ns) {
  if (!open_) return Pass::kYes;
  if (trying_ || now_ns < until_ns_) return Pass::kNo;
  trying_ = true;
  return Pass::kTrial;
}

void Breaker::Succeeded(Pass pass) {
  // A call from before the pause says nothing about the server of now; the trial does.
  if (open_ && pass != Pass::kTrial) return;
  open_ = trying_ = false;
  failures_ = 0;
  pause_ns_ = options_.pause_ns;
}

void Breaker::Failed(Pass pass, int64_t now_ns) {
  ++failures_;
  if (pass == Pass::kTrial) {
    trying_ = false;
    pause_ns_ = std::min(2 * pause_ns_, options_.pause_max_ns);
    until_ns_ = now_ns + pause_ns_;
  } else if (!open_ && failures_ >= options_.failures) {
    open_ = true;
    until_ns_ = now_ns + pause_ns_;
  }
}

void Breaker::Withdrawn(Pass pass) {
  if (pass == Pass::kTrial) trying_ = false;
}

}  // namespace conclave::orchestrator
