// SPDX-License-Identifier: Apache-2.0
#include "common/periodic.h"

#include <gtest/gtest.h>

#include <atomic>
#include <latch>

namespace conclave {
namespace {

TEST(Periodic, ActsAgainAndAgainUntilStopped) {
  std::latch three(3);
  std::atomic<int> acts = 0;
  Periodic periodic(1, [&] {
    if (++acts <= 3) three.count_down();
  });
  three.wait();
  periodic.Stop();
  const int at_stop = acts;
  EXPECT_GE(at_stop, 3);
  EXPECT_EQ(acts, at_stop) << "nothing runs after Stop";
  periodic.Stop();  // again is no harm
}

TEST(Periodic, StopsWithoutWaitingForItsInterval) {
  constexpr int64_t kAYearNs = int64_t{365} * 24 * 3600 * 1'000'000'000;
  bool acted = false;
  {
    Periodic periodic(kAYearNs, [&] { acted = true; });
  }
  EXPECT_FALSE(acted);
}

}  // namespace
}  // namespace conclave
