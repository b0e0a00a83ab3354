// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/backend/worker_leases.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace conclave::orchestrator {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::Pair;

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
  leases.Fence(0, "r1", kLeaseNs);
  leases.Fence(0, "r2", kLeaseNs);
  leases.Renew(0, kLeaseNs + 1);
  EXPECT_FALSE(leases.held(0)) << "a late word is no lease";
  EXPECT_THAT(leases.Grant(0, "a", kLeaseNs + 2), ElementsAre("r1", "r2"));
  EXPECT_TRUE(leases.held(0));
  EXPECT_THAT(leases.Grant(0, "a", kLeaseNs + 3), IsEmpty()) << "told once";
  leases.Fence(0, "r3", kLeaseNs + 3);
  EXPECT_THAT(leases.Grant(0, "another process", kLeaseNs + 4), IsEmpty()) << "it ended with the process";
}

TEST(WorkerLeases, WhoKeepsItsLeaseIsToldWithItsNextWord) {
  WorkerLeases leases(2);
  leases.Grant(0, "a", 0);
  leases.Grant(1, "b", 0);
  leases.Fence(0, "r1", 5);
  EXPECT_THAT(leases.TakeToTell(), IsEmpty()) << "nothing has come of it since";
  leases.Renew(0, 6);
  EXPECT_THAT(leases.TakeToTell(), ElementsAre(Pair(0, ElementsAre("r1"))));
  leases.Renew(0, 7);
  EXPECT_THAT(leases.TakeToTell(), IsEmpty()) << "told once";
  leases.Fence(1, "r2", 8);
  EXPECT_THAT(leases.TakeExpired(kLeaseNs), ElementsAre(1));
  leases.Renew(1, kLeaseNs + 1);
  EXPECT_THAT(leases.TakeToTell(), IsEmpty()) << "without a lease it is told when it gets one";
  EXPECT_THAT(leases.Grant(1, "b", kLeaseNs + 2), ElementsAre("r2"));
}

TEST(WorkerLeases, WhatAWorkerIsToBeToldIsBounded) {
  WorkerLeases leases(1);
  leases.Grant(0, "a", 0);
  for (size_t i = 0; i < kFencedMax; ++i) leases.Fence(0, std::to_string(i), 1);
  leases.Fence(0, "one more", 1);
  const std::vector<std::string> told = leases.Grant(0, "a", 2);
  EXPECT_EQ(told.size(), kFencedMax);
  EXPECT_EQ(told.front(), "1");
  EXPECT_EQ(told.back(), "one more");
}

}  // namespace
}  // namespace conclave::orchestrator
