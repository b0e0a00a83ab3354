// SPDX-License-Identifier: Apache-2.0
// The real conclave-orchestrator, killed without warning at 60 random moments of 200 questions: nothing is lost,
// nothing that was seen is taken back, nothing that finished is done again. Members are played by a worker in this
// process, which knows what it was asked.
#include <grpcpp/client_context.h>

#include <fstream>
#include <map>
#include <random>
#include <set>
#include <thread>

#include "common/check.h"
#include "common/status.h"
#include "orchestrator/backend/backend_testing.h"
#include "protos/rpc_client.h"
#include "protos/rpc_status.h"
#include "tests/integration/orchestrator_child.h"
#include "tests/testing/status_matchers.h"

namespace conclave {
namespace {

namespace pb = ::conclave::deliberation::v1;
using ::conclave::testing::IsOk;

constexpr int kQuestions = 200;
constexpr int kKills = 60;
constexpr int kConcurrency = 4;
constexpr int kCallsPerRun = 6;  // two samples at each of three nodes
constexpr uint32_t kSeed = 20240602;

// What every incarnation of the orchestrator was seen to have finished, by the seed of the call (one per run, node and
// sample), and what the worker was asked again in spite of it.
class Witness {
 public:
  void SawFinished(uint64_t seed) {
    MutexLock lock(&mutex_);
    finished_.insert(seed);
  }
  void Asked(uint64_t seed) {
    MutexLock lock(&mutex_);
    ++asked_;
    repeated_ += finished_.contains(seed) ? 1 : 0;
  }
  // The longest prefix of a run that anybody saw, as bytes of its events.
  void SawEvent(const std::string& request_id, const pb::Event& event) {
    MutexLock lock(&mutex_);
    std::vector<std::string>& seen = events_[request_id];
    const size_t index = static_cast<size_t>(event.sequence_number()) - 1;
    std::string bytes = event.SerializeAsString();
    if (index < seen.size()) {
      taken_back_ += seen[index] == bytes ? 0 : 1;
    } else {
      gaps_ += index == seen.size() ? 0 : 1;
      seen.push_back(std::move(bytes));
    }
  }
  void ExpectClean() {
    MutexLock lock(&mutex_);
    EXPECT_EQ(repeated_, 0);
    EXPECT_EQ(taken_back_, 0);
    EXPECT_EQ(gaps_, 0);
  }
  int asked() {
    MutexLock lock(&mutex_);
    return asked_;
  }

 private:
  Mutex mutex_;
  std::set<uint64_t> finished_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, std::vector<std::string>> events_ ABSL_GUARDED_BY(mutex_);
  int asked_ ABSL_GUARDED_BY(mutex_) = 0;
  int repeated_ ABSL_GUARDED_BY(mutex_) = 0;
  int taken_back_ ABSL_GUARDED_BY(mutex_) = 0;
  int gaps_ ABSL_GUARDED_BY(mutex_) = 0;
};

pb::RunRequest Request(int question) {
  pb::RunRequest request;
  request.set_request_id("question-" + std::to_string(question));
  (*request.mutable_inputs())["question"] = "question " + std::to_string(question);
  request.set_seed(static_cast<uint64_t>(question));
  pb::Graph* graph = request.mutable_graph();
  graph->set_name("three");
  graph->add_input()->set_name("question");
  const char* before = nullptr;
  for (const char* name : {"first", "second", "third"}) {
    pb::Node* node = graph->add_node();
    node->set_name(name);
    node->mutable_speak()->set_role("solver");
    node->mutable_speak()->add_members("m");
    node->mutable_speak()->set_samples(2);
    if (before != nullptr) node->mutable_speak()->add_sees()->set_node(before);
    before = name;
  }
  pb::Node* pick = graph->add_node();
  pick->set_name("verdict");
  pick->mutable_pick()->set_of("third");
  pick->mutable_pick()->set_by(pb::Pick::MAJORITY);
  return request;
}

// Asks for the run until it has ended or the connection has; true when it has ended.
bool Follow(pb::DeliberationService::Stub* stub, int question, Witness* witness) {
  grpc::ClientContext context;
  rpc::SetDeadline(&context, 60'000'000'000);
  const pb::RunRequest request = Request(question);
  const auto reader = stub->Run(&context, request);
  pb::RunResponse response;
  bool ended = false;
  while (reader->Read(&response)) {
    const pb::Event& event = response.event();
    if (event.sequence_number() == 0) continue;
    witness->SawEvent(request.request_id(), event);
    if (event.has_call_finished()) witness->SawFinished(event.call_finished().seed());
    ended |= event.has_run_finished();
  }
  const absl::Status status = rpc::FromGrpc(reader->Finish());
  if (ended) return true;
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable) << status.ToString();
  return false;
}

// Some clients at a time, until all questions are done or the orchestrator is gone.
void Work(OrchestratorChild* orchestrator, std::set<int>* done, Mutex* mutex, Witness* witness) {
  std::vector<int> open;
  for (int q = 0; q < kQuestions; ++q) {
    if (!done->contains(q)) open.push_back(q);
  }
  std::atomic<size_t> next = 0;
  std::atomic<bool> gone = false;
  std::vector<std::thread> clients;
  for (int i = 0; i < kConcurrency; ++i) {
    clients.emplace_back([&] {
      for (size_t at = next++; at < open.size() && !gone; at = next++) {
        if (!Follow(orchestrator->stub(), open[at], witness)) {
          gone = true;
          return;
        }
        MutexLock lock(mutex);
        done->insert(open[at]);
      }
    });
  }
  for (std::thread& client : clients) client.join();
}

void ExpectWholeRun(pb::DeliberationService::Stub* stub, int question, const std::string& run_id) {
  grpc::ClientContext context;
  pb::WatchRequest request;
  request.set_run_id(run_id);
  const auto reader = stub->Watch(&context, request);
  pb::WatchResponse response;
  int64_t number = 0;
  std::set<std::string> finished;
  bool ended = false;
  while (reader->Read(&response)) {
    const pb::Event& event = response.event();
    EXPECT_EQ(event.sequence_number(), ++number);
    EXPECT_FALSE(ended) << "an event after the last";
    if (event.has_call_finished()) {
      EXPECT_TRUE(finished.insert(event.node_path() + event.call_finished().key().SerializeAsString()).second)
          << "a call finished twice in question " << question;
    }
    ended |= event.has_run_finished();
    if (ended) {
      EXPECT_EQ(event.run_finished().answer(), std::to_string(question + 1000));
    }
  }
  EXPECT_OK(rpc::FromGrpc(reader->Finish()));
  EXPECT_TRUE(ended);
  EXPECT_EQ(finished.size(), static_cast<size_t>(kCallsPerRun));
}

TEST(OrchestratorProcess, SixtyKillsLoseNothingAndRepeatNothing) {
  SCOPED_TRACE(::testing::Message() << "seed " << kSeed);
  Witness witness;
  orchestrator::ScriptedWorker worker([&](const inference::v1::GenerateRequest& request) {
    witness.Asked(static_cast<uint64_t>(request.seed()));
    std::string all;
    for (const auto& message : request.prompt().chat().messages()) all += message.content();
    const size_t at = all.find("question ");
    const int question = at == std::string::npos ? -1 : std::atoi(all.c_str() + at + 9);
    return orchestrator::ScriptedAnswer{
        .pieces = {"It is ", "#### ", std::to_string(question + 1000)}, .piece_ms = 5, .status = {}};
  });
  testing::TempDir dir;
  std::ofstream(dir.Path("fleet.textproto")) << "member { name: \"m\" worker_address: \"" << worker.address() << "\" }";

  std::mt19937 random(kSeed);
  std::set<int> done;
  Mutex mutex;
  int kills = 0, kills_at_work = 0;
  for (; kills < kKills; ++kills) {
    OrchestratorChild orchestrator(dir);
    // Some time after the start, which itself resumes runs.
    const int64_t delay_ns = static_cast<int64_t>(10 + random() % 90) * 1'000'000;
    std::thread killer([&orchestrator, delay_ns] {
      Mutex nobody;
      CondVar never;
      MutexLock lock(&nobody);
      never.WaitWithTimeout(&nobody, delay_ns);
      orchestrator.Kill();
    });
    Work(&orchestrator, &done, &mutex, &witness);
    killer.join();
    orchestrator.Wait();
    MutexLock lock(&mutex);
    kills_at_work += static_cast<int>(done.size()) < kQuestions ? 1 : 0;
  }
  OrchestratorChild last(dir);
  Work(&last, &done, &mutex, &witness);
  EXPECT_EQ(done.size(), static_cast<size_t>(kQuestions));
  EXPECT_GE(kills_at_work, kKills / 2) << "the questions were done too soon for the kills to mean much";
  witness.ExpectClean();

  grpc::ClientContext context;
  pb::ListRunsRequest list;
  list.set_page_size(1000);
  pb::ListRunsResponse runs;
  ASSERT_OK(rpc::FromGrpc(last.stub()->ListRuns(&context, list, &runs)));
  ASSERT_EQ(runs.runs_size(), kQuestions) << "a question was lost or begun twice";
  for (const pb::Run& run : runs.runs()) {
    const int question = std::atoi(run.inputs().at("question").c_str() + 9);
    ExpectWholeRun(last.stub(), question, run.run_id());
  }
  EXPECT_EQ(last.Stop(), 0);
  RecordProperty("kills_at_work", kills_at_work);
  RecordProperty("calls_made", witness.asked());
  fmt::print("{} kills while questions were open; {} calls made for {} that were needed\n", kills_at_work,
             witness.asked(), kQuestions * kCallsPerRun);
}

}  // namespace
}  // namespace conclave
