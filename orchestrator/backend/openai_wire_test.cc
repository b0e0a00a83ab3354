// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/backend/openai_wire.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>

#include "orchestrator/backend/worker_call.h"
#include "orchestrator/http/json.h"
#include "tests/testing/status_matchers.h"

namespace conclave::orchestrator {
namespace {

using ::conclave::testing::IsOk;
using ::conclave::testing::StatusIs;
using ::testing::ElementsAre;
using ::testing::FloatEq;
using ::testing::HasSubstr;
using Json = http::Json;

CallRequest Request() {
  CallRequest request;
  request.prompt.emplace_back();
  request.prompt[0].set_role("user");
  request.prompt[0].set_content("6 x 7?");
  request.seed = 7;
  return request;
}

TEST(ToOpenAi, SendsOnlyWhatTheServerDeclares) {
  CallRequest request = Request();
  request.sampling.set_temperature(0.7f);
  request.sampling.set_top_p(0.9f);
  request.sampling.set_max_output_tokens(12);
  request.sampling.add_stop("END");
  request.sampling.set_top_k(40);
  request.sampling.set_min_p(0.05f);
  request.sampling.set_repetition_penalty(1.1f);
  request.token_trace = true;
  request.ignore_eos = true;
  Json expected = Json::parse(R"({"model": "llama", "messages": [{"role": "user", "content": "6 x 7?"}],
      "stream": true, "stream_options": {"include_usage": true}, "temperature": 0.7, "top_p": 0.9, "max_tokens": 12,
      "stop": ["END"]})");
  EXPECT_EQ(Json::parse(*ToOpenAi(request, "llama", {.seed = false, .logprobs = false, .extended_sampling = false})),
            expected);
  expected.update(Json::parse(R"({"seed": 7, "top_k": 40, "min_p": 0.05, "repetition_penalty": 1.1,
                                  "ignore_eos": true, "logprobs": true, "top_logprobs": 20})"));
  EXPECT_EQ(Json::parse(*ToOpenAi(request, "llama", {})), expected);
  request.token_trace = false;
  request.logprobs = 3;
  expected["top_logprobs"] = 3;
  EXPECT_EQ(Json::parse(*ToOpenAi(request, "llama", {})), expected);
}

TEST(ToOpenAi, ASchemaIsAResponseFormatWhereTheServerDeclaresIt) {
  CallRequest request = Request();
  deliberation::v1::OutputConstraint constraint;
  constraint.set_json_schema(R"({"type": "integer"})");
  request.constraint = std::make_shared<const deliberation::v1::OutputConstraint>(constraint);
  EXPECT_EQ(Json::parse(*ToOpenAi(request, "m", {}))["response_format"], Json::parse(R"({"type": "json_schema",
                            "json_schema": {"name": "answer", "strict": true, "schema": {"type": "integer"}}})"));
  EXPECT_FALSE(Json::parse(*ToOpenAi(request, "m", {.json_schema = false})).contains("response_format"));
  constraint.set_regex("a");
  request.constraint = std::make_shared<const deliberation::v1::OutputConstraint>(constraint);
  EXPECT_FALSE(Json::parse(*ToOpenAi(request, "m", {})).contains("response_format"));
  constraint.set_json_schema("{");
  request.constraint = std::make_shared<const deliberation::v1::OutputConstraint>(constraint);
  EXPECT_THAT(ToOpenAi(request, "m", {}).status(), StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST(ToOpenAi, SeedsFitSixtyThreeBits) {
  CallRequest request = Request();
  request.seed = ~uint64_t{0};
  EXPECT_EQ(Json::parse(*ToOpenAi(request, "m", {}))["seed"], 9223372036854775807);
}

std::string Chunk(const std::string& choice) { return R"({"id": "x", "choices": [)" + choice + "]}"; }

TEST(OpenAiReader, ReadsAStream) {
  OpenAiReader reader(/*traces=*/false);
  CallDelta delta;
  EXPECT_OK(reader.Take(Chunk(R"({"index": 0, "delta": {"role": "assistant", "content": ""}})"), &delta));
  EXPECT_EQ(delta.text, "");
  EXPECT_OK(reader.Take(Chunk(R"({"index": 0, "delta": {"content": "It is "}, "finish_reason": null})"), &delta));
  EXPECT_EQ(delta.text, "It is ");
  EXPECT_OK(reader.Take(Chunk(R"({"delta": {"reasoning_content": "hm", "content": null}})"), &delta));
  EXPECT_OK(reader.Take(Chunk(R"({"delta": {"content": "42"}})"), &delta));
  EXPECT_THAT(reader.Finish(), StatusIs(absl::StatusCode::kUnavailable, HasSubstr("in the middle")));
  EXPECT_OK(reader.Take(Chunk(R"({"delta": {}, "finish_reason": "length"})"), &delta));
  EXPECT_OK(reader.Take(R"({"choices": [], "system_fingerprint": "fp", "usage": {"prompt_tokens": 9,
      "completion_tokens": 4, "prompt_tokens_details": {"cached_tokens": 5}}})",
                        &delta));
  EXPECT_OK(reader.Take("[DONE]", &delta));
  EXPECT_OK(reader.Finish());
  EXPECT_EQ(reader.text(), "It is 42");
  EXPECT_EQ(reader.finish_reason(), inference::v1::FINISH_REASON_LENGTH);
  EXPECT_EQ(reader.fingerprint(), "fp");
  ASSERT_TRUE(reader.tokens().has_value());
  EXPECT_EQ(reader.tokens()->prompt, 9);
  EXPECT_EQ(reader.tokens()->cached, 5);
  EXPECT_EQ(reader.tokens()->output, 4);
  EXPECT_FALSE(reader.trace().has_value());
}

TEST(OpenAiReader, ReadsLogProbabilities) {
  OpenAiReader reader(/*traces=*/true);
  CallDelta delta;
  ASSERT_OK(reader.Take(Chunk(R"({"delta": {"content": "4"}, "logprobs": {"content": [
      {"token": "4", "logprob": -0.5, "top_logprobs": [{"logprob": -0.5}, {"logprob": -2.5}]},
      {"token": "2", "logprob": -1.0, "top_logprobs": [{"logprob": -1.0}]}]}})"),
                        &delta));
  ASSERT_TRUE(reader.trace().has_value());
  EXPECT_DOUBLE_EQ(reader.trace()->logprob_sum, -1.5);
  EXPECT_THAT(reader.trace()->confidences, ElementsAre(FloatEq(1.5f), FloatEq(1.0f)));  // minus the means
}

TEST(OpenAiReader, ReadsTokensWithTheirBytes) {
  OpenAiReader reader(/*traces=*/false);
  CallDelta delta;
  ASSERT_OK(reader.Take(Chunk(R"({"delta": {"content": "4\u00e9"}, "logprobs": {"content": [
      {"token": "4", "logprob": -0.5, "bytes": null, "top_logprobs": []},
      {"token": "bytes:c3", "logprob": -1, "bytes": [195], "top_logprobs": [{"token": "x", "logprob": -0.25}]},
      {"token": "bytes:a9", "logprob": -2, "bytes": [169]}]}})"),
                        &delta));
  ASSERT_EQ(delta.logprobs.size(), 3u);
  EXPECT_EQ(delta.logprobs[0].chosen().text() + delta.logprobs[1].chosen().text() + delta.logprobs[2].chosen().text(),
            delta.text);
  EXPECT_EQ(delta.logprobs[1].chosen().logprob(), -1);
  ASSERT_EQ(delta.logprobs[1].top_size(), 1);
  EXPECT_EQ(delta.logprobs[1].top(0).text(), "x");
  EXPECT_FALSE(reader.trace().has_value());
  for (const char* wrong : {R"({"bytes": [256], "logprob": -1})", R"({"bytes": [-1], "logprob": -1})",
                            R"({"bytes": "a", "logprob": -1})", R"({"logprob": "-1"})", R"({"token": "a"})", "3"}) {
    EXPECT_THAT(reader.Take(Chunk(fmt::format(R"({{"delta": {{}}, "logprobs": {{"content": [{}]}}}})", wrong)), &delta),
                StatusIs(absl::StatusCode::kDataLoss))
        << wrong;
  }
}

TEST(OpenAiReader, WhatIsNoStreamIsAnError) {
  const std::vector<std::pair<std::string, absl::StatusCode>> wrong = {
      {"garbage", absl::StatusCode::kDataLoss},
      {"", absl::StatusCode::kDataLoss},
      {"[]", absl::StatusCode::kDataLoss},
      {"{}", absl::StatusCode::kDataLoss},
      {std::string(100'000, '['), absl::StatusCode::kDataLoss},
      {Chunk(R"({"delta": {"content": 3}})"), absl::StatusCode::kDataLoss},
      {Chunk(R"({"delta": {}, "finish_reason": "tool_calls"})"), absl::StatusCode::kDataLoss},
      {Chunk(R"({"delta": {}, "finish_reason": "content_filter"})"), absl::StatusCode::kFailedPrecondition},
      {Chunk(R"({"delta": {}, "logprobs": {"content": [{"logprob": -1}]}})"), absl::StatusCode::kDataLoss},
      {R"({"choices": [], "usage": {"prompt_tokens": -1}})", absl::StatusCode::kDataLoss},
      {R"({"choices": [], "usage": {"prompt_tokens": 1e30}})", absl::StatusCode::kDataLoss},
      {R"({"error": {"message": "out of memory"}})", absl::StatusCode::kUnavailable},
      {R"({"error": {"message": "too long", "code": 400}})", absl::StatusCode::kInvalidArgument},
      {R"({"error": "busy"})", absl::StatusCode::kUnavailable},
  };
  for (const auto& [data, code] : wrong) {
    OpenAiReader reader(/*traces=*/true);
    CallDelta delta;
    EXPECT_THAT(reader.Take(data, &delta), StatusIs(code)) << data.substr(0, 100);
  }
  OpenAiReader after(/*traces=*/false);
  CallDelta delta;
  EXPECT_OK(after.Take("[DONE]", &delta));
  EXPECT_FALSE(after.Take(Chunk("{}"), &delta).ok());
}

TEST(OpenAiReader, TextsAreAsLongAsTheLimit) {
  OpenAiReader reader(/*traces=*/false);
  CallDelta delta;
  const std::string half = Chunk(R"({"delta": {"content": ")" + std::string(kCallTextBytesMax / 2, 'x') + "\"}}");
  EXPECT_OK(reader.Take(half, &delta));
  EXPECT_OK(reader.Take(half, &delta));
  EXPECT_THAT(reader.Take(Chunk(R"({"delta": {"content": "x"}})"), &delta),
              StatusIs(absl::StatusCode::kResourceExhausted));
}

TEST(OpenAiError, MapsEveryKind) {
  const std::vector<std::pair<int, absl::StatusCode>> kinds = {
      {400, absl::StatusCode::kInvalidArgument},   {401, absl::StatusCode::kUnauthenticated},
      {403, absl::StatusCode::kPermissionDenied},  {404, absl::StatusCode::kNotFound},
      {408, absl::StatusCode::kUnavailable},       {422, absl::StatusCode::kInvalidArgument},
      {429, absl::StatusCode::kResourceExhausted}, {500, absl::StatusCode::kUnavailable},
      {502, absl::StatusCode::kUnavailable},       {503, absl::StatusCode::kUnavailable},
      {504, absl::StatusCode::kUnavailable},       {302, absl::StatusCode::kInternal},
      {501, absl::StatusCode::kInternal}};
  for (const auto& [status, code] : kinds) {
    EXPECT_THAT(OpenAiError(status, R"({"error": {"message": "why"}})"), StatusIs(code, HasSubstr("why"))) << status;
  }
  EXPECT_THAT(OpenAiError(500, "<html>oops").message(), HasSubstr("HTTP 500: <html>oops"));
  EXPECT_THAT(OpenAiError(500, R"({"message": "plain"})").message(), HasSubstr("HTTP 500: plain"));
}

TEST(RetryAfter, IsSecondsOrNothing) {
  EXPECT_EQ(RetryAfterNs("2"), 2'000'000'000);
  EXPECT_EQ(RetryAfterNs("0.5"), 500'000'000);
  EXPECT_EQ(RetryAfterNs("0"), 0);
  for (const char* text : {"", "-1", "Wed, 21 Oct 2015 07:28:00 GMT", "1e9", "nan", "2s"}) {
    EXPECT_EQ(RetryAfterNs(text), std::nullopt) << text;
  }
}

}  // namespace
}  // namespace conclave::orchestrator
