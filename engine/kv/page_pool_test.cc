// SPDX-License-Identifier: Apache-2.0
#include "engine/kv/page_pool.h"

#include <gtest/gtest.h>

namespace conclave::engine {
namespace {

PageKey Key(uint64_t n) { return {n, n * 0x9e3779b97f4a7c15ULL}; }

TEST(PagePool, GivesEveryPageOnceThenNothing) {
  PagePool pool(3, 16);
  std::vector<int32_t> pages;
  for (int i = 0; i < 3; ++i) pages.push_back(pool.Allocate().value());
  std::sort(pages.begin(), pages.end());
  EXPECT_EQ(pages, (std::vector<int32_t>{0, 1, 2}));
  EXPECT_FALSE(pool.Allocate().has_value());
  pool.Release(1);
  EXPECT_EQ(pool.Allocate(), 1);
}

TEST(PagePool, PublishedPagesAreFoundAfterRelease) {
  PagePool pool(4, 16);
  const int32_t a = *pool.Allocate(), b = *pool.Allocate();
  EXPECT_EQ(pool.Publish(a, Key(1)), a);
  EXPECT_EQ(pool.Publish(b, Key(2)), b);
  pool.Release(b);
  const std::vector<PageKey> keys = {Key(1), Key(2), Key(3)};
  EXPECT_EQ(pool.Probe(keys).pages, 2);
  EXPECT_EQ(pool.Probe(keys).unreferenced, 1);
  EXPECT_EQ(pool.Probe(std::vector{Key(3), Key(1)}).pages, 0);
  std::vector<int32_t> got;
  pool.Acquire(keys, &got);
  EXPECT_EQ(got, (std::vector<int32_t>{a, b}));
  EXPECT_EQ(pool.references()[a], 2);
  EXPECT_EQ(pool.references()[b], 1);
  EXPECT_EQ(pool.available(), 2);
}

TEST(PagePool, EvictsTheLeastRecentlyUsed) {
  PagePool pool(3, 16);
  for (int i = 0; i < 3; ++i) pool.Publish(*pool.Allocate(), Key(i));
  for (int32_t page : {0, 1, 2}) pool.Release(page);  // pages come in order 0, 1, 2
  std::vector<int32_t> got;
  pool.Acquire(std::vector{Key(0)}, &got);  // used again: now the youngest
  pool.Release(got[0]);
  EXPECT_EQ(pool.Allocate(), 1);
  EXPECT_EQ(pool.Probe(std::vector{Key(1)}).pages, 0);
  EXPECT_EQ(pool.Allocate(), 2);
  EXPECT_EQ(pool.Allocate(), 0);
  EXPECT_EQ(pool.num_published(), 0);
  EXPECT_FALSE(pool.Allocate().has_value());
}

TEST(PagePool, PublishingAnEqualPageMovesTheReference) {
  PagePool pool(2, 16);
  const int32_t first = *pool.Allocate(), second = *pool.Allocate();
  EXPECT_EQ(pool.Publish(first, Key(1)), first);
  EXPECT_EQ(pool.Publish(second, Key(1)), first);
  EXPECT_EQ(pool.references()[first], 2);
  EXPECT_EQ(pool.references()[second], 0);
  EXPECT_EQ(pool.available(), 1);
}

TEST(PagePoolDeathTest, DoubleReleaseIsCaught) {
  PagePool pool(1, 16);
  const int32_t page = *pool.Allocate();
  pool.Release(page);
  EXPECT_DEATH(pool.Release(page), "references_");
}

}  // namespace
}  // namespace conclave::engine
