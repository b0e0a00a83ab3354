// SPDX-License-Identifier: Apache-2.0
#include "engine/ops/cpu/thread_pool.h"

#include <gtest/gtest.h>

#include <atomic>
#include <vector>

namespace conclave::engine::cpu {
namespace {

TEST(ThreadPool, EveryTaskRunsOnceOnAThreadOfThePool) {
  for (const int threads : {1, 2, 5}) {
    ThreadPool pool(threads);
    EXPECT_EQ(pool.threads(), threads);
    for (const int64_t tasks : {int64_t{0}, int64_t{1}, int64_t{2}, int64_t{7}, int64_t{1000}, ThreadPool::kTasksMax}) {
      std::vector<std::atomic<int>> runs(static_cast<size_t>(tasks));
      std::atomic<bool> strange = false;
      pool.ParallelFor(tasks, [&](int64_t task, int thread) {
        runs[static_cast<size_t>(task)].fetch_add(1);
        if (thread < 0 || thread >= threads) strange = true;
      });
      for (const std::atomic<int>& count : runs) EXPECT_EQ(count, 1);
      EXPECT_FALSE(strange);
    }
  }
}

// Results written by workers are visible to the caller, loop after loop; a late worker never runs an old loop's task.
TEST(ThreadPool, ManyShortLoops) {
  ThreadPool pool(3);
  std::vector<int64_t> values(64);
  for (int64_t round = 1; round <= 20000; ++round) {
    const int64_t tasks = 1 + round % 64;
    pool.ParallelFor(tasks, [&](int64_t task, int) { values[static_cast<size_t>(task)] = round; });
    for (int64_t i = 0; i < tasks; ++i) ASSERT_EQ(values[static_cast<size_t>(i)], round);
  }
}

}  // namespace
}  // namespace conclave::engine::cpu
