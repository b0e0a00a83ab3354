// SPDX-License-Identifier: Apache-2.0
// Random operations against a plain model: every sequence is a list of tokens, and reading it back through its block
// table, from a memory that is written and copied as the tables say, must give that list.
#include "engine/kv/block_table.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

namespace conclave::engine {
namespace {

constexpr int32_t kPageTokens = 4;
constexpr int32_t kPages = 24;

struct PlainSequence {
  BlockTable table;
  std::vector<int32_t> tokens;
  std::vector<PageKey> keys;
};

class World {
 public:
  explicit World(uint64_t seed) : random_(seed), pool_(kPages, kPageTokens), memory_(kPages * kPageTokens, -1) {}

  PagePool& pool() { return pool_; }
  std::vector<PlainSequence>& sequences() { return sequences_; }

  int32_t Uniform(int32_t n) { return std::uniform_int_distribution<int32_t>(0, n - 1)(random_); }

  // A prompt of few letters, so that prefixes repeat; as much of it as the cache has is taken from there.
  void Start() {
    PlainSequence s;
    const int32_t length = 1 + Uniform(14);
    for (int32_t i = 0; i < length; ++i) s.tokens.push_back(Uniform(8) == 0 ? 1 : 0);
    ExtendPageKeys(root_, s.tokens, kPageTokens, &s.keys);
    const PagePool::Hit hit = pool_.Probe(s.keys);
    const int32_t available = pool_.available();
    s.table.AcquirePrefix(&pool_, s.keys, length - 1);
    EXPECT_EQ(s.table.tokens(), std::min(hit.pages * kPageTokens, length - 1));
    if (hit.pages * kPageTokens <= length - 1) {
      EXPECT_EQ(pool_.available(), available - hit.unreferenced);
    }
    s.tokens.resize(s.table.tokens());
    s.keys.resize(s.tokens.size() / kPageTokens);
    ExpectContents(s);
    sequences_.push_back(std::move(s));
  }

  void Grow(PlainSequence* s) {
    const int32_t count = 1 + Uniform(6);
    const int32_t needed = s->table.PagesNeeded(pool_, count);
    if (needed > pool_.available()) return;
    const int32_t available = pool_.available();
    std::vector<PageCopy> copies;
    const int32_t from = s->table.tokens();
    s->table.Append(&pool_, count, &copies);
    EXPECT_LE(available - pool_.available(), needed);
    for (const PageCopy& copy : copies) {
      std::copy_n(memory_.begin() + copy.from * kPageTokens, kPageTokens, memory_.begin() + copy.to * kPageTokens);
    }
    for (int32_t i = from; i < from + count; ++i) {
      s->tokens.push_back(Uniform(8) == 0 ? 1 : 0);
      memory_[s->table.Slot(pool_, i)] = s->tokens.back();
    }
    ExtendPageKeys(root_, s->tokens, kPageTokens, &s->keys);
    if (Uniform(4) != 0) s->table.PublishFull(&pool_, s->keys);
  }

  void Fork(size_t index) {
    PlainSequence fork{sequences_[index].table.Fork(&pool_), sequences_[index].tokens, sequences_[index].keys};
    sequences_.push_back(std::move(fork));
  }

  void End(size_t index) {
    sequences_[index].table.Release(&pool_);
    std::vector<PlainSequence> rest;
    for (size_t i = 0; i < sequences_.size(); ++i) {
      if (i != index) rest.push_back(std::move(sequences_[i]));
    }
    sequences_.swap(rest);
  }

  void ExpectContents(const PlainSequence& s) const {
    ASSERT_EQ(s.table.tokens(), static_cast<int32_t>(s.tokens.size()));
    for (int32_t i = 0; i < s.table.tokens(); ++i) ASSERT_EQ(memory_[s.table.Slot(pool_, i)], s.tokens[i]) << i;
  }

  // Each reference belongs to a table; pages are conserved.
  void ExpectConserved() const {
    std::vector<int32_t> references(kPages, 0);
    for (const PlainSequence& s : sequences_) {
      for (int32_t page : s.table.pages()) ++references[page];
    }
    ASSERT_EQ(references, std::vector<int32_t>(pool_.references().begin(), pool_.references().end()));
    ASSERT_EQ(pool_.available(), std::count(references.begin(), references.end(), 0));
    ASSERT_LE(pool_.num_cached(), pool_.available());
  }

 private:
  std::mt19937_64 random_;
  PagePool pool_;
  std::vector<int32_t> memory_;
  const PageKey root_ = RootPageKey("model", 0, "");
  std::vector<PlainSequence> sequences_;
};

TEST(BlockTable, RandomOperationsMatchAPlainModel) {
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    World world(seed);
    for (int step = 0; step < 2000; ++step) {
      auto& sequences = world.sequences();
      const int32_t choice = world.Uniform(10);
      if (sequences.empty() || (choice == 0 && sequences.size() < 12)) {
        world.Start();
      } else if (choice == 1 && sequences.size() < 12) {
        world.Fork(world.Uniform(static_cast<int32_t>(sequences.size())));
      } else if (choice == 2) {
        world.End(world.Uniform(static_cast<int32_t>(sequences.size())));
      } else {
        world.Grow(&sequences[world.Uniform(static_cast<int32_t>(sequences.size()))]);
      }
      for (const PlainSequence& s : world.sequences()) world.ExpectContents(s);
      world.ExpectConserved();
      if (testing::Test::HasFatalFailure()) break;
    }
    while (!world.sequences().empty()) world.End(0);
    EXPECT_EQ(world.pool().available(), kPages);
    if (testing::Test::HasFailure()) return;
  }
}

TEST(BlockTable, TenThousandRandomCancelsGiveAllPagesBack) {
  World world(7);
  for (int cancelled = 0; cancelled < 10000;) {
    auto& sequences = world.sequences();
    if (sequences.size() < 8) {
      world.Start();
      continue;
    }
    world.Grow(&sequences[world.Uniform(8)]);
    if (world.Uniform(2) == 0) {
      world.End(world.Uniform(8));
      ++cancelled;
    }
  }
  while (!world.sequences().empty()) world.End(0);
  EXPECT_EQ(world.pool().available(), kPages);
  EXPECT_EQ(world.pool().num_cached(), world.pool().num_published());
}

TEST(BlockTable, ForkSharesUntilOneWrites) {
  PagePool pool(8, kPageTokens);
  BlockTable a;
  std::vector<PageCopy> copies;
  a.Append(&pool, 6, &copies);
  BlockTable b = a.Fork(&pool);
  EXPECT_EQ(pool.available(), 6);
  EXPECT_EQ(b.PagesNeeded(pool, 1), 1);
  b.Append(&pool, 1, &copies);
  ASSERT_EQ(copies.size(), 1u);
  EXPECT_EQ(copies[0].from, a.pages()[1]);
  EXPECT_EQ(copies[0].to, b.pages()[1]);
  EXPECT_EQ(a.pages()[0], b.pages()[0]);
  EXPECT_EQ(a.PagesNeeded(pool, 1), 0) << "the last one of a page's readers writes in place";
  a.Release(&pool);
  b.Release(&pool);
  EXPECT_EQ(pool.available(), 8);
}

TEST(BlockTable, AFullyCachedPromptStillRecomputesItsLastTokenInACopy) {
  PagePool pool(8, kPageTokens);
  const std::vector<int32_t> prompt(8, 3);
  std::vector<PageKey> keys;
  ExtendPageKeys(RootPageKey("m", 0, ""), prompt, kPageTokens, &keys);
  std::vector<PageCopy> copies;
  BlockTable a;
  a.Append(&pool, 8, &copies);
  a.PublishFull(&pool, keys);
  BlockTable b;
  b.AcquirePrefix(&pool, keys, 7);
  EXPECT_EQ(b.tokens(), 7);
  EXPECT_EQ(b.PagesNeeded(pool, 1), 1);
  b.Append(&pool, 1, &copies);
  ASSERT_EQ(copies.size(), 1u);
  EXPECT_NE(b.pages()[1], a.pages()[1]);
  b.PublishFull(&pool, keys);  // equal contents: back to the published page
  EXPECT_EQ(b.pages()[1], a.pages()[1]);
  a.Release(&pool);
  b.Release(&pool);
  EXPECT_EQ(pool.available(), 8);
}

}  // namespace
}  // namespace conclave::engine
