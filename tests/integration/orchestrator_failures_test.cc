// SPDX-License-Identifier: Apache-2.0
// Deliberations over real conclave-worker processes on a small random model: a worker dies mid-stream, a run is
// cancelled, and the books are balanced.
#include <grpcpp/client_context.h>
#include <grpcpp/create_channel.h>

#include <csignal>
#include <set>

#include "common/clock.h"
#include "orchestrator/backend/backend_testing.h"
#include "protos/rpc_endpoint.h"
#include "protos/rpc_status.h"
#include "tests/integration/over_workers.h"

namespace conclave::orchestrator {
namespace {

TEST_F(OrchestratorFailures, AWorkerKilledMidStreamLeavesHolesAndAVerdict) {
  WorkerChild dying(dir_.Path("tiny.gguf")), other(dir_.Path("tiny.gguf"));
  Connect({{.name = "dying", .addresses = {dying.address()}}, {.name = "other", .addresses = {other.address()}}},
          {.unreachable_ns = 300 * kNsPerMs});
  auto follower = std::make_shared<Follower>();
  StartRun(MakeRun({"dying", "other"}), follower);
  follower->AwaitWords("dying");
  dying.process().Signal(SIGKILL);
  ASSERT_OK(follower->AwaitEnd());
  const auto events = follower->events();
  const pb::RunFinished end = events.back().run_finished();
  EXPECT_EQ(end.state(), pb::RUN_STATE_SUCCEEDED) << end.message();
  EXPECT_GT(end.hole_count(), 0);
  int lost = 0, finished = 0;
  for (const pb::Event& event : events) {
    if (event.has_call_lost() && !event.call_lost().will_retry()) {
      ++lost;
      EXPECT_EQ(event.call_lost().key().member(), "dying");
    }
    finished += event.has_call_finished() ? 1 : 0;
  }
  EXPECT_EQ(lost, end.hole_count());
  EXPECT_EQ(lost + finished, 2 * kSamples);
}

TEST_F(OrchestratorFailures, AReplicaTakesOverWhatAKilledWorkerHad) {
  WorkerChild dying(dir_.Path("tiny.gguf")), other(dir_.Path("tiny.gguf"));
  Connect({{.name = "m", .addresses = {dying.address(), other.address()}}});
  auto follower = std::make_shared<Follower>();
  other.process().Stop();  // the first words are the other one's
  StartRun(MakeRun({"m"}), follower);
  follower->AwaitWords("m");
  dying.process().Signal(SIGKILL);
  other.process().Signal(SIGCONT);
  ASSERT_OK(follower->AwaitEnd());
  const auto events = follower->events();
  EXPECT_EQ(events.back().run_finished().hole_count(), 0);
  std::map<int32_t, std::string> texts;
  for (const pb::Event& event : events) {
    if (event.has_call_finished()) texts[event.call_finished().key().sample()] = event.call_finished().text();
  }
  EXPECT_EQ(texts.size(), static_cast<size_t>(kSamples));
  int32_t continued = 0;
  for (const pb::Event& event : events) continued += event.call_started().continued_token_count();
  EXPECT_GT(continued, 0) << "what was said before the death was not said again";
  EXPECT_EQ(events.back().run_finished().ledger().discarded_tokens(), 0);

  // The same run undisturbed says the same: a text depends on its seed, not on who was alive.
  auto again = std::make_shared<Follower>();
  StartRun(MakeRun({"m"}), again);
  ASSERT_OK(again->AwaitEnd());
  for (const pb::Event& event : again->events()) {
    if (!event.has_call_finished()) continue;
    EXPECT_EQ(event.call_finished().text(), texts[event.call_finished().key().sample()]);
  }
}

// The promise is two seconds; so long may it take here.
TEST_F(OrchestratorFailures, ACancelledRunFreesItsWorker) {
  WorkerChild worker(dir_.Path("tiny.gguf"));
  Connect({{.name = "m", .addresses = {worker.address()}}});
  auto follower = std::make_shared<Follower>();
  const std::string run_id = StartRun(MakeRun({"m"}), follower);
  follower->AwaitWords("m");
  const Clock& clock = Clock::System();
  const int64_t begin_ns = clock.NowNs();
  executor_->CancelRun(run_id, [](const auto&) {});
  ASSERT_OK(follower->AwaitEnd());
  EXPECT_EQ(follower->events().back().run_finished().state(), pb::RUN_STATE_CANCELLED);
  const auto stub = inference::v1::InferenceService::NewStub(
      grpc::CreateCustomChannel(worker.address(), grpc::InsecureChannelCredentials(), rpc::ChannelArguments()));
  inference::v1::GetLoadResponse load;
  do {
    grpc::ClientContext context;
    ASSERT_OK(rpc::FromGrpc(stub->GetLoad(&context, inference::v1::GetLoadRequest(), &load)));
    ASSERT_LT(clock.NowNs() - begin_ns, 2'000 * kNsPerMs)
        << load.running_count() << " sequences still run, " << load.queued_count() << " wait";
  } while (load.running_count() > 0 || load.queued_count() > 0);
}

// Every token that a worker counted is in the ledger: of finished calls, and of those cancelled once a quorum was
// there.
TEST_F(OrchestratorFailures, TheLedgerIsWhatTheWorkersReport) {
  std::atomic<int> calls = 0;
  const auto answer = [&calls](const inference::v1::GenerateRequest&) {
    const int call = calls++;
    return ScriptedAnswer{.pieces = std::vector<std::string>(static_cast<size_t>(call % 5 + 1), "word "),
                          .status = {},
                          .hang = call % 3 == 2};  // until cancelled
  };
  ScriptedWorker a(answer), b(answer);
  Connect({{.name = "a", .addresses = {a.address()}}, {.name = "b", .addresses = {b.address()}}});
  auto follower = std::make_shared<Follower>();
  StartRun(MakeRun({"a", "b"}, /*quorum=*/kSamples), follower);
  ASSERT_OK(follower->AwaitEnd());
  const auto events = follower->events();
  int64_t prompt = 0, output = 0, flops = 0;
  int cancelled = 0;
  for (const pb::Event& event : events) {
    if (!event.has_call_finished() && !event.has_call_lost()) continue;
    const inference::v1::Usage& usage =
        event.has_call_finished() ? event.call_finished().usage() : event.call_lost().usage();
    cancelled += event.has_call_lost() ? 1 : 0;
    prompt += usage.prompt_token_count();
    output += usage.output_token_count();
    flops += usage.flop_count();
  }
  const pb::Ledger ledger = events.back().run_finished().ledger();
  const inference::v1::Usage from_a = a.totals(), from_b = b.totals();
  EXPECT_GT(cancelled, 0);
  EXPECT_EQ(ledger.calls(), 2 * kSamples);
  EXPECT_EQ(ledger.prompt_tokens(), prompt);
  EXPECT_EQ(ledger.output_tokens(), output);
  EXPECT_EQ(prompt, from_a.prompt_token_count() + from_b.prompt_token_count());
  EXPECT_EQ(output, from_a.output_token_count() + from_b.output_token_count());
  EXPECT_EQ(flops, from_a.flop_count() + from_b.flop_count());
  EXPECT_EQ(ledger.flops(), static_cast<double>(flops));
  EXPECT_FALSE(ledger.estimated());
}

}  // namespace
}  // namespace conclave::orchestrator
