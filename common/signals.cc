// SPDX-License-Identifier: Apache-2.0
#include "common/signals.h"

#include <csignal>
#include <cstdlib>
#include <thread>
#include <vector>

namespace conclave {
namespace {

sigset_t Termination() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  return signals;
}

}  // namespace

TerminationSignals::TerminationSignals() {
  const sigset_t signals = Termination();
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  std::signal(SIGPIPE, SIG_IGN);
  std::thread([this] { Take(); }).detach();
}

std::optional<int> TerminationSignals::Wait(absl::Duration timeout) {
  const std::vector<int> taken = taken_.WaitAndDrain(timeout);
  return taken.empty() ? std::nullopt : std::optional<int>(taken.front());
}

void TerminationSignals::Take() {
  const sigset_t signals = Termination();
  for (int signal = 0; sigwait(&signals, &signal) == 0;) {
    if (!serving_) std::_Exit(128 + signal);
    taken_.TryPush(int{signal});
  }
}

}  // namespace conclave
