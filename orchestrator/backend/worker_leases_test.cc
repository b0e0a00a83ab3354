// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/backend/worker_leases.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace conclave::orchestrator {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

TEST(WorkerLeases, EverythingAWorkerSaysRenewsItsLease) {
  WorkerLeases leases(2);
  EXPECT_THAT(leases.TakeExpired(10 * kLeaseNs), IsEmpty()) << "nobody holds one yet";
  leases.Grant(0, "a", 0);
  leases.Grant(1, "b", 0);
  EXPECT_THAT(leases.TakeToAsk(kLeaseBeatNs - 1), IsEmpty());
  EXPECT_THAT(leases.TakeToAsk(kLeaseBeatNs), ElementsAre(0, 1));
  EXPECT_THAT(leases.TakeToAsk(2 * kLeaseBeatNs - 1), IsEmpty()) << "once in a beat";
  leases.Renew(1, kLeaseBeatNs + 1);
  EXPECT_THAT(leases.TakeToAsk(2 * kLeaseBeatNs), ElementsAre(0)) << "the other was heard of";
  EXPECT_THAT(leases.TakeExpired(kLeaseNs - 1), IsEmpty());
  EXPECT_THAT(leases.TakeExpired(kLeaseNs), ElementsAre(0));
  EXPECT_THAT(leases.TakeExpired(kLeaseNs), IsEmpty()) << "told once";
  EXPECT_FALSE(leases.held(0));
  EXPECT_TRUE(leases.held(1));
  EXPECT_THAT(leases.TakeExpired(kLeaseBeatNs + 1 + kLeaseNs), ElementsAre(1));
}

TEST(WorkerLeases, WhoLostItsLeaseCannotRenewItAndIsToldWhatWasGivenUp) {
  WorkerLeases leases(1);
  leases.Grant(0, "a", 0);
  EXPECT_THAT(leases.TakeExpired(kLeaseNs), ElementsAre(0));
  leases.Fence(0, "r1");
  leases.Fence(0, "r2");
  leases.Renew(0, kLeaseNs + 1);
  EXPECT_FALSE(leases.held(0)) << "a late word is no lease";
  EXPECT_THAT(leases.Grant(0, "a", kLeaseNs + 2), ElementsAre("r1", "r2"));
  EXPECT_TRUE(leases.held(0));
  EXPECT_THAT(leases.Grant(0, "a", kLeaseNs + 3), IsEmpty()) << "told once";
  leases.Fence(0, "r3");
  EXPECT_THAT(leases.Grant(0, "another process", kLeaseNs + 4), IsEmpty()) << "it ended with the process";
}

}  // namespace
}  // namespace conclave::orchestrator
