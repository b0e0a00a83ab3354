// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/backend/progress_watch.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace conclave::orchestrator {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

constexpr int64_t kStall = 1'000;  // a nanosecond is as good as a second here

TEST(ProgressWatch, ACallThatHearsWordsIsNotStalled) {
  ProgressWatch watch(kStall);
  watch.OnBegin(1, 0, 0);
  for (int64_t now = 200; now < 10 * kStall; now += 200) {
    watch.OnMessages(1, now, now);
    EXPECT_THAT(watch.TakeToAsk(now), IsEmpty());
    EXPECT_THAT(watch.TakeStalled(now), IsEmpty());
  }
}

TEST(ProgressWatch, ASilentCallOfAWorkerThatMakesStepsIsNotStalled) {
  ProgressWatch watch(kStall);
  watch.OnBegin(1, 0, 0);
  int64_t steps = 7;
  int asked = 0;
  for (int64_t now = 50; now < 10 * kStall; now += 50) {
    for (const int32_t worker : watch.TakeToAsk(now)) {
      EXPECT_EQ(worker, 0);
      ++asked;
      watch.OnSteps(worker, ++steps, now);
    }
    EXPECT_THAT(watch.TakeStalled(now), IsEmpty());
  }
  EXPECT_EQ(asked, 39);  // at 250, 500, .., 9750
}

TEST(ProgressWatch, SilenceAndNoStepForTheWholeLimitIsAStallAndToldOnce) {
  ProgressWatch watch(kStall);
  watch.OnBegin(1, 3, 0);
  watch.OnBegin(2, 3, 400);
  EXPECT_THAT(watch.TakeToAsk(249), IsEmpty());
  EXPECT_THAT(watch.TakeToAsk(250), ElementsAre(3));
  EXPECT_THAT(watch.TakeToAsk(499), IsEmpty());
  watch.OnSteps(3, 7, 260);  // first heard of: it may have moved until now
  EXPECT_THAT(watch.TakeToAsk(500), ElementsAre(3));
  watch.OnSteps(3, 7, 510);
  EXPECT_THAT(watch.TakeStalled(1'259), IsEmpty());
  EXPECT_THAT(watch.TakeStalled(1'260), ElementsAre(1));
  EXPECT_THAT(watch.TakeStalled(1'399), IsEmpty());
  EXPECT_THAT(watch.TakeStalled(1'400), ElementsAre(2));
  EXPECT_THAT(watch.TakeStalled(9'000), IsEmpty());
}

TEST(ProgressWatch, AWorkerThatDoesNotEvenAnswerIsStalledAtTheLimit) {
  ProgressWatch watch(kStall);
  watch.OnBegin(1, 0, 5'000);
  EXPECT_THAT(watch.TakeStalled(6'000), IsEmpty());  // nobody has asked
  EXPECT_THAT(watch.TakeToAsk(6'000), ElementsAre(0));
  EXPECT_THAT(watch.TakeStalled(5'999), IsEmpty());
  EXPECT_THAT(watch.TakeStalled(6'000), ElementsAre(1));
}

TEST(ProgressWatch, OtherWorkersAndEndedCallsDoNotMatter) {
  ProgressWatch watch(kStall);
  watch.OnBegin(1, 0, 0);
  watch.OnBegin(2, 1, 0);
  EXPECT_THAT(watch.TakeToAsk(500), ElementsAre(0, 1));
  EXPECT_FALSE(watch.OnSteps(1, 1, 500));
  EXPECT_TRUE(watch.OnSteps(1, 2, 900));
  EXPECT_FALSE(watch.OnSteps(1, 2, 950));
  EXPECT_THAT(watch.TakeStalled(1'000), ElementsAre(1));
  watch.OnEnd(2);
  EXPECT_THAT(watch.TakeStalled(9'000), IsEmpty());
  EXPECT_THAT(watch.TakeToAsk(9'000), ElementsAre(0));
}

}  // namespace
}  // namespace conclave::orchestrator
