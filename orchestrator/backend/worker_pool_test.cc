// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/backend/worker_pool.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace conclave::orchestrator {
namespace {

TEST(WorkerPool, TheLeastLoadedWorkerThatIsUpTakesTheCall) {
  WorkerPool pool(3, 2);
  pool.SetUp(1);
  pool.SetUp(2);
  CallId id = 0;
  pool.Add(10, {0, 1, 2});
  EXPECT_EQ(pool.BeginNext(&id), 1);
  pool.Add(11, {0, 1, 2});
  EXPECT_EQ(pool.WorkerOf(11), 2);
  pool.Add(12, {0});  // its only worker is down: it waits there
  EXPECT_EQ(pool.WorkerOf(12), 0);
  EXPECT_EQ(pool.BeginNext(&id), 2);
  EXPECT_EQ(id, 11u);
  EXPECT_EQ(pool.BeginNext(&id), -1);
  pool.SetUp(0);
  EXPECT_EQ(pool.BeginNext(&id), 0);
  EXPECT_EQ(id, 12u);
  pool.Remove(10);
  EXPECT_EQ(pool.running(1), 0);
  EXPECT_EQ(pool.WorkerOf(10), -1);
}

TEST(WorkerPool, OfEquallyLoadedWorkersThePreferredOneTakesTheCall) {
  WorkerPool pool(3, 2);
  pool.SetUp(0);
  pool.SetUp(1);
  pool.Add(1, {0, 1, 2}, 1);
  EXPECT_EQ(pool.WorkerOf(1), 1);
  pool.Add(2, {0, 1, 2}, 1);
  EXPECT_EQ(pool.WorkerOf(2), 0) << "it has fewer calls";
  pool.Add(3, {0, 1, 2}, 2);
  EXPECT_EQ(pool.WorkerOf(3), 0) << "the preferred one is down";
  pool.Add(4, {2}, 1);
  EXPECT_EQ(pool.WorkerOf(4), 2) << "no candidate";
}

TEST(WorkerPool, WaitingCallsLeaveAWorkerThatGoesDownAndKeepTheirOrder) {
  WorkerPool pool(2, 1);
  pool.SetUp(0);
  for (CallId id = 1; id <= 4; ++id) pool.Add(id, {0, 1});
  CallId id = 0;
  EXPECT_EQ(pool.BeginNext(&id), 0);
  EXPECT_EQ(pool.waiting(0), 3);
  pool.SetUp(1);
  pool.SetDown(0);
  EXPECT_EQ(pool.waiting(1), 3);
  for (CallId expected = 2; expected <= 4; ++expected) {
    EXPECT_EQ(pool.BeginNext(&id), 1);
    EXPECT_EQ(id, expected);
    EXPECT_EQ(pool.BeginNext(&id), -1);  // one at a time
    pool.Remove(expected);
  }
  pool.Remove(1);
  EXPECT_EQ(pool.running(0), 0);
}

TEST(WorkerPool, AWorkerMayHaveALimitOfItsOwn) {
  WorkerPool pool(1, 3);
  pool.SetUp(0, 1);
  for (CallId id = 1; id <= 4; ++id) pool.Add(id, {0});
  CallId id = 0;
  EXPECT_EQ(pool.BeginNext(&id), 0);
  EXPECT_EQ(pool.BeginNext(&id), -1);
  pool.SetUp(0);
  EXPECT_EQ(pool.BeginNext(&id), 0);
  EXPECT_EQ(pool.BeginNext(&id), 0);
  EXPECT_EQ(pool.BeginNext(&id), -1);
}

}  // namespace
}  // namespace conclave::orchestrator
