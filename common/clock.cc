// SPDX-License-Identifier: Apache-2.0
#include "common/clock.h"

#include <ctime>

namespace conclave {
namespace {

int64_t ReadNs(clockid_t id) {
  timespec t{};
  clock_gettime(id, &t);
  return static_cast<int64_t>(t.tv_sec) * 1'000'000'000 + t.tv_nsec;
}

class SystemClock final : public Clock {
 public:
  int64_t NowNs() const override { return ReadNs(CLOCK_BOOTTIME); }
  int64_t UnixNs() const override { return ReadNs(CLOCK_REALTIME); }
};

}  // namespace

const Clock& Clock::System() {
  static const SystemClock* const clock = new SystemClock;
  return *clock;
}

}  // namespace conclave
