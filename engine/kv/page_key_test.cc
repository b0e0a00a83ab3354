// SPDX-License-Identifier: Apache-2.0
#include "engine/kv/page_key.h"

#include <gtest/gtest.h>

#include <set>

#include "common/hash.h"
#include "common/status.h"

namespace conclave::engine {
namespace {

TEST(PageKey, RootSeparatesModelPolicyAndSalt) {
  const PageKey root = RootPageKey("model", 1, "salt");
  EXPECT_EQ(root, RootPageKey("model", 1, "salt"));
  EXPECT_NE(root, RootPageKey("model2", 1, "salt"));
  EXPECT_NE(root, RootPageKey("model", 2, "salt"));
  EXPECT_NE(root, RootPageKey("model", 1, ""));
  EXPECT_NE(RootPageKey("ab", 0, "c"), RootPageKey("a", 0, "bc"));
}

// The key is the first half of SHA-256 over parent and tokens, as an independent computation of the same bytes shows.
TEST(PageKey, IsTheDigestsFirstHalf) {
  const std::vector<int32_t> tokens = {1, 2, 0x01020304};
  const std::string bytes("\x02\0\0\0\0\0\0\0\x05\0\0\0\0\0\0\0\x01\0\0\0\x02\0\0\0\x04\x03\x02\x01", 28);
  const std::string hex = Sha256Hex(bytes);
  const PageKey key = NextPageKey({2, 5}, tokens);
  EXPECT_EQ(fmt::format("{:016x}{:016x}", key.high, key.low), hex.substr(0, 32));
}

TEST(PageKey, ChainDependsOnEveryEarlierToken) {
  std::vector<int32_t> tokens(40, 7);
  const PageKey root = RootPageKey("m", 0, "");
  std::vector<PageKey> keys;
  ExtendPageKeys(root, tokens, 8, &keys);
  ASSERT_EQ(keys.size(), 5u);
  for (size_t changed = 0; changed < tokens.size(); ++changed) {
    std::vector<int32_t> other = tokens;
    other[changed] = 8;
    std::vector<PageKey> other_keys;
    ExtendPageKeys(root, other, 8, &other_keys);
    for (size_t page = 0; page < keys.size(); ++page) {
      EXPECT_EQ(keys[page] == other_keys[page], page < changed / 8) << "token " << changed << ", page " << page;
    }
  }
}

TEST(PageKey, ExtendingPieceByPieceGivesTheSameKeysAndIgnoresThePartialPage) {
  std::vector<int32_t> tokens(50);
  for (int i = 0; i < 50; ++i) tokens[i] = i * i;
  const PageKey root = RootPageKey("m", 0, "");
  std::vector<PageKey> whole, pieces;
  ExtendPageKeys(root, tokens, 16, &whole);
  EXPECT_EQ(whole.size(), 3u);
  for (size_t n = 0; n <= tokens.size(); n += 5) {
    ExtendPageKeys(root, std::span(tokens).first(n), 16, &pieces);
    EXPECT_EQ(pieces.size(), n / 16);
  }
  EXPECT_EQ(pieces, whole);
}

}  // namespace
}  // namespace conclave::engine
