// SPDX-License-Identifier: Apache-2.0
// Faults around the real conclave-orchestrator (specs/service.md 1c, rows 7, 10, 19 and 25): readers that do not read,
// a disk that is full or broken, its own death with many runs open, and servers of others that misbehave.
#include <grpcpp/client_context.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <thread>

#include "common/clock.h"
#include "common/status.h"
#include "orchestrator/backend/backend_testing.h"
#include "orchestrator/http/raw_server_testing.h"
#include "orchestrator/run/executor.h"
#include "protos/rpc_client.h"
#include "protos/rpc_status.h"
#include "tests/integration/orchestrator_child.h"
#include "tests/testing/pause.h"
#include "tests/testing/status_matchers.h"

namespace conclave {
namespace {

namespace pb = ::conclave::deliberation::v1;
using ::conclave::testing::IsOk;
using ::conclave::testing::Pause;
using ::conclave::testing::StatusIs;
using orchestrator::ScriptedAnswer;
using orchestrator::ScriptedWorker;
using ::testing::HasSubstr;

constexpr double kMiB = 1 << 20;

double Seconds() { return static_cast<double>(Clock::System().NowNs()) * 1e-9; }

pb::RunRequest Request(const std::string& id, int samples) {
  pb::RunRequest request;
  request.set_request_id(id);
  (*request.mutable_inputs())["question"] = "question " + id;
  pb::Graph* graph = request.mutable_graph();
  graph->set_name("say");
  graph->add_input()->set_name("question");
  pb::Node* say = graph->add_node();
  say->set_name("say");
  say->mutable_speak()->set_role("planner");
  say->mutable_speak()->add_members("m");
  say->mutable_speak()->set_samples(samples);
  pb::Node* pick = graph->add_node();
  pick->set_name("verdict");
  pick->mutable_pick()->set_of("say");
  pick->mutable_pick()->set_by(pb::Pick::FIRST);
  return request;
}

// A Run call, read when the test likes.
class Reading {
 public:
  Reading(std::unique_ptr<pb::DeliberationService::Stub> stub, const pb::RunRequest& request) : stub_(std::move(stub)) {
    rpc::SetDeadline(&context_, 120'000'000'000);
    reader_ = stub_->Run(&context_, request);
  }
  // The next event that is stored; false at the end.
  bool Next(pb::Event* event) {
    pb::RunResponse response;
    while (reader_->Read(&response)) {
      if (response.event().sequence_number() == 0) continue;
      *event = response.event();
      return true;
    }
    return false;
  }
  absl::Status End() { return rpc::FromGrpc(reader_->Finish()); }
  void Leave() { context_.TryCancel(); }

 private:
  std::unique_ptr<pb::DeliberationService::Stub> stub_;
  grpc::ClientContext context_;
  std::unique_ptr<grpc::ClientReader<pb::RunResponse>> reader_;
};

class OrchestratorFaults : public ::testing::Test {
 protected:
  void Fleet(const std::string& member) {
    std::ofstream(dir_.Path("fleet.textproto")) << "member { name: \"m\" " << member << " }";
  }
  void WorkerFleet(const ScriptedWorker& worker) { Fleet("worker_address: \"" + worker.address() + "\""); }
  static std::vector<pb::Event> ReadToTheEnd(Reading* reading) {
    std::vector<pb::Event> events;
    for (pb::Event event; reading->Next(&event);) events.push_back(event);
    return events;
  }
  // Runs that have ended, and all.
  static std::pair<int, int> Ended(pb::DeliberationService::Stub* stub) {
    std::pair<int, int> counts;
    pb::ListRunsRequest request;
    request.set_page_size(1000);
    pb::ListRunsResponse response;
    do {
      grpc::ClientContext context;
      request.set_page_token(response.next_page_token());
      response.Clear();
      EXPECT_OK(rpc::FromGrpc(stub->ListRuns(&context, request, &response)));
      for (const pb::Run& run : response.runs()) {
        ++counts.second;
        counts.first += run.state() != pb::RUN_STATE_RUNNING && run.state() != pb::RUN_STATE_PENDING ? 1 : 0;
      }
    } while (!response.next_page_token().empty());
    return counts;
  }

  testing::TempDir dir_;
};

// Row 7: each run writes 6 MB of events to a reader that reads nothing. What waits for it is bounded, it is told where
// to go on, and from there it gets the rest.
TEST_F(OrchestratorFaults, AReaderThatDoesNotReadIsCutOffAndGoesOnWhereItWas) {
  constexpr int kReaders = 8;
  constexpr int kTexts = 64;
  ScriptedWorker worker(
      [](const inference::v1::GenerateRequest&) { return ScriptedAnswer{.pieces = {std::string(96 << 10, 'x')}}; });
  WorkerFleet(worker);
  OrchestratorChild orchestrator(dir_);
  const auto begin = [&](const std::string& name, int i) {
    return std::make_unique<Reading>(orchestrator.NewStub(), Request(name + std::to_string(i), kTexts));
  };
  const auto await_ended = [&](int runs) {
    while (Ended(orchestrator.stub()).first < runs) Pause();
  };
  // The same with readers that leave at once, so that what the runs themselves take is there already.
  for (int i = 0; i < kReaders; ++i) {
    const auto reading = begin("left-", i);
    pb::Event first;
    EXPECT_TRUE(reading->Next(&first));
    reading->Leave();
    await_ended(i + 1);
  }
  const int64_t before = orchestrator.Memory("VmRSS");
  std::vector<std::unique_ptr<Reading>> slow;
  for (int i = 0; i < kReaders; ++i) {
    slow.push_back(begin("unread-", i));
    await_ended(kReaders + i + 1);
  }
  const int64_t rise = orchestrator.Memory("VmRSS") - before;
  int64_t bytes = 0;
  for (const auto& reading : slow) {
    int64_t last = 0;
    std::string run_id;
    for (pb::Event event; reading->Next(&event);) {
      EXPECT_EQ(event.sequence_number(), ++last);
      run_id = event.run_id();
      bytes += static_cast<int64_t>(event.ByteSizeLong());
    }
    EXPECT_THAT(reading->End(), StatusIs(absl::StatusCode::kResourceExhausted,
                                         HasSubstr("watch again after event " + std::to_string(last))));
    grpc::ClientContext context;
    pb::WatchRequest rest;
    rest.set_run_id(run_id);
    rest.set_after_sequence_number(last);
    const auto reader = orchestrator.stub()->Watch(&context, rest);
    bool ended = false;
    for (pb::WatchResponse response; reader->Read(&response);) {
      EXPECT_EQ(response.event().sequence_number(), ++last);
      ended = response.event().has_run_finished();
    }
    EXPECT_OK(rpc::FromGrpc(reader->Finish()));
    EXPECT_TRUE(ended);
  }
  fmt::print("{} readers that did not read: {:.1f} MiB more memory; {:.2f} MiB of events had left for each\n", kReaders,
             static_cast<double>(rise) / kMiB, static_cast<double>(bytes) / kMiB / kReaders);
  // Each its queue and the connection's window.
  EXPECT_LT(static_cast<double>(rise), kReaders * (1 + 4.2) * kMiB);
  EXPECT_EQ(orchestrator.Stop(), 0);
}

// Row 19: killed with as many runs open as there may be, it serves again within five seconds, and all go on.
TEST_F(OrchestratorFaults, AsManyRunsAsMayBeOpenGoOnAfterAKill) {
  const int runs = orchestrator::ExecutorOptions{}.active_runs_max;
  std::atomic<bool> answers = false;
  ScriptedWorker worker([&](const inference::v1::GenerateRequest&) {
    return answers ? ScriptedAnswer{.pieces = {"done"}} : ScriptedAnswer{.hang = true};
  });
  WorkerFleet(worker);
  {
    OrchestratorChild first(dir_);
    std::vector<std::thread> clients;
    for (int c = 0; c < 4; ++c) {
      clients.emplace_back([&, c] {
        for (int i = c; i < runs; i += 4) {
          Reading reading(first.NewStub(), Request(std::to_string(i), 1));
          pb::Event begun;
          EXPECT_TRUE(reading.Next(&begun)) << "run " << i;
          reading.Leave();
        }
      });
    }
    for (std::thread& client : clients) client.join();
    Reading refused(first.NewStub(), Request("one more", 1));
    pb::Event none;
    EXPECT_FALSE(refused.Next(&none));
    EXPECT_THAT(refused.End(), StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("OVERLOADED")));
    first.Kill();
    first.Wait();
  }
  answers = true;
  const double since = Seconds();
  OrchestratorChild second(dir_);
  const double served = Seconds() - since;
  while (Ended(second.stub()).first < runs) Pause();
  const double done = Seconds() - since;
  EXPECT_EQ(Ended(second.stub()), std::pair(runs, runs)) << "lost, or begun twice";
  fmt::print("{} open runs after a kill: served again after {:.2f} s, all ended after {:.2f} s\n", runs, served, done);
  EXPECT_LT(served, 5.0);
  EXPECT_EQ(second.Stop(), 0);
}

#ifdef CONCLAVE_FAILING_DISK
class FailingDisk : public OrchestratorFaults {
 protected:
  std::vector<std::string> Preload() const {
    return {"/usr/bin/env", std::string("LD_PRELOAD=") + CONCLAVE_FAILING_DISK,
            "FAILING_DISK_PATH=" + dir_.Path("store.sqlite"), "FAILING_DISK_CONTROL=" + dir_.Path("disk")};
  }
  void Disk(const std::string& how) const {
    std::ofstream(dir_.Path("disk.next")) << how;
    std::filesystem::rename(dir_.Path("disk.next"), dir_.Path("disk"));
  }
};

// Row 10, first half: nothing is acknowledged that is not stored, what runs waits, and goes on when there is room.
TEST_F(FailingDisk, AFullDiskRefusesNewRunsAndLetsTheOthersWait) {
  std::atomic<bool> answers = false;
  ScriptedWorker worker([&](const inference::v1::GenerateRequest&) {
    while (!answers) Pause();
    return ScriptedAnswer{.pieces = {"done"}};
  });
  WorkerFleet(worker);
  OrchestratorChild orchestrator(dir_, Preload());
  Reading waiting(orchestrator.NewStub(), Request("waits", 1));
  pb::Event event;
  do {
    ASSERT_TRUE(waiting.Next(&event));
  } while (!event.has_call_started());
  Disk("full");
  Reading refused(orchestrator.NewStub(), Request("refused", 1));
  EXPECT_FALSE(refused.Next(&event)) << "acknowledged, and nowhere stored";
  EXPECT_THAT(refused.End(), StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("STORE_FULL")));
  answers = true;
  while (worker.running() > 0) Pause();
  // Its answer is there and cannot be stored: nothing is told of it.
  EXPECT_EQ(Ended(orchestrator.stub()), std::pair(0, 1));
  const double since = Seconds();
  Disk("healthy");
  const std::vector<pb::Event> rest = ReadToTheEnd(&waiting);
  ASSERT_FALSE(rest.empty());
  EXPECT_EQ(rest.back().run_finished().text(), "done");
  fmt::print("a run that waited for room on the disk ended {:.2f} s after there was some\n", Seconds() - since);
  EXPECT_EQ(worker.requests(), 1) << "its answer was not asked for again";
  Reading taken(orchestrator.NewStub(), Request("refused", 1));
  EXPECT_EQ(ReadToTheEnd(&taken).back().run_finished().text(), "done") << "the same request again is taken";
  EXPECT_EQ(orchestrator.Stop(), 0);
}

// Row 10, second half: what a sync did not store may be lost whatever later syncs say, so it stops, and reads again.
TEST_F(FailingDisk, AfterAFailedSyncItStopsAndRecovers) {
  ScriptedWorker worker([](const inference::v1::GenerateRequest&) { return ScriptedAnswer{.pieces = {"done"}}; });
  WorkerFleet(worker);
  pb::Event event;
  {
    OrchestratorChild orchestrator(dir_, Preload());
    Reading stored(orchestrator.NewStub(), Request("stored", 1));
    EXPECT_EQ(ReadToTheEnd(&stored).back().run_finished().text(), "done");
    Disk("broken");
    Reading lost(orchestrator.NewStub(), Request("lost", 1));
    EXPECT_FALSE(lost.Next(&event)) << "acknowledged without a sync";
    const double since = Seconds();
    EXPECT_NE(orchestrator.Wait(), 0);
    fmt::print("it stopped {:.2f} s after the failed sync was told: {}", Seconds() - since,
               orchestrator.process().ReadErrors());
  }
  Disk("healthy");
  OrchestratorChild again(dir_, Preload());
  // What was acknowledged is there; the other is there whole, or not at all.
  const auto [ended, all] = Ended(again.stub());
  EXPECT_GE(all, 1);
  EXPECT_LE(all, 2);
  Reading lost(again.NewStub(), Request("lost", 1));
  EXPECT_EQ(ReadToTheEnd(&lost).back().run_finished().text(), "done");
  EXPECT_EQ(Ended(again.stub()), std::pair(2, 2));
  EXPECT_EQ(again.Stop(), 0);
}
#endif

// Row 25: a server of others that is full, broken, talks garbage, or sends one line of 1 GB.
TEST_F(OrchestratorFaults, ServersThatMisbehaveCostARetryAndNoMemory) {
  const auto reply = [](const std::string& head, const std::string& body) {
    return "HTTP/1.1 " + head + "\r\nContent-Length: " + std::to_string(body.size()) + "\r\nConnection: close\r\n\r\n" +
           body;
  };
  const std::string good =
      reply("200 OK\r\nContent-Type: text/event-stream",
            "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"done\"}}]}\n\n"
            "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n");
  const std::string stream = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n";
  struct Fault {
    std::string name;
    http::RawAnswer answer;
    int losses;
    bool answered = true;
  };
  const std::vector<Fault> faults = {
      {"429", {.bytes = reply("429 Full\r\nRetry-After: 1", "{}")}, 0},
      {"500", {.bytes = reply("500 Broken", "{}")}, 1},
      {"garbage", {.bytes = stream + "data: garbage\n\n"}, 1},
      {"cut", {.bytes = stream + "data: {\"choi"}, 1},
      {"a line of 1 GB", {.bytes = stream + "data: " + std::string(2048, 'x'), .repeat_tail = 1 << 30}, 1, false},
  };
  std::atomic<const Fault*> next = nullptr;
  http::RawServer server([&](int, const std::string&) {
    const Fault* fault = next.exchange(nullptr);
    return fault == nullptr ? http::RawAnswer{.bytes = good} : fault->answer;
  });
  Fleet("openai { url: \"" + server.url() + "/v1\" }");
  OrchestratorChild orchestrator(dir_);
  const auto ask = [&](const std::string& id) {
    Reading reading(orchestrator.NewStub(), Request(id, 1));
    return ReadToTheEnd(&reading);
  };
  EXPECT_EQ(ask("well").back().run_finished().text(), "done");
  const int64_t before = orchestrator.Memory("VmHWM");
  for (const Fault& fault : faults) {
    next = &fault;
    const double since = Seconds();
    const std::vector<pb::Event> events = ask("after-" + std::to_string(&fault - faults.data()));
    int losses = 0;
    for (const pb::Event& event : events) losses += event.has_call_lost() ? 1 : 0;
    EXPECT_EQ(events.back().run_finished().text(), fault.answered ? "done" : "") << fault.name;
    EXPECT_EQ(losses, fault.losses) << fault.name;
    fmt::print("{}: {} after {:.2f} s and {} losses\n", fault.name,
               fault.answered ? "answered" : "ended by " + events.back().run_finished().message(), Seconds() - since,
               losses);
  }
  const double rise = static_cast<double>(orchestrator.Memory("VmHWM") - before) / kMiB;
  fmt::print("most memory through all of it: {:.1f} MiB more\n", rise);
  EXPECT_LT(rise, 16);
  EXPECT_EQ(orchestrator.Stop(), 0);
}

}  // namespace
}  // namespace conclave
