// SPDX-License-Identifier: Apache-2.0
// A door over a real connection, with members that a test plays.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "common/check.h"
#include "common/status.h"
#include "orchestrator/backend/fake_backend.h"
#include "orchestrator/door/door.h"
#include "orchestrator/http/http_testing.h"
#include "orchestrator/http/json.h"
#include "orchestrator/store/memory_store.h"

namespace conclave::orchestrator {

using http::BodyOf;
using http::GetText;
using http::Json;
using http::PostText;
using http::RawConnection;
using http::StatusOf;

inline constexpr int64_t kNever = int64_t{3600} * 1'000'000'000;
inline constexpr std::string_view kChat = "/v1/chat/completions";

inline std::string Ask(const std::string& model, const std::string& fields = "") {
  return R"({"model": ")" + model + R"(", "messages": [{"role": "user", "content": "6 x 7?"}])" +
         (fields.empty() ? std::string() : ", " + fields) + "}";
}

// The data of each event of a stream.
inline std::vector<std::string> Events(const std::string& body) {
  std::vector<std::string> events;
  for (size_t at = 0; at < body.size();) {
    const size_t end = body.find("\n\n", at);
    if (end == body.npos) break;
    if (body.compare(at, 6, "data: ") == 0) events.push_back(body.substr(at + 6, end - at - 6));
    at = end + 2;
  }
  return events;
}

// The words of a choice in a stream, its finish reason and the usage, if any.
struct Heard {
  std::string text, finish;
  Json usage;
  bool done = false;
};
inline Heard Hear(const std::string& body, int choice = 0) {
  Heard heard;
  for (const std::string& event : Events(body)) {
    if (event == "[DONE]") {
      heard.done = true;
      continue;
    }
    const Json json = Json::parse(event);
    if (json.contains("usage")) heard.usage = json["usage"];
    if (!json.contains("choices")) continue;
    for (const Json& one : json["choices"]) {
      if (one["index"] != choice) continue;
      heard.text += one.contains("delta") ? one["delta"].value("content", "") : one.value("text", "");
      if (one["finish_reason"].is_string()) heard.finish = one["finish_reason"];
    }
  }
  return heard;
}

class DoorTest : public ::testing::Test {
 protected:
  void Serve(FakeBackend::AnswerFunction answer, DoorOptions options = {}) {
    backend_ = std::make_unique<FakeBackend>(std::vector<std::string>{"dense/a", "b"}, std::move(answer));
    executor_ = *Executor::Start({.store = store_.get(), .backend = backend_.get()});
    graphs_ = *GraphLibrary::Open(CONCLAVE_SOURCE_DIR "/graphs");
    options.openai.executor = executor_.get();
    options.openai.backend = backend_.get();
    options.openai.graphs = graphs_.get();
    for (const char* seat : {"solver", "voter", "dense/*"}) {
      auto& binding = options.openai.bindings.emplace_back();
      binding.set_name(seat);
      binding.add_members(std::string_view(seat) == "dense/*" ? "*" : "b");
    }
    auto door = Door::Start(options);
    CONCLAVE_CHECK_MSG(door.ok(), door.status().ToString().c_str());
    door_ = *std::move(door);
    port_ = std::stoi(door_->address().substr(door_->address().rfind(':') + 1));
  }
  void TearDown() override {
    door_.reset();
    if (executor_ != nullptr) executor_->Stop();
    executor_.reset();
  }
  std::string Exchange(const std::string& text) const {
    RawConnection connection(port_);
    connection.Send(text);
    return connection.Read();
  }
  // The error of an answer with this status.
  Json ErrorOf(int status, const std::string& answer) const {
    EXPECT_EQ(StatusOf(answer), status) << answer;
    const Json json = Json::parse(BodyOf(answer), nullptr, false);
    EXPECT_TRUE(json.is_object() && json.contains("error")) << answer;
    return json.is_object() ? json.value("error", Json::object()) : Json::object();
  }
  static FakeAnswer Fixed(const CallRequest&) { return Says("#### 42"); }
  // Three pieces; the text is theirs.
  static FakeAnswer Spoken(const CallRequest&) {
    FakeAnswer answer = Says("I say 42");
    answer.deltas = {"I ", "say ", "42"};
    answer.outcome.usage.set_cached_prompt_token_count(4);
    return answer;
  }

  std::unique_ptr<Store> store_ = NewMemoryStore();
  std::unique_ptr<FakeBackend> backend_;
  std::unique_ptr<Executor> executor_;
  std::unique_ptr<GraphLibrary> graphs_;
  std::unique_ptr<Door> door_;
  int32_t port_ = 0;
};

}  // namespace conclave::orchestrator
