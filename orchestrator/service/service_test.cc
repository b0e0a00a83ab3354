// SPDX-License-Identifier: Apache-2.0
// The served orchestrator, over a real connection, with members that a test plays.
#include "orchestrator/service/service.h"

#include <grpcpp/client_context.h>
#include <grpcpp/create_channel.h>

#include <future>
#include <optional>

#include "common/check.h"
#include "common/status.h"
#include "orchestrator/backend/fake_backend.h"
#include "orchestrator/service/server.h"
#include "orchestrator/store/memory_store.h"
#include "protos/rpc_calls.h"
#include "protos/rpc_status.h"
#include "tests/testing/raw_call.h"
#include "tests/testing/status_matchers.h"

namespace conclave::orchestrator {
namespace {

namespace pb = ::conclave::deliberation::v1;
using ::conclave::testing::IsOk;
using ::conclave::testing::StatusIs;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

constexpr int64_t kNever = int64_t{3600} * 1'000'000'000;

class ServiceTest : public ::testing::Test {
 protected:
  void Serve(FakeBackend::AnswerFunction answer, std::optional<CallPool::Limits> calls = {}) {
    backend_ = std::make_unique<FakeBackend>(std::vector<std::string>{"a", "b"}, std::move(answer));
    executor_ = *Executor::Start({.store = store_.get(), .backend = backend_.get()});
    graphs_ = *GraphLibrary::Open(CONCLAVE_SOURCE_DIR "/graphs");
    Service::Options options;
    options.executor = executor_.get();
    options.backend = backend_.get();
    options.graphs = graphs_.get();
    if (calls.has_value()) options.calls = *calls;
    auto server = Server::Start({}, std::move(options));
    CONCLAVE_CHECK_MSG(server.ok(), server.status().ToString().c_str());
    server_ = *std::move(server);
    channel_ =
        grpc::CreateCustomChannel(server_->address(), grpc::InsecureChannelCredentials(), rpc::ChannelArguments());
    stub_ = pb::DeliberationService::NewStub(channel_);
  }
  void TearDown() override {
    if (executor_ != nullptr) executor_->Stop();
    server_.reset();
    executor_.reset();
  }

  static pb::RunRequest Request(const std::string& question = "6 x 7?") {
    pb::RunRequest request;
    request.set_graph_name("vote");
    (*request.mutable_inputs())["question"] = question;
    for (const char* seat : {"voter", "dense/*", "solver", "prover", "*"}) {
      pb::Binding* binding = request.add_bindings();
      binding->set_name(seat);
      binding->add_members("*");
    }
    return request;
  }
  static FakeAnswer Fixed(const CallRequest&) { return Says("#### 42"); }

  template <typename Reader, typename Response>
  static absl::Status ReadAll(Reader* reader, std::vector<pb::Event>* events, Response response) {
    while (reader->Read(&response)) events->push_back(response.event());
    return rpc::FromGrpc(reader->Finish());
  }
  absl::Status Run(const pb::RunRequest& request, std::vector<pb::Event>* events) {
    grpc::ClientContext context;
    const auto reader = stub_->Run(&context, request);
    return ReadAll(reader.get(), events, pb::RunResponse());
  }
  absl::Status Watch(const std::string& run_id, int64_t after, std::vector<pb::Event>* events) {
    grpc::ClientContext context;
    pb::WatchRequest request;
    request.set_run_id(run_id);
    request.set_after_sequence_number(after);
    const auto reader = stub_->Watch(&context, request);
    return ReadAll(reader.get(), events, pb::WatchResponse());
  }

  std::unique_ptr<Store> store_ = NewMemoryStore();
  std::unique_ptr<FakeBackend> backend_;
  std::unique_ptr<Executor> executor_;
  std::unique_ptr<GraphLibrary> graphs_;
  std::unique_ptr<Server> server_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<pb::DeliberationService::Stub> stub_;
};

TEST_F(ServiceTest, ARunStreamsItsEventsAndStaysReadable) {
  Serve(Fixed);
  std::vector<pb::Event> events;
  ASSERT_OK(Run(Request(), &events));
  ASSERT_FALSE(events.empty());
  for (size_t i = 0; i < events.size(); ++i) EXPECT_EQ(events[i].sequence_number(), static_cast<int64_t>(i) + 1);
  EXPECT_TRUE(events.front().has_run_started());
  EXPECT_EQ(events.back().run_finished().answer(), "42");
  const std::string run_id = events.front().run_id();

  std::vector<pb::Event> rest;
  ASSERT_OK(Watch(run_id, 2, &rest));
  ASSERT_EQ(rest.size(), events.size() - 2);
  EXPECT_EQ(rest.front().SerializeAsString(), events[2].SerializeAsString());
  std::vector<pb::Event> none;
  EXPECT_OK(Watch(run_id, events.back().sequence_number(), &none));
  EXPECT_THAT(none, IsEmpty());
  EXPECT_THAT(Watch(run_id, 1'000'000, &none), StatusIs(absl::StatusCode::kOutOfRange));
  EXPECT_THAT(Watch("runs/absent", 0, &none), StatusIs(absl::StatusCode::kNotFound));

  grpc::ClientContext context;
  pb::GetRunRequest request;
  request.set_run_id(run_id);
  pb::GetRunResponse response;
  ASSERT_TRUE(stub_->GetRun(&context, request, &response).ok());
  EXPECT_EQ(response.run().state(), pb::RUN_STATE_SUCCEEDED);
  EXPECT_EQ(response.run().graph(), "vote");
  EXPECT_EQ(response.run().inputs().at("question"), "6 x 7?");
}

TEST_F(ServiceTest, TheSameRequestIdIsTheSameRun) {
  Serve(Fixed);
  pb::RunRequest request = Request();
  request.set_request_id("twice");
  std::vector<pb::Event> first, second;
  ASSERT_OK(Run(request, &first));
  ASSERT_OK(Run(request, &second));
  ASSERT_EQ(first.size(), second.size());
  EXPECT_EQ(first.front().run_id(), second.front().run_id());
  (*request.mutable_inputs())["question"] = "another";
  const absl::Status reused = Run(request, &second);
  EXPECT_THAT(reused, StatusIs(absl::StatusCode::kAlreadyExists));
  EXPECT_EQ(rpc::Reason(reused), "REQUEST_ID_REUSED");
}

TEST_F(ServiceTest, BadRequestsSayWhatIsWrong) {
  Serve(Fixed);
  std::vector<pb::Event> events;
  pb::RunRequest request;
  EXPECT_EQ(rpc::Violations(Run(request, &events)).at(0).field, "graph_source");
  request = Request();
  request.set_graph_name("vot");
  const absl::Status unknown = Run(request, &events);
  EXPECT_THAT(unknown, StatusIs(absl::StatusCode::kNotFound, HasSubstr("vote")));
  EXPECT_EQ(rpc::Reason(unknown), "GRAPH_NOT_FOUND");
  request.mutable_graph()->set_name("x");
  const absl::Status invalid = Run(request, &events);
  EXPECT_THAT(invalid, StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_EQ(rpc::Reason(invalid), "GRAPH_INVALID");
  request = Request();
  request.mutable_inputs()->clear();
  EXPECT_THAT(Run(request, &events), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("question")));
  EXPECT_THAT(events, IsEmpty());
}

// ---- Bad bytes, and too many

std::string Method(const char* name) { return std::string("/") + std::string(kServiceName) + "/" + name; }

TEST_F(ServiceTest, BytesThatAreNoMessageGetAClearError) {
  Serve(Fixed);
  for (const char* name : {"Run", "Watch", "GetRun", "ListRuns", "CancelRun", "ListMembers", "ValidateGraph"}) {
    const absl::Status status = testing::CallRaw(channel_, Method(name), "\x0A\x7F short").status();
    EXPECT_THAT(status, StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(name))) << name;
    EXPECT_EQ(rpc::Reason(status), "MALFORMED_MESSAGE") << name;
  }
}

TEST_F(ServiceTest, SmallCallsHaveASmallLimit) {
  Serve(Fixed);
  for (const char* name : {"Watch", "GetRun", "CancelRun"}) {
    const auto call = [&](int64_t bytes) {
      pb::GetRunRequest request;  // run_id is field 1 of all three
      while (static_cast<int64_t>(request.ByteSizeLong()) < bytes) request.mutable_run_id()->push_back('r');
      EXPECT_EQ(static_cast<int64_t>(request.ByteSizeLong()), bytes);
      return testing::CallRaw(channel_, Method(name), request.SerializeAsString()).status();
    };
    EXPECT_THAT(call(rpc::kSmallCallBytesMax), StatusIs(absl::StatusCode::kNotFound)) << name;
    EXPECT_THAT(call(rpc::kSmallCallBytesMax + 1), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("65536")));
  }
}

TEST_F(ServiceTest, MillionsOfEmptySubMessagesAreRefusedByTheirNumber) {
  Serve(Fixed);
  const int field = pb::RunRequest::kBindingsFieldNumber;
  std::string bytes;
  for (int i = 0; i < 1'000'000; ++i) {
    bytes.push_back(static_cast<char>(field << 3 | 2));  // length-delimited, of no byte
    bytes.push_back(0);
  }
  EXPECT_THAT(testing::CallRaw(channel_, Method("Run"), bytes).status(),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("1000000 entries")));
}

TEST_F(ServiceTest, CallsBeyondTheirQueueAreTurnedAwayUnread) {
  const int64_t size = static_cast<int64_t>(Request("7").ByteSizeLong());
  Serve(Fixed, CallPool::Limits{.threads = 1, .calls_max = 8, .bytes_max = size, .large_bytes = size});
  std::vector<pb::Event> events;
  EXPECT_OK(Run(Request("7"), &events));
  const absl::Status refused = Run(Request("77"), &events);
  EXPECT_THAT(refused, StatusIs(absl::StatusCode::kResourceExhausted));
  EXPECT_EQ(rpc::Reason(refused), "OVERLOADED");
  EXPECT_EQ(rpc::RetryDelayNs(refused), rpc::kOverloadRetryNs);
  // What it says is not looked at before there is room for it.
  const absl::Status unread =
      testing::CallRaw(channel_, Method("ValidateGraph"), std::string(size + 1, '\xFF')).status();
  EXPECT_EQ(rpc::Reason(unread), "OVERLOADED");
}

// ---- Cancelling

class NobodyReads final : public EventTransport {
 public:
  void Write(const pb::Event&) override { FAIL() << "a write after the reader left"; }
  void Finish(const grpc::Status&) override {}
};

TEST_F(ServiceTest, AReaderThatLeftBeforeItsRunBeganStillCancelsIt) {
  Serve([](const CallRequest&) { return Says("#### 1", kNever); });
  NewRun run;
  run.request = Request();
  run.graph = *graphs_->Find("vote");
  run.spec = *BuildRunSpec(*run.graph, run.request, {}, backend_->Describe());
  NobodyReads transport;
  const auto stream = std::make_shared<EventStream>(EventStream::Options{.executor = executor_.get()}, &transport);
  stream->OnCancel();
  stream->OnTransportDone();
  std::promise<std::string> run_id;
  executor_->StartRun(std::move(run), stream, [&](const absl::StatusOr<StartedRun>& started) {
    stream->Observe(started->run_id, {.cancel_on_disconnect = true});
    run_id.set_value(started->run_id);
  });
  std::vector<pb::Event> events;
  ASSERT_OK(Watch(run_id.get_future().get(), 0, &events));
  EXPECT_EQ(events.back().run_finished().state(), pb::RUN_STATE_CANCELLED);
}

TEST_F(ServiceTest, CancelEndsTheRunAndItsCalls) {
  Serve([](const CallRequest&) { return Says("#### 1", kNever); });
  grpc::ClientContext context;
  const auto reader = stub_->Run(&context, Request());
  pb::RunResponse first;
  ASSERT_TRUE(reader->Read(&first));
  backend_->AwaitStarted(2);
  grpc::ClientContext cancel_context;
  pb::CancelRunRequest cancel;
  cancel.set_run_id(first.event().run_id());
  pb::CancelRunResponse response;
  ASSERT_TRUE(stub_->CancelRun(&cancel_context, cancel, &response).ok());
  std::vector<pb::Event> events;
  ASSERT_OK(ReadAll(reader.get(), &events, pb::RunResponse()));
  EXPECT_EQ(events.back().run_finished().state(), pb::RUN_STATE_CANCELLED);
  EXPECT_EQ(backend_->outstanding(), 0);
}

TEST_F(ServiceTest, ARunGoesOnWithoutItsClientUnlessToldOtherwise) {
  Serve([](const CallRequest&) { return Says("#### 1", 1000); });
  std::string kept, dropped;
  for (const bool cancel : {false, true}) {
    grpc::ClientContext context;
    pb::RunRequest request = Request();
    request.set_cancel_on_disconnect(cancel);
    const auto reader = stub_->Run(&context, request);
    pb::RunResponse first;
    ASSERT_TRUE(reader->Read(&first));
    (cancel ? dropped : kept) = first.event().run_id();
    context.TryCancel();
    while (reader->Read(&first)) {
    }
    EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::CANCELLED);
  }
  std::vector<pb::Event> events;
  ASSERT_OK(Watch(dropped, 0, &events));
  EXPECT_EQ(events.back().run_finished().state(), pb::RUN_STATE_CANCELLED);
  backend_->AwaitStarted(2);
  backend_->Advance(1'000'000);
  while (executor_->counts().active_runs > 0) backend_->Advance(1'000'000);
  events.clear();
  ASSERT_OK(Watch(kept, 0, &events));
  EXPECT_EQ(events.back().run_finished().state(), pb::RUN_STATE_SUCCEEDED);
}

TEST_F(ServiceTest, RunsAreListedNewestFirstByPages) {
  Serve(Fixed);
  std::vector<std::string> ids;
  for (int i = 0; i < 5; ++i) {
    std::vector<pb::Event> events;
    ASSERT_OK(Run(Request(std::to_string(i)), &events));
    ids.push_back(events.front().run_id());
  }
  std::vector<std::string> listed;
  pb::ListRunsRequest request;
  request.set_page_size(2);
  for (int pages = 1;; ++pages) {
    grpc::ClientContext context;
    pb::ListRunsResponse response;
    ASSERT_TRUE(stub_->ListRuns(&context, request, &response).ok());
    for (const pb::Run& run : response.runs()) listed.insert(listed.begin(), run.run_id());
    if (response.next_page_token().empty()) {
      EXPECT_EQ(pages, 3);
      break;
    }
    request.set_page_token(response.next_page_token());
  }
  EXPECT_EQ(listed, ids);
}

TEST_F(ServiceTest, GraphsAreValidatedWithLinesAndBounded) {
  Serve(Fixed);
  const auto validate = [&](const std::string& text) {
    grpc::ClientContext context;
    pb::ValidateGraphRequest request;
    request.set_graph_textproto(text);
    request.set_file_name("mine.textproto");
    pb::Binding* binding = request.add_bindings();
    binding->set_name("m");
    binding->add_members("*");
    pb::ValidateGraphResponse response;
    EXPECT_TRUE(stub_->ValidateGraph(&context, request, &response).ok());
    return response;
  };
  const pb::ValidateGraphResponse bad = validate("name: \"g\"\nnode { name: \"n\" speek {} }");
  ASSERT_EQ(bad.errors_size(), 1);
  EXPECT_THAT(bad.errors(0), HasSubstr("mine.textproto:2"));
  const pb::ValidateGraphResponse good = validate(
      "name: \"g\" input { name: \"question\" } node { name: \"n\" speak { role: \"solver\" members: \"m\" } }");
  EXPECT_EQ(good.errors_size(), 0) << good.errors(0);
  EXPECT_EQ(good.cost().calls(), 2);
}

TEST_F(ServiceTest, MembersAreListed) {
  Serve(Fixed);
  grpc::ClientContext context;
  pb::ListMembersResponse response;
  ASSERT_TRUE(stub_->ListMembers(&context, pb::ListMembersRequest(), &response).ok());
  ASSERT_EQ(response.members_size(), 2);
  EXPECT_EQ(response.members(1).name(), "b");
  EXPECT_TRUE(response.members(1).available());
}

TEST_F(ServiceTest, ADrainingServerTakesNoRunsAndTellsWatchers) {
  Serve([](const CallRequest&) { return Says("#### 1", kNever); });
  grpc::ClientContext context;
  const auto reader = stub_->Run(&context, Request());
  pb::RunResponse first;
  ASSERT_TRUE(reader->Read(&first));
  server_->BeginDrain();
  std::vector<pb::Event> events;
  const absl::Status refused = Run(Request(), &events);
  EXPECT_THAT(refused, StatusIs(absl::StatusCode::kUnavailable));
  EXPECT_EQ(rpc::Reason(refused), "DRAINING");
  executor_->Stop();
  events.clear();
  EXPECT_THAT(ReadAll(reader.get(), &events, pb::RunResponse()), StatusIs(absl::StatusCode::kUnavailable));
}

}  // namespace
}  // namespace conclave::orchestrator
