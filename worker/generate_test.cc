// SPDX-License-Identifier: Apache-2.0
// Generate end to end: a real gRPC server and client over loopback, the engine played by the test.
#include <grpc/grpc.h>

#include "common/status.h"
#include "protos/rpc_calls.h"
#include "protos/rpc_status.h"
#include "tests/testing/status_matchers.h"
#include "worker/limits.h"
#include "worker/worker_testing.h"

namespace conclave::worker {
namespace {

using ::conclave::testing::IsOk;
using ::conclave::testing::StatusIs;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

void ExpectGapless(const Events& events) {
  for (size_t i = 0; i < events.size(); ++i) EXPECT_EQ(events[i].sequence_number(), static_cast<int64_t>(i) + 1);
}

TEST(Generate, StreamsStartedDeltasFinishedUsage) {
  ServedWorker worker;
  GenerateCall call(worker.stub.get(), TextRequest("hi", "r-1"));
  const auto submitted = worker.host.AwaitSubmitted(0);
  EXPECT_THAT(submitted.request.prompt, ElementsAre(FakeHost::kBegin, 'h', 'i'));
  submitted.sink->OnStarted(3, 1);
  EXPECT_TRUE(submitted.sink->OnDelta(TextDelta("ab")));
  engine::SampleDelta last = TextDelta("c", 0, engine::FinishReason::kStop);
  last.stop_match = "END";
  EXPECT_TRUE(submitted.sink->OnDelta(last));
  engine::Usage usage = UsageOf(3, 3);
  usage.queue_ns = 1'500'000'000;
  usage.flops = 42;
  submitted.sink->OnDone(absl::OkStatus(), usage);

  Events events;
  EXPECT_OK(call.Finish(&events));
  ExpectGapless(events);
  ASSERT_GE(events.size(), 4u);
  const pb::Started& started = events.front().started();
  EXPECT_EQ(started.request_id(), "r-1");
  EXPECT_EQ(started.prompt_token_count(), 3);
  EXPECT_EQ(started.cached_prompt_token_count(), 1);
  EXPECT_EQ(started.model_revision(), worker.host.info().revision);
  EXPECT_EQ(started.seed(), static_cast<int64_t>(submitted.request.seed));
  EXPECT_EQ(TextOf(events), "abc");
  const pb::Finished& finished = events[events.size() - 2].finished();
  EXPECT_EQ(finished.reason(), pb::FINISH_REASON_STOP);
  EXPECT_EQ(finished.stop_text(), "END");
  EXPECT_EQ(finished.output_token_count(), 3);
  EXPECT_EQ(events.back().usage().output_token_count(), 3);
  EXPECT_EQ(events.back().usage().flop_count(), 42);
  EXPECT_EQ(events.back().usage().queue_time().seconds(), 1);
  EXPECT_EQ(events.back().usage().queue_time().nanos(), 500'000'000);
  for (const auto& event : events) EXPECT_TRUE(event.delta().token_ids().empty()) << "not asked for";
}

TEST(Generate, EveryOptionReachesTheEngine) {
  ServedWorker worker;
  pb::GenerateRequest request = TextRequest("x");
  request.set_sample_count(4);
  request.set_seed(-7);
  request.set_priority(-3);
  request.set_cache_salt("salt");
  request.mutable_sampling()->set_temperature(0);
  request.mutable_sampling()->set_top_k(40);
  request.mutable_sampling()->set_top_p(0.5f);
  request.mutable_sampling()->set_min_p(0.25f);
  request.mutable_sampling()->set_repetition_penalty(1.5f);
  request.mutable_sampling()->set_frequency_penalty(-1);
  request.mutable_sampling()->set_presence_penalty(2);
  auto* const bias = request.mutable_sampling()->add_logit_bias();
  bias->set_token_id(5);
  bias->set_bias(-100);
  request.mutable_stopping()->set_max_output_token_count(9);
  request.mutable_stopping()->add_stop_texts("stop");
  request.mutable_stopping()->add_stop_token_ids(17);
  request.mutable_stopping()->set_ignore_end_of_sequence(true);
  request.mutable_output()->set_top_logprob_count(2);
  GenerateCall call(worker.stub.get(), request);
  const auto submitted = worker.host.AwaitSubmitted(0);
  const engine::GenerateRequest& got = submitted.request;
  EXPECT_EQ(got.samples, 4);
  EXPECT_EQ(static_cast<int64_t>(got.seed), -7);
  EXPECT_EQ(got.priority, -3);
  EXPECT_EQ(got.cache_salt, "salt");
  EXPECT_EQ(got.sampling.temperature, 0);
  EXPECT_EQ(got.sampling.top_k, 40);
  EXPECT_EQ(got.sampling.top_p, 0.5f);
  EXPECT_EQ(got.sampling.min_p, 0.25f);
  EXPECT_EQ(got.sampling.repetition_penalty, 1.5f);
  EXPECT_EQ(got.sampling.frequency_penalty, -1);
  EXPECT_EQ(got.sampling.presence_penalty, 2);
  ASSERT_EQ(got.sampling.logit_bias.size(), 1u);
  EXPECT_EQ(got.sampling.logit_bias[0].token, 5);
  EXPECT_EQ(got.sampling.logit_bias[0].bias, -100);
  EXPECT_EQ(got.stopping.output_tokens_max, 9);
  EXPECT_THAT(got.stopping.stop_strings, ElementsAre("stop"));
  EXPECT_THAT(got.stopping.stop_tokens, ElementsAre(17));
  EXPECT_TRUE(got.stopping.ignore_end_of_sequence);
  EXPECT_EQ(got.top_logprobs, 2);
  EXPECT_EQ(got.deadline_ns, 0) << "a call without a deadline has none";
  submitted.sink->OnDone(absl::OkStatus(), {});
  EXPECT_OK(call.Finish());
}

TEST(Generate, AbsentOptionsAreTheDefaultsOfTheProto) {
  ServedWorker worker;
  GenerateCall call(worker.stub.get(), TextRequest("x"));
  const auto submitted = worker.host.AwaitSubmitted(0);
  EXPECT_EQ(submitted.request.samples, 1);
  EXPECT_EQ(submitted.request.sampling.temperature, 1.0f);
  EXPECT_EQ(submitted.request.sampling.top_p, 1.0f);
  EXPECT_EQ(submitted.request.stopping.output_tokens_max, 0);
  EXPECT_EQ(submitted.request.top_logprobs, -1);
  EXPECT_FALSE(submitted.request.stopping.ignore_end_of_sequence);
  submitted.sink->OnDone(absl::OkStatus(), {});
  EXPECT_OK(call.Finish());
}

TEST(Generate, TokenIdsAndLogprobsComeWhenAskedFor) {
  ServedWorker worker;
  pb::GenerateRequest request = TextRequest("x");
  request.mutable_output()->set_token_ids(true);
  request.mutable_output()->set_top_logprob_count(1);
  GenerateCall call(worker.stub.get(), request);
  const auto submitted = worker.host.AwaitSubmitted(0);
  engine::SampleDelta delta = TextDelta("a");
  delta.logprobs = {{'a', -0.25f}};
  delta.top_logprobs = {{{'b', -0.125f}}};
  submitted.sink->OnDelta(delta);
  submitted.sink->OnDone(absl::OkStatus(), {});
  Events events;
  EXPECT_OK(call.Finish(&events));
  const pb::Delta& got = events.front().delta();
  EXPECT_THAT(got.token_ids(), ElementsAre('a'));
  ASSERT_EQ(got.logprobs_size(), 1);
  EXPECT_EQ(got.logprobs(0).chosen().logprob(), -0.25f);
  EXPECT_EQ(got.logprobs(0).top(0).token_id(), 'b');
}

TEST(Generate, LogprobsSayWhatTheirTokensStandForWhenAskedFor) {
  ServedWorker worker;
  pb::GenerateRequest request = TextRequest("x");
  request.mutable_output()->set_top_logprob_count(2);
  request.mutable_output()->set_token_bytes(true);
  GenerateCall call(worker.stub.get(), request);
  const auto submitted = worker.host.AwaitSubmitted(0);
  engine::SampleDelta delta = TextDelta("a");
  delta.logprobs = {{'a', -0.25f}};
  delta.top_logprobs = {{{0xE2, -0.125f}, {FakeHost::kBegin, -3}}};
  submitted.sink->OnDelta(delta);
  submitted.sink->OnDone(absl::OkStatus(), {});
  Events events;
  EXPECT_OK(call.Finish(&events));
  const pb::Logprobs& got = events.front().delta().logprobs(0);
  EXPECT_EQ(got.chosen().text(), "a");
  EXPECT_FALSE(got.chosen().hidden());
  EXPECT_EQ(got.top(0).text(), "\xE2") << "part of a character";
  EXPECT_EQ(got.top(1).text(), "<begin>");
  EXPECT_TRUE(got.top(1).hidden());
}

TEST(Generate, SamplesInterleave) {
  ServedWorker worker;
  pb::GenerateRequest request = TextRequest("x");
  request.set_sample_count(2);
  GenerateCall call(worker.stub.get(), request);
  const auto submitted = worker.host.AwaitSubmitted(0);
  for (char c : std::string("abcdef")) {
    for (int32_t sample : {0, 1}) submitted.sink->OnDelta(TextDelta(std::string(1, c), sample));
  }
  submitted.sink->OnDelta(TextDelta("!", 1, engine::FinishReason::kLength));
  submitted.sink->OnDelta(TextDelta("", 0, engine::FinishReason::kStop));
  submitted.sink->OnDone(absl::OkStatus(), {});
  Events events;
  EXPECT_OK(call.Finish(&events));
  ExpectGapless(events);
  EXPECT_EQ(TextOf(events, 0), "abcdef");
  EXPECT_EQ(TextOf(events, 1), "abcdef!");
}

TEST(Generate, AContinuationGoesOnWhereItsSampleStopped) {
  ServedWorker worker;
  pb::GenerateRequest request = TextRequest("hi");
  request.mutable_continuation()->set_sample_index(3);
  request.mutable_continuation()->add_generated_token_ids('a');
  request.mutable_continuation()->add_generated_token_ids('b');
  GenerateCall call(worker.stub.get(), request);
  const auto submitted = worker.host.AwaitSubmitted(0);
  EXPECT_THAT(submitted.request.prompt, ElementsAre(FakeHost::kBegin, 'h', 'i', 'a', 'b'));
  EXPECT_EQ(submitted.request.continued_tokens, 2);
  EXPECT_EQ(submitted.request.sample_index_first, 3);
  submitted.sink->OnDelta(TextDelta("c", 3));
  submitted.sink->OnDone(absl::OkStatus(), {});
  Events events;
  EXPECT_OK(call.Finish(&events));
  EXPECT_EQ(TextOf(events, 3), "c");
}

TEST(Generate, TheDefaultSeedComesFromTheRequestId) {
  ServedWorker worker;
  std::vector<uint64_t> seeds;
  for (const char* id : {"one", "one", "two"}) {
    GenerateCall call(worker.stub.get(), TextRequest("x", id));
    const auto submitted = worker.host.AwaitSubmitted(static_cast<int32_t>(seeds.size()));
    seeds.push_back(submitted.request.seed);
    submitted.sink->OnDone(absl::OkStatus(), {});
    EXPECT_OK(call.Finish());
  }
  EXPECT_EQ(seeds[0], seeds[1]);
  EXPECT_NE(seeds[0], seeds[2]);
}

TEST(Generate, ClientCancelReachesTheEngineAndFreesTheId) {
  ServedWorker worker;
  GenerateCall call(worker.stub.get(), TextRequest("x", "same"));
  const auto submitted = worker.host.AwaitSubmitted(0);
  submitted.sink->OnStarted(2, 0);
  ASSERT_TRUE(call.Read().has_value());
  call.Cancel();
  worker.host.AwaitCancelled(submitted.id);
  EXPECT_THAT(call.Finish(), StatusIs(absl::StatusCode::kCancelled));
  EXPECT_TRUE(worker.server->WaitIdle(INT64_MAX / 2));

  GenerateCall again(worker.stub.get(), TextRequest("x", "same"));
  worker.host.AwaitSubmitted(1).sink->OnDone(absl::OkStatus(), {});
  EXPECT_OK(again.Finish());
}

TEST(Generate, DeadlineReachesTheEngineAndEndsTheCall) {
  ServedWorker worker;
  const int64_t before_ns = worker.clock.NowNs();
  GenerateCall call(worker.stub.get(), TextRequest("x"), /*timeout_ms=*/300);
  const auto submitted = worker.host.AwaitSubmitted(0);
  EXPECT_GT(submitted.request.deadline_ns, 0);
  EXPECT_LE(submitted.request.deadline_ns, before_ns + 1'300'000'000) << "what gRPC rounds is far below a second";
  EXPECT_THAT(call.Finish(), StatusIs(absl::StatusCode::kDeadlineExceeded));
  worker.host.AwaitCancelled(submitted.id);
}

TEST(Generate, UsageComesBeforeAnErrorWhenWorkWasDone) {
  ServedWorker worker;
  GenerateCall call(worker.stub.get(), TextRequest("x"));
  const auto submitted = worker.host.AwaitSubmitted(0);
  submitted.sink->OnStarted(2, 0);
  submitted.sink->OnDelta(TextDelta("a"));
  submitted.sink->OnDone(Internal("NUMERIC_FAILURE: layer 3 gave NaN"), UsageOf(2, 1));
  Events events;
  const absl::Status status = call.Finish(&events);
  EXPECT_THAT(status, StatusIs(absl::StatusCode::kInternal, HasSubstr("layer 3")));
  EXPECT_EQ(rpc::Reason(status), "NUMERIC_FAILURE");
  ASSERT_FALSE(events.empty());
  EXPECT_EQ(events.back().usage().output_token_count(), 1);
}

TEST(Generate, NoUsageWithoutWork) {
  ServedWorker worker;
  GenerateCall call(worker.stub.get(), TextRequest("x"));
  worker.host.AwaitSubmitted(0).sink->OnDone(DeadlineExceeded("dropped from the queue"), {});
  Events events;
  EXPECT_THAT(call.Finish(&events), StatusIs(absl::StatusCode::kDeadlineExceeded));
  EXPECT_TRUE(events.empty());
}

TEST(Generate, ARunningIdIsRefusedASecondTime) {
  ServedWorker worker;
  GenerateCall first(worker.stub.get(), TextRequest("x", "same"));
  const auto submitted = worker.host.AwaitSubmitted(0);
  const absl::Status status = GenerateCall(worker.stub.get(), TextRequest("y", "same")).Finish();
  EXPECT_THAT(status, StatusIs(absl::StatusCode::kAlreadyExists, HasSubstr("\"same\"")));
  EXPECT_EQ(rpc::Reason(status), "REQUEST_ID_REUSED");
  submitted.sink->OnDone(absl::OkStatus(), {});
  EXPECT_OK(first.Finish());
}

TEST(Generate, AFullEngineQueueIsWorthARetry) {
  ServedWorker worker;
  worker.host.set_submit_error(ResourceExhausted("OVERLOADED: 1024 requests wait"));
  const absl::Status status = GenerateCall(worker.stub.get(), TextRequest("x", "same")).Finish();
  EXPECT_THAT(status, StatusIs(absl::StatusCode::kResourceExhausted));
  EXPECT_EQ(rpc::Reason(status), "OVERLOADED");
  EXPECT_EQ(rpc::RetryDelayNs(status), rpc::kOverloadRetryNs);
  // The refused request does not keep its id.
  worker.host.set_submit_error(absl::OkStatus());
  GenerateCall again(worker.stub.get(), TextRequest("x", "same"));
  worker.host.AwaitSubmitted(0).sink->OnDone(absl::OkStatus(), {});
  EXPECT_OK(again.Finish());
}

TEST(Generate, PromptsMustFitTheContext) {
  ServedWorker worker;
  // The begin token, the text and one token of output make the context.
  GenerateCall fits(worker.stub.get(), TextRequest(std::string(FakeHost::kContext - 2, 'x')));
  worker.host.AwaitSubmitted(0).sink->OnDone(absl::OkStatus(), {});
  EXPECT_OK(fits.Finish());
  const absl::Status status =
      GenerateCall(worker.stub.get(), TextRequest(std::string(FakeHost::kContext - 1, 'x'))).Finish();
  EXPECT_THAT(status, StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("the context holds 64")));
  EXPECT_EQ(rpc::Reason(status), "PROMPT_TOO_LONG");
  EXPECT_EQ(rpc::ReasonMetadata(status).at("prompt_token_count"), "64");
}

TEST(Generate, WrongModelBadTemplateAndMissingCapabilityAreNamed) {
  ServedWorker worker;
  pb::GenerateRequest request = TextRequest("x");
  request.set_model("other");
  absl::Status status = GenerateCall(worker.stub.get(), request).Finish();
  EXPECT_THAT(status, StatusIs(absl::StatusCode::kNotFound, HasSubstr("\"fake\"")));
  EXPECT_EQ(rpc::Reason(status), "MODEL_NOT_FOUND");

  request = TextRequest("x");
  auto* const message = request.mutable_prompt()->mutable_chat()->add_messages();
  message->set_role("user");
  message->set_content("loop");
  status = GenerateCall(worker.stub.get(), request).Finish();
  EXPECT_THAT(status, StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("line 1")));
  EXPECT_EQ(rpc::Reason(status), "TEMPLATE_LIMIT");

  request = TextRequest("x");
  request.mutable_routing()->set_top_k(2);
  status = GenerateCall(worker.stub.get(), request).Finish();
  EXPECT_THAT(status, StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("dense")));
  EXPECT_EQ(rpc::Reason(status), "CAPABILITY_MISSING");
  EXPECT_EQ(worker.host.submitted_count(), 0);
}

TEST(Generate, ModelsAnswerToNameAndRevision) {
  ServedWorker worker;
  int32_t n = 0;
  for (const std::string& name : {worker.host.info().name, worker.host.info().revision}) {
    pb::GenerateRequest request = TextRequest("x");
    request.set_model(name);
    GenerateCall call(worker.stub.get(), request);
    worker.host.AwaitSubmitted(n++).sink->OnDone(absl::OkStatus(), {});
    EXPECT_OK(call.Finish());
  }
}

TEST(Generate, RoutingIsBoundedByTheModelsOwn) {
  ServedWorker worker;
  worker.host.set_info([](engine::ModelInfo* info) { info->experts = 8, info->experts_per_token = 4; });
  pb::GenerateRequest request = TextRequest("x");
  request.mutable_routing()->set_top_k(5);
  EXPECT_THAT(GenerateCall(worker.stub.get(), request).Finish(), StatusIs(absl::StatusCode::kInvalidArgument));
  request.mutable_routing()->set_top_k(4);
  GenerateCall call(worker.stub.get(), request);
  const auto submitted = worker.host.AwaitSubmitted(0);
  EXPECT_EQ(submitted.request.routing.top_k, 4);
  submitted.sink->OnDone(absl::OkStatus(), {});
  EXPECT_OK(call.Finish());
}

TEST(Generate, TextThatIsNotUtf8IsReplacedNotSent) {
  ServedWorker worker;
  GenerateCall call(worker.stub.get(), TextRequest("x"));
  const auto submitted = worker.host.AwaitSubmitted(0);
  submitted.sink->OnDelta(TextDelta("a\xFF"));
  submitted.sink->OnDone(absl::OkStatus(), {});
  Events events;
  EXPECT_OK(call.Finish(&events));
  EXPECT_EQ(TextOf(events), "a\xEF\xBF\xBD");
}

}  // namespace
}  // namespace conclave::worker
