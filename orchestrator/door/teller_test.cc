// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/door/teller.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/testing/status_matchers.h"

namespace conclave::orchestrator {
namespace {

using ::conclave::testing::IsOk;
using ::conclave::testing::StatusIs;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

inference::v1::Logprobs Token(const std::string& text, bool hidden = false) {
  inference::v1::Logprobs token;
  token.mutable_chosen()->set_text(text);
  token.mutable_chosen()->set_hidden(hidden);
  return token;
}

class TellerTest : public ::testing::Test {
 protected:
  // What the mailbox holds: texts of tokens.
  std::vector<std::string> Told() {
    std::vector<std::string> out;
    offsets_.clear();
    while (const auto spoken = mailbox_->Take(0)) {
      for (const SpokenToken& token : spoken->tokens) {
        out.push_back(token.at.chosen().text());
        offsets_.push_back(token.offset);
      }
    }
    return out;
  }

  const std::shared_ptr<Mailbox> mailbox_ = std::make_shared<Mailbox>(1);
  Teller teller_{{mailbox_, 0, /*wants_tokens=*/true}};
  std::vector<int64_t> offsets_;
};

TEST_F(TellerTest, ATokenComesWhenItsTextIsSaid) {
  for (const char* text : {"I", " say", " 42"}) teller_.Hear(Token(text));
  teller_.Say("I s");
  EXPECT_THAT(Told(), ElementsAre("I"));
  teller_.Say("ay");
  EXPECT_THAT(Told(), ElementsAre(" say"));
  teller_.Say(" 42");
  EXPECT_THAT(Told(), ElementsAre(" 42"));
  EXPECT_THAT(offsets_, ElementsAre(5));
  EXPECT_OK(teller_.Finish());
  EXPECT_THAT(Told(), IsEmpty());
}

TEST_F(TellerTest, WhatLiesBehindTheEndIsNotTold) {
  for (const char* text : {"4", "2 E", "N", "D"}) teller_.Hear(Token(text));
  teller_.Hear(Token("<end>", /*hidden=*/true));
  teller_.Say("42 ");  // a stop text "END" cuts the second token in two
  EXPECT_OK(teller_.Finish());
  EXPECT_THAT(Told(), ElementsAre("4", "2 E"));
}

TEST_F(TellerTest, AHiddenTokenInTheMiddleAddsNothing) {
  teller_.Hear(Token("a"));
  teller_.Hear(Token("<think>", /*hidden=*/true));
  teller_.Hear(Token("b"));
  teller_.Say("ab");
  EXPECT_THAT(Told(), ElementsAre("a", "<think>", "b"));
  EXPECT_THAT(offsets_, ElementsAre(0, 1, 1));
}

// U+00E9 and U+1F600 in parts, a byte that is no UTF-8, and the first two bytes of a character that never comes, each
// of the last two shown as one U+FFFD (Unicode 15, table 3-8).
TEST_F(TellerTest, CharactersMayComeInParts) {
  for (const char* text : {"\xC3", "\xA9", "\xF0\x9F", "\x98\x80", "x\xFF", "\xE2\x82", "y"}) teller_.Hear(Token(text));
  teller_.Say("\xC3\xA9");
  EXPECT_THAT(Told(), ElementsAre("\xC3", "\xA9"));
  teller_.Say("\xF0\x9F\x98\x80x\uFFFD");
  EXPECT_THAT(Told(), ElementsAre("\xF0\x9F", "\x98\x80", "x\xFF"));
  teller_.Say("\uFFFDy");
  EXPECT_THAT(Told(), ElementsAre("\xE2\x82", "y"));
  EXPECT_THAT(offsets_, ElementsAre(4, 4)) << "what was unfinished is not counted before it is decided";
  EXPECT_OK(teller_.Finish());
}

TEST_F(TellerTest, AServerThatTellsNoneIsFound) {
  EXPECT_OK(teller_.Finish());  // of no text
  teller_.Say("text");
  EXPECT_THAT(teller_.Finish(), StatusIs(absl::StatusCode::kUnavailable));
  Teller silent({mailbox_, 0, /*wants_tokens=*/false});
  silent.Hear(Token("a"));
  silent.Say("a");
  EXPECT_OK(silent.Finish());
  EXPECT_THAT(Told(), IsEmpty());
}

}  // namespace
}  // namespace conclave::orchestrator
