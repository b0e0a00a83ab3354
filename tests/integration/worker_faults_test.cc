// SPDX-License-Identifier: Apache-2.0
// Faults of workers and of the network to them, with real processes (specs/service.md 1c, rows 1 to 9 and 22).
// The text of every call is compared with that of an undisturbed run: nothing is lost, repeated or said otherwise.
#include <grpcpp/client_context.h>
#include <grpcpp/create_channel.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <csignal>
#include <map>
#include <thread>

#include "common/clock.h"
#include "common/hash.h"
#include "conclave/inference/v1/inference.grpc.pb.h"
#include "protos/rpc_endpoint.h"
#include "tests/integration/over_workers.h"
#include "tests/testing/chaos_proxy.h"
#include "tests/testing/pause.h"

namespace conclave::orchestrator {
namespace {

using ::conclave::testing::ChaosProxy;
using ::conclave::testing::Pause;

constexpr double kLeaseSeconds = 15;
// Whose memory is its own.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kSanitized = true;
#else
constexpr bool kSanitized = false;
#endif

class WorkerFaults : public OrchestratorFailures {
 protected:
  using Texts = std::map<int32_t, std::string>;

  void Begin() {
    follower_ = std::make_shared<Follower>();
    StartRun(MakeRun({"m"}), follower_);
  }
  void AwaitWords() { follower_->AwaitWords("m"); }
  // Begins while `silent` stands still, until there are words: so they are the other worker's, which then has calls in
  // the middle. The caller lets `silent` go on.
  void BeginWithout(WorkerChild* silent) {
    silent->process().Stop();
    Begin();
    AwaitWords();
  }
  // Every sample's words; there is no hole.
  Texts AwaitTexts() {
    EXPECT_OK(follower_->AwaitEnd());
    Texts texts;
    events_ = follower_->events();
    for (const pb::Event& event : events_) {
      if (!event.has_call_finished()) continue;
      EXPECT_TRUE(texts.emplace(event.call_finished().key().sample(), event.call_finished().text()).second)
          << "a sample was finished twice";
    }
    EXPECT_EQ(texts.size(), static_cast<size_t>(kSamples));
    EXPECT_EQ(events_.back().run_finished().hole_count(), 0) << HowLost();
    return texts;
  }
  Texts Undisturbed() {
    Begin();
    return AwaitTexts();
  }
  std::string HowLost() const {
    std::string all;
    for (const pb::Event& event : events_) {
      if (event.has_call_lost()) all += event.call_lost().ShortDebugString() + "\n";
    }
    return all;
  }
  int64_t Losses() const {
    return std::count_if(events_.begin(), events_.end(), [](const pb::Event& event) { return event.has_call_lost(); });
  }
  // From now on, in seconds.
  static double Seconds() { return static_cast<double>(Clock::System().NowNs()) * 1e-9; }
  // When the last lost call was begun again, on the records' clock.
  double LastRetrySeconds() const {
    double last = 0;
    for (const pb::Event& event : events_) {
      if (!event.has_call_started() || event.call_started().key().attempt() == 0) continue;
      last = static_cast<double>(event.time().seconds()) + 1e-9 * event.time().nanos();
    }
    return last;
  }
  static double WallSeconds() { return static_cast<double>(Clock::System().UnixNs()) * 1e-9; }

  std::shared_ptr<Follower> follower_;
  std::vector<pb::Event> events_;
};

// Row 1: resumed at another worker within two seconds, from the words already said, with the same text.
TEST_F(WorkerFaults, AKilledWorkersCallsGoOnElsewhereWithinTwoSeconds) {
  WorkerChild other(dir_.Path("tiny.gguf"));
  Texts undisturbed;
  double slowest = 0;
  for (int trial = 0; trial < 10; ++trial) {
    WorkerChild dying(dir_.Path("tiny.gguf"));
    Connect({{.name = "m", .addresses = {dying.address(), other.address()}}});
    if (undisturbed.empty()) undisturbed = Undisturbed();
    BeginWithout(&other);
    const double killed = WallSeconds();
    dying.process().Signal(SIGKILL);
    other.process().Signal(SIGCONT);
    EXPECT_EQ(AwaitTexts(), undisturbed) << "trial " << trial;
    EXPECT_GT(Losses(), 0);
    slowest = std::max(slowest, LastRetrySeconds() - killed);
    TearDown();
  }
  fmt::print("the slowest of the calls of ten killed workers went on after {:.3f} s\n", slowest);
  EXPECT_LT(slowest, 2.0);
}

// Row 2: before its first token. It is stopped first, so that none can come.
TEST_F(WorkerFaults, AWorkerKilledBeforeItsFirstToken) {
  WorkerChild dying(dir_.Path("tiny.gguf")), other(dir_.Path("tiny.gguf"));
  Connect({{.name = "m", .addresses = {dying.address(), other.address()}}});
  const Texts undisturbed = Undisturbed();
  dying.process().Stop();
  Begin();
  AwaitWords();  // of the other one
  const double killed = WallSeconds();
  dying.process().Signal(SIGKILL);
  EXPECT_EQ(AwaitTexts(), undisturbed);
  EXPECT_GT(Losses(), 0);
  fmt::print("calls of a worker killed before its first token began elsewhere after {:.3f} s\n",
             LastRetrySeconds() - killed);
  EXPECT_LT(LastRetrySeconds() - killed, 2.0);
  for (const pb::Event& event : events_) EXPECT_EQ(event.call_started().continued_token_count(), 0);
}

// Rows 3 and 4: a worker that stands still is fenced when its lease is over; when it goes on, its late words change
// nothing, it stops what it does for nobody, and it gets work again.
TEST_F(WorkerFaults, AStoppedWorkerIsFencedAndItsLateWordsChangeNothing) {
  WorkerChild stopped(dir_.Path("tiny.gguf")), other(dir_.Path("tiny.gguf"));
  Connect({{.name = "m", .addresses = {stopped.address(), other.address()}}});
  const Texts undisturbed = Undisturbed();
  BeginWithout(&other);
  const double since = WallSeconds();
  stopped.process().Stop();
  other.process().Signal(SIGCONT);
  EXPECT_EQ(AwaitTexts(), undisturbed);
  EXPECT_GT(Losses(), 0);
  const double noticed = LastRetrySeconds() - since;
  fmt::print("calls of a stopped worker went on elsewhere after {:.2f} s\n", noticed);
  EXPECT_LT(noticed, kLeaseSeconds + 1.0);
  stopped.process().Signal(SIGCONT);
  EXPECT_EQ(Undisturbed(), undisturbed);
}

// Row 5: cut off for longer than its lease, by a network that swallows everything while connections live.
TEST_F(WorkerFaults, AWorkerBehindACutNetworkIsReplacedAndToldWhenItHeals) {
  WorkerChild behind(dir_.Path("tiny.gguf")), other(dir_.Path("tiny.gguf"));
  ChaosProxy proxy(behind.address());
  Connect({{.name = "m", .addresses = {proxy.address(), other.address()}}});
  const Texts undisturbed = Undisturbed();
  BeginWithout(&other);
  const double since = WallSeconds();
  proxy.Cut(true);
  other.process().Signal(SIGCONT);
  EXPECT_EQ(AwaitTexts(), undisturbed);
  EXPECT_GT(Losses(), 0);
  const double noticed = LastRetrySeconds() - since;
  fmt::print("calls behind a cut network went on elsewhere after {:.2f} s\n", noticed);
  EXPECT_LT(noticed, kLeaseSeconds + 1.0);
  proxy.Cut(false);
  const auto stub = inference::v1::InferenceService::NewStub(
      grpc::CreateCustomChannel(behind.address(), *rpc::ChannelCredentials({}), rpc::ChannelArguments()));
  int32_t running = -1;
  for (const double until = Seconds() + 10; running != 0 && Seconds() < until;) {
    grpc::ClientContext context;
    inference::v1::GetLoadResponse load;
    EXPECT_TRUE(stub->GetLoad(&context, {}, &load).ok());
    running = load.running_count() + load.queued_count();
  }
  EXPECT_EQ(running, 0) << "it works for nobody";
  EXPECT_EQ(Undisturbed(), undisturbed);
}

// Row 6: late and in single bytes, but nobody is given up.
TEST_F(WorkerFaults, ASlowNetworkIsOnlySlow) {
  WorkerChild worker(dir_.Path("tiny.gguf"));
  ChaosProxy proxy(worker.address());
  Connect({{.name = "m", .addresses = {proxy.address()}}});
  const Texts undisturbed = Undisturbed();
  proxy.set_delay_ms(200);
  proxy.set_piece_bytes(1);
  const double since = Seconds();
  EXPECT_EQ(Undisturbed(), undisturbed);
  EXPECT_EQ(Losses(), 0);
  fmt::print("{} calls over a network of 200 ms and single bytes: {:.1f} s and no loss\n", kSamples, Seconds() - since);
}

// A worker spoken to without an orchestrator.
class BareWorker : public WorkerFaults {
 protected:
  inference::v1::GetLoadResponse Load() const {
    grpc::ClientContext context;
    inference::v1::GetLoadResponse load;
    EXPECT_TRUE(stub_->GetLoad(&context, {}, &load).ok());
    return load;
  }
  // Seconds until nothing runs, waits or holds a page.
  double SecondsUntilIdle() const {
    const double since = Seconds();
    while (Seconds() < since + 10) {
      const inference::v1::GetLoadResponse load = Load();
      if (load.running_count() + load.queued_count() + load.kv_block_used_count() == 0) return Seconds() - since;
    }
    return 10;
  }
  inference::v1::GenerateRequest Endless(int32_t tokens = 400) const {
    inference::v1::GenerateRequest request;
    request.mutable_prompt()->set_text("the thing");
    request.mutable_stopping()->set_max_output_token_count(tokens);
    request.mutable_stopping()->set_ignore_end_of_sequence(true);
    request.set_seed(7);
    return request;
  }

  std::string Model() const {
    testing::TinyModel({.context_tokens = kContext}).Write(dir_.Path("bare.gguf"));
    return dir_.Path("bare.gguf");
  }

  static constexpr int32_t kContext = 4096;

  WorkerChild worker_{Model()};
  const std::unique_ptr<inference::v1::InferenceService::Stub> stub_ = inference::v1::InferenceService::NewStub(
      grpc::CreateCustomChannel(worker_.address(), *rpc::ChannelCredentials({}), rpc::ChannelArguments()));
};

// A Generate call that is read when the test likes. Every token brings twenty others, so that little is much.
class Unread {
 public:
  Unread(inference::v1::InferenceService::Stub* stub, inference::v1::GenerateRequest request) {
    request.mutable_output()->set_top_logprob_count(20);
    stream_ = stub->Generate(&context_, request);
  }
  // All that comes, its size in bytes, and how it ended.
  grpc::Status ReadAll(std::string* text, int64_t* bytes) {
    for (inference::v1::GenerateResponse event; stream_->Read(&event);) {
      *text += event.delta().text();
      *bytes += static_cast<int64_t>(event.ByteSizeLong());
    }
    return stream_->Finish();
  }

 private:
  grpc::ClientContext context_;
  std::unique_ptr<grpc::ClientReader<inference::v1::GenerateResponse>> stream_;
};

// Row 7: what is kept for a reader who does not read is bounded, and its request pauses. Who reads on loses nothing;
// who does not is cancelled after thirty seconds, and nothing stays taken.
TEST_F(BareWorker, ReadersThatDoNotReadArePausedAndCancelledAfterThirtySeconds) {
  constexpr int kReaders = 3;
  constexpr double kMiB = 1 << 20, kStallSeconds = 30;
  std::string undisturbed;
  int64_t whole = 0;
  EXPECT_TRUE(Unread(stub_.get(), Endless(kContext - 100)).ReadAll(&undisturbed, &whole).ok());
  const int64_t before = worker_.process().Memory("VmRSS");
  const double since = Seconds();
  std::vector<std::unique_ptr<Unread>> readers;
  for (int i = 0; i < kReaders; ++i) {
    readers.push_back(std::make_unique<Unread>(stub_.get(), Endless(kContext - 100)));
  }
  // Paused: all are there, and the engine makes no step.
  int64_t steps = -1;
  for (int still = 0; still < 20; Pause()) {
    const inference::v1::GetLoadResponse now = Load();
    still = now.running_count() == kReaders && now.step_count() == steps ? still + 1 : 0;
    steps = now.step_count();
  }
  const double paused = Seconds();
  const auto rise = static_cast<double>(worker_.process().Memory("VmRSS") - before);
  std::string text;
  int64_t bytes = 0;
  EXPECT_TRUE(readers.front()->ReadAll(&text, &bytes).ok());
  EXPECT_TRUE(text == undisturbed) << "something was lost, or said otherwise";
  while (Load().running_count() > 0) Pause();
  const double ended = Seconds();
  fmt::print("{} readers that did not read {:.1f} MiB each: {:.1f} MiB more memory, cancelled after {:.1f} s\n",
             kReaders, static_cast<double>(whole) / kMiB, rise / kMiB, ended - since);
  // Each its queue, the connection's window and the pages of its text.
  EXPECT_TRUE(kSanitized || rise < kReaders * 2 * kMiB) << rise;
  EXPECT_GE(ended - since, kStallSeconds);
  EXPECT_LT(ended - paused, kStallSeconds + 10);
  for (int i = 1; i < kReaders; ++i) {
    int64_t got = 0;
    EXPECT_EQ(readers[static_cast<size_t>(i)]->ReadAll(&text, &got).error_code(), grpc::StatusCode::CANCELLED);
    EXPECT_LT(got, whole);
  }
  EXPECT_LT(SecondsUntilIdle(), 2.0);
}

// Row 8: clients vanish ten thousand times, at any moment; no slot and no page stays taken.
TEST_F(BareWorker, TenThousandCancelsLeaveNothingBehind) {
  constexpr int kThreads = 4, kCancels = 2'500;
  std::vector<std::thread> clients;
  for (int thread = 0; thread < kThreads; ++thread) {
    clients.emplace_back([this, thread] {
      for (int i = 0; i < kCancels; ++i) {
        grpc::ClientContext context;
        const auto stream = stub_->Generate(&context, Endless());
        inference::v1::GenerateResponse event;
        const uint64_t reads = Mix64(static_cast<uint64_t>(thread * kCancels + i)) % 4;
        for (uint64_t read = 0; read < reads && stream->Read(&event); ++read) {
        }
        context.TryCancel();
        stream->Finish();
      }
    });
  }
  for (std::thread& client : clients) client.join();
  const double idle = SecondsUntilIdle();
  fmt::print("idle {:.3f} s after the last of 10,000 cancelled requests\n", idle);
  EXPECT_LT(idle, 2.0);
}

// Row 9: deadlines that pass at any moment, of requests that wait, that begin and that speak.
TEST_F(BareWorker, DeadlinesThatPassLeaveNothingBehind) {
  constexpr int kCalls = 16;
  std::vector<std::thread> clients;
  std::atomic<int> expired = 0;
  for (int i = 0; i < kCalls; ++i) {
    clients.emplace_back([this, i, &expired] {
      grpc::ClientContext context;
      context.set_deadline(std::chrono::system_clock::now() + std::chrono::milliseconds(1 + i * 99 / (kCalls - 1)));
      const auto stream = stub_->Generate(&context, Endless());
      for (inference::v1::GenerateResponse event; stream->Read(&event);) {
      }
      const grpc::Status status = stream->Finish();
      EXPECT_TRUE(status.ok() || status.error_code() == grpc::StatusCode::DEADLINE_EXCEEDED) << status.error_message();
      expired += status.ok() ? 0 : 1;
    });
  }
  for (std::thread& client : clients) client.join();
  const double idle = SecondsUntilIdle();
  fmt::print("{} of {} expired, idle {:.3f} s after the last\n", expired.load(), kCalls, idle);
  EXPECT_LT(idle, 2.0) << Load().ShortDebugString();
}

// Row 22: SIGTERM. What runs may end within the grace, what waits is refused and goes elsewhere.
TEST_F(WorkerFaults, ARollingRestartLosesNothing) {
  WorkerChild leaving(dir_.Path("tiny.gguf")), other(dir_.Path("tiny.gguf"));
  Connect({{.name = "m", .addresses = {leaving.address(), other.address()}}});
  const Texts undisturbed = Undisturbed();
  BeginWithout(&other);
  const double since = Seconds();
  leaving.process().Signal(SIGTERM);
  other.process().Signal(SIGCONT);
  EXPECT_EQ(AwaitTexts(), undisturbed);
  EXPECT_EQ(leaving.process().Wait(), 0);
  fmt::print("a worker told to leave was gone {:.2f} s later, with {} of {} calls begun anew\n", Seconds() - since,
             Losses(), kSamples);
  EXPECT_EQ(Undisturbed(), undisturbed) << "the other one is enough";
}

}  // namespace
}  // namespace conclave::orchestrator
