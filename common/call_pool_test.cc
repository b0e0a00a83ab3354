// SPDX-License-Identifier: Apache-2.0
#include "common/call_pool.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <latch>
#include <memory>

namespace conclave {
namespace {

using ::testing::ElementsAre;

// Holds one thread of the pool until released.
class Hold {
 public:
  explicit Hold(CallPool* pool, int64_t bytes = 0) {
    EXPECT_TRUE(pool->TryRun(bytes, [state = state_] {
      state->begun.count_down();
      state->release.wait();
    }));
    state_->begun.wait();
  }
  void Release() { state_->release.count_down(); }

 private:
  struct State {
    std::latch begun{1}, release{1};
  };
  std::shared_ptr<State> state_ = std::make_shared<State>();
};

TEST(CallPool, RefusesBeyondItsCallsAndBytes) {
  CallPool pool({.threads = 1, .calls_max = 2, .bytes_max = 100, .large_bytes = 1000});
  Hold hold(&pool);
  EXPECT_FALSE(pool.TryRun(101, [] {}));
  EXPECT_TRUE(pool.TryRun(100, [] {}));
  EXPECT_FALSE(pool.TryRun(1, [] {})) << "the bytes are used up";
  EXPECT_TRUE(pool.TryRun(0, [] {}));
  EXPECT_FALSE(pool.TryRun(0, [] {})) << "the calls are used up";
  EXPECT_EQ(pool.waiting(), 2);
  hold.Release();
}

TEST(CallPool, RunsInOrderAndFinishesWhatWaitsBeforeItEnds) {
  std::vector<int> order;
  {
    CallPool pool({.threads = 1, .calls_max = 10, .bytes_max = 100, .large_bytes = 1000});
    Hold hold(&pool);
    for (int i = 0; i < 5; ++i) EXPECT_TRUE(pool.TryRun(1, [&order, i] { order.push_back(i); }));
    hold.Release();
  }
  EXPECT_THAT(order, ElementsAre(0, 1, 2, 3, 4));
}

TEST(CallPool, OneLargeCallAtATimeAndSmallOnesPass) {
  std::atomic<bool> second_large_ran = false;
  {
    CallPool pool({.threads = 2, .calls_max = 10, .bytes_max = 1000, .large_bytes = 100});
    Hold large(&pool, 101);
    EXPECT_TRUE(pool.TryRun(101, [&] { second_large_ran = true; }));
    std::latch small_ran(1);
    EXPECT_TRUE(pool.TryRun(100, [&] { small_ran.count_down(); }));
    small_ran.wait();  // it came after the second large call and ran before it
    EXPECT_FALSE(second_large_ran);
    EXPECT_EQ(pool.waiting(), 1);
    large.Release();
  }
  EXPECT_TRUE(second_large_ran);
}

}  // namespace
}  // namespace conclave
