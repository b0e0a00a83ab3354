// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/run/stored_run.h"

#include "tests/testing/status_matchers.h"

namespace conclave::orchestrator {
namespace {

namespace pb = ::conclave::deliberation::v1;
using ::conclave::testing::IsOk;
using ::conclave::testing::StatusIs;
using ::testing::HasSubstr;

TEST(StoredRun, ComesBackAsItWasStored) {
  RunSpec spec;
  spec.run_id = "runs/1";
  spec.inputs = {{"question", "q"}};
  spec.members.resize(2);
  spec.members[0].name = "a";
  spec.members[0].weight = 0.5;
  spec.members[0].cost.flops_per_token = 1;
  spec.members[0].cost.attention_flops_per_token_and_position = 2;
  spec.members[0].cost.weight_bytes_per_token = 3;
  spec.members[0].cost.kv_bytes_per_token = 4;
  spec.members[0].cost.characters_per_token = 5;
  spec.members[0].cost.head_flops_per_token = 6;
  spec.members[1].name = "b";
  spec.binding = {{"seat", {1, 0}}, {"other", {0}}};
  spec.seed = ~uint64_t{0};
  spec.sampling.set_temperature(0);
  pb::OutputConstraint constraint;
  constraint.set_regex("a+");
  spec.result_constraint = std::make_shared<const pb::OutputConstraint>(constraint);
  spec.result_logprobs = 3;
  spec.item_id = "item";
  spec.budgets.resize(1);
  spec.budgets[0].name = "request";
  spec.budgets[0].budget.set_calls(9);
  pb::RunRequest request;
  request.set_request_id("id");
  const auto decoded = DecodeRun("runs/1", EncodeRun(request, spec));
  ASSERT_OK(decoded);
  EXPECT_EQ(decoded->spec.binding, spec.binding);
  EXPECT_EQ(decoded->spec.inputs, spec.inputs);
  EXPECT_EQ(decoded->spec.seed, spec.seed);
  EXPECT_TRUE(decoded->spec.sampling.has_temperature());
  ASSERT_NE(decoded->spec.result_constraint, nullptr);
  EXPECT_EQ(decoded->spec.result_constraint->regex(), "a+");
  EXPECT_EQ(decoded->spec.result_logprobs, 3);
  EXPECT_EQ(decoded->spec.item_id, "item");
  EXPECT_EQ(decoded->spec.members[0].weight, 0.5);
  EXPECT_EQ(decoded->spec.members[0].cost.kv_bytes_per_token, 4);
  EXPECT_EQ(decoded->spec.members[0].cost.characters_per_token, 5);
  EXPECT_EQ(decoded->spec.members[0].cost.head_flops_per_token, 6);
  EXPECT_EQ(decoded->spec.budgets[0].budget.calls(), 9);
  EXPECT_EQ(decoded->request.request_id(), "id");
  EXPECT_THAT(DecodeRun("runs/1", "\xff\xff"), StatusIs(absl::StatusCode::kDataLoss, HasSubstr("runs/1")));
}

TEST(StoredRun, EqualPayloadsHaveEqualHashes) {
  pb::RunRequest a, b;
  for (int i = 0; i < 20; ++i) {
    (*a.mutable_inputs())["k" + std::to_string(i)] = "v";
    (*b.mutable_inputs())["k" + std::to_string(19 - i)] = "v";
  }
  a.set_request_id("one");
  b.set_request_id("two");
  EXPECT_EQ(RequestHash(a), RequestHash(b));
  b.set_seed(1);
  EXPECT_NE(RequestHash(a), RequestHash(b));
}

TEST(StoredRun, AnEventThatIsNotTheOneAskedForIsDataLoss) {
  pb::Event event;
  event.set_run_id("r");
  event.set_sequence_number(2);
  event.mutable_heartbeat();
  EXPECT_OK(DecodeEvent("r", 2, EncodeEvent(event)));
  EXPECT_THAT(DecodeEvent("r", 3, EncodeEvent(event)), StatusIs(absl::StatusCode::kDataLoss));
  EXPECT_THAT(DecodeEvent("q", 2, EncodeEvent(event)), StatusIs(absl::StatusCode::kDataLoss));
  event.clear_event();
  EXPECT_THAT(DecodeEvent("r", 2, EncodeEvent(event)), StatusIs(absl::StatusCode::kDataLoss));
  EXPECT_THAT(DecodeEvent("r", 2, "\x80"), StatusIs(absl::StatusCode::kDataLoss));
}

}  // namespace
}  // namespace conclave::orchestrator
