// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/door/openai_request.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/status.h"
#include "orchestrator/role/role.h"
#include "protos/rpc_status.h"
#include "tests/testing/status_matchers.h"

namespace conclave::orchestrator {
namespace {

using ::conclave::testing::IsOk;
using ::conclave::testing::StatusIs;
using ::testing::ElementsAre;

// A chat request with these further fields.
std::string Chat(const std::string& fields) {
  return R"({"model": "m", "messages": [{"role": "user", "content": "q"}])" +
         (fields.empty() ? std::string() : ", " + fields) + "}";
}

absl::StatusOr<OpenAiRequest> Read(const std::string& body) { return ReadOpenAiRequest(body, OpenAiApi::kChat); }

// The field that is wrong; "" where none is.
std::string WrongField(const std::string& body) {
  const auto read = Read(body);
  if (read.ok()) return "";
  EXPECT_THAT(read.status(), StatusIs(absl::StatusCode::kInvalidArgument)) << body;
  const auto violations = rpc::Violations(read.status());
  return violations.empty() ? "(none)" : violations[0].field;
}

TEST(OpenAiRequest, EverythingThatIsKnownIsRead) {
  const auto read = Read(Chat(
      R"("stream": true, "stream_options": {"include_usage": true}, "n": 2, "seed": -7, "temperature": 0.5,
         "top_p": 0.25, "min_p": 0.125, "top_k": 40, "repetition_penalty": 1.5, "max_tokens": 9,
         "max_completion_tokens": 9, "stop": ["a", "b"], "ignore_eos": true, "inputs": {"hint": "h"}, "user": "u")"));
  ASSERT_OK(read.status());
  EXPECT_EQ(read->model, "m");
  EXPECT_TRUE(read->stream && read->stream_usage && read->ignore_eos);
  EXPECT_EQ(read->choices, 2);
  EXPECT_EQ(read->seed, static_cast<uint64_t>(int64_t{-7}));
  EXPECT_EQ(read->sampling.temperature(), 0.5f);
  EXPECT_EQ(read->sampling.top_p(), 0.25f);
  EXPECT_EQ(read->sampling.min_p(), 0.125f);
  EXPECT_EQ(read->sampling.top_k(), 40);
  EXPECT_EQ(read->sampling.repetition_penalty(), 1.5f);
  EXPECT_EQ(read->sampling.max_output_tokens(), 9);
  EXPECT_THAT(read->sampling.stop(), ElementsAre("a", "b"));
  EXPECT_EQ(read->inputs.at("hint"), "h");
}

TEST(OpenAiRequest, NullIsAbsentAndWhatAsksForNothingIsTaken) {
  EXPECT_EQ(WrongField(Chat(R"("seed": null, "tools": null, "response_format": null, "whatever": null)")), "");
  EXPECT_EQ(WrongField(Chat(R"("logprobs": false, "tools": [], "logit_bias": {}, "frequency_penalty": 0,
                               "presence_penalty": 0.0, "response_format": {"type": "text"}, "top_logprobs": 0,
                               "tool_choice": "auto", "parallel_tool_calls": true, "functions": [], "store": false,
                               "function_call": "none", "modalities": ["text"], "metadata": {},
                               "service_tier": "default", "safety_identifier": "s", "prompt_cache_key": "k",
                               "stream": true, "stream_options": {"include_obfuscation": false})")),
            "");
}

// Every field of chat completions as OpenAI's reference has it in 2025 that asks for what is not here: refused by its
// name, none of them ignored.
TEST(OpenAiRequest, WhatIsNotHonouredIsRefusedByName) {
  for (const auto& [field, value] : std::vector<std::pair<std::string, std::string>>{
           {"audio", R"({"voice": "alloy", "format": "wav"})"},
           {"frequency_penalty", "0.5"},
           {"function_call", R"({"name": "f"})"},
           {"functions", R"([{"name": "f"}])"},
           {"logit_bias", R"({"50256": -100})"},
           {"metadata", R"({"a": "b"})"},
           {"modalities", R"(["text", "audio"])"},
           {"prediction", R"({"type": "content", "content": "x"})"},
           {"presence_penalty", "-1"},
           {"prompt_cache_retention", R"("24h")"},
           {"reasoning_effort", R"("low")"},
           {"service_tier", R"("flex")"},
           {"store", "true"},
           {"tool_choice", R"("required")"},
           {"tools", R"([{"type": "function", "function": {"name": "f"}}])"},
           {"verbosity", R"("low")"},
           {"web_search_options", "{}"},
       }) {
    EXPECT_EQ(WrongField(Chat(fmt::format("\"{}\": {}", field, value))), field);
  }
  EXPECT_EQ(WrongField(Chat(R"("stream": true, "stream_options": {"include_obfuscation": true})")),
            "stream_options.include_obfuscation");
  EXPECT_THAT(Message(Read(Chat(R"("tools": [{"type": "function"}])")).status()),
              ::testing::HasSubstr("members write text alone"));
  const auto completion = [](const std::string& fields) {
    return ReadOpenAiRequest(R"({"model": "m", "prompt": "p", )" + fields + "}", OpenAiApi::kCompletions).status();
  };
  EXPECT_OK(completion(R"("echo": false, "best_of": 1, "suffix": "", "logit_bias": null)"));
  for (const char* fields : {R"("echo": true)", R"("best_of": 2)", R"("suffix": "x")", R"("top_logprobs": 1)"}) {
    EXPECT_THAT(completion(fields), StatusIs(absl::StatusCode::kInvalidArgument)) << fields;
  }
}

TEST(OpenAiRequest, LogprobsAreReadAsEachApiHasThem) {
  const auto chat = [](const std::string& fields) { return Read(Chat(fields))->logprobs; };
  EXPECT_EQ(chat(""), std::nullopt);
  EXPECT_EQ(chat(R"("logprobs": false)"), std::nullopt);
  EXPECT_EQ(chat(R"("logprobs": true)"), 0);
  EXPECT_EQ(chat(R"("top_logprobs": 20, "logprobs": true)"), kLogprobsMax);
  EXPECT_EQ(WrongField(Chat(R"("top_logprobs": 21, "logprobs": true)")), "top_logprobs");
  EXPECT_EQ(WrongField(Chat(R"("top_logprobs": -1, "logprobs": true)")), "top_logprobs");
  EXPECT_EQ(WrongField(Chat(R"("top_logprobs": 2)")), "top_logprobs") << "asks for nothing by itself";
  EXPECT_EQ(WrongField(Chat(R"("logprobs": 2)")), "logprobs");
  const auto completion = [](const std::string& value) {
    return ReadOpenAiRequest(R"({"model": "m", "prompt": "p", "logprobs": )" + value + "}", OpenAiApi::kCompletions);
  };
  EXPECT_EQ(completion("0")->logprobs, 0);
  EXPECT_EQ(completion("20")->logprobs, kLogprobsMax);
  EXPECT_EQ(completion("null")->logprobs, std::nullopt);
  EXPECT_FALSE(completion("21").ok());
  EXPECT_FALSE(completion("true").ok());
}

TEST(OpenAiRequest, EveryMistakeNamesItsField) {
  const std::vector<std::pair<std::string, std::string>> wrong = {
      {R"("temprature": 1)", "temprature"},
      {R"("temperature": "hot")", "temperature"},
      {R"("temperature": -0.1)", "temperature"},
      {R"("temperature": 1e400)", "(none)"},
      {R"("top_p": 0)", "top_p"},
      {R"("top_k": 1.5)", "top_k"},
      {R"("n": 0)", "n"},
      {R"("seed": 18446744073709551615)", "seed"},
      {R"("seed": 1.0)", "seed"},
      {R"("max_tokens": 0)", "max_tokens"},
      {R"("max_tokens": 3, "max_completion_tokens": 4)", "max_completion_tokens"},
      {R"("stop": 3)", "stop"},
      {R"("stop": [""])", "stop[0]"},
      {R"("stop": ["a", 1])", "stop[1]"},
      {R"("stream": 1)", "stream"},
      {R"("stream_options": {"include_usage": true})", "stream_options"},
      {R"("stream": true, "stream_options": {"other": 1})", "stream_options.other"},
      {R"("tools": [{}])", "tools"},
      {R"("response_format": "json_object")", "response_format"},
      {R"("response_format": {})", "response_format.type"},
      {R"("response_format": {"type": "xml"})", "response_format.type"},
      {R"("response_format": {"type": "json_object", "json_schema": {}})", "response_format.json_schema"},
      {R"("response_format": {"type": "json_schema"})", "response_format.json_schema"},
      {R"("response_format": {"type": "json_schema", "json_schema": {"schema": {}}})",
       "response_format.json_schema.name"},
      {R"("response_format": {"type": "json_schema", "json_schema": {"name": "a b", "schema": {}}})",
       "response_format.json_schema.name"},
      {R"("response_format": {"type": "json_schema", "json_schema": {"name": "a"}})",
       "response_format.json_schema.schema"},
      {R"("response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": []}})",
       "response_format.json_schema.schema"},
      {R"("response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {}, "strict": 1}})",
       "response_format.json_schema.strict"},
      {R"("response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {}, "x": 1}})",
       "response_format.json_schema.x"},
      {R"("presence_penalty": 0.5)", "presence_penalty"},
      {R"("prompt": "p")", "prompt"},
      {R"("inputs": {"a": 1})", "inputs.a"},
  };
  for (const auto& [fields, field] : wrong) EXPECT_EQ(WrongField(Chat(fields)), field) << fields;
  EXPECT_EQ(WrongField(R"({"messages": [{"role": "user", "content": "q"}]})"), "model");
  EXPECT_EQ(WrongField(R"({"model": "m"})"), "messages");
  EXPECT_EQ(WrongField("[]"), "(none)");
}

// The request of OpenAI's guide to structured outputs, and its older JSON mode. Fields of an object come in the order
// of the schema.
TEST(OpenAiRequest, ResponseFormatsBecomeConstraints) {
  const auto schema = Read(Chat(R"("response_format": {"type": "json_schema", "json_schema": {
      "name": "math_response", "strict": true, "description": null, "schema": {"type": "object", "properties": {
        "steps": {"type": "array", "items": {"type": "object", "properties": {"explanation": {"type": "string"},
          "output": {"type": "string"}}, "required": ["explanation", "output"], "additionalProperties": false}},
        "final_answer": {"type": "string"}}, "required": ["steps", "final_answer"], "additionalProperties": false}}})"));
  ASSERT_OK(schema.status());
  ASSERT_NE(schema->constraint, nullptr);
  EXPECT_EQ(schema->constraint->json_schema(),
            R"({"type":"object","properties":{"steps":{"type":"array","items":{"type":"object","properties":)"
            R"({"explanation":{"type":"string"},"output":{"type":"string"}},"required":["explanation","output"],)"
            R"("additionalProperties":false}},"final_answer":{"type":"string"}},)"
            R"("required":["steps","final_answer"],"additionalProperties":false})");
  const auto object = Read(Chat(R"("response_format": {"type": "json_object"})"));
  ASSERT_OK(object.status());
  EXPECT_EQ(object->constraint->json_schema(), R"({"type":"object"})");
  EXPECT_EQ(Read(Chat(R"("response_format": {"type": "text"})"))->constraint, nullptr);
  EXPECT_FALSE(ReadOpenAiRequest(R"({"model": "m", "prompt": "p", "response_format": {"type": "json_object"}})",
                                 OpenAiApi::kCompletions)
                   .ok());
}

TEST(OpenAiRequest, MessagesAreRead) {
  const auto with = [](const std::string& messages) {
    return WrongField(R"({"model": "m", "messages": )" + messages + "}");
  };
  EXPECT_EQ(with("[]"), "messages");
  EXPECT_EQ(with(R"(["q"])"), "messages[0]");
  EXPECT_EQ(with(R"([{"content": "q"}])"), "messages[0].role");
  EXPECT_EQ(with(R"([{"role": "tool", "content": "q"}])"), "messages[0].role");
  EXPECT_EQ(with(R"([{"role": "user"}])"), "messages[0].content");
  EXPECT_EQ(with(R"([{"role": "user", "content": "q", "name": "n"}])"), "messages[0].name");
  EXPECT_EQ(with(R"([{"role": "user", "content": [{"type": "image_url", "image_url": "x"}]}])"),
            "messages[0].content[0]");
  const auto read = Read(R"({"model": "m", "messages": [
      {"role": "developer", "content": "d"}, {"role": "user", "name": null,
       "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}]})");
  ASSERT_OK(read.status());
  EXPECT_EQ(read->messages[0].role(), "system");
  EXPECT_EQ(read->messages[1].content(), "ab");
}

TEST(OpenAiRequest, LimitsHoldAtTheLimitAndNotAboveIt) {
  const auto messages = [](int count) {
    std::string text = R"({"model": "m", "messages": [)";
    for (int i = 0; i < count; ++i) text += std::string(i > 0 ? "," : "") + R"({"role": "user", "content": "q"})";
    return text + "]}";
  };
  EXPECT_EQ(WrongField(messages(kMessagesMax)), "");
  EXPECT_EQ(WrongField(messages(kMessagesMax + 1)), "messages");
  EXPECT_EQ(WrongField(Chat(R"("n": )" + std::to_string(kChoicesMax))), "");
  EXPECT_EQ(WrongField(Chat(R"("n": )" + std::to_string(kChoicesMax + 1))), "n");
  const auto stops = [](int count, int bytes) {
    std::string text = R"("stop": [)";
    for (int i = 0; i < count; ++i)
      text += std::string(i > 0 ? "," : "") + "\"" + std::string(static_cast<size_t>(bytes), 's') + "\"";
    return Chat(text + "]");
  };
  EXPECT_EQ(WrongField(stops(kStopsMax, kStopBytesMax)), "");
  EXPECT_EQ(WrongField(stops(kStopsMax + 1, 1)), "stop");
  EXPECT_EQ(WrongField(stops(1, kStopBytesMax + 1)), "stop[0]");
  const auto schema = [](int32_t name, size_t bytes) {  // {"const":".."} has twelve bytes more than its text
    return Chat(R"("response_format": {"type": "json_schema", "json_schema": {"name": ")" +
                std::string(static_cast<size_t>(name), 'n') + R"(", "schema": {"const": ")" +
                std::string(bytes - 12, 's') + R"("}}})");
  };
  EXPECT_EQ(WrongField(schema(kSchemaNameBytesMax, kConstraintBytesMax)), "");
  EXPECT_EQ(WrongField(schema(kSchemaNameBytesMax + 1, 20)), "response_format.json_schema.name");
  EXPECT_EQ(WrongField(schema(1, kConstraintBytesMax + 1)), "response_format.json_schema.schema");
}

TEST(OpenAiRequest, CompletionsTakeAPrompt) {
  const auto read = ReadOpenAiRequest(R"({"model": "m", "prompt": "p"})", OpenAiApi::kCompletions);
  ASSERT_OK(read.status());
  EXPECT_EQ(QuestionOf(*read), "p");
  EXPECT_FALSE(ReadOpenAiRequest(R"({"model": "m", "prompt": ["p"]})", OpenAiApi::kCompletions).ok());
  EXPECT_FALSE(ReadOpenAiRequest(Chat(""), OpenAiApi::kCompletions).ok());
}

TEST(OpenAiRequest, AConversationBecomesAQuestion) {
  const auto read = Read(R"({"model": "m", "messages": [{"role": "system", "content": "Be brief."},
      {"role": "user", "content": "1 + 1?"}, {"role": "assistant", "content": "2"}, {"role": "user", "content": "Sure?"}]})");
  ASSERT_OK(read.status());
  EXPECT_EQ(QuestionOf(*read), "Be brief.\n\nUser: 1 + 1?\n\nAssistant: 2\n\nUser: Sure?");
}

}  // namespace
}  // namespace conclave::orchestrator
