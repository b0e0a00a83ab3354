// SPDX-License-Identifier: Apache-2.0
// Against a server that answers whatever a test wants.
#include "orchestrator/backend/openai_backend.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <optional>

#include "common/status.h"
#include "orchestrator/backend/backend_testing.h"
#include "orchestrator/http/json.h"
#include "orchestrator/http/raw_server_testing.h"
#include "tests/testing/status_matchers.h"

namespace conclave::orchestrator {
namespace {

using ::conclave::testing::IsOk;
using ::conclave::testing::StatusIs;
using http::Json;
using http::RawAnswer;
using http::RawServer;
using ::testing::HasSubstr;

std::string Event(const Json& json) { return "data: " + json.dump() + "\n\n"; }
std::string Says(const std::string& text) {
  return Event({{"choices", {{{"index", 0}, {"delta", {{"content", text}}}, {"finish_reason", nullptr}}}}});
}
const std::string& End() {
  static const std::string end =
      Event({{"choices", {{{"index", 0}, {"delta", Json::object()}, {"finish_reason", "stop"}}}}}) +
      Event({{"choices", Json::array()},
             {"usage",
              {{"prompt_tokens", 9}, {"completion_tokens", 3}, {"prompt_tokens_details", {{"cached_tokens", 4}}}}}}) +
      "data: [DONE]\n\n";
  return end;
}
std::string Stream(const std::string& events) {
  return "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nConnection: close\r\n\r\n" + events;
}
// A whole stream: its length is told, so that a cut is not mistaken for its end.
std::string Whole(const std::string& events) {
  return "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: " + std::to_string(events.size()) +
         "\r\nConnection: close\r\n\r\n" + events;
}
std::string Refuses(int status, const std::string& headers = "") {
  const std::string body = R"({"error": {"message": "the reason"}})";
  return "HTTP/1.1 " + std::to_string(status) + " X\r\nContent-Type: application/json\r\n" + headers +
         "Content-Length: " + std::to_string(body.size()) + "\r\nConnection: close\r\n\r\n" + body;
}

class OpenAiBackendTest : public ::testing::Test {
 protected:
  void Open(const std::string& url, OpenAiOptions options = {}) {
    options.backoff_ns = 1'000'000;
    OpenAiMember member;
    member.name = "hosted";
    member.url = url + "/v1";
    member.model = "llama";
    member.api_key = "secret";
    member.parallel_calls = 2;
    member.card.emplace().set_active_parameters(1000);
    auto backend = NewOpenAiBackend({member}, options);
    ASSERT_OK(backend.status());
    backend_ = *std::move(backend);
  }
  CallRequest Request(CallId id) const {
    CallRequest request;
    request.id = id;
    request.member = "hosted";
    request.prompt.emplace_back().set_role("user");
    request.prompt[0].set_content("6 x 7?");
    request.seed = 5;
    request.stream_tokens = true;
    return request;
  }
  CallOutcome Call(CallId id = 1) {
    backend_->Start(Request(id), &sink_);
    return sink_.Await(id);
  }
  // One call to a server that answers so once, and well afterwards.
  CallOutcome CallOnce(const RawAnswer& first, int* connections = nullptr) {
    RawServer server([&first](int number, const std::string&) {
      return number == 0 ? first : RawAnswer{.bytes = Whole(Says("42") + End())};
    });
    OpenAiOptions options;
    if (first.hang) options.silence_ns = 200'000'000;
    Open(server.url(), options);
    const CallOutcome outcome = Call(next_++);
    if (connections != nullptr) *connections = server.connections();
    backend_.reset();
    return outcome;
  }

  CollectingSink sink_;
  std::unique_ptr<Backend> backend_;
  CallId next_ = 100;
};

TEST_F(OpenAiBackendTest, AnswersAsTheServerStreams) {
  RawServer server([](int, const std::string&) {
    return RawAnswer{.bytes = Stream(": hello\n\n" + Says("It is ") + Says("42") + End())};
  });
  Open(server.url());
  const CallOutcome outcome = Call();
  ASSERT_OK(outcome.status);
  EXPECT_EQ(outcome.text, "It is 42");
  EXPECT_EQ(sink_.deltas(1), "It is 42");
  EXPECT_EQ(outcome.finish_reason, inference::v1::FINISH_REASON_STOP);
  EXPECT_EQ(outcome.usage.prompt_token_count(), 9);
  EXPECT_EQ(outcome.usage.cached_prompt_token_count(), 4);
  EXPECT_EQ(outcome.usage.output_token_count(), 3);
  EXPECT_EQ(outcome.usage.flop_count(), (9 - 4 + 3 - 1) * 2000);  // 2 per active parameter and computed token
  EXPECT_EQ(outcome.model_revision, "llama");
  const std::string request = server.requests()[0];
  EXPECT_THAT(request, HasSubstr("POST /v1/chat/completions HTTP/1.1\r\n"));
  EXPECT_THAT(request, HasSubstr("Authorization: Bearer secret\r\n"));
  const Json body = Json::parse(request.substr(request.find("\r\n\r\n") + 4));
  EXPECT_EQ(body["model"], "llama");
  EXPECT_EQ(body["seed"], 5);
}

TEST_F(OpenAiBackendTest, AFullServerIsTriedAgainUnseen) {
  for (const std::string& full :
       {Refuses(429), Refuses(429, "Retry-After: 0\r\n"), Refuses(503, "Retry-After: 0\r\n")}) {
    int connections = 0;
    const CallOutcome outcome = CallOnce({.bytes = full}, &connections);
    EXPECT_OK(outcome.status);
    EXPECT_EQ(outcome.text, "42");
    EXPECT_EQ(connections, 2);
  }
}

TEST_F(OpenAiBackendTest, AServerThatStaysFullEndsTheCallInItsTime) {
  RawServer server([](int, const std::string&) { return RawAnswer{.bytes = Refuses(429, "Retry-After: 3600\r\n")}; });
  Open(server.url());
  const CallOutcome outcome = Call();
  EXPECT_THAT(outcome.status, StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("the reason")));
  EXPECT_FALSE(outcome.retryable);
  EXPECT_EQ(server.connections(), 1);
}

TEST_F(OpenAiBackendTest, WhatMayPassIsRetryable) {
  const std::vector<RawAnswer> faults = {
      {.bytes = Refuses(500)},
      {.bytes = Refuses(502)},
      {.bytes = Refuses(503)},
      {.bytes = Refuses(504)},
      {.bytes = Stream(Says("half"))},                  // cut between events
      {.bytes = Stream("data: {\"choices\": [{\"de")},  // cut in one
      {.bytes = Stream("data: garbage\n\n")},
      {.bytes = Stream(Event({{"error", {{"message", "out of memory"}}}}))},
      {.bytes = "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 6\r\n\r\n<html>"},
      {.bytes = "SSH-2.0-OpenSSH\r\n\r\n"},
      {.bytes = ""},
      {.bytes = "", .hang = true},                    // silent before the head
      {.bytes = Stream(Says("half")), .hang = true},  // and in the middle
  };
  for (const RawAnswer& fault : faults) {
    int connections = 0;
    const CallOutcome outcome = CallOnce(fault, &connections);
    EXPECT_FALSE(outcome.status.ok()) << fault.bytes;
    EXPECT_TRUE(outcome.retryable) << fault.bytes << "\n" << outcome.status;
    EXPECT_THAT(std::string(Message(outcome.status)), HasSubstr("member \"hosted\" at http://127.0.0.1"));
    EXPECT_EQ(connections, 1) << fault.bytes;
  }
}

TEST_F(OpenAiBackendTest, WhatIsWrongStaysWrong) {
  for (const int status : {400, 401, 403, 404, 422}) {
    const CallOutcome outcome = CallOnce({.bytes = Refuses(status)});
    EXPECT_THAT(outcome.status, ::testing::Not(IsOk()));
    EXPECT_FALSE(outcome.retryable) << status;
    EXPECT_EQ(outcome.usage.prompt_token_count(), 0);  // nothing was computed
  }
}

TEST_F(OpenAiBackendTest, EndlessRepliesEnd) {
  const std::vector<std::pair<std::string, absl::StatusCode>> endless = {
      {Stream("data: " + std::string(2048, 'x')), absl::StatusCode::kResourceExhausted},  // a line
      {Stream(Says(std::string(2000, 'x'))), absl::StatusCode::kUnavailable},             // lines that say nothing
      {"HTTP/1.1 500 X\r\nContent-Type: text/plain\r\n\r\n" + std::string(2048, 'x'), absl::StatusCode::kUnavailable},
      {"HTTP/1.1 200 OK\r\nX: " + std::string(2048, 'x'), absl::StatusCode::kUnavailable},  // a header
  };
  for (const auto& [bytes, code] : endless) {
    const CallOutcome outcome = CallOnce({.bytes = bytes, .repeat_tail = int64_t{1} << 40});
    EXPECT_THAT(outcome.status, StatusIs(code)) << bytes.substr(0, 80);
  }
}

TEST_F(OpenAiBackendTest, AServerThatComesLateIsWaitedFor) {
  OpenAiOptions options;
  options.unreachable_ns = 100'000'000;
  std::string url;
  {
    RawServer gone([](int, const std::string&) { return RawAnswer{}; });
    url = gone.url();
  }
  Open(url, options);
  const CallOutcome outcome = Call();
  EXPECT_THAT(outcome.status, StatusIs(absl::StatusCode::kUnavailable, HasSubstr("NOT_CONNECTED")));
  EXPECT_TRUE(outcome.retryable);
}

TEST_F(OpenAiBackendTest, AServerThatKeepsFailingIsLeftAlone) {
  RawServer server([](int number, const std::string&) {
    return RawAnswer{.bytes = number < 3 ? Refuses(500) : Whole(Says("42") + End())};
  });
  OpenAiOptions options;
  options.breaker = {.failures = 3, .pause_ns = 3'600'000'000'000, .pause_max_ns = 3'600'000'000'000};
  Open(server.url(), options);
  for (CallId id = 1; id <= 3; ++id) {
    EXPECT_TRUE(backend_->Describe()[0].available);
    EXPECT_THAT(Call(id).status, StatusIs(absl::StatusCode::kUnavailable, HasSubstr("HTTP 500: the reason")));
  }
  EXPECT_FALSE(backend_->Describe()[0].available);
  const CallOutcome left = Call(4);
  EXPECT_THAT(left.status, StatusIs(absl::StatusCode::kUnavailable,
                                    HasSubstr("left alone after 3 failures in a row, the last: HTTP 500: the reason")));
  EXPECT_TRUE(left.retryable);
  EXPECT_EQ(server.connections(), 3);  // it was not asked
}

TEST_F(OpenAiBackendTest, CallsWaitForAShortPauseAndOneTriesTheServer) {
  RawServer server([](int number, const std::string&) {
    return RawAnswer{.bytes = number < 2 ? Refuses(500) : Whole(Says("42") + End())};
  });
  OpenAiOptions options;
  options.breaker = {.failures = 2, .pause_ns = 20'000'000, .pause_max_ns = 20'000'000};
  Open(server.url(), options);
  EXPECT_FALSE(Call(1).status.ok());
  EXPECT_FALSE(Call(2).status.ok());
  backend_->Start(Request(3), &sink_);
  backend_->Start(Request(4), &sink_);
  EXPECT_OK(sink_.Await(3).status);
  EXPECT_OK(sink_.Await(4).status);
  EXPECT_TRUE(backend_->Describe()[0].available);
}

TEST_F(OpenAiBackendTest, RefusalsAndFullServersAreNoFailures) {
  RawServer server([](int number, const std::string&) {
    if (number % 3 == 0) return RawAnswer{.bytes = Refuses(400)};
    return RawAnswer{.bytes = Refuses(number % 3 == 1 ? 429 : 503, "Retry-After: 3600\r\n")};
  });
  OpenAiOptions options;
  options.breaker.failures = 1;
  Open(server.url(), options);
  for (CallId id = 1; id <= 6; ++id) EXPECT_FALSE(Call(id).status.ok());
  EXPECT_TRUE(backend_->Describe()[0].available);
  EXPECT_EQ(server.connections(), 6);
}

TEST_F(OpenAiBackendTest, CallsAreCancelledWhereverTheyAre) {
  RawServer server([](int, const std::string&) { return RawAnswer{.bytes = Stream(Says("half ")), .hang = true}; });
  Open(server.url());
  // The server takes one connection at a time: the first speaks, the second waits for it, the third is queued here.
  backend_->Start(Request(1), &sink_);
  sink_.AwaitDeltas(1, 5);
  backend_->Start(Request(2), &sink_);
  backend_->Start(Request(3), &sink_);
  for (const CallId id : {3, 2, 1}) {
    backend_->Cancel(id);
    EXPECT_THAT(sink_.Await(id).status, StatusIs(absl::StatusCode::kCancelled)) << id;
  }
  EXPECT_GT(sink_.Await(1).usage.prompt_token_count(), 0);  // it had begun: the work is estimated
  EXPECT_EQ(sink_.Await(3).usage.prompt_token_count(), 0);
  backend_->Cancel(1);  // ended: nothing happens
  backend_->Cancel(77);
}

TEST_F(OpenAiBackendTest, CallsEndInTheirTime) {
  RawServer server([](int, const std::string&) { return RawAnswer{.bytes = Stream(Says("half ")), .hang = true}; });
  Open(server.url());
  CallRequest request = Request(1);
  request.timeout_ns = 50'000'000;
  backend_->Start(request, &sink_);
  const CallOutcome outcome = sink_.Await(1);
  EXPECT_THAT(outcome.status, StatusIs(absl::StatusCode::kDeadlineExceeded));
  EXPECT_FALSE(outcome.retryable);
}

TEST_F(OpenAiBackendTest, EndingTheBackendEndsItsCalls) {
  RawServer server([](int, const std::string&) { return RawAnswer{.hang = true}; });
  Open(server.url());
  backend_->Start(Request(1), &sink_);
  server.AwaitConnections(1);
  backend_->Cancel(1);
  backend_.reset();
  EXPECT_THAT(sink_.Await(1).status, StatusIs(absl::StatusCode::kCancelled));
}

TEST_F(OpenAiBackendTest, RefusesWhatItCannotAsk) {
  Open("http://127.0.0.1:1");
  CallRequest request = Request(1);
  request.p_true.emplace();
  backend_->Start(request, &sink_);
  EXPECT_THAT(sink_.Await(1).status, StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("CAPABILITY_MISSING")));
  request = Request(3);
  request.beside = 1;
  backend_->Start(request, &sink_);
  EXPECT_THAT(sink_.Await(3).status, StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("NO_OTHER_WORKER")));
  request = Request(2);
  request.member = "other";
  backend_->Start(request, &sink_);
  EXPECT_THAT(sink_.Await(2).status, StatusIs(absl::StatusCode::kNotFound));
  OpenAiMember bad;
  bad.name = "bad";
  bad.url = "ftp://x";
  EXPECT_THAT(NewOpenAiBackend({bad}, {}).status(),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("member \"bad\"")));
}

}  // namespace
}  // namespace conclave::orchestrator
