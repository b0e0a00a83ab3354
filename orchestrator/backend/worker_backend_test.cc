// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/backend/worker_backend.h"

#include <atomic>
#include <cmath>
#include <limits>
#include <thread>

#include "common/check.h"
#include "common/status.h"
#include "orchestrator/backend/backend_testing.h"
#include "orchestrator/backend/worker_call.h"
#include "orchestrator/backend/worker_request.h"
#include "protos/rpc_status.h"
#include "tests/testing/status_matchers.h"

namespace conclave::orchestrator {
namespace {

namespace pb = ::conclave::inference::v1;
using ::conclave::testing::IsOk;
using ::conclave::testing::StatusIs;
using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr int64_t kNsPerMs = 1'000'000;

std::unique_ptr<Backend> Connect(std::vector<WorkerMember> members, WorkerBackendOptions options = {}) {
  auto backend = ConnectWorkers(std::move(members), options, 10'000 * kNsPerMs);
  CONCLAVE_CHECK_MSG(backend.ok(), backend.status().ToString().c_str());
  return *std::move(backend);
}

CallRequest Request(CallId id, const std::string& member, const std::string& text = "two words") {
  CallRequest request;
  request.id = id;
  request.member = member;
  request.prompt.emplace_back();
  request.prompt.back().set_role("user");
  request.prompt.back().set_content(text);
  request.seed = 7;
  request.stream_tokens = true;
  return request;
}

ScriptedWorker::Answer Always(ScriptedAnswer answer) {
  return [answer](const pb::GenerateRequest&) { return answer; };
}

TEST(WorkerBackend, StreamsAndReportsWhatTheWorkerMeasured) {
  ScriptedWorker worker(Always({.pieces = {"Hello", ", ", "world"}}));
  auto backend = Connect({{.name = "m", .addresses = {worker.address()}}});
  CollectingSink sink;
  backend->Start(Request(1, "m"), &sink);
  const CallOutcome outcome = sink.Await(1);
  ASSERT_OK(outcome.status);
  EXPECT_EQ(outcome.text, "Hello, world");
  EXPECT_EQ(sink.deltas(1), "Hello, world");
  EXPECT_EQ(outcome.finish_reason, pb::FINISH_REASON_STOP);
  EXPECT_EQ(outcome.usage.prompt_token_count(), 2);
  EXPECT_EQ(outcome.usage.output_token_count(), 3);
  EXPECT_FALSE(outcome.estimated);
  EXPECT_EQ(outcome.instance_id, "scripted@" + worker.address());
  EXPECT_EQ(outcome.model_revision, "scripted");
  const auto members = backend->Describe();
  ASSERT_EQ(members.size(), 1u);
  EXPECT_TRUE(members[0].available);
  EXPECT_EQ(members[0].model->context_token_count(), 4096);
}

TEST(WorkerBackend, UnknownMembersAndMissingWorkersAreNamed) {
  ScriptedWorker worker(Always({}));
  auto backend = Connect({{.name = "m", .addresses = {worker.address()}}});
  CollectingSink sink;
  backend->Start(Request(1, "absent"), &sink);
  EXPECT_THAT(sink.Await(1).status, StatusIs(absl::StatusCode::kNotFound, HasSubstr("\"absent\"")));
  worker.Kill();
  EXPECT_THAT(ConnectWorkers({{.name = "m", .addresses = {worker.address()}}}, {}, 100 * kNsPerMs),
              StatusIs(absl::StatusCode::kUnavailable, AllOf(HasSubstr("NO_WORKER"), HasSubstr(worker.address()))));
  EXPECT_THAT(ConnectWorkers({{.name = "m", .addresses = {"nonsense"}}}, {}, 0),
              StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(ConnectWorkers({{.name = "m", .addresses = {}}}, {}, 0), StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST(WorkerBackend, ACancelledCallReportsItsWorkAndFreesTheWorker) {
  ScriptedWorker worker(Always({.pieces = {"one ", "two "}, .hang = true}));
  auto backend = Connect({{.name = "m", .addresses = {worker.address()}}});
  CollectingSink sink;
  backend->Start(Request(1, "m"), &sink);
  sink.AwaitDeltas(1, 8);
  backend->Cancel(1);
  backend->Cancel(1);  // twice is once
  const CallOutcome outcome = sink.Await(1);
  EXPECT_THAT(outcome.status, StatusIs(absl::StatusCode::kCancelled));
  EXPECT_FALSE(outcome.retryable);
  EXPECT_EQ(outcome.usage.output_token_count(), 2);
  EXPECT_FALSE(outcome.estimated);
  EXPECT_EQ(worker.running(), 0);
  backend->Cancel(1);  // ended: nothing happens
  EXPECT_EQ(worker.totals().output_token_count(), 2);
}

TEST(WorkerBackend, ACancelThatOvertakesItsRequestLosesNoWork) {
  std::atomic<const ScriptedWorker*> self = nullptr;
  ScriptedWorker worker([&self](const pb::GenerateRequest&) {
    while (self.load() == nullptr || self.load()->cancels() == 0) std::this_thread::yield();
    return ScriptedAnswer{.pieces = {"one ", "two "}, .hang = true};
  });
  self = &worker;
  auto backend = Connect({{.name = "m", .addresses = {worker.address()}}});
  CollectingSink sink;
  backend->Start(Request(1, "m"), &sink);
  while (worker.running() == 0) std::this_thread::yield();
  backend->Cancel(1);
  const CallOutcome outcome = sink.Await(1);
  EXPECT_THAT(outcome.status, StatusIs(absl::StatusCode::kCancelled));
  EXPECT_FALSE(outcome.estimated);
  EXPECT_EQ(outcome.usage.prompt_token_count(), 2);
  EXPECT_EQ(outcome.usage.output_token_count(), worker.totals().output_token_count());
}

TEST(WorkerBackend, ALostWorkerIsRetryableWithWhatWasSeenAndAReplicaTakesOver) {
  auto dying = std::make_unique<ScriptedWorker>(Always({.pieces = {"a", "b"}, .hang = true}));
  ScriptedWorker other(Always({.pieces = {"ok"}}));
  auto backend = Connect({{.name = "m", .addresses = {dying->address(), other.address()}}});
  CollectingSink sink;
  backend->Start(Request(1, "m"), &sink);  // ties go to the first replica
  sink.AwaitDeltas(1, 2);
  dying->Kill();
  const CallOutcome lost = sink.Await(1);
  EXPECT_THAT(lost.status, StatusIs(absl::StatusCode::kUnavailable, HasSubstr(dying->address())));
  EXPECT_TRUE(lost.retryable);
  EXPECT_EQ(lost.usage.prompt_token_count(), 2);
  EXPECT_EQ(lost.usage.output_token_count(), 2);
  for (CallId id = 2; id < 6; ++id) {
    backend->Start(Request(id, "m"), &sink);
    EXPECT_EQ(sink.Await(id).text, "ok");
  }
}

TEST(WorkerBackend, ALostCallGoesOnElsewhereFromTheTokensThatWereSaid) {
  auto dying = std::make_unique<ScriptedWorker>(Always({.pieces = {"a", "b"}, .hang = true}));
  pb::GenerateRequest asked;
  ScriptedWorker other([&](const pb::GenerateRequest& request) {
    asked = request;
    return ScriptedAnswer{.pieces = {"a", "b", "c"}};
  });
  auto backend = Connect({{.name = "m", .addresses = {dying->address(), other.address()}}});
  CollectingSink sink;
  backend->Start(Request(1, "m"), &sink);
  sink.AwaitDeltas(1, 2);
  dying->Kill();
  const CallOutcome lost = sink.Await(1);
  EXPECT_TRUE(lost.retryable);
  EXPECT_EQ(lost.partial.text(), "ab");
  EXPECT_EQ(lost.partial.token_ids_size(), 2);
  EXPECT_EQ(lost.partial.model_revision(), "scripted");
  CallRequest again = Request(2, "m");
  again.partial = std::make_shared<const deliberation::v1::PartialText>(lost.partial);
  backend->Start(again, &sink);
  EXPECT_EQ(sink.Await(2).text, "abc") << "whole, what it goes on from included";
  EXPECT_EQ(sink.deltas(2), "c") << "nothing is told twice";
  EXPECT_EQ(asked.continuation().generated_token_ids_size(), 2);
  EXPECT_EQ(sink.Await(2).usage.output_token_count(), 1);
  // Other weights would go on with other words: there it begins anew.
  auto foreign = std::make_shared<deliberation::v1::PartialText>(lost.partial);
  foreign->set_model_revision("another");
  again.id = 3;
  again.partial = foreign;
  backend->Start(again, &sink);
  EXPECT_EQ(sink.Await(3).text, "abc");
  EXPECT_FALSE(asked.has_continuation());
}

TEST(WorkerBackend, ASecondCallGoesToAnotherWorkerOrNowhere) {
  ScriptedWorker slow(Always({.pieces = {"x"}, .hang = true}));
  ScriptedWorker other(Always({.pieces = {"y"}}));
  auto backend = Connect({{.name = "two", .addresses = {slow.address(), other.address()}},
                          {.name = "one", .addresses = {slow.address()}}});
  CollectingSink sink;
  for (const auto& [id, member] : {std::pair<CallId, std::string>(1, "two"), {3, "one"}}) {
    backend->Start(Request(id, member), &sink);
    sink.AwaitDeltas(id, 1);
    CallRequest second = Request(id + 1, member);
    second.beside = id;
    backend->Start(second, &sink);
  }
  EXPECT_EQ(sink.Await(2).text, "y");
  EXPECT_THAT(sink.Await(4).status, StatusIs(absl::StatusCode::kFailedPrecondition,
                                             HasSubstr("NO_OTHER_WORKER: no other worker of member \"one\"")));
  EXPECT_FALSE(sink.Await(4).retryable);
  backend->Cancel(1);
  backend->Cancel(3);
  sink.Await(1), sink.Await(3);
}

TEST(WorkerBackend, ACallWaitsForAWorkerThatComesBack) {
  auto worker = std::make_unique<ScriptedWorker>(Always({.pieces = {"x"}, .hang = true}));
  const std::string address = worker->address();
  auto backend = Connect({{.name = "m", .addresses = {address}}});
  CollectingSink sink;
  backend->Start(Request(1, "m"), &sink);
  sink.AwaitDeltas(1, 1);
  worker.reset();
  EXPECT_TRUE(sink.Await(1).retryable);
  EXPECT_FALSE(backend->Describe()[0].available);
  backend->Start(Request(2, "m"), &sink);  // nobody is there
  ScriptedWorker again(Always({.pieces = {"back"}}), address);
  EXPECT_EQ(sink.Await(2).text, "back");
}

TEST(WorkerBackend, ACallDoesNotWaitForeverForAWorker) {
  auto worker = std::make_unique<ScriptedWorker>(Always({.pieces = {"x"}, .hang = true}));
  auto backend = Connect({{.name = "m", .addresses = {worker->address()}}}, {.unreachable_ns = 100 * kNsPerMs});
  CollectingSink sink;
  backend->Start(Request(1, "m"), &sink);
  sink.AwaitDeltas(1, 1);
  worker.reset();
  sink.Await(1);
  backend->Start(Request(2, "m"), &sink);
  const CallOutcome outcome = sink.Await(2);
  EXPECT_THAT(outcome.status, StatusIs(absl::StatusCode::kUnavailable, HasSubstr("NO_WORKER")));
  EXPECT_TRUE(outcome.retryable);
}

TEST(WorkerBackend, AWorkerThatStallsWhileItsConnectionLivesLosesItsCallAndGetsNoneUntilItWorks) {
  ScriptedWorker stalled(Always({.pieces = {"a"}, .hang = true}));
  ScriptedWorker other(Always({.pieces = {"ok"}}));
  auto backend = Connect({{.name = "m", .addresses = {stalled.address(), other.address()}}},
                         {.unreachable_ns = 100 * kNsPerMs, .stall_ns = 100 * kNsPerMs});
  CollectingSink sink;
  backend->Start(Request(1, "m"), &sink);  // ties go to the first replica
  sink.AwaitDeltas(1, 1);
  const CallOutcome lost = sink.Await(1);
  EXPECT_THAT(lost.status,
              StatusIs(absl::StatusCode::kUnavailable, AllOf(HasSubstr(stalled.address()), HasSubstr("stalled"))));
  EXPECT_TRUE(lost.retryable);
  EXPECT_EQ(lost.usage.output_token_count(), 1);
  backend->Start(Request(2, "m"), &sink);
  EXPECT_EQ(sink.Await(2).text, "ok");
}

TEST(WorkerBackend, AFullWorkerIsTriedAgainUnseen) {
  std::atomic<int> refusals = 2;
  ScriptedWorker worker([&](const pb::GenerateRequest&) -> ScriptedAnswer {
    if (refusals-- > 0) {
      return {.status = rpc::WithRetryDelay(rpc::WithReason(ResourceExhausted("full"), "OVERLOADED"), kNsPerMs)};
    }
    return {.pieces = {"in"}};
  });
  auto backend = Connect({{.name = "m", .addresses = {worker.address()}}});
  CollectingSink sink;
  backend->Start(Request(1, "m"), &sink);
  EXPECT_EQ(sink.Await(1).text, "in");
  EXPECT_EQ(worker.requests(), 3);
}

TEST(WorkerBackend, RefusalsAndBrokenStreamsAreNotRetryable) {
  ScriptedWorker worker([](const pb::GenerateRequest& request) -> ScriptedAnswer {
    if (request.prompt().chat().messages(0).content() == "refused") {
      return {.status = rpc::WithReason(InvalidArgument("9 tokens too many"), "PROMPT_TOO_LONG")};
    }
    return {.pieces = std::vector<std::string>(3, std::string(kCallTextBytesMax / 2, 'x'))};
  });
  auto backend = Connect({{.name = "m", .addresses = {worker.address()}}});
  CollectingSink sink;
  backend->Start(Request(1, "m", "refused"), &sink);
  const CallOutcome refused = sink.Await(1);
  EXPECT_THAT(refused.status, StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("9 tokens too many")));
  EXPECT_EQ(rpc::Reason(refused.status), "PROMPT_TOO_LONG");
  EXPECT_FALSE(refused.retryable);
  backend->Start(Request(2, "m", "long"), &sink);
  const CallOutcome cut = sink.Await(2);
  EXPECT_THAT(cut.status, StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("lower max_output_tokens")));
  EXPECT_FALSE(cut.retryable);
}

TEST(WorkerBackend, CallsBeyondTheWorkersShareWaitTheirTurn) {
  ScriptedWorker worker(Always({.pieces = {"x"}, .piece_ms = 5}));
  auto backend = Connect({{.name = "m", .addresses = {worker.address()}}}, {.calls_per_worker_max = 2});
  CollectingSink sink;
  for (CallId id = 1; id <= 10; ++id) backend->Start(Request(id, "m"), &sink);
  for (CallId id = 1; id <= 10; ++id) EXPECT_EQ(sink.Await(id).text, "x");
}

TEST(WorkerBackend, DestructionEndsWhatRuns) {
  ScriptedWorker worker(Always({.pieces = {"x"}, .hang = true}));
  CollectingSink sink;
  {
    auto backend = Connect({{.name = "m", .addresses = {worker.address()}}}, {.calls_per_worker_max = 1});
    backend->Start(Request(1, "m"), &sink);
    backend->Start(Request(2, "m"), &sink);
    sink.AwaitDeltas(1, 1);
  }
  EXPECT_THAT(sink.Await(1).status, StatusIs(absl::StatusCode::kCancelled));
  EXPECT_THAT(sink.Await(2).status, StatusIs(absl::StatusCode::kCancelled));
}

TEST(WorkerBackend, PTrueComesFromTheTwoScores) {
  ScriptedWorker worker(Always({}));
  worker.set_yes_logprob(-2.0 + std::log(3.0));  // three times as likely as the other: 3 / (3 + 1)
  auto backend = Connect({{.name = "m", .addresses = {worker.address()}}});
  CollectingSink sink;
  CallRequest request = Request(1, "m");
  request.p_true.emplace();
  backend->Start(request, &sink);
  const CallOutcome outcome = sink.Await(1);
  ASSERT_OK(outcome.status);
  EXPECT_NEAR(outcome.p_true.value(), 0.75, 1e-12);
  EXPECT_EQ(outcome.text, " yes");
  EXPECT_EQ(outcome.usage.prompt_token_count(), 2);
}

TEST(WorkerRequest, CarriesEveryKnobAndOmitsWhatIsAbsent) {
  CallRequest request = Request(1, "m");
  request.prompt.emplace_back();
  request.prompt.back().set_role("assistant");
  request.prompt.back().set_content("b");
  pb::Model model;
  model.set_has_chat_template(true);
  request.now_unix_seconds = 42;
  pb::GenerateRequest bare = ToGenerate(request, model, "id");
  EXPECT_FALSE(bare.sampling().has_temperature());
  EXPECT_FALSE(bare.output().has_top_logprob_count());
  EXPECT_FALSE(bare.stopping().has_max_output_token_count());
  EXPECT_FALSE(bare.has_routing());
  EXPECT_EQ(bare.prompt().chat().now_unix_seconds(), 42);
  EXPECT_EQ(bare.prompt().chat().messages(1).role(), "assistant");
  EXPECT_EQ(bare.seed(), 7);
  request.token_trace = true;
  request.sampling.set_temperature(0);
  request.sampling.set_top_k(5);
  request.sampling.set_top_p(0.5F);
  request.sampling.set_min_p(0.25F);
  request.sampling.set_repetition_penalty(1.5F);
  request.sampling.set_max_output_tokens(9);
  request.sampling.add_stop("\n\n");
  request.sampling.set_experts_per_token(3);
  const pb::GenerateRequest full = ToGenerate(request, model, "id");
  EXPECT_EQ(full.sampling().temperature(), 0);
  EXPECT_TRUE(full.sampling().has_temperature());
  EXPECT_EQ(full.output().top_logprob_count(), 20);
  EXPECT_EQ(full.sampling().top_k(), 5);
  EXPECT_EQ(full.sampling().top_p(), 0.5F);
  EXPECT_EQ(full.sampling().min_p(), 0.25F);
  EXPECT_EQ(full.sampling().repetition_penalty(), 1.5F);
  EXPECT_EQ(full.stopping().max_output_token_count(), 9);
  EXPECT_EQ(full.stopping().stop_texts(0), "\n\n");
  EXPECT_EQ(full.routing().top_k(), 3);
  EXPECT_EQ(ToScore(request, model).routing().top_k(), 3);
  model.set_has_chat_template(false);
  EXPECT_EQ(ToGenerate(request, model, "id").prompt().text(), "two words\n\nb");

  // Only members that hold to a constraint are given one.
  deliberation::v1::OutputConstraint constraint;
  constraint.set_grammar("root ::= \"a\"");
  request.constraint = std::make_shared<const deliberation::v1::OutputConstraint>(constraint);
  EXPECT_FALSE(ToGenerate(request, model, "id").has_constraint());
  model.set_supports_constraints(true);
  EXPECT_EQ(ToGenerate(request, model, "id").constraint().grammar(), "root ::= \"a\"");
  constraint.set_json_schema("{}");
  request.constraint = std::make_shared<const deliberation::v1::OutputConstraint>(constraint);
  EXPECT_EQ(ToGenerate(request, model, "id").constraint().json_schema(), "{}");
  constraint.set_regex("a");
  request.constraint = std::make_shared<const deliberation::v1::OutputConstraint>(constraint);
  EXPECT_EQ(ToGenerate(request, model, "id").constraint().regex(), "a");
}

TEST(WorkerRequest, PTrueNeedsTwoFiniteScores) {
  pb::ScoreResponse response;
  EXPECT_EQ(PTrue(response), std::nullopt);
  response.add_continuations()->set_logprob(-800);
  response.add_continuations()->set_logprob(-800);
  EXPECT_EQ(PTrue(response).value(), 0.5);
  response.mutable_continuations(1)->set_logprob(-std::numeric_limits<double>::infinity());
  EXPECT_EQ(PTrue(response), std::nullopt);
}

}  // namespace
}  // namespace conclave::orchestrator
