// SPDX-License-Identifier: Apache-2.0
// Random operations against a plain model: every sequence is a list of tokens, and reading it back through its block
// table, from a memory that is written and copied as the tables say, must give that list.
#include "engine/kv/block_table.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <set>

namespace conclave::engine {
namespace {

constexpr int32_t kPageTokens = 4;
constexpr int32_t kPages = 24;
constexpr int32_t kManyPages = 40000;  // none is ever lost

struct PlainSequence {
  BlockTable table;
  std::vector<int32_t> tokens;
  std::vector<PageKey> keys;
};

class World {
 public:
  explicit World(uint64_t seed, int32_t pages = kPages)
      : random_(seed), pool_(pages, kPageTokens), memory_(pages * kPageTokens, -1) {}

  PagePool& pool() { return pool_; }
  std::vector<PlainSequence>& sequences() { return sequences_; }

  int32_t Uniform(int32_t n) { return std::uniform_int_distribution<int32_t>(0, n - 1)(random_); }

  // A prompt of few letters, so that prefixes repeat; as much of it as the cache has is taken from there: never more
  // than was ever published, and all of that if no page is lost. The rest is computed.
  void Start() {
    PlainSequence s;
    const int32_t length = 1 + Uniform(14);
    for (int32_t i = 0; i < length; ++i) s.tokens.push_back(Letter());
    ExtendPageKeys(root_, s.tokens, kPageTokens, &s.keys);
    const Prefix asked = PrefixOf(s).First(length - 1);
    const PagePool::Hit hit = pool_.Probe(asked);
    const int32_t available = pool_.available();
    s.table.AcquirePrefix(&pool_, asked);
    EXPECT_EQ(s.table.tokens(), hit.tokens);
    EXPECT_EQ(pool_.available(), available - hit.unreferenced);
    int32_t known = 0;
    while (known < length - 1 && published_.contains(Beginning(s.tokens, known + 1))) ++known;
    EXPECT_LE(hit.tokens, known);
    if (pool_.num_pages() == kManyPages) {
      EXPECT_EQ(hit.tokens, known);
    }
    found_in_part_ += hit.tokens % kPageTokens != 0 ? 1 : 0;
    if (s.table.PagesNeeded(pool_, length - hit.tokens) > pool_.available()) return s.table.Release(&pool_);
    Compute(&s);
    sequences_.push_back(std::move(s));
  }

  void Grow(PlainSequence* s) {
    const int32_t count = 1 + Uniform(6);
    if (s->table.PagesNeeded(pool_, count) > pool_.available()) return;
    for (int32_t i = 0; i < count; ++i) s->tokens.push_back(Letter());
    Compute(s);
  }

  void Fork(size_t index) {
    PlainSequence fork{sequences_[index].table.Fork(&pool_), sequences_[index].tokens, sequences_[index].keys};
    sequences_.push_back(std::move(fork));
  }

  void End(size_t index) {
    if (Uniform(2) == 0) Publish(&sequences_[index], /*tail=*/true);
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
    std::vector<int32_t> references(pool_.num_pages(), 0);
    for (const PlainSequence& s : sequences_) {
      for (int32_t page : s.table.pages()) ++references[page];
    }
    ASSERT_EQ(references, std::vector<int32_t>(pool_.references().begin(), pool_.references().end()));
    ASSERT_EQ(pool_.available(), std::count(references.begin(), references.end(), 0));
    ASSERT_LE(pool_.num_cached(), pool_.available());
  }

  int64_t found_in_part() const { return found_in_part_; }

 private:
  int32_t Letter() { return Uniform(8) == 0 ? 1 : 0; }
  static std::vector<int32_t> Beginning(const std::vector<int32_t>& tokens, size_t count) {
    return std::vector<int32_t>(tokens.begin(), tokens.begin() + static_cast<int64_t>(count));
  }
  Prefix PrefixOf(const PlainSequence& s) const { return {root_, s.keys, s.tokens}; }

  // What the sequence lacks of its tokens, stored; and published, now and then not, or in part.
  void Compute(PlainSequence* s) {
    const int32_t from = s->table.tokens(), to = static_cast<int32_t>(s->tokens.size());
    const int32_t needed = s->table.PagesNeeded(pool_, to - from), available = pool_.available();
    std::vector<PageCopy> copies;
    s->table.Append(&pool_, to - from, &copies);
    EXPECT_LE(available - pool_.available(), needed);
    for (const PageCopy& copy : copies) {
      std::copy_n(memory_.begin() + copy.from * kPageTokens, kPageTokens, memory_.begin() + copy.to * kPageTokens);
    }
    for (int32_t i = from; i < to; ++i) memory_[s->table.Slot(pool_, i)] = s->tokens[i];
    ExtendPageKeys(root_, s->tokens, kPageTokens, &s->keys);
    const int32_t choice = pool_.num_pages() == kManyPages ? 3 : Uniform(4);
    if (choice > 0) Publish(s, choice > 1);
  }

  void Publish(PlainSequence* s, bool tail) {
    s->table.PublishFull(&pool_, PrefixOf(*s));
    if (tail) s->table.PublishTail(&pool_, PrefixOf(*s));
    const size_t all = s->tokens.size();
    for (size_t n = 1; n <= (tail ? all : all / kPageTokens * kPageTokens); ++n)
      published_.insert(Beginning(s->tokens, n));
  }

  std::mt19937_64 random_;
  PagePool pool_;
  std::vector<int32_t> memory_;
  const PageKey root_ = RootPageKey("model", 0, "");
  std::vector<PlainSequence> sequences_;
  std::set<std::vector<int32_t>> published_;  // all that ever was, by every beginning
  int64_t found_in_part_ = 0;
};

void Live(World* world, int steps) {
  for (int step = 0; step < steps && !testing::Test::HasFailure(); ++step) {
    auto& sequences = world->sequences();
    const int32_t choice = world->Uniform(10);
    if (sequences.empty() || (choice == 0 && sequences.size() < 12)) {
      world->Start();
    } else if (choice == 1 && sequences.size() < 12) {
      world->Fork(world->Uniform(static_cast<int32_t>(sequences.size())));
    } else if (choice == 2) {
      world->End(world->Uniform(static_cast<int32_t>(sequences.size())));
    } else {
      world->Grow(&sequences[world->Uniform(static_cast<int32_t>(sequences.size()))]);
    }
    for (const PlainSequence& s : world->sequences()) world->ExpectContents(s);
    world->ExpectConserved();
  }
  while (!world->sequences().empty()) world->End(0);
  EXPECT_EQ(world->pool().available(), world->pool().num_pages());
}

TEST(BlockTable, RandomOperationsMatchAPlainModel) {
  int64_t found_in_part = 0;
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    World world(seed);
    Live(&world, 2000);
    found_in_part += world.found_in_part();
    if (testing::Test::HasFailure()) return;
  }
  EXPECT_GT(found_in_part, 500);
}

TEST(BlockTable, WhatWasComputedIsFoundToTheTokenWhileNoPageIsLost) {
  World world(1, kManyPages);
  Live(&world, 2000);
  EXPECT_GT(world.found_in_part(), 50);
}

TEST(BlockTable, TenThousandRandomCancelsGiveAllPagesBack) {
  World world(7);
  for (int cancelled = 0; cancelled < 10000;) {
    auto& sequences = world.sequences();
    while (sequences.size() < 8) {
      const size_t before = sequences.size();
      world.Start();
      if (sequences.size() == before) world.End(0);  // no page is left
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
  const PageKey root = RootPageKey("m", 0, "");
  ExtendPageKeys(root, prompt, kPageTokens, &keys);
  std::vector<PageCopy> copies;
  BlockTable a;
  a.Append(&pool, 8, &copies);
  const Prefix sequence = {root, keys, prompt};
  a.PublishFull(&pool, sequence);
  BlockTable b;
  b.AcquirePrefix(&pool, sequence.First(7));
  EXPECT_EQ(b.tokens(), 7);
  EXPECT_EQ(b.PagesNeeded(pool, 1), 1);
  b.Append(&pool, 1, &copies);
  ASSERT_EQ(copies.size(), 1u);
  EXPECT_NE(b.pages()[1], a.pages()[1]);
  b.PublishFull(&pool, sequence);  // equal contents: back to the published page
  EXPECT_EQ(b.pages()[1], a.pages()[1]);
  a.Release(&pool);
  b.Release(&pool);
  EXPECT_EQ(pool.available(), 8);
}

TEST(BlockTable, ACachedTailIsContinuedInPlaceButNeverOverwritten) {
  PagePool pool(4, kPageTokens);
  const PageKey root = RootPageKey("m", 0, "");
  const std::vector<PageKey> none;
  std::vector<PageCopy> copies;
  BlockTable a;
  a.Append(&pool, 2, &copies);
  a.PublishTail(&pool, {root, none, std::vector<int32_t>{1, 2}});
  const int32_t page = a.pages()[0];
  a.Release(&pool);
  BlockTable other;
  other.AcquirePrefix(&pool, {root, none, std::vector<int32_t>{1, 9}});
  other.Append(&pool, 1, &copies);
  ASSERT_EQ(copies.size(), 1u) << "2 is still to be found behind 1";
  EXPECT_EQ(copies[0].from, page);
  BlockTable next;
  next.AcquirePrefix(&pool, {root, none, std::vector<int32_t>{1, 2, 3}});
  EXPECT_EQ(next.tokens(), 2);
  next.Append(&pool, 1, &copies);
  EXPECT_EQ(copies.size(), 1u);
  EXPECT_EQ(next.pages()[0], page);
  other.Release(&pool);
  next.Release(&pool);
  EXPECT_EQ(pool.available(), 4);
}

TEST(BlockTable, ABranchCopiesTheBeginningOfAPageThatItsWriterGoesOnWriting) {
  PagePool pool(4, kPageTokens);
  const PageKey root = RootPageKey("m", 0, "");
  const std::vector<PageKey> none;
  std::vector<PageCopy> copies;
  BlockTable a;
  a.Append(&pool, 3, &copies);
  a.PublishTail(&pool, {root, none, std::vector<int32_t>{1, 2, 3}});
  BlockTable b;
  b.AcquirePrefix(&pool, {root, none, std::vector<int32_t>{1, 2, 9}});
  EXPECT_EQ(b.tokens(), 2);
  b.Append(&pool, 1, &copies);
  ASSERT_EQ(copies.size(), 1u);
  EXPECT_EQ(copies[0].from, a.pages()[0]);
  EXPECT_EQ(copies[0].to, b.pages()[0]);
  a.Append(&pool, 1, &copies);
  EXPECT_EQ(copies.size(), 1u) << "nobody else holds its page any more";
  a.Release(&pool);
  b.Release(&pool);
  EXPECT_EQ(pool.num_cached(), 1) << "a's page is found as far as was said";
  EXPECT_EQ(pool.available(), 4);
}

}  // namespace
}  // namespace conclave::engine
