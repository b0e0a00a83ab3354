// SPDX-License-Identifier: Apache-2.0
// Log-probabilities at the door, and whose words a deliberation's caller hears.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "common/file.h"
#include "common/status.h"
#include "orchestrator/door/door_testing.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_dir.h"

namespace conclave::orchestrator {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr std::string_view kCompletions = "/v1/completions";

inference::v1::Logprobs Place(const std::string& text, float logprob,
                              const std::vector<std::pair<std::string, float>>& best) {
  inference::v1::Logprobs place;
  place.mutable_chosen()->set_text(text);
  place.mutable_chosen()->set_logprob(logprob);
  for (const auto& [other, value] : best) {
    inference::v1::TokenLogprob* top = place.add_top();
    top->set_text(other);
    top->set_logprob(value);
  }
  return place;
}

// Two tokens, of which the second is a character in two parts, and the end of a turn.
FakeAnswer WithTokens(const CallRequest&) {
  FakeAnswer answer = Says("I \xC3\xA9");
  answer.deltas = {"I ", "\xC3\xA9", ""};
  inference::v1::Logprobs end = Place("<end>", -0.125F, {});
  end.mutable_chosen()->set_hidden(true);
  inference::v1::Logprobs first = Place("I ", -0.5F, {{"I ", -0.5F}, {"<end>", -1.5F}, {"You ", -2}});
  first.mutable_top(1)->set_hidden(true);
  answer.logprobs = {{first}, {Place("\xC3", -0.25F, {{"\xC3", -0.25F}}), Place("\xA9", 0, {{"\xA9", 0}})}, {end}};
  return answer;
}

const Json& Expected() {
  static const Json content = Json::parse(R"([
    {"token": "I ", "logprob": -0.5, "bytes": [73, 32], "top_logprobs": [
      {"token": "I ", "logprob": -0.5, "bytes": [73, 32]}, {"token": "<end>", "logprob": -1.5, "bytes": null}]},
    {"token": "bytes:\\xc3", "logprob": -0.25, "bytes": [195], "top_logprobs": [
      {"token": "bytes:\\xc3", "logprob": -0.25, "bytes": [195]}]},
    {"token": "bytes:\\xa9", "logprob": 0.0, "bytes": [169], "top_logprobs": [
      {"token": "bytes:\\xa9", "logprob": 0.0, "bytes": [169]}]}])");
  return content;
}

constexpr std::string_view kTwo = R"("logprobs": true, "top_logprobs": 2)";

TEST_F(DoorTest, TokensComeWithTheTextOfAMemberAndOfAFinalSpeaker) {
  Serve(WithTokens);
  for (const char* model : {"b", "deliberation/single"}) {
    const std::string whole = Exchange(PostText(kChat, Ask(model, std::string(kTwo))));
    ASSERT_EQ(StatusOf(whole), 200) << whole;
    EXPECT_EQ(Json::parse(BodyOf(whole))["choices"][0]["logprobs"]["content"], Expected()) << model;
    EXPECT_EQ(backend_->started().back().logprobs, 2) << model;
    const std::string streamed = Exchange(PostText(kChat, Ask(model, std::string(kTwo) + R"(, "stream": true)")));
    Json content = Json::array();
    for (const std::string& event : Events(BodyOf(streamed))) {
      if (event == "[DONE]") continue;
      const Json choice = Json::parse(event)["choices"][0];
      if (!choice.contains("logprobs")) continue;
      for (const Json& token : choice["logprobs"]["content"]) content.push_back(token);
    }
    EXPECT_EQ(content, Expected()) << model;
    EXPECT_EQ(Hear(BodyOf(streamed)).text, "I \xC3\xA9");
  }
  EXPECT_EQ(Json::parse(BodyOf(Exchange(PostText(kChat, Ask("b")))))["choices"][0]["logprobs"], nullptr);
  EXPECT_EQ(backend_->started().back().logprobs, std::nullopt);
}

TEST_F(DoorTest, CompletionsListTokensByOffset) {
  Serve(WithTokens);
  const Json expected = Json::parse(R"({"tokens": ["I ", "bytes:\\xc3", "bytes:\\xa9"],
      "token_logprobs": [-0.5, -0.25, 0.0],
      "top_logprobs": [{"I ": -0.5}, {"bytes:\\xc3": -0.25}, {"bytes:\\xa9": 0.0}], "text_offset": [0, 2, 2]})");
  const Json one =
      Json::parse(BodyOf(Exchange(PostText(kCompletions, R"({"model": "b", "prompt": "Once", "logprobs": 1})"))));
  EXPECT_EQ(one["choices"][0]["logprobs"], expected);
  const Json three =
      Json::parse(BodyOf(Exchange(PostText(kCompletions, R"({"model": "b", "prompt": "Once", "logprobs": 3})"))));
  EXPECT_EQ(three["choices"][0]["logprobs"]["top_logprobs"][0], Json({{"I ", -0.5}, {"<end>", -1.5}, {"You ", -2.0}}));
}

TEST_F(DoorTest, WhoeverCannotTellTokensSaysSo) {
  Serve(WithTokens);
  const Json graph = ErrorOf(400, Exchange(PostText(kChat, Ask("deliberation/member_vote", std::string(kTwo)))));
  EXPECT_EQ(graph["param"], "logprobs");
  EXPECT_THAT(graph["message"].get<std::string>(), HasSubstr("is not what one member says once"));
  EXPECT_TRUE(backend_->started().empty());
  backend_->set_abilities({.logprobs = false});
  for (const char* model : {"b", "deliberation/single"}) {
    const std::string answer = Exchange(PostText(kChat, Ask(model, std::string(kTwo))));
    EXPECT_EQ(StatusOf(answer), 400) << answer;
    EXPECT_THAT(answer, HasSubstr("prob")) << model;
  }
  EXPECT_TRUE(backend_->started().empty());
}

// ---- Two calls of one speaker at a time, as the test says.

class Voices final : public Backend {
 public:
  void Start(CallRequest request, CallSink* sink) override {
    MutexLock lock(&mutex_);
    calls_.emplace_back(request.id, sink);
    changed_.SignalAll();
  }
  void Cancel(CallId id) override {
    CallOutcome outcome;
    outcome.status = Cancelled("cancelled");
    CallSink* sink = nullptr;
    {
      MutexLock lock(&mutex_);
      for (const auto& call : calls_) {
        if (call.first == id) sink = call.second;
      }
    }
    if (sink != nullptr) sink->OnDone(id, std::move(outcome));
  }
  std::vector<MemberFacts> Describe() const override { return {{.name = "b", .backend = "fake", .available = true}}; }

  std::pair<CallId, CallSink*> Await(size_t index) {
    MutexLock lock(&mutex_);
    while (calls_.size() <= index) changed_.Wait(&mutex_);
    return calls_[index];
  }
  void Say(size_t index, const std::string& text) {
    const auto [id, sink] = Await(index);
    CallDelta delta = {text, 1};
    delta.logprobs = {Place(text, -1, {})};
    sink->OnDelta(id, std::move(delta));
  }
  void End(size_t index, const std::string& text) {
    const auto [id, sink] = Await(index);
    sink->OnDone(id, Says(text).outcome);
  }

 private:
  Mutex mutex_;
  CondVar changed_;
  std::vector<std::pair<CallId, CallSink*>> calls_ ABSL_GUARDED_BY(mutex_);
};

class VoicesTest : public DoorTest {
 protected:
  void ServeVoices(const std::string& role, const std::string& speak) {
    std::filesystem::create_directories(folder_.Path("roles"));
    ASSERT_OK(WriteFileAtomically(folder_.Path("roles/solver.textproto"),
                                  "name: \"solver\" task: \"{{ question }}\" " + role));
    ASSERT_OK(WriteFileAtomically(
        folder_.Path("one.textproto"),
        "name: \"one\" equivalence: \"gsm8k\" input { name: \"question\" } node { name: \"a\" speak { role: "
        "\"solver\" members: \"m\" " +
            speak + " } }"));
    executor_ = *Executor::Start({.store = store_.get(), .backend = &voices_});
    graphs_ = *GraphLibrary::Open(folder_.path());
    DoorOptions options;
    options.openai.executor = executor_.get();
    options.openai.backend = &voices_;
    options.openai.graphs = graphs_.get();
    door_ = *Door::Start(options);
    port_ = std::stoi(door_->address().substr(door_->address().rfind(':') + 1));
  }

  testing::TempDir folder_;
  Voices voices_;
};

TEST_F(VoicesTest, ASecondCallOfAStragglerSaysNothingTwice) {
  ServeVoices("text {}", "hedge { after { nanos: 1 } }");
  RawConnection connection(port_);
  connection.Send(PostText(kChat, Ask("deliberation/one", R"("stream": true, "logprobs": true)")));
  voices_.Await(1);
  voices_.Say(0, "I ");
  voices_.Say(1, "I ");
  voices_.Say(0, "say ");
  voices_.Say(1, "say ");
  voices_.Say(1, "42");
  voices_.End(1, "I say 42");
  const std::string body = BodyOf(connection.Read());
  EXPECT_EQ(Hear(body).text, "I say 42");
  EXPECT_TRUE(Hear(body).done);
  std::vector<std::string> tokens;
  for (const std::string& event : Events(body)) {
    if (event == "[DONE]") continue;
    const Json choice = Json::parse(event)["choices"][0];
    if (!choice.contains("logprobs")) continue;
    for (const Json& token : choice["logprobs"]["content"]) tokens.push_back(token["token"]);
  }
  EXPECT_THAT(tokens, ElementsAre("I ", "say ", "42"));
}

// What a role asks for once more is not told before it is certain.
TEST_F(VoicesTest, ARepairedTextIsToldOnce) {
  ServeVoices("answer {} repair: \"A number, please.\"", "");
  RawConnection connection(port_);
  connection.Send(PostText(kChat, Ask("deliberation/one", R"("stream": true)")));
  voices_.Say(0, "none");
  voices_.End(0, "none");
  voices_.Say(1, "42");
  voices_.End(1, "42");
  const std::string body = BodyOf(connection.Read());
  EXPECT_EQ(Hear(body).text, "42") << body;
  EXPECT_TRUE(Hear(body).done);
}

}  // namespace
}  // namespace conclave::orchestrator
