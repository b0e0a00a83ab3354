// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/door/mailbox.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace conclave::orchestrator {
namespace {

TEST(Mailbox, JoinsWhatWaitsAndKeepsTheOrderOfChoices) {
  Mailbox mailbox(2);
  EXPECT_FALSE(mailbox.Take(0).has_value());
  mailbox.Say(1, "a");
  mailbox.Say(0, "x");
  mailbox.Say(1, "b");
  mailbox.End(1, {.status = {}, .cut = true, .tokens = {}});
  const auto first = mailbox.Take(0);
  ASSERT_TRUE(first.has_value());
  EXPECT_EQ(first->choice, 1);
  EXPECT_EQ(first->text, "ab");
  ASSERT_TRUE(first->end.has_value());
  EXPECT_TRUE(first->end->cut);
  const auto second = mailbox.Take(0);
  ASSERT_TRUE(second.has_value());
  EXPECT_EQ(second->choice, 0);
  EXPECT_EQ(second->text, "x");
  EXPECT_FALSE(second->end.has_value());
  EXPECT_FALSE(mailbox.Take(0).has_value());
}

// What a cutter must give: everything before the first stop, however the text is split.
std::string Cut(const std::vector<std::string>& stops, std::string_view text, size_t piece, bool* cut) {
  StopCutter cutter(stops);
  std::string out;
  for (size_t at = 0; at < text.size(); at += piece) out += cutter.Push(text.substr(at, piece));
  out += cutter.Finish();
  *cut = cutter.cut();
  return out;
}

TEST(StopCutter, CutsAtTheFirstStopHoweverThePiecesFall) {
  const std::vector<std::string> stops = {"abc", "bd", "###"};
  const std::vector<std::string> texts = {"",        "xabcx", "ababc",   "abd",          "aab", "##x#####", "xx",
                                          "ababab#", "bbd",   "##abc##", "no stop at a", "abc", "#"};
  for (const std::string& text : texts) {
    size_t first = text.size();
    for (const std::string& stop : stops) first = std::min(first, text.find(stop));
    for (size_t piece = 1; piece <= text.size() + 1; ++piece) {
      bool cut = false;
      EXPECT_EQ(Cut(stops, text, piece, &cut), text.substr(0, first)) << text << " in pieces of " << piece;
      EXPECT_EQ(cut, first < text.size()) << text;
    }
  }
}

TEST(StopCutter, HoldsBackOnlyWhatCouldBeAStop) {
  StopCutter cutter({"STOP"});
  EXPECT_EQ(cutter.Push("go ST"), "go ");
  EXPECT_EQ(cutter.Push("ART"), "START");
  EXPECT_EQ(cutter.Push(" STO"), " ");
  EXPECT_EQ(cutter.Finish(), "STO");
}

}  // namespace
}  // namespace conclave::orchestrator
