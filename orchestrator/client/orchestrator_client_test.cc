// SPDX-License-Identifier: Apache-2.0
// The client against a served orchestrator, over real connections, with members that a test plays.
#include "orchestrator/client/orchestrator_client.h"

#include "common/check.h"
#include "common/status.h"
#include "orchestrator/backend/fake_backend.h"
#include "orchestrator/run/executor_testing.h"
#include "orchestrator/service/server.h"
#include "orchestrator/store/memory_store.h"
#include "protos/rpc_status.h"
#include "tests/testing/status_matchers.h"

namespace conclave::orchestrator {
namespace {

namespace pb = ::conclave::deliberation::v1;
using ::conclave::testing::StatusIs;
using ::testing::HasSubstr;

constexpr int64_t kNever = int64_t{3600} * 1'000'000'000;

FakeAnswer Answers(const CallRequest&) { return Says("#### 42"); }
FakeAnswer Hangs(const CallRequest&) { return Says("#### 42", kNever); }

class ClientTest : public ::testing::Test {
 protected:
  // At a free address, or again at the one of before.
  void Serve(FakeBackend::AnswerFunction answer) {
    backend_ = std::make_unique<FakeBackend>(std::vector<std::string>{"a", "b"}, std::move(answer));
    executor_ = *Executor::Start({.store = store_.get(), .backend = backend_.get()});
    graphs_ = *GraphLibrary::Open(CONCLAVE_SOURCE_DIR "/graphs");
    Service::Options options;
    options.executor = executor_.get();
    options.backend = backend_.get();
    options.graphs = graphs_.get();
    rpc::ListenOptions server;
    if (!address_.empty()) server.listen = address_;
    auto started = Server::Start(server, std::move(options));
    CONCLAVE_CHECK_MSG(started.ok(), started.status().ToString().c_str());
    server_ = *std::move(started);
    address_ = server_->address();
  }
  void StopServing() {
    if (executor_ != nullptr) executor_->Stop();
    server_.reset();
    executor_.reset();
  }
  void TearDown() override { StopServing(); }

  std::unique_ptr<OrchestratorClient> Connect(int64_t lost_ns = ClientOptions().lost_ns) {
    ClientOptions options;
    options.lost_ns = lost_ns;
    auto client = OrchestratorClient::Connect(address_, options);
    CONCLAVE_CHECK_MSG(client.ok(), client.status().ToString().c_str());
    return *std::move(client);
  }

  static pb::RunRequest Request(const std::string& request_id, const std::string& graph = "vote") {
    pb::RunRequest request;
    request.set_request_id(request_id);
    request.set_graph_name(graph);
    (*request.mutable_inputs())["question"] = "6 x 7?";
    pb::Binding* binding = request.add_bindings();
    binding->set_name("dense/*");
    binding->add_members("*");
    return request;
  }
  static void ExpectGapless(const std::vector<pb::Event>& events) {
    for (size_t i = 0; i < events.size(); ++i) EXPECT_EQ(events[i].sequence_number(), static_cast<int64_t>(i) + 1);
  }

  std::string address_;
  std::unique_ptr<Store> store_ = NewMemoryStore();
  std::unique_ptr<FakeBackend> backend_;
  std::unique_ptr<Executor> executor_;
  std::unique_ptr<GraphLibrary> graphs_;
  std::unique_ptr<Server> server_;
};

TEST_F(ClientTest, ARunIsHeardToItsEndAndCanBeReadAgain) {
  Serve(Answers);
  const auto client = Connect();
  ASSERT_EQ(client->members().size(), 2u);
  EXPECT_EQ(client->members()[0].name(), "a");
  const auto first = std::make_shared<Recorder>();
  client->Run(Request("one"), first);
  ASSERT_OK(first->Await());
  const std::vector<pb::Event> events = first->events();
  ASSERT_FALSE(events.empty());
  ExpectGapless(events);
  EXPECT_EQ(events.back().run_finished().answer(), "42");

  const auto again = std::make_shared<Recorder>();
  client->Watch(events.front().run_id(), 2, again);
  ASSERT_OK(again->Await());
  ASSERT_EQ(again->events().size(), events.size() - 2);
  EXPECT_EQ(again->events().back().SerializeAsString(), events.back().SerializeAsString());
}

TEST_F(ClientTest, AStreamGoesOnOverARestartWithoutGapOrRepeat) {
  Serve(Hangs);
  const auto client = Connect();
  const auto watcher = std::make_shared<Recorder>();
  client->Run(Request("over"), watcher);
  watcher->AwaitEvents(3);  // the run, its node, a call
  StopServing();
  Serve(Answers);
  ASSERT_OK(watcher->Await());
  ExpectGapless(watcher->events());
  EXPECT_EQ(watcher->events().back().run_finished().answer(), "42");
}

TEST_F(ClientTest, AnOrchestratorThatStaysAwayIsLost) {
  Serve(Hangs);
  const auto client = Connect(/*lost_ns=*/1);
  const auto watcher = std::make_shared<Recorder>();
  client->Run(Request("gone"), watcher);
  watcher->AwaitEvents(1);
  StopServing();
  EXPECT_THAT(watcher->Await(), StatusIs(absl::StatusCode::kUnavailable, HasSubstr(address_)));
}

TEST_F(ClientTest, CancellingEndsTheRunOnItsStream) {
  Serve(Hangs);
  const auto client = Connect();
  const auto watcher = std::make_shared<Recorder>();
  client->Run(Request("cancelled"), watcher);
  watcher->AwaitEvents(1);
  Answer<bool> told;
  client->Cancel(watcher->events().front().run_id(),
                 [take = told.Taker()](const absl::Status& status) { status.ok() ? take(true) : take(status); });
  EXPECT_OK(told.Await());
  ASSERT_OK(watcher->Await());
  EXPECT_EQ(watcher->events().back().run_finished().state(), pb::RUN_STATE_CANCELLED);
  Answer<bool> absent;
  client->Cancel("runs/absent",
                 [take = absent.Taker()](const absl::Status& status) { status.ok() ? take(true) : take(status); });
  EXPECT_THAT(absent.Await(), StatusIs(absl::StatusCode::kNotFound));
}

TEST_F(ClientTest, NoLongerWatchingLeavesTheRunGoing) {
  Serve(Hangs);
  const auto client = Connect();
  const auto watcher = std::make_shared<Recorder>();
  client->Run(Request("left"), watcher);
  watcher->AwaitEvents(1);
  client->StopWatching();
  EXPECT_THAT(watcher->Await(), StatusIs(absl::StatusCode::kCancelled));
  EXPECT_EQ(executor_->counts().active_runs, 1);
  const auto late = std::make_shared<Recorder>();
  client->Run(Request("late"), late);
  EXPECT_THAT(late->Await(), StatusIs(absl::StatusCode::kCancelled));
}

TEST_F(ClientTest, ErrorsKeepTheirCodeAndReasonAndNameTheOrchestrator) {
  Serve(Answers);
  const auto client = Connect();
  const auto watcher = std::make_shared<Recorder>();
  client->Run(Request("typo", "vot"), watcher);
  const absl::Status status = watcher->Await();
  EXPECT_THAT(status, StatusIs(absl::StatusCode::kNotFound, HasSubstr(address_)));
  EXPECT_EQ(rpc::Reason(status), "GRAPH_NOT_FOUND");
}

TEST_F(ClientTest, NobodyThereIsOneClearError) {
  Serve(Answers);
  StopServing();
  EXPECT_THAT(OrchestratorClient::Connect(address_, {}).status(),
              StatusIs(absl::StatusCode::kUnavailable, HasSubstr("no orchestrator answers on " + address_)));
  EXPECT_THAT(OrchestratorClient::Connect("nonsense", {}).status(),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("nonsense")));
}

}  // namespace
}  // namespace conclave::orchestrator
