// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/backend/recorded_backend.h"

#include <fstream>

#include "orchestrator/backend/backend_testing.h"
#include "orchestrator/backend/fake_backend.h"
#include "orchestrator/backend/router.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_dir.h"

namespace conclave::orchestrator {
namespace {

using ::conclave::testing::IsOk;
using ::conclave::testing::StatusIs;
using ::testing::HasSubstr;

class RecordedBackendTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::ofstream(path_) << R"({"id": "q1", "model": "big", "text": "It is #### 4", "answer": "4"})"
                         << "\n"
                         << R"({"id": "q1", "model": "big", "text": "No: 5", "sample": 1})"
                         << "\n";
    auto loaded = benchmark::RecordedAnswers::Load(path_);
    ASSERT_OK(loaded);
    answers_ = std::make_shared<const benchmark::RecordedAnswers>(*std::move(loaded));
  }
  RecordedMember Member(const std::string& name, const std::string& model) {
    return {.name = name, .model = model, .path = path_, .answers = answers_};
  }
  static CallRequest Request(CallId id, const std::string& member, const std::string& item, int32_t sample) {
    CallRequest request;
    request.id = id;
    request.member = member;
    request.item_id = item;
    request.sample = sample;
    request.prompt.emplace_back();
    request.prompt.back().set_content(std::string(40, 'p'));
    return request;
  }
  conclave::testing::TempDir dir_;
  const std::string path_ = dir_.Path("answers.jsonl");
  std::shared_ptr<const benchmark::RecordedAnswers> answers_;
  CollectingSink sink_;
};

TEST_F(RecordedBackendTest, AnswersByModelItemAndSample) {
  RecordedMember member = Member("dense/big", "big");
  member.card.emplace().set_active_parameters(1000);
  auto backend = NewRecordedBackend({member});
  ASSERT_OK(backend);
  (*backend)->Start(Request(1, "dense/big", "q1", 0), &sink_);
  const CallOutcome first = sink_.Await(1);
  ASSERT_OK(first.status);
  EXPECT_EQ(first.text, "It is #### 4");
  EXPECT_EQ(first.answer.value(), "4");
  EXPECT_TRUE(first.estimated);
  EXPECT_EQ(first.usage.prompt_token_count(), 10);  // 40 characters at 4 a token
  EXPECT_EQ(first.usage.output_token_count(), 3);   // 12 characters
  (*backend)->Start(Request(2, "dense/big", "q1", 1), &sink_);
  EXPECT_EQ(sink_.Await(2).text, "No: 5");
  EXPECT_EQ(sink_.Await(2).answer, std::nullopt);
}

TEST_F(RecordedBackendTest, WhatWasNotRecordedIsAnErrorThatSaysSo) {
  auto backend = NewRecordedBackend({Member("m", "big")});
  ASSERT_OK(backend);
  (*backend)->Start(Request(1, "m", "q1", 2), &sink_);
  EXPECT_THAT(sink_.Await(1).status, StatusIs(absl::StatusCode::kNotFound, HasSubstr("sample 2 of item \"q1\"")));
  (*backend)->Start(Request(2, "m", "", 0), &sink_);
  EXPECT_THAT(sink_.Await(2).status, StatusIs(absl::StatusCode::kNotFound));
  CallRequest score = Request(3, "m", "q1", 0);
  score.p_true.emplace();
  (*backend)->Start(score, &sink_);
  EXPECT_THAT(sink_.Await(3).status, StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("CAPABILITY_MISSING")));
  EXPECT_THAT(NewRecordedBackend({Member("m", "small")}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("\"small\"")));
}

TEST_F(RecordedBackendTest, ARouterSendsEachCallToItsMembersBackend) {
  std::vector<std::unique_ptr<Backend>> backends;
  backends.push_back(*NewRecordedBackend({Member("recorded", "big")}));
  auto fake = std::make_unique<FakeBackend>(std::vector<std::string>{"fake"},
                                            [](const CallRequest&) { return Says("hm", /*delay_ns=*/5); });
  FakeBackend* played = fake.get();
  backends.push_back(std::move(fake));
  auto router = NewRouter(std::move(backends), {"fake", "recorded"});
  ASSERT_OK(router);
  EXPECT_EQ((*router)->Describe()[0].name, "fake");
  EXPECT_EQ((*router)->Describe()[1].backend, "recorded");
  (*router)->Start(Request(1, "recorded", "q1", 0), &sink_);
  EXPECT_EQ(sink_.Await(1).text, "It is #### 4");
  (*router)->Start(Request(2, "fake", "q1", 0), &sink_);
  (*router)->Start(Request(3, "fake", "q1", 0), &sink_);
  (*router)->Cancel(3);
  EXPECT_THAT(sink_.Await(3).status, StatusIs(absl::StatusCode::kCancelled));
  played->Advance(5);
  EXPECT_EQ(sink_.Await(2).text, "hm");
  (*router)->Start(Request(4, "nobody", "q1", 0), &sink_);
  EXPECT_THAT(sink_.Await(4).status, StatusIs(absl::StatusCode::kNotFound));
  std::vector<std::unique_ptr<Backend>> none;
  EXPECT_THAT(NewRouter(std::move(none), {"m"}), StatusIs(absl::StatusCode::kInvalidArgument));
}

}  // namespace
}  // namespace conclave::orchestrator
