// SPDX-License-Identifier: Apache-2.0
#include "engine/kv/page_pool.h"

#include <gtest/gtest.h>

namespace conclave::engine {
namespace {

constexpr int32_t kPageTokens = 4;

// Sequences of pages of equal tokens, 4 each: {7, 8} is 7 7 7 7 8 8 8 8; then single tokens.
struct Text {
  Text(std::initializer_list<int32_t> pages, std::initializer_list<int32_t> rest = {}) {
    for (int32_t page : pages) tokens.insert(tokens.end(), kPageTokens, page);
    tokens.insert(tokens.end(), rest.begin(), rest.end());
    ExtendPageKeys(root, tokens, kPageTokens, &keys);
  }
  Prefix prefix() const { return {root, keys, tokens}; }

  PageKey root = RootPageKey("model", 0, "");
  std::vector<int32_t> tokens;
  std::vector<PageKey> keys;
};

int32_t Publish(PagePool* pool, int32_t page, const Text& text, int32_t number) {
  return pool->PublishFull(page, text.prefix(), number);
}

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
  PagePool pool(4, kPageTokens);
  const Text text({1, 2, 3});
  const int32_t a = *pool.Allocate(), b = *pool.Allocate();
  EXPECT_EQ(Publish(&pool, a, text, 0), a);
  EXPECT_EQ(Publish(&pool, b, text, 1), b);
  pool.Release(b);
  EXPECT_EQ(pool.Probe(text.prefix()).tokens, 8);
  EXPECT_EQ(pool.Probe(text.prefix()).unreferenced, 1);
  EXPECT_EQ(pool.Probe(text.prefix().First(7)).tokens, 7) << "no more than was asked for";
  EXPECT_EQ(pool.Probe(Text({2, 1}).prefix()).tokens, 0);
  std::vector<int32_t> got;
  EXPECT_EQ(pool.Acquire(text.prefix(), &got), 8);
  EXPECT_EQ(got, (std::vector<int32_t>{a, b}));
  EXPECT_EQ(pool.references()[a], 2);
  EXPECT_EQ(pool.references()[b], 1);
  EXPECT_EQ(pool.available(), 2);
}

TEST(PagePool, TheBeginningOfAPageIsFoundByItsTokensUnderTheSameParentOnly) {
  PagePool pool(4, kPageTokens);
  const Text text({1, 2});
  const int32_t a = *pool.Allocate(), b = *pool.Allocate();
  Publish(&pool, a, text, 0);
  Publish(&pool, b, text, 1);
  EXPECT_EQ(pool.Probe(Text({1}, {2, 2, 9}).prefix()).tokens, 6);
  EXPECT_EQ(pool.Probe(Text({}, {1, 9}).prefix()).tokens, 1);
  EXPECT_EQ(pool.Probe(Text({9}, {2, 2, 2}).prefix()).tokens, 0);
  Text salted = text;
  salted.root = RootPageKey("model", 0, "salt");
  salted.keys.clear();
  ExtendPageKeys(salted.root, salted.tokens, kPageTokens, &salted.keys);
  EXPECT_EQ(pool.Probe(salted.prefix()).tokens, 0);
  std::vector<int32_t> got;
  EXPECT_EQ(pool.Acquire(Text({1}, {2, 9}).prefix(), &got), 5);
  EXPECT_EQ(got, (std::vector<int32_t>{a, b}));
}

TEST(PagePool, OfTailsThoseThatOthersBeginWithAreForgotten) {
  PagePool pool(5, kPageTokens);
  const Text text({1});
  const auto tail = [&](std::initializer_list<int32_t> tokens) {
    const int32_t page = *pool.Allocate();
    pool.PublishTail(page, text.root, std::vector<int32_t>(tokens));
    return page;
  };
  const int32_t one = tail({1});
  pool.Release(one);
  EXPECT_EQ(pool.num_cached(), 1);
  EXPECT_EQ(pool.Probe(text.prefix()).tokens, 1);
  const int32_t three = tail({1, 1, 1});
  EXPECT_EQ(pool.num_cached(), 0) << "the shorter one is free";
  EXPECT_EQ(pool.num_published(), 1);
  const int32_t two = tail({1, 1});
  EXPECT_EQ(pool.num_published(), 1) << "it adds nothing";
  pool.Release(two);
  EXPECT_EQ(pool.num_cached(), 0);
  const int32_t other = tail({1, 2});
  EXPECT_EQ(pool.num_published(), 2);
  pool.PublishTail(other, text.root, std::vector<int32_t>{1, 2, 3});  // it has grown
  EXPECT_EQ(pool.Probe(Text({}, {1, 2, 3}).prefix()).tokens, 3);
  const int32_t full = *pool.Allocate();
  EXPECT_EQ(Publish(&pool, full, text, 0), full);
  EXPECT_EQ(pool.num_published(), 2) << "its beginning, held by its writer, is found in the full one";
  pool.Release(three);
  pool.Release(other);
  pool.Release(full);
  EXPECT_EQ(pool.num_cached(), 2);
  EXPECT_EQ(pool.available(), 5);
}

TEST(PagePool, WhatIsPinnedIsFoundThoughOthersThatHoldTheSameAreLost) {
  PagePool pool(3, kPageTokens);
  const Text text({1});
  const int32_t pinned = *pool.Allocate();
  pool.PublishTail(pinned, text.root, std::vector<int32_t>{1, 1});
  pool.Pin(pinned);
  pool.Pin(pinned);
  EXPECT_EQ(pool.num_pinned(), 1);
  const int32_t longer = *pool.Allocate();
  EXPECT_EQ(Publish(&pool, longer, text, 0), longer);
  pool.PublishTail(pinned, text.root, std::vector<int32_t>{1, 1});  // told again: nothing changes
  pool.Release(longer);
  EXPECT_EQ(pool.Probe(text.prefix()).tokens, 4);
  ASSERT_TRUE(pool.Allocate().has_value());
  EXPECT_EQ(pool.Allocate(), longer);
  EXPECT_EQ(pool.Probe(text.prefix()).tokens, 2);
  EXPECT_FALSE(pool.Allocate().has_value());
  pool.Unpin(pinned);
  EXPECT_TRUE(pool.pinned(pinned));
  pool.Unpin(pinned);
  EXPECT_EQ(pool.num_pinned(), 0);
  pool.Release(pinned);
  EXPECT_EQ(pool.Allocate(), pinned);
}

// Who shares a page may have written on it before somebody else pinned what was known of it.
TEST(PagePool, APinnedPageThatIsWrittenOnIsFoundWithAllThatItHolds) {
  PagePool pool(3, kPageTokens);
  const Text text({1});
  const int32_t page = *pool.Allocate();
  pool.PublishTail(page, text.root, std::vector<int32_t>{1, 1});
  pool.Pin(page);
  pool.PublishTail(page, text.root, std::vector<int32_t>{1, 1, 1});
  EXPECT_EQ(pool.Probe(text.prefix()).tokens, 3);
  // Its writer fills it, and another page holds the same already: the writer goes there, and the pinned stays.
  pool.Retain(page);
  const int32_t other = *pool.Allocate();
  EXPECT_EQ(Publish(&pool, other, text, 0), other);
  EXPECT_EQ(Publish(&pool, page, text, 0), other);
  EXPECT_EQ(pool.references()[page], 1);
  pool.Release(other);
  pool.Release(other);
  ASSERT_TRUE(pool.Allocate().has_value());
  EXPECT_EQ(pool.Allocate(), other);
  EXPECT_EQ(pool.Probe(text.prefix()).tokens, 3);
}

TEST(PagePool, EvictsTheLeastRecentlyUsed) {
  PagePool pool(3, kPageTokens);
  for (int i = 0; i < 3; ++i) Publish(&pool, *pool.Allocate(), Text({i}), 0);
  for (int32_t page : {0, 1, 2}) pool.Release(page);  // pages come in order 0, 1, 2
  std::vector<int32_t> got;
  EXPECT_EQ(pool.Acquire(Text({}, {0, 0}).prefix(), &got), 2);  // used again, if in part: now the youngest
  pool.Release(got[0]);
  EXPECT_EQ(pool.Allocate(), 1);
  EXPECT_EQ(pool.Probe(Text({1}).prefix()).tokens, 0);
  EXPECT_EQ(pool.Allocate(), 2);
  EXPECT_EQ(pool.Allocate(), 0);
  EXPECT_EQ(pool.num_published(), 0);
  EXPECT_FALSE(pool.Allocate().has_value());
}

TEST(PagePool, PublishingAnEqualPageMovesTheReference) {
  PagePool pool(2, kPageTokens);
  const int32_t first = *pool.Allocate(), second = *pool.Allocate();
  EXPECT_EQ(Publish(&pool, first, Text({1}), 0), first);
  EXPECT_EQ(Publish(&pool, second, Text({1}), 0), first);
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
