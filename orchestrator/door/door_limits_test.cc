// SPDX-License-Identifier: Apache-2.0
// Whom the door refuses, and how it ends.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

#include "common/status.h"
#include "orchestrator/door/door_testing.h"
#include "tests/testing/status_matchers.h"

namespace conclave::orchestrator {
namespace {

using ::conclave::testing::StatusIs;
using ::testing::HasSubstr;

TEST_F(DoorTest, ErrorsHaveTheFormThatCallersKnow) {
  Serve([](const CallRequest&) { return Fails(ResourceExhausted("full"), /*retryable=*/false); });
  EXPECT_EQ(ErrorOf(400, Exchange(PostText(kChat, Ask("b", R"("best_of": 3)"))))["param"], "best_of");
  EXPECT_EQ(ErrorOf(404, Exchange(PostText(kChat, Ask("absent"))))["code"], "model_not_found");
  EXPECT_EQ(ErrorOf(404, Exchange(PostText(kChat, Ask("deliberation/absent"))))["param"], "model");
  EXPECT_EQ(ErrorOf(400, Exchange(PostText(kChat, Ask("deliberation/../x"))))["type"], "invalid_request_error");
  EXPECT_THAT(std::string(ErrorOf(400, Exchange(PostText(kChat, Ask("deliberation/council"))))["message"]),
              HasSubstr("planner"));
  EXPECT_EQ(ErrorOf(400, Exchange(PostText(kChat, Ask("b", R"("inputs": {"x": "y"})"))))["param"], "inputs");
  EXPECT_EQ(ErrorOf(400, Exchange(PostText(kChat, Ask("deliberation/single", R"("inputs": {"x": "y"})"))))["param"],
            "inputs.x");
  EXPECT_EQ(ErrorOf(400, Exchange(PostText(kChat, std::string(1000, '['))))["type"], "invalid_request_error");
  const std::string full = Exchange(PostText(kChat, Ask("b")));
  EXPECT_EQ(ErrorOf(429, full)["type"], "rate_limit_error");
  EXPECT_THAT(full, HasSubstr("Retry-After: 1"));
  EXPECT_EQ(StatusOf(Exchange(PostText(kChat, Ask("b", R"("stream": true)")))), 429);  // known before the first byte
  ErrorOf(404, Exchange(GetText("/nothing")));
  ErrorOf(405, Exchange(GetText(kChat)));
  ErrorOf(413, Exchange(PostText(kChat, std::string((8 << 20) + 1, ' '))));
  ErrorOf(415,
          Exchange("POST /v1/chat/completions HTTP/1.1\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\n{}"));
  ErrorOf(421, Exchange("GET /v1/models HTTP/1.1\r\nHost: evil.example:80\r\nConnection: close\r\n\r\n"));
}

// A member behind a server that honours nothing special.
class PlainServer final : public Backend {
 public:
  void Start(CallRequest request, CallSink* sink) override { sink->OnDone(request.id, Says("yes").outcome); }
  void Cancel(CallId) override {}
  std::vector<MemberFacts> Describe() const override {
    MemberFacts facts;
    facts.name = "hosted";
    facts.abilities.seed = facts.abilities.extended_sampling = false;
    return {facts};
  }
};

TEST_F(DoorTest, WhatAMembersServerDoesNotHonourIsRefused) {
  PlainServer plain;
  graphs_ = *GraphLibrary::Open(CONCLAVE_SOURCE_DIR "/graphs");
  executor_ = *Executor::Start({.store = store_.get(), .backend = &plain});
  DoorOptions options;
  options.openai = {.executor = executor_.get(), .backend = &plain, .graphs = graphs_.get(), .bindings = {}};
  door_ = *Door::Start(options);
  port_ = std::stoi(door_->address().substr(door_->address().rfind(':') + 1));
  EXPECT_EQ(StatusOf(Exchange(PostText(kChat, Ask("hosted")))), 200);
  for (const char* field : {"seed", "top_k", "min_p", "repetition_penalty"}) {
    const std::string body =
        Ask("hosted", std::string("\"") + field + (std::string_view(field) == "min_p" ? "\": 0.5" : "\": 1"));
    EXPECT_EQ(ErrorOf(400, Exchange(PostText(kChat, body)))["param"], field);
  }
  EXPECT_EQ(ErrorOf(400, Exchange(PostText(kChat, Ask("hosted", R"("ignore_eos": true)"))))["param"], "ignore_eos");
}

TEST_F(DoorTest, AnErrorInTheMiddleOfAStreamIsNoWholeAnswer) {
  Serve([](const CallRequest&) {
    FakeAnswer answer = Fails(Unavailable("the worker was lost"), /*retryable=*/true);
    answer.deltas = {"half a "};
    return answer;
  });
  const std::string body = BodyOf(Exchange(PostText(kChat, Ask("b", R"("stream": true)"))));
  const Heard heard = Hear(body);
  EXPECT_EQ(heard.text, "half a ");
  EXPECT_FALSE(heard.done);
  EXPECT_EQ(Json::parse(Events(body).back())["error"]["message"], "the worker was lost");
}

TEST_F(DoorTest, CallersThatGoCancelWhatTheyAsked) {
  Serve([](const CallRequest&) { return Says("late", kNever); });
  for (const char* model : {"b", "deliberation/single"}) {
    for (const char* stream : {"false", "true"}) {
      RawConnection connection(port_);
      const size_t before = backend_->started().size();
      connection.Send(PostText(kChat, Ask(model, std::string(R"("stream": )") + stream)));
      backend_->AwaitStarted(before + 1);
      connection.Close();
      while (backend_->outstanding() > 0) std::this_thread::yield();
    }
  }
  EXPECT_EQ(backend_->cancelled(), 4);
}

TEST_F(DoorTest, MoreRequestsThanTheLimitAreRefused) {
  DoorOptions options;
  options.openai.running_max = 2;
  Serve([](const CallRequest&) { return Says("late", kNever); }, options);
  RawConnection a(port_), b(port_);
  a.Send(PostText(kChat, Ask("b")));
  b.Send(PostText(kChat, Ask("b", R"("stream": true)")));
  backend_->AwaitStarted(2);
  const std::string refused = Exchange(PostText(kChat, Ask("b")));
  EXPECT_EQ(ErrorOf(429, refused)["code"], "overloaded");
  EXPECT_EQ(StatusOf(Exchange(GetText("/v1/models"))), 200);
  backend_->Advance(kNever);
  EXPECT_EQ(StatusOf(a.Read()), 200);
  EXPECT_TRUE(Hear(BodyOf(b.Read())).done);
  RawConnection c(port_);
  c.Send(PostText(kChat, Ask("b")));
  backend_->AwaitStarted(3);
  backend_->Advance(kNever);
  EXPECT_EQ(StatusOf(c.Read()), 200);
}

TEST_F(DoorTest, ATokenIsAskedOfEverybody) {
  DoorOptions options;
  options.token = "secret";
  Serve(Fixed, options);
  EXPECT_EQ(ErrorOf(401, Exchange(GetText("/v1/models")))["code"], "invalid_api_key");
  EXPECT_EQ(StatusOf(Exchange(GetText("/v1/models", "Authorization: Bearer secret2\r\n"))), 401);
  EXPECT_EQ(StatusOf(Exchange(GetText("/v1/models", "Authorization: secret\r\n"))), 401);
  EXPECT_EQ(StatusOf(Exchange(PostText(kChat, Ask("b")))), 401);
  EXPECT_EQ(StatusOf(Exchange(PostText(kChat, Ask("b"), "Authorization: bearer secret\r\n"))), 200);
  EXPECT_EQ(StatusOf(Exchange(GetText("/healthz"))), 200);
}

TEST_F(DoorTest, DrainingLetsAnswersEnd) {
  Serve([](const CallRequest&) { return Says("late", kNever); });
  RawConnection asking(port_);
  asking.Send(PostText(kChat, Ask("b")));
  backend_->AwaitStarted(1);
  std::thread drain([this] { door_->Drain(kNever); });
  backend_->Advance(kNever);
  EXPECT_THAT(asking.Read(), HasSubstr("late"));
  drain.join();
}

TEST(Door, ListensOffLoopbackOnlyWhereThatIsAllowed) {
  DoorOptions options;
  options.listen = "0.0.0.0:0";
  EXPECT_THAT(Door::Start(options).status(),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("--insecure-listen")));
  options.tls = {"absent.pem", "absent.key.pem", ""};  // with TLS it may; its files are read
  EXPECT_THAT(Door::Start(options).status(), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("absent.pem")));
  options.tls = {};
  options.plaintext = rpc::PlaintextPolicy::kAnywhere;
  EXPECT_TRUE(Door::Start(options).ok());
  options.listen = "unix:/x";
  EXPECT_THAT(Door::Start(options).status(), StatusIs(absl::StatusCode::kInvalidArgument));
}

}  // namespace
}  // namespace conclave::orchestrator
