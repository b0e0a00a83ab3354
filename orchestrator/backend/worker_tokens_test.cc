// SPDX-License-Identifier: Apache-2.0
// Log-probabilities of a worker's tokens: summed up for confidences, told as they come for callers.
#include "common/status.h"
#include "orchestrator/backend/backend_testing.h"
#include "orchestrator/backend/worker_backend.h"
#include "tests/testing/status_matchers.h"

namespace conclave::orchestrator {
namespace {

namespace pb = ::conclave::inference::v1;
using ::conclave::testing::IsOk;

constexpr int64_t kConnectNs = 10'000'000'000;

CallRequest Request(CallId id) {
  CallRequest request;
  request.id = id;
  request.member = "m";
  request.prompt.emplace_back().set_role("user");
  request.stream_tokens = true;
  return request;
}

TEST(WorkerTokens, AreSummedUpWhereConfidenceIsAskedFor) {
  ScriptedWorker worker([](const pb::GenerateRequest&) { return ScriptedAnswer{.pieces = {"Hello", ", ", "world"}}; });
  const auto backend = ConnectWorkers({{.name = "m", .addresses = {worker.address()}}}, {}, kConnectNs);
  ASSERT_OK(backend.status());
  CollectingSink sink;
  CallRequest request = Request(1);
  request.token_trace = true;
  (*backend)->Start(request, &sink);
  const CallOutcome outcome = sink.Await(1);
  ASSERT_TRUE(outcome.trace.has_value());
  EXPECT_DOUBLE_EQ(outcome.trace->logprob_sum, -1.5);
  EXPECT_EQ(outcome.trace->confidences, (std::vector<float>{1.5F, 1.5F, 1.5F})) << "minus the mean of -0.5 and -2.5";
  (*backend)->Start(Request(2), &sink);
  EXPECT_FALSE(sink.Await(2).trace.has_value());
}

TEST(WorkerTokens, AreToldWithTheTextWhereTheyAreAskedFor) {
  pb::Output asked;
  ScriptedWorker worker([&asked](const pb::GenerateRequest& request) {
    asked = request.output();
    return ScriptedAnswer{.pieces = {"Hello", ", ", "world"}};
  });
  const auto backend = ConnectWorkers({{.name = "m", .addresses = {worker.address()}}}, {}, kConnectNs);
  ASSERT_OK(backend.status());
  CollectingSink sink;
  CallRequest request = Request(1);
  request.logprobs = 2;
  (*backend)->Start(request, &sink);
  EXPECT_OK(sink.Await(1).status);
  EXPECT_EQ(asked.top_logprob_count(), 2);
  EXPECT_TRUE(asked.token_bytes());
  EXPECT_FALSE(asked.token_ids()) << "a call whose tokens are told begins anew when it is lost";
  const auto told = sink.logprobs(1);
  ASSERT_EQ(told.size(), 3u);
  EXPECT_EQ(told[2].chosen().text(), "world");
  EXPECT_EQ(told[2].chosen().logprob(), -0.5F);
  EXPECT_EQ(told[2].top(1).text(), "other");
  request.id = 2;
  request.token_trace = true;  // which looks at more of the best
  (*backend)->Start(request, &sink);
  EXPECT_TRUE(sink.Await(2).trace.has_value());
  EXPECT_EQ(asked.top_logprob_count(), kConfidenceTokens);
  (*backend)->Start(Request(3), &sink);
  EXPECT_OK(sink.Await(3).status);
  EXPECT_TRUE(sink.logprobs(3).empty());
}

}  // namespace
}  // namespace conclave::orchestrator
