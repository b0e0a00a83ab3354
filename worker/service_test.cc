// SPDX-License-Identifier: Apache-2.0
// The other RPCs, bad bytes, and many clients at once.

#include <latch>
#include <thread>

#include "common/hash.h"
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

std::string Path(std::string_view method) { return fmt::format("/{}/{}", kServiceName, method); }

TEST(Service, Tokenizes) {
  ServedWorker worker;
  pb::TokenizeRequest request;
  request.mutable_prompt()->set_text("ab");
  auto response = Call<pb::TokenizeRequest, pb::TokenizeResponse>(&worker, &Stub::Tokenize, request);
  ASSERT_OK(response);
  EXPECT_THAT(response->ids(), ElementsAre(FakeHost::kBegin, 'a', 'b'));
  EXPECT_EQ(response->text(), "ab");

  pb::Chat* const chat = request.mutable_prompt()->mutable_chat();
  chat->set_now_unix_seconds(7);
  chat->add_messages()->set_role("user");
  chat->mutable_messages(0)->set_content("hi");
  response = Call<pb::TokenizeRequest, pb::TokenizeResponse>(&worker, &Stub::Tokenize, request);
  ASSERT_OK(response);
  EXPECT_EQ(response->text(), "<user>hi@7");
}

TEST(Service, DetokenizesAnyBytesToUtf8) {
  ServedWorker worker;
  pb::DetokenizeRequest request;
  for (int id : {0xE2, 0x82, 0xAC, 0xFF, 0x78}) request.add_ids(id);
  const auto response = Call<pb::DetokenizeRequest, pb::DetokenizeResponse>(&worker, &Stub::Detokenize, request);
  ASSERT_OK(response);
  EXPECT_EQ(response->text(), "\xE2\x82\xAC\xEF\xBF\xBDx");
}

TEST(Service, Scores) {
  ServedWorker worker;
  pb::ScoreRequest request;
  request.mutable_prompt()->set_text("2+2=");
  request.add_continuations()->set_text("4");
  request.add_continuations()->mutable_token_ids()->add_ids('5');
  request.mutable_continuations(1)->mutable_token_ids()->add_ids('6');
  const auto response = Call<pb::ScoreRequest, pb::ScoreResponse>(&worker, &Stub::Score, request);
  ASSERT_OK(response);
  ASSERT_EQ(response->continuations_size(), 2);
  EXPECT_EQ(response->continuations(0).logprob(), -0.5);
  EXPECT_EQ(response->continuations(0).tokens_size(), 1) << "a continuation has no begin token";
  EXPECT_EQ(response->continuations(1).logprob(), -1.0);
  EXPECT_EQ(response->continuations(1).tokens(1).token_id(), '6');
  EXPECT_TRUE(response->continuations(1).greedy());
  EXPECT_EQ(response->usage().prompt_token_count(), 5);

  request.mutable_continuations(0)->set_text(std::string(FakeHost::kContext - 5, '4'));
  EXPECT_OK((Call<pb::ScoreRequest, pb::ScoreResponse>(&worker, &Stub::Score, request)));
  request.mutable_continuations(0)->set_text(std::string(FakeHost::kContext - 4, '4'));
  const auto refused = Call<pb::ScoreRequest, pb::ScoreResponse>(&worker, &Stub::Score, request);
  EXPECT_EQ(rpc::Reason(refused.status()), "PROMPT_TOO_LONG");
}

TEST(Service, DescribesModelAndLoad) {
  ServedWorker worker;
  const auto model = Call<pb::GetModelRequest, pb::GetModelResponse>(&worker, &Stub::GetModel, {});
  ASSERT_OK(model);
  EXPECT_EQ(model->model().name(), "fake");
  EXPECT_EQ(model->model().vocabulary_size(), FakeHost::kVocab);
  EXPECT_TRUE(model->model().has_chat_template());
  EXPECT_EQ(model->version(), "test");
  EXPECT_EQ(model->instance_id().size(), 36u);
  const auto load = Call<pb::GetLoadRequest, pb::GetLoadResponse>(&worker, &Stub::GetLoad, {});
  ASSERT_OK(load);
  EXPECT_EQ(load->running_count(), 3);
  EXPECT_EQ(load->queued_count(), 2);
  EXPECT_EQ(load->kv_block_used_count(), 5);
  EXPECT_FALSE(load->draining());
}

TEST(Service, CancelsByIdAndAll) {
  ServedWorker worker;
  worker.host.set_cancelled_usage(UsageOf(2, 7));
  GenerateCall a(worker.stub.get(), TextRequest("x", "a"));
  GenerateCall b(worker.stub.get(), TextRequest("x", "b"));
  worker.host.AwaitSubmitted(1);
  pb::CancelRequestsRequest request;
  request.add_request_ids("nobody");
  request.add_request_ids("a");
  auto response = Call<pb::CancelRequestsRequest, pb::CancelRequestsResponse>(&worker, &Stub::CancelRequests, request);
  ASSERT_OK(response);
  EXPECT_THAT(response->outcomes(), ElementsAre(pb::CancelRequestsResponse::OUTCOME_NOT_RUNNING,
                                                pb::CancelRequestsResponse::OUTCOME_CANCELLED));
  EXPECT_EQ(response->cancelled_count(), 1);
  std::vector<pb::GenerateResponse> events;
  const absl::Status status = a.Finish(&events);
  EXPECT_THAT(status, StatusIs(absl::StatusCode::kCancelled, HasSubstr("CancelRequests")));
  ASSERT_FALSE(events.empty()) << "the client still listens, so it learns what was used";
  EXPECT_EQ(events.back().usage().output_token_count(), 7);

  request.clear_request_ids();
  request.set_all(true);
  response = Call<pb::CancelRequestsRequest, pb::CancelRequestsResponse>(&worker, &Stub::CancelRequests, request);
  ASSERT_OK(response);
  EXPECT_EQ(response->cancelled_count(), 1);
  EXPECT_THAT(b.Finish(), StatusIs(absl::StatusCode::kCancelled));
}

// ---- Bad bytes

TEST(Service, BytesThatAreNoMessageGetAClearError) {
  ServedWorker worker;
  for (const char* method :
       {"Generate", "Score", "Tokenize", "Detokenize", "GetModel", "GetLoad", "CancelRequests", "Drain"}) {
    const absl::Status status = CallRaw(&worker, Path(method), "\x0A\x7F short").status();
    EXPECT_THAT(status, StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(method))) << method;
    EXPECT_EQ(rpc::Reason(status), "MALFORMED_MESSAGE");
  }
}

TEST(Service, AStringThatIsNotUtf8IsNamed) {
  ServedWorker worker;
  // TokenizeRequest{prompt = 2 {text = 1 "\xFF"}}
  const absl::Status status = CallRaw(&worker, Path("Tokenize"), std::string("\x12\x03\x0A\x01\xFF", 5)).status();
  EXPECT_THAT(status, StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("conclave.inference.v1.Prompt.text")));
}

TEST(Service, UnknownFieldsNestAHundredDeepAndNoDeeper) {
  ServedWorker worker;
  // Field 100 as nested groups: start tag A3 06, end tag A4 06.
  const auto nested = [](int depth) {
    std::string bytes;
    for (int i = 0; i < depth; ++i) bytes += "\xA3\x06";
    for (int i = 0; i < depth; ++i) bytes += "\xA4\x06";
    return bytes;
  };
  EXPECT_OK(CallRaw(&worker, Path("GetModel"), nested(99)));
  EXPECT_THAT(CallRaw(&worker, Path("GetModel"), nested(101)), StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST(Service, AMessageBeyondTheLimitIsRefusedAndTheConnectionLives) {
  ServedWorker worker;
  pb::TokenizeRequest request;
  request.mutable_prompt()->set_text(std::string(9 << 20, 'x'));
  const auto refused = Call<pb::TokenizeRequest, pb::TokenizeResponse>(&worker, &Stub::Tokenize, request);
  EXPECT_THAT(refused, StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("larger than max")));
  EXPECT_OK((Call<pb::GetModelRequest, pb::GetModelResponse>(&worker, &Stub::GetModel, {})));
}

TEST(Service, AnAnswerBeyondTheClientsLimitIsAnErrorNotABrokenCall) {
  ServedWorker worker;
  pb::TokenizeRequest request;
  request.mutable_prompt()->set_text(std::string(6 << 20, 'x'));  // the text comes back beside its ids
  const auto refused = Call<pb::TokenizeRequest, pb::TokenizeResponse>(&worker, &Stub::Tokenize, request);
  EXPECT_EQ(rpc::Reason(refused.status()), "RESPONSE_TOO_LARGE");
}

TEST(Service, MillionsOfEmptySubMessagesAreRefusedByTheirNumber) {
  ServedWorker worker;
  std::string bytes;
  for (int i = 0; i < 1'000'000; ++i) bytes.append("\x1A\x00", 2);  // ScoreRequest.continuations
  const absl::Status status = CallRaw(&worker, Path("Score"), bytes).status();
  EXPECT_THAT(status, StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("1000000 entries, at most 64")));
}

TEST(Service, SmallCallsHaveASmallLimit) {
  ServedWorker worker;
  pb::CancelRequestsRequest request;
  for (int i = 0; i < 2000; ++i) request.add_request_ids(std::string(36, 'r'));
  const auto refused =
      Call<pb::CancelRequestsRequest, pb::CancelRequestsResponse>(&worker, &Stub::CancelRequests, request);
  EXPECT_THAT(refused, StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("at most 65536")));
}

// ---- Load

TEST(Service, CallsBeyondThePoolsQueueAreTurnedAwayAndStateIsStillAnswered) {
  ServedWorker worker;
  constexpr int32_t kThreads = 2;
  struct Gate {
    std::latch held{kThreads}, release{1};
  };
  const auto gate = std::make_shared<Gate>();
  worker.host.set_on_tokenize([gate] { gate->held.count_down(), gate->release.wait(); });
  std::vector<std::unique_ptr<GenerateCall>> calls;
  const auto call = [&](int32_t n) {
    for (int32_t i = 0; i < n; ++i) {
      calls.push_back(std::make_unique<GenerateCall>(worker.stub.get(), TextRequest("x")));
    }
  };
  const auto queued = [&] {
    return Call<pb::GetLoadRequest, pb::GetLoadResponse>(&worker, &Stub::GetLoad, {})->queued_count();
  };
  const int32_t engines = queued();
  call(kThreads);
  gate->held.wait();
  call(kWaitingCallsMax);
  while (queued() < engines + kWaitingCallsMax) std::this_thread::yield();
  const absl::Status refused = GenerateCall(worker.stub.get(), TextRequest("x")).Finish();
  EXPECT_EQ(rpc::Reason(refused), "OVERLOADED");
  EXPECT_EQ(rpc::RetryDelayNs(refused), rpc::kOverloadRetryNs);

  worker.host.set_on_tokenize(nullptr);
  worker.host.set_submit_error(Unavailable("never mind"));
  gate->release.count_down();
  for (auto& waiting : calls) EXPECT_THAT(waiting->Finish(), StatusIs(absl::StatusCode::kUnavailable));
}

// ---- Many clients at once: nothing leaks, nothing hangs. Run under ThreadSanitizer.

TEST(Service, RandomCancelsLeaveNothingBehind) {
  constexpr int kThreads = 4, kCallsEach = 50;
  ServedWorker worker;
  std::atomic<bool> stop = false;
  // The engine: one thread that pushes to every request in turn.
  std::thread engine([&] {
    std::map<int32_t, int> pushed;
    while (!stop) {
      const int32_t n = worker.host.submitted_count();
      for (int32_t i = 0; i < n; ++i) {
        const auto submitted = worker.host.AwaitSubmitted(i);
        if (pushed[i] < 0 || worker.host.cancelled(submitted.id)) continue;
        if (pushed[i] == 0) submitted.sink->OnStarted(2, 0);
        submitted.sink->OnDelta(TextDelta("tok"));
        if (++pushed[i] == 20 && worker.host.FinishOnce(submitted.id)) {
          pushed[i] = -1;
          submitted.sink->OnDone(absl::OkStatus(), UsageOf(2, 60));
        }
      }
      std::this_thread::yield();
    }
  });
  std::vector<std::thread> clients;
  for (int t = 0; t < kThreads; ++t) {
    clients.emplace_back([&, t] {
      for (int i = 0; i < kCallsEach; ++i) {
        GenerateCall call(worker.stub.get(), TextRequest("x"));
        const uint64_t random = Mix64(static_cast<uint64_t>(t * kCallsEach + i));
        const int reads = static_cast<int>(random % 8);
        for (int r = 0; r < reads && call.Read().has_value(); ++r) {
        }
        if (random % 3 == 0) call.Cancel();
        const absl::Status status = call.Finish();
        EXPECT_TRUE(status.ok() || absl::IsCancelled(status)) << status;
      }
    });
  }
  for (std::thread& client : clients) client.join();
  EXPECT_TRUE(worker.server->WaitIdle(INT64_MAX / 2));
  stop = true;
  engine.join();
}

}  // namespace
}  // namespace conclave::worker
