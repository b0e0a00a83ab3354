// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/backend/trunk_table.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/status.h"

namespace conclave::orchestrator {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::UnorderedElementsAre;

constexpr int64_t kSecond = 1'000'000'000;

CallRequest Request(std::string content, std::string system = "") {
  CallRequest request;
  request.member = "m";
  if (!system.empty()) {
    request.prompt.emplace_back().set_role("system");
    request.prompt.back().set_content(std::move(system));
  }
  request.prompt.emplace_back().set_role("user");
  request.prompt.back().set_content(std::move(content));
  return request;
}

// `bytes` of text that no other number's has.
std::string Text(int number, size_t bytes) {
  std::string text = fmt::format("{} ", number);
  text.resize(bytes, static_cast<char>('a' + number));
  return text;
}

std::optional<TrunkTable::Wanted> End(TrunkTable* table, const CallRequest& request, int64_t now_ns = 0) {
  return table->OnEnd(0, request, now_ns);
}

// Makes a trunk of `text` and pins it as `id`. Returns what is to be released.
std::vector<std::string> Pin(TrunkTable* table, const std::string& text, const std::string& id, int64_t now_ns = 0) {
  End(table, Request(text + "one"), now_ns);
  const auto wanted = End(table, Request(text + "two"), now_ns);
  EXPECT_TRUE(wanted.has_value()) << text;
  return wanted ? table->OnPinned(0, wanted->ticket, absl::OkStatus(), id, now_ns) : std::vector<std::string>();
}

TEST(TrunkTable, WhatTwoPromptsBeginWithIsWantedOnce) {
  TrunkTable table(2);
  const std::string system = Text(1, 300), question = Text(2, 400);
  EXPECT_FALSE(End(&table, Request(question + "first", system)).has_value());
  EXPECT_FALSE(table.OnEnd(1, Request(question + "second", system), 0).has_value()) << "at another worker";
  const auto wanted = End(&table, Request(question + "second", system));
  ASSERT_TRUE(wanted.has_value());
  EXPECT_EQ(wanted->worker, 0);
  EXPECT_EQ(wanted->trunk.member, "m");
  ASSERT_EQ(wanted->trunk.prompt.size(), 2u);
  EXPECT_EQ(wanted->trunk.prompt[0].content(), system);
  EXPECT_EQ(wanted->trunk.prompt[1].role(), "user");
  EXPECT_EQ(wanted->trunk.prompt[1].content(), question);
  EXPECT_FALSE(End(&table, Request(question + "third", system)).has_value()) << "it is being pinned";
  EXPECT_THAT(table.OnPinned(0, wanted->ticket, absl::OkStatus(), "p", 0), IsEmpty());
  EXPECT_FALSE(End(&table, Request(question + "fourth", system)).has_value());
  EXPECT_EQ(table.pinned(0), 1);
  EXPECT_EQ(table.pinned(1), 0);
}

TEST(TrunkTable, EqualPromptsAreATrunkAsAWhole) {
  TrunkTable table(1);
  const CallRequest request = Request(Text(1, 700));
  EXPECT_FALSE(End(&table, request).has_value());
  const auto wanted = End(&table, request);
  ASSERT_TRUE(wanted.has_value());
  EXPECT_EQ(wanted->trunk.prompt[0].content(), request.prompt[0].content());
}

TEST(TrunkTable, ShortBeginningsAreNoTrunks) {
  const size_t role = std::string("user").size() + 1;
  for (const size_t bytes : {kTrunkBytesMin - 1, kTrunkBytesMin}) {
    TrunkTable table(1);
    End(&table, Request(Text(1, bytes - role) + "x" + Text(2, 900)));
    EXPECT_EQ(End(&table, Request(Text(1, bytes - role) + "y" + Text(2, 900))).has_value(), bytes == kTrunkBytesMin);
  }
}

TEST(TrunkTable, ALittleMoreThanIsPinnedIsNotWorthAPin) {
  for (const size_t more : {kTrunkBytesMin - 1, kTrunkBytesMin}) {
    TrunkTable table(1);
    Pin(&table, Text(1, 600), "p");
    End(&table, Request(Text(1, 600) + Text(2, more) + "x"));
    EXPECT_EQ(End(&table, Request(Text(1, 600) + Text(2, more) + "y")).has_value(), more == kTrunkBytesMin);
  }
}

TEST(TrunkTable, LongPromptsAreComparedInPart) {
  TrunkTable table(1);
  End(&table, Request(Text(1, 3 * kTrunkBytesMax) + "x"));
  const auto wanted = End(&table, Request(Text(1, 3 * kTrunkBytesMax) + "y"));
  ASSERT_TRUE(wanted.has_value());
  EXPECT_EQ(wanted->trunk.prompt[0].content().size() + std::string("user").size() + 1, kTrunkBytesMax);
}

TEST(TrunkTable, PromptsThatShareNoKvAreNotCompared) {
  TrunkTable table(1);
  CallRequest plain = Request(Text(1, 900)), experts = plain, later = plain;
  plain.plain = true;
  experts.sampling.set_experts_per_token(2);
  later.now_unix_seconds = 7;
  for (const CallRequest& request : {Request(Text(1, 900)), plain, experts, later}) {
    EXPECT_FALSE(End(&table, request).has_value());
  }
  const auto wanted = End(&table, experts);
  ASSERT_TRUE(wanted.has_value());
  EXPECT_EQ(wanted->trunk.sampling.experts_per_token(), 2);
  EXPECT_TRUE(End(&table, plain)->trunk.plain);
  EXPECT_EQ(End(&table, later)->trunk.now_unix_seconds, 7);
}

TEST(TrunkTable, ALongerTrunkReplacesWhatItBeginsWith) {
  TrunkTable table(1);
  EXPECT_THAT(Pin(&table, Text(1, 600), "short"), IsEmpty());
  EXPECT_THAT(Pin(&table, Text(2, 600), "other"), IsEmpty());
  EXPECT_THAT(Pin(&table, Text(1, 600) + Text(3, 600), "long"), ElementsAre("short"));
  EXPECT_FALSE(End(&table, Request(Text(1, 600) + Text(4, 50))).has_value()) << "the long one covers it";
  EXPECT_EQ(table.pinned(0), 2);
}

TEST(TrunkTable, LeasesAreRenewedWhileATrunkIsUsedAndThenLetGo) {
  TrunkTable table(1);
  Pin(&table, Text(1, 600), "p");
  EXPECT_THAT(table.TakeDue(kTrunkBeatNs - 1), IsEmpty());
  auto due = table.TakeDue(kTrunkBeatNs);
  ASSERT_EQ(due.size(), 1u);
  EXPECT_THAT(due[0].renew, ElementsAre("p"));
  EXPECT_THAT(table.TakeDue(2 * kTrunkBeatNs - 1), IsEmpty());
  End(&table, Request(Text(1, 600) + " three"), 7 * kSecond);
  due = table.TakeDue(7 * kSecond + kTrunkIdleNs - 1);
  ASSERT_EQ(due.size(), 1u);
  EXPECT_THAT(due[0].renew, ElementsAre("p"));
  due = table.TakeDue(7 * kSecond + kTrunkIdleNs);
  ASSERT_EQ(due.size(), 1u);
  EXPECT_THAT(due[0].renew, IsEmpty());
  EXPECT_THAT(due[0].release, ElementsAre("p"));
  EXPECT_EQ(table.pinned(0), 0);
}

TEST(TrunkTable, TheOneUsedLongestAgoGoesFirst) {
  TrunkTable table(1);
  for (size_t i = 0; i < kTrunksMax; ++i) {
    EXPECT_THAT(Pin(&table, Text(static_cast<int>(i), 600), fmt::format("p{}", i), static_cast<int64_t>(i)), IsEmpty());
  }
  EXPECT_EQ(table.pinned(0), kTrunksMax);
  End(&table, Request(Text(0, 600) + " three"), 100);
  EXPECT_THAT(Pin(&table, Text(20, 600), "more", 101), ElementsAre("p1"));
  EXPECT_EQ(table.pinned(0), kTrunksMax);
}

TEST(TrunkTable, AWorkerThatRefusesIsLeftAloneForAWhileOrForGood) {
  TrunkTable table(1);
  Pin(&table, Text(1, 600), "p");
  End(&table, Request(Text(2, 600) + "x"));
  auto wanted = End(&table, Request(Text(2, 600) + "y"));
  ASSERT_TRUE(wanted.has_value());
  EXPECT_THAT(table.OnPinned(0, wanted->ticket, ResourceExhausted("PREFIX_LIMIT: full"), "", 0), ElementsAre("p"))
      << "room for a new one";
  EXPECT_FALSE(End(&table, Request(Text(2, 600) + "z"), kTrunkAgainNs - 1).has_value());
  wanted = End(&table, Request(Text(2, 600) + "z"), kTrunkAgainNs);
  ASSERT_TRUE(wanted.has_value());
  EXPECT_THAT(table.OnPinned(0, wanted->ticket, Unimplemented("an older worker"), "", kTrunkAgainNs), IsEmpty());
  EXPECT_FALSE(End(&table, Request(Text(2, 600) + "z"), 1000 * kSecond).has_value());
  table.Forget(0);  // another process
  EXPECT_FALSE(End(&table, Request(Text(2, 600) + "x"), 1000 * kSecond).has_value());
  EXPECT_TRUE(End(&table, Request(Text(2, 600) + "z"), 1000 * kSecond).has_value());
}

TEST(TrunkTable, WhatLapsedOrWasForgottenIsPinnedAnew) {
  TrunkTable table(1);
  Pin(&table, Text(1, 600), "p");
  table.OnLapsed(0, "p");
  const auto wanted = End(&table, Request(Text(1, 600) + " three"));
  ASSERT_TRUE(wanted.has_value());
  table.Forget(0);
  EXPECT_THAT(table.OnPinned(0, wanted->ticket, absl::OkStatus(), "late", 0), ElementsAre("late"));
  Pin(&table, Text(1, 600), "q");
  const auto all = table.TakeAll();
  ASSERT_EQ(all.size(), 1u);
  EXPECT_THAT(all[0].release, UnorderedElementsAre("q"));
  EXPECT_THAT(table.TakeDue(1000 * kSecond), IsEmpty());
}

TEST(TrunkTable, TheWarmestWorkerKnowsMostOfThePrompt) {
  TrunkTable table(3);
  const std::string trunk = Text(1, 600);
  EXPECT_EQ(table.Warmest(Request(trunk), {0, 1, 2}), -1);
  table.OnEnd(1, Request(trunk + Text(2, 100)), 0);
  table.OnEnd(2, Request(trunk), 0);
  EXPECT_EQ(table.Warmest(Request(trunk + Text(2, 50)), {0, 1, 2}), 1);
  EXPECT_EQ(table.Warmest(Request(trunk + Text(2, 50)), {0, 2}), 2);
  EXPECT_EQ(table.Warmest(Request(trunk), {2, 1}), 2) << "as much as any other, and named first";
  EXPECT_EQ(table.Warmest(Request(Text(3, 600)), {0, 1, 2}), -1);
  table.Forget(1);
  EXPECT_EQ(table.Warmest(Request(trunk + Text(2, 50)), {0, 1, 2}), 2);
  // A worker that pins nothing has a cache too.
  const auto wanted = table.OnEnd(2, Request(trunk), 0);
  ASSERT_TRUE(wanted.has_value());
  table.OnPinned(2, wanted->ticket, Unimplemented("an older worker"), "", 0);
  table.OnEnd(2, Request(trunk + Text(4, 100)), 0);
  table.OnEnd(0, Request(trunk), 0);
  EXPECT_EQ(table.Warmest(Request(trunk + Text(4, 50)), {0, 1, 2}), 2);
}

TEST(TrunkTable, PromptsAreCutBetweenCharacters) {
  const CallRequest request = Request("a\xC3\xA4z", "sys");
  const auto at = [&](size_t bytes) {
    std::string all;
    for (const auto& message : FirstOfPrompt(request.prompt, bytes)) all += message.content() + "|";
    return all;
  };
  // "system" and a mark, 3 bytes, a mark; "user" and a mark, then the text.
  EXPECT_EQ(at(7), "");
  EXPECT_EQ(at(8), "s|");
  EXPECT_EQ(at(10), "sys|") << "the budget ends with a message";
  EXPECT_EQ(at(11), "sys|");
  EXPECT_EQ(at(16), "sys|");
  EXPECT_EQ(at(17), "sys|a|");
  EXPECT_EQ(at(18), "sys|a|");
  EXPECT_EQ(at(19), "sys|a\xC3\xA4|");
  EXPECT_EQ(at(20), "sys|a\xC3\xA4z|");
  EXPECT_EQ(at(100), "sys|a\xC3\xA4z|");
  CallRequest empty = request;
  empty.prompt[0].clear_content();
  const auto behind_nothing = FirstOfPrompt(empty.prompt, 100);
  ASSERT_EQ(behind_nothing.size(), 2u) << "an empty message is whole";
  EXPECT_EQ(behind_nothing[1].content(), "a\xC3\xA4z");
}

}  // namespace
}  // namespace conclave::orchestrator
