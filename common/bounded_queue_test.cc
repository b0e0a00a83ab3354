// SPDX-License-Identifier: Apache-2.0
#include "common/bounded_queue.h"

#include <gtest/gtest.h>

#include <thread>

namespace conclave {
namespace {

TEST(BoundedQueue, RefusesAtTheLimitAndAfterClose) {
  BoundedQueue<int> queue(2);
  EXPECT_TRUE(queue.TryPush(1));
  EXPECT_TRUE(queue.TryPush(2));
  EXPECT_FALSE(queue.TryPush(3));
  EXPECT_EQ(queue.DrainNow(), (std::vector<int>{1, 2}));
  EXPECT_TRUE(queue.TryPush(4));
  queue.Close();
  EXPECT_FALSE(queue.TryPush(5));
  EXPECT_EQ(queue.WaitAndDrain(), std::vector<int>{4});
}

TEST(BoundedQueue, EveryItemOfManyProducersArrivesOnceInProducerOrder) {
  constexpr int kProducers = 4, kItems = 1000;
  BoundedQueue<std::pair<int, int>> queue(16);
  std::vector<std::thread> threads;
  for (int p = 0; p < kProducers; ++p) {
    threads.emplace_back([&queue, p] {
      for (int i = 0; i < kItems; ++i) {
        while (!queue.TryPush({p, i})) std::this_thread::yield();
      }
    });
  }
  std::vector<int> next(kProducers, 0);
  for (int total = 0; total < kProducers * kItems;) {
    for (auto [p, i] : queue.WaitAndDrain()) {
      EXPECT_EQ(i, next[p]++);
      ++total;
    }
  }
  for (auto& thread : threads) thread.join();
}

}  // namespace
}  // namespace conclave
