// SPDX-License-Identifier: Apache-2.0
#include "engine/tokenizer/bpe_merger.h"

#include <random>

#include "engine/tokenizer/piece_table.h"

namespace conclave::engine {
namespace {

using ::testing::ElementsAre;
using Symbol = BpeMerger::Symbol;

// The definition, by brute force.
struct Rule {
  Symbol left, right;
  uint32_t rank;
  Symbol result;
};
std::vector<Symbol> MergeByDefinition(std::vector<Symbol> s, const std::vector<Rule>& rules) {
  for (;;) {
    const Rule* best = nullptr;
    size_t at = 0;
    for (size_t i = 0; i + 1 < s.size(); ++i) {
      for (const Rule& rule : rules) {
        if (rule.left == s[i] && rule.right == s[i + 1] && (best == nullptr || rule.rank < best->rank)) {
          best = &rule;
          at = i;
        }
      }
    }
    if (best == nullptr) return s;
    s[at] = best->result;
    s.erase(s.begin() + static_cast<std::ptrdiff_t>(at) + 1);
  }
}

TEST(BpeMergerTest, LowestRankFirstThenLeftmost) {
  BpeMerger merger;  // a=0 b=1 c=2 ab=3 bc=4
  EXPECT_TRUE(merger.AddRule(0, 1, 7, 3));
  EXPECT_TRUE(merger.AddRule(1, 2, 5, 4));
  EXPECT_FALSE(merger.AddRule(0, 1, 1, 9));  // the first rule of a pair stays
  BpeMerger::Workspace w;
  std::vector<Symbol> s = {0, 1, 2};
  merger.Merge(&s, &w);
  EXPECT_THAT(s, ElementsAre(0, 4));
  s = {0, 1, 0, 1};
  merger.Merge(&s, &w);
  EXPECT_THAT(s, ElementsAre(3, 3));
  s = {2};
  merger.Merge(&s, &w);
  EXPECT_THAT(s, ElementsAre(2));
  s.clear();
  merger.Merge(&s, &w);
  EXPECT_TRUE(s.empty());
}

// Random rule sets, words short enough for the scan and long enough for the heap.
TEST(BpeMergerTest, EqualsTheDefinition) {
  constexpr uint64_t kSeed = 11;
  RecordProperty("seed", std::to_string(kSeed));
  std::mt19937_64 random(kSeed);
  for (int round = 0; round < 200; ++round) {
    const Symbol letters = 1 + static_cast<Symbol>(random() % 4);
    Symbol symbols = letters;
    std::vector<Rule> rules;
    BpeMerger merger;
    for (int i = 0; i < 25; ++i) {
      const auto left = static_cast<Symbol>(random() % static_cast<uint64_t>(symbols));
      const auto right = static_cast<Symbol>(random() % static_cast<uint64_t>(symbols));
      const auto rank = static_cast<uint32_t>(random() % 12);  // equal ranks happen, as in SentencePiece
      if (merger.AddRule(left, right, rank, symbols)) rules.push_back({left, right, rank, symbols++});
    }
    BpeMerger::Workspace w;
    for (const size_t size : {size_t{2}, size_t{7}, size_t{48}, size_t{49}, size_t{120}}) {
      std::vector<Symbol> s(size);
      for (Symbol& x : s) x = static_cast<Symbol>(random() % static_cast<uint64_t>(letters));
      const std::vector<Symbol> expected = MergeByDefinition(s, rules);
      merger.Merge(&s, &w);
      ASSERT_EQ(s, expected) << "round " << round << ", size " << size;
    }
  }
}

TEST(PieceTableTest, FindsWhatWasInserted) {
  PieceTable table;
  EXPECT_EQ(table.Find("x"), PieceTable::kNone);
  for (int i = 0; i < 5000; ++i) EXPECT_TRUE(table.Insert("piece" + std::to_string(i * 7919), i));
  EXPECT_TRUE(table.Insert("", 77));
  EXPECT_TRUE(table.Insert(std::string_view("a\0b", 3), 78));
  EXPECT_FALSE(table.Insert("piece0", 1));
  EXPECT_EQ(table.size(), 5002u);
  for (int i = 0; i < 5000; ++i) ASSERT_EQ(table.Find("piece" + std::to_string(i * 7919)), i);
  EXPECT_EQ(table.Find(""), 77);
  EXPECT_EQ(table.Find(std::string_view("a\0b", 3)), 78);
  EXPECT_EQ(table.Find("a"), PieceTable::kNone);
  EXPECT_EQ(table.Find("piece1"), PieceTable::kNone);
}

}  // namespace
}  // namespace conclave::engine
