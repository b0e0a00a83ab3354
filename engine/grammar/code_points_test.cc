// SPDX-License-Identifier: Apache-2.0
#include "engine/grammar/code_points.h"

#include <gtest/gtest.h>

#include <random>
#include <string>

#include "engine/tokenizer/utf8.h"

namespace conclave::engine::grammar {
namespace {

bool IsScalar(char32_t c) { return c <= kCodePointMax && (c < 0xD800 || c > 0xDFFF); }

int Matches(const std::vector<Utf8Sequence>& sequences, const std::string& bytes) {
  int count = 0;
  for (const Utf8Sequence& sequence : sequences) {
    bool all = static_cast<size_t>(sequence.size) == bytes.size();
    for (size_t i = 0; all && i < bytes.size(); ++i) {
      const auto byte = static_cast<uint8_t>(bytes[i]);
      all = sequence.bytes[i].first <= byte && byte <= sequence.bytes[i].last;
    }
    count += all ? 1 : 0;
  }
  return count;
}

// Every character of Unicode: once if it is in the set, else never.
TEST(CodePoints, SequencesAreTheEncodingsOfTheSet) {
  const CodePointSet sets[] = {CodePointSet::All(),
                               {{'a', 'z'}},
                               {{0x7E, 0x81}, {0x7FF, 0x800}, {0xD7F0, 0xE010}, {0xFFFE, 0x10002}},
                               CodePointSet{{'"', '"'}, {'\\', '\\'}, {0x20AC, 0x20AC}}.Complement(),
                               {{0x345, 0x1F60F}}};
  for (const CodePointSet& set : sets) {
    const std::vector<Utf8Sequence> sequences = Utf8Sequences(set);
    EXPECT_LE(sequences.size(), 40u);
    for (char32_t c = 0; c <= kCodePointMax; c += c < 0x11000 ? 1 : 37) {
      if (!IsScalar(c)) continue;
      std::string bytes;
      AppendUtf8(c, &bytes);
      ASSERT_EQ(Matches(sequences, bytes), set.Contains(c) ? 1 : 0) << static_cast<uint32_t>(c);
    }
  }
}

TEST(CodePoints, SurrogatesAreNeverIn) {
  EXPECT_FALSE(CodePointSet::All().Contains(0xD800));
  EXPECT_FALSE((CodePointSet{{0xDFFF, 0xDFFF}}).Contains(0xDFFF));
  EXPECT_TRUE((CodePointSet{{0xD800, 0xDFFF}}).empty());
  EXPECT_EQ(CodePointSet::All().ranges(), (std::vector<CodePointRange>{{0, 0xD7FF}, {0xE000, kCodePointMax}}));
  EXPECT_TRUE(CodePointSet::All().Complement().empty());
}

TEST(CodePoints, AlgebraAgreesWithMembership) {
  std::mt19937 random(3);
  const auto draw = [&](char32_t limit) { return static_cast<char32_t>(random() % limit); };
  for (int round = 0; round < 200; ++round) {
    CodePointSet a, b;
    for (int i = 0; i < 4; ++i) {
      const char32_t first = draw(60), second = draw(60);
      a.Add(first, first + draw(9));
      b.Add(second, second + draw(9));
    }
    const CodePointSet minus = a.Minus(b), both = a.And(b), not_a = a.Complement();
    for (char32_t c = 0; c < 80; ++c) {
      ASSERT_EQ(minus.Contains(c), a.Contains(c) && !b.Contains(c));
      ASSERT_EQ(both.Contains(c), a.Contains(c) && b.Contains(c));
      ASSERT_EQ(not_a.Contains(c), !a.Contains(c));
    }
  }
}

}  // namespace
}  // namespace conclave::engine::grammar
