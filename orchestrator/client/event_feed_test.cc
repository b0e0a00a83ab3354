// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/client/event_feed.h"

#include <gtest/gtest.h>

#include "common/status.h"
#include "protos/rpc_status.h"
#include "tests/testing/status_matchers.h"

namespace conclave::orchestrator {
namespace {

using ::conclave::testing::StatusIs;
using deliberation::v1::Event;

constexpr int64_t kSecond = 1'000'000'000;
constexpr int64_t kLost = 30 * kSecond;

Event Numbered(int64_t number, const char* run = "runs/a") {
  Event event;
  event.set_run_id(run);
  event.set_sequence_number(number);
  event.mutable_node_started();
  return event;
}

TEST(EventFeed, ShowsEachNumberOnceAndNamesAGap) {
  EventFeed feed(0, kLost);
  EXPECT_TRUE(feed.Take(Numbered(1)).value());
  EXPECT_TRUE(feed.Take(Numbered(2)).value());
  EXPECT_FALSE(feed.Take(Numbered(1)).value());
  EXPECT_FALSE(feed.Take(Numbered(2)).value());
  EXPECT_EQ(feed.run_id(), "runs/a");
  EXPECT_EQ(feed.last_sequence_number(), 2);
  EXPECT_THAT(feed.Take(Numbered(4)), StatusIs(absl::StatusCode::kDataLoss));
  EXPECT_THAT(feed.Take(Numbered(3, "runs/b")), StatusIs(absl::StatusCode::kDataLoss));
  EXPECT_TRUE(feed.Take(Numbered(3)).value());
}

TEST(EventFeed, BeginsAfterANumber) {
  EventFeed feed(7, kLost);
  EXPECT_FALSE(feed.Take(Numbered(7)).value());
  EXPECT_THAT(feed.Take(Numbered(9)), StatusIs(absl::StatusCode::kDataLoss));
  EXPECT_TRUE(feed.Take(Numbered(8)).value());
}

TEST(EventFeed, HeartbeatsAreNotShownButTokensAre) {
  EventFeed feed(0, kLost);
  Event heartbeat;
  heartbeat.set_run_id("runs/a");
  heartbeat.mutable_heartbeat()->set_last_sequence_number(5);
  EXPECT_FALSE(feed.Take(heartbeat).value());
  Event token;
  token.set_run_id("runs/a");
  token.mutable_token_delta()->set_text("x");
  EXPECT_TRUE(feed.Take(token).value());
  EXPECT_EQ(feed.last_sequence_number(), 0);
}

TEST(EventFeed, AsksAgainWithGrowingPausesUntilItIsLost) {
  EventFeed feed(0, kLost);
  int64_t now = 5 * kSecond, pause = kFirstRetryNs;
  for (; now - 5 * kSecond < kLost; now += pause, pause = std::min(2 * pause, kRetryNsMax)) {
    const EventFeed::Next next = feed.OnBroken(Unavailable("gone"), now);
    ASSERT_FALSE(next.end) << now;
    EXPECT_EQ(next.delay_ns, pause);
  }
  const EventFeed::Next last = feed.OnBroken(Unavailable("gone"), now);
  EXPECT_TRUE(last.end);
  EXPECT_TRUE(absl::IsUnavailable(last.status));
}

TEST(EventFeed, TheLimitCountsFromTheBreakAndAnEventStartsAnew) {
  EventFeed feed(0, kLost);
  EXPECT_FALSE(feed.OnBroken(Unavailable("gone"), 0).end);
  EXPECT_FALSE(feed.OnBroken(Unavailable("gone"), kLost - 1).end);
  EXPECT_TRUE(feed.Take(Numbered(1)).value());
  const EventFeed::Next next = feed.OnBroken(Unavailable("gone"), 100 * kSecond);
  EXPECT_FALSE(next.end);
  EXPECT_EQ(next.delay_ns, kFirstRetryNs);
  EXPECT_TRUE(feed.OnBroken(Unavailable("gone"), 100 * kSecond + kLost).end);
}

TEST(EventFeed, ATooSlowReaderAsksAtOnceAndThenWithPauses) {
  const absl::Status slow = rpc::WithReason(ResourceExhausted("too slow"), "SUBSCRIBER_TOO_SLOW");
  EventFeed feed(0, kLost);
  EventFeed::Next next = feed.OnBroken(slow, 0);
  EXPECT_FALSE(next.end);
  EXPECT_EQ(next.delay_ns, 0);
  next = feed.OnBroken(slow, 0);
  EXPECT_FALSE(next.end);
  EXPECT_EQ(next.delay_ns, kFirstRetryNs);
}

TEST(EventFeed, OtherEndsAreEnds) {
  EventFeed feed(0, kLost);
  for (const absl::Status& status : {absl::OkStatus(), NotFound("no such run"), ResourceExhausted("OVERLOADED: full"),
                                     DataLoss("bad"), DeadlineExceeded("late"), Cancelled("by us")}) {
    const EventFeed::Next next = feed.OnBroken(status, 0);
    EXPECT_TRUE(next.end);
    EXPECT_EQ(next.status, status);
  }
}

}  // namespace
}  // namespace conclave::orchestrator
