// SPDX-License-Identifier: Apache-2.0
// Start, health, draining and metrics of a serving worker.
#include "worker/server.h"

#include <prometheus/text_serializer.h>

#include "common/status.h"
#include "protos/rpc_status.h"
#include "tests/testing/status_matchers.h"
#include "worker/limits.h"
#include "worker/worker_testing.h"

namespace conclave::worker {
namespace {

using ::conclave::testing::IsOk;
using ::conclave::testing::StatusIs;
using ::testing::HasSubstr;

// grpc.health.v1: HealthCheckRequest{service = 1}, HealthCheckResponse{status = 1}, SERVING = 1. Debian ships no stub.
bool Serving(ServedWorker* worker, std::string_view service) {
  std::string bytes;
  if (!service.empty()) bytes = "\x0A" + std::string(1, static_cast<char>(service.size())) + std::string(service);
  const absl::StatusOr<std::string> reply = CallRaw(worker, "/grpc.health.v1.Health/Check", bytes);
  EXPECT_OK(reply);
  return reply.ok() && *reply == "\x08\x01";
}

// ---- Start

TEST(Server, ATakenPortIsAnError) {
  ServedWorker worker;
  FakeHost host;
  ServerOptions options;
  options.endpoint.listen = worker.server->address();
  EXPECT_THAT(Server::Start(&host, options),
              StatusIs(absl::StatusCode::kUnavailable, HasSubstr(options.endpoint.listen)));
}

TEST(Server, OffLoopbackNeedsTls) {
  FakeHost host;
  ServerOptions options;
  options.endpoint.listen = "0.0.0.0:0";
  EXPECT_THAT(Server::Start(&host, options), StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("--tls-cert")));
}

TEST(Server, ATakenMetricsPortIsAnError) {
  ServerOptions options;
  options.metrics_port = 0;
  ServedWorker worker(options);
  EXPECT_GT(worker.server->metrics_port(), 0);
  FakeHost host;
  options.metrics_port = worker.server->metrics_port();
  EXPECT_THAT(Server::Start(&host, options), StatusIs(absl::StatusCode::kUnavailable, HasSubstr("--metrics-port")));
}

TEST(Metrics, TellLoadLatencyAndOutcomes) {
  FakeHost host;
  Metrics metrics(&host, "1.2.3");
  metrics.OnGenerateDone(absl::StatusCode::kOk, 2'000'000'000);
  metrics.OnGenerateDone(absl::StatusCode::kCancelled, 1'000'000'000);
  metrics.OnFirstToken(30'000'000);
  metrics.OnTokens(2, 20'000'000);
  const std::string text = prometheus::TextSerializer().Serialize(metrics.Collect());
  for (const char* line : {"conclave_requests_running 3", "conclave_requests_waiting 2",
                           "conclave_kv_cache_usage_ratio 0.25", "conclave_output_tokens_total 1234",
                           "conclave_requests_total{code=\"OK\"} 1", "conclave_requests_total{code=\"CANCELLED\"} 1",
                           "conclave_e2e_seconds_sum 3", "conclave_time_to_first_token_seconds_count 1",
                           "conclave_inter_token_seconds_count 2", "conclave_inter_token_seconds_bucket{le=\"0.01\"} 2",
                           "conclave_cache_config_info{block_size=\"16\",num_blocks=\"20\"} 1", "version=\"1.2.3\""}) {
    EXPECT_THAT(text, HasSubstr(line));
  }
}

// ---- Draining

TEST(Server, DrainFinishesWhatRunsAndRefusesWhatIsNew) {
  ServedWorker worker;
  EXPECT_TRUE(Serving(&worker, kServiceName));
  EXPECT_TRUE(Serving(&worker, ""));
  GenerateCall running(worker.stub.get(), TextRequest("x"));
  const auto submitted = worker.host.AwaitSubmitted(0);
  const auto drained = Call<pb::DrainRequest, pb::DrainResponse>(&worker, &Stub::Drain, {});
  ASSERT_OK(drained);
  EXPECT_EQ(drained->running_count(), 1);
  EXPECT_FALSE(Serving(&worker, kServiceName));
  EXPECT_TRUE(Serving(&worker, "")) << "the process lives";
  EXPECT_TRUE((Call<pb::GetLoadRequest, pb::GetLoadResponse>(&worker, &Stub::GetLoad, {}))->draining());

  const absl::Status refused = GenerateCall(worker.stub.get(), TextRequest("y")).Finish();
  EXPECT_THAT(refused, StatusIs(absl::StatusCode::kUnavailable));
  EXPECT_EQ(rpc::Reason(refused), "DRAINING");
  pb::ScoreRequest score;
  EXPECT_THAT((Call<pb::ScoreRequest, pb::ScoreResponse>(&worker, &Stub::Score, score)),
              StatusIs(absl::StatusCode::kUnavailable));

  worker.clock.AdvanceNs(kDrainGraceSecondsDefault * 1'000'000'000 - 1);
  worker.server->Tick();
  EXPECT_FALSE(worker.host.cancelled(submitted.id));
  submitted.sink->OnDelta(TextDelta("done", 0, engine::FinishReason::kStop));
  submitted.sink->OnDone(absl::OkStatus(), UsageOf(2, 4));
  EXPECT_OK(running.Finish());
  EXPECT_TRUE(worker.server->WaitIdle(INT64_MAX / 2));
}

TEST(Server, WhatRunsBeyondTheGraceEndsWithUnavailableAndItsUsage) {
  ServedWorker worker;
  worker.host.set_cancelled_usage(UsageOf(2, 5));
  GenerateCall running(worker.stub.get(), TextRequest("x"));
  const auto submitted = worker.host.AwaitSubmitted(0);
  worker.server->BeginDrain(10'000'000'000);
  worker.server->BeginDrain(20'000'000'000);  // cannot lengthen the time
  worker.clock.AdvanceNs(9'999'999'999);
  worker.server->Tick();
  EXPECT_FALSE(worker.host.cancelled(submitted.id));
  worker.clock.AdvanceNs(1);
  worker.server->Tick();
  std::vector<pb::GenerateResponse> events;
  const absl::Status status = running.Finish(&events);
  EXPECT_THAT(status, StatusIs(absl::StatusCode::kUnavailable));
  EXPECT_EQ(rpc::Reason(status), "DRAINING");
  ASSERT_FALSE(events.empty());
  EXPECT_EQ(events.back().usage().output_token_count(), 5);
}

}  // namespace
}  // namespace conclave::worker
