// SPDX-License-Identifier: Apache-2.0
// What the door answers.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/status.h"
#include "orchestrator/door/door_testing.h"
#include "tests/testing/status_matchers.h"

namespace conclave::orchestrator {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

TEST_F(DoorTest, ListsGraphsWhoseSeatsAreFilledAndMembers) {
  Serve(Fixed);
  const Json json = Json::parse(BodyOf(Exchange(GetText("/v1/models"))));
  std::vector<std::string> names;
  for (const Json& model : json["data"]) names.push_back(model["id"]);
  EXPECT_THAT(names, AllOf(Contains("deliberation/single"), Contains("deliberation/member_vote"), Contains("dense/a"),
                           Contains("b"), Not(Contains("deliberation/council"))));
  EXPECT_EQ(Json::parse(BodyOf(Exchange(GetText("/v1/models/dense/a"))))["id"], "dense/a");
  EXPECT_EQ(ErrorOf(404, Exchange(GetText("/v1/models/absent")))["code"], "model_not_found");
  EXPECT_EQ(StatusOf(Exchange(GetText("/healthz"))), 200);
}

TEST_F(DoorTest, AMemberSaysWhatItIsAsked) {
  Serve(Spoken);
  const std::string answer =
      Exchange(PostText(kChat, Ask("dense/a", R"("seed": 5, "temperature": 0.5, "max_tokens": 7, "ignore_eos": true,
                                                 "stop": "END", "top_k": 3)")));
  ASSERT_EQ(StatusOf(answer), 200) << answer;
  const Json json = Json::parse(BodyOf(answer));
  EXPECT_EQ(json["object"], "chat.completion");
  EXPECT_EQ(json["choices"][0]["message"], Json({{"role", "assistant"}, {"content", "I say 42"}}));
  EXPECT_EQ(json["choices"][0]["finish_reason"], "stop");
  EXPECT_EQ(json["usage"], Json({{"prompt_tokens", 10},
                                 {"completion_tokens", 8},
                                 {"total_tokens", 18},
                                 {"prompt_tokens_details", {{"cached_tokens", 4}}},
                                 {"completion_tokens_details", {{"reasoning_tokens", 0}}}}));
  const CallRequest call = backend_->started().at(0);
  EXPECT_EQ(call.member, "dense/a");
  EXPECT_EQ(call.seed, 5u);
  ASSERT_EQ(call.prompt.size(), 1u);
  EXPECT_EQ(call.prompt[0].content(), "6 x 7?");
  EXPECT_EQ(call.sampling.temperature(), 0.5f);
  EXPECT_EQ(call.sampling.max_output_tokens(), 7);
  EXPECT_EQ(call.sampling.top_k(), 3);
  EXPECT_THAT(call.sampling.stop(), ElementsAre("END"));
  EXPECT_TRUE(call.ignore_eos);
  EXPECT_FALSE(call.plain);
}

TEST_F(DoorTest, AStreamIsTheSameInPieces) {
  Serve(Spoken);
  const std::string answer =
      Exchange(PostText(kChat, Ask("b", R"("stream": true, "stream_options": {"include_usage": true})")));
  ASSERT_EQ(StatusOf(answer), 200) << answer;
  EXPECT_THAT(answer, HasSubstr("Content-Type: text/event-stream"));
  const Heard heard = Hear(BodyOf(answer));
  EXPECT_EQ(heard.text, "I say 42");
  EXPECT_EQ(heard.finish, "stop");
  EXPECT_TRUE(heard.done);
  EXPECT_EQ(heard.usage["completion_tokens"], 8);
  EXPECT_EQ(heard.usage["prompt_tokens_details"]["cached_tokens"], 4);
  EXPECT_EQ(Json::parse(Events(BodyOf(answer))[0])["choices"][0]["delta"]["role"], "assistant");
}

TEST_F(DoorTest, SeveralChoicesHaveSeedsThatCountOn) {
  Serve([](const CallRequest& call) { return Says("seed " + std::to_string(call.seed)); });
  const Json json = Json::parse(BodyOf(Exchange(PostText(kChat, Ask("b", R"("n": 3, "seed": 9)")))));
  std::vector<std::string> texts;
  for (const Json& choice : json["choices"]) texts.push_back(choice["message"]["content"]);
  EXPECT_THAT(texts, ElementsAre("seed 9", "seed 10", "seed 11"));
  EXPECT_EQ(json["usage"]["prompt_tokens"], 30);
  const std::string streamed = BodyOf(Exchange(PostText(kChat, Ask("b", R"("n": 3, "seed": 9, "stream": true)"))));
  EXPECT_EQ(Hear(streamed, 2).text, "seed 11");
}

TEST_F(DoorTest, CompletionsSendThePromptAsItIs) {
  Serve(Spoken);
  const Json json = Json::parse(BodyOf(Exchange(PostText("/v1/completions", R"({"model": "b", "prompt": "Once"})"))));
  EXPECT_EQ(json["object"], "text_completion");
  EXPECT_EQ(json["choices"][0]["text"], "I say 42");
  EXPECT_TRUE(backend_->started().at(0).plain);
  const std::string streamed =
      Exchange(PostText("/v1/completions", R"({"model": "b", "prompt": "Once", "stream": true})"));
  EXPECT_EQ(Hear(BodyOf(streamed)).text, "I say 42");
}

TEST_F(DoorTest, ADeliberationAnswersAndCountsWhatIsHidden) {
  Serve(Fixed);
  const std::string answer = Exchange(PostText(kChat, Ask("deliberation/member_vote", R"("seed": 3)")));
  ASSERT_EQ(StatusOf(answer), 200) << answer;
  const Json json = Json::parse(BodyOf(answer));
  EXPECT_EQ(json["choices"][0]["message"]["content"], "#### 42");
  // Two members vote with seven tokens each; the caller reads the words of one.
  EXPECT_EQ(json["usage"]["completion_tokens"], 14);
  EXPECT_EQ(json["usage"]["completion_tokens_details"]["reasoning_tokens"], 7);
  EXPECT_EQ(json["usage"]["prompt_tokens"], 20);
  EXPECT_EQ(backend_->started().size(), 2u);
}

// A member that has begun to speak and goes on when the test lets it.
class SlowSpeaker final : public Backend {
 public:
  void Start(CallRequest request, CallSink* sink) override {
    MutexLock lock(&mutex_);
    ++attempts_;
    if (request.stream_tokens && request.partial == nullptr) sink->OnDelta(request.id, {"I say ", 2});
    sink_ = sink;
    call_ = request.id;
    changed_.SignalAll();
  }
  void Cancel(CallId) override {}
  std::vector<MemberFacts> Describe() const override { return {{.name = "b", .backend = "fake", .available = true}}; }

  void AwaitAttempt(int count) {
    MutexLock lock(&mutex_);
    while (attempts_ < count) changed_.Wait(&mutex_);
  }
  // Ends the attempt in hand; OK: with all words. A loss may leave what was said for the next to go on from.
  void End(const absl::Status& status, bool goes_on = false) {
    CallSink* sink = nullptr;
    CallId call = 0;
    {
      MutexLock lock(&mutex_);
      sink = sink_;
      call = call_;
    }
    CallOutcome outcome = Says("I say 42").outcome;
    outcome.status = status;
    outcome.retryable = !status.ok();
    if (goes_on) {
      outcome.partial.set_text("I say ");
      outcome.partial.add_token_ids(1);
    }
    if (status.ok()) sink->OnDelta(call, {"42", 1});
    sink->OnDone(call, std::move(outcome));
  }

 private:
  Mutex mutex_;
  CondVar changed_;
  int attempts_ ABSL_GUARDED_BY(mutex_) = 0;
  CallSink* sink_ ABSL_GUARDED_BY(mutex_) = nullptr;
  CallId call_ ABSL_GUARDED_BY(mutex_) = 0;
};

TEST_F(DoorTest, TheFinalSpeakerIsHeardWhileItSpeaks) {
  SlowSpeaker slow;
  executor_ = *Executor::Start({.store = store_.get(), .backend = &slow});
  graphs_ = *GraphLibrary::Open(CONCLAVE_SOURCE_DIR "/graphs");
  DoorOptions options;
  options.openai.executor = executor_.get();
  options.openai.backend = &slow;
  options.openai.graphs = graphs_.get();
  door_ = *Door::Start(options);
  RawConnection connection(std::stoi(door_->address().substr(door_->address().rfind(':') + 1)));
  connection.Send(PostText(kChat, Ask("deliberation/single", R"("stream": true)")));
  std::string answer;
  while (answer.find("I say ") == answer.npos) answer += connection.Read("\n\n\r\n");
  EXPECT_THAT(answer, HasSubstr(R"("content":"I say ")")) << "heard before the speaker has ended";
  EXPECT_THAT(answer, Not(HasSubstr(R"("content":"42)"))) << "a bare 42 may stand in an identifier or in the time";
  // Lost in the middle: the second attempt begins again, the third goes on from there, and nothing is told twice.
  slow.End(Unavailable("gone"));
  slow.AwaitAttempt(2);
  slow.End(Unavailable("gone"), /*goes_on=*/true);
  slow.AwaitAttempt(3);
  slow.End(absl::OkStatus());
  answer += connection.Read();
  EXPECT_EQ(Hear(BodyOf(answer)).text, "I say 42");
  EXPECT_TRUE(Hear(BodyOf(answer)).done);
}

constexpr std::string_view kFormat =
    R"("response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "integer"}}})";

TEST_F(DoorTest, AResponseFormatReachesTheMemberAndTheFinalSpeaker) {
  Serve(Fixed);
  for (const char* model : {"b", "deliberation/single"}) {
    const std::string answer = Exchange(PostText(kChat, Ask(model, std::string(kFormat))));
    EXPECT_EQ(StatusOf(answer), 200) << answer;
    const CallRequest call = backend_->started().back();
    ASSERT_NE(call.constraint, nullptr) << model;
    EXPECT_EQ(call.constraint->json_schema(), R"({"type":"integer"})");
  }
  EXPECT_EQ(StatusOf(Exchange(PostText(kChat, Ask("b")))), 200);
  EXPECT_EQ(backend_->started().back().constraint, nullptr);
}

TEST_F(DoorTest, AGraphThatCannotHonourAResponseFormatSaysWhy) {
  Serve(Fixed);
  const Json error = ErrorOf(400, Exchange(PostText(kChat, Ask("deliberation/member_vote", std::string(kFormat)))));
  EXPECT_EQ(error["param"], "response_format");
  EXPECT_THAT(error["message"].get<std::string>(), HasSubstr("its result \"verdict\" is not what a speak says"));
  EXPECT_TRUE(backend_->started().empty());
}

TEST_F(DoorTest, StopsCutWhatTheCallerReadsOfADeliberation) {
  Serve(Spoken);
  const std::string body = Ask("deliberation/single", R"("stop": ["y 4", "zzz"])");
  EXPECT_EQ(Json::parse(BodyOf(Exchange(PostText(kChat, body))))["choices"][0]["message"]["content"], "I sa");
  EXPECT_THAT(backend_->started().at(0).sampling.stop(), IsEmpty());
}

TEST_F(DoorTest, ALostCallOfAMemberIsMadeAgainWithItsSeed) {
  int calls = 0;
  Serve([&calls](const CallRequest& call) {
    return ++calls == 1 ? Fails(Unavailable("gone"), /*retryable=*/true) : Says("seed " + std::to_string(call.seed));
  });
  const std::string answer = Exchange(PostText(kChat, Ask("b", R"("seed": 4)")));
  EXPECT_THAT(BodyOf(answer), HasSubstr("seed 4"));
  EXPECT_EQ(backend_->started().size(), 2u);
}

}  // namespace
}  // namespace conclave::orchestrator
