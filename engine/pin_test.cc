// SPDX-License-Identifier: Apache-2.0
// Pinned prompts: found whatever passes through the cache, counted, limited, and in nobody's way.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <optional>
#include <thread>

#include "common/mutex.h"
#include "tests/testing/tiny_engine.h"

namespace conclave::engine {
namespace {

using ::testing::HasSubstr;
using testing::StatusIs;
using testing::TinyEngine;

constexpr int32_t kPageTokens = 32, kContext = 160;  // the longest sequence takes 5 pages and a copy

// An engine of `pages` KV pages.
EngineOptions Pages(int32_t pages) {
  EngineOptions options = TinyEngine::Options();
  options.context_tokens_max = kContext;
  static const int64_t page_bytes = [&] {
    const TinyEngine engine(options);
    EXPECT_EQ(engine->memory().page_tokens, kPageTokens);
    return engine->memory().kv_bytes / engine->memory().kv_pages;
  }();
  options.kv_bytes = pages * page_bytes;
  return options;
}

std::vector<TokenId> Prompt(uint64_t number, int32_t tokens) { return TinyEngine::Request(number, tokens, 1).prompt; }

absl::StatusOr<PinResult> Pin(const TinyEngine& engine, std::vector<TokenId> prompt, std::string salt = "") {
  Mutex mutex;
  CondVar told;
  std::optional<absl::StatusOr<PinResult>> result;
  PinRequest request;
  request.prompt = std::move(prompt);
  request.cache_salt = std::move(salt);
  const absl::Status status = engine->Pin(std::move(request), [&](absl::StatusOr<PinResult> pinned) {
    MutexLock lock(&mutex);
    result = std::move(pinned);
    told.Signal();
  });
  if (!status.ok()) return status;
  MutexLock lock(&mutex);
  while (!result.has_value()) told.Wait(&mutex);
  return *result;
}

// Tokens of the prompt that were in the cache. Each time another prompt, so that none finds itself.
int64_t Cached(const TinyEngine& engine, std::vector<TokenId> prompt, TokenId next, std::string salt = "") {
  GenerateRequest request = TinyEngine::Request(3, 1, 1);
  request.prompt = std::move(prompt);
  request.prompt.push_back(next);
  request.cache_salt = std::move(salt);
  const auto generation = engine.Submit(request);
  EXPECT_OK(generation->Wait().status());
  return generation->usage().cached_prompt_tokens;
}

// Returns when no request is left and no page is used but by pins.
void AwaitIdle(const TinyEngine& engine) {
  while (!engine->idle() || engine->load().kv_pages_used > engine->load().kv_pages_pinned) std::this_thread::yield();
}

// More than the pages hold.
void Flood(const TinyEngine& engine) {
  for (uint64_t number = 0; number < 30; ++number) engine.Alone(TinyEngine::Request(500 + number, 140, 4));
}

TEST(Pin, StaysFoundUntilItIsReleased) {
  const TinyEngine engine(Pages(24));
  const std::vector<TokenId> prompt = Prompt(7, 100), other = Prompt(8, 100);
  EXPECT_EQ(Cached(engine, other, 1), 0);
  const auto pin = Pin(engine, prompt);
  ASSERT_OK(pin);
  EXPECT_EQ(pin->tokens, 100);
  EXPECT_EQ(pin->pages, 4);
  EXPECT_EQ(pin->usage.prompt_tokens, 100);
  EXPECT_EQ(pin->usage.cached_prompt_tokens, 0);
  EXPECT_EQ(engine->load().kv_pages_pinned, 4);
  AwaitIdle(engine);  // a pin is no running request
  Flood(engine);
  EXPECT_EQ(Cached(engine, other, 2), 0) << "what is not pinned is gone";
  EXPECT_EQ(Cached(engine, prompt, 1), 100);
  EXPECT_EQ(Cached(engine, prompt, 2), 100);
  EXPECT_EQ(Cached(engine, prompt, 3, "another tenant"), 0);
  Flood(engine);
  EXPECT_EQ(Cached(engine, prompt, 4), 100) << "also of the page that others went on from";
  engine->Unpin(pin->id);
  engine->Unpin(pin->id + 1000);  // unknown: ignored
  Flood(engine);
  EXPECT_EQ(Cached(engine, prompt, 5), 0);
  EXPECT_EQ(engine->load().kv_pages_pinned, 0);
  AwaitIdle(engine);
}

TEST(Pin, SeveralShareWhatTheyHaveInCommon) {
  const TinyEngine engine(Pages(40));
  std::vector<TokenId> longer = Prompt(7, 100);
  const auto first = Pin(engine, longer), same = Pin(engine, longer);
  ASSERT_OK(first);
  ASSERT_OK(same);
  EXPECT_EQ(same->usage.cached_prompt_tokens, 99) << "the last one's logits are wanted";
  EXPECT_EQ(engine->load().kv_pages_pinned, 4);
  longer.resize(140, 5);
  const auto more = Pin(engine, longer);
  ASSERT_OK(more);
  EXPECT_EQ(more->usage.cached_prompt_tokens, 100);
  EXPECT_EQ(more->pages, 5);
  EXPECT_EQ(engine->load().kv_pages_pinned, 6) << "three pages in common, and the beginning of the fourth twice";
  engine->Unpin(first->id);
  engine->Unpin(more->id);
  Flood(engine);
  longer.resize(100);
  EXPECT_EQ(Cached(engine, longer, 1), 100) << "one still holds it";
  EXPECT_EQ(engine->load().kv_pages_pinned, 4);
}

TEST(Pin, LimitOfPages) {
  const TinyEngine engine(Pages(9)), roomy(Pages(24));
  EXPECT_EQ(engine->memory().pinned_pages_max, 3) << "six are for the longest sequence";
  EXPECT_EQ(roomy->memory().pinned_pages_max, 12) << "half";
  const auto refused = StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("PREFIX_LIMIT"));
  EXPECT_THAT(Pin(engine, Prompt(1, 97)).status(), refused);
  const auto pin = Pin(engine, Prompt(1, 96));
  ASSERT_OK(pin);
  EXPECT_EQ(engine->load().kv_pages_pinned, 3);
  EXPECT_THAT(Pin(engine, Prompt(2, 1)).status(), refused);
  EXPECT_OK(Pin(engine, Prompt(1, 64)).status()) << "no further page";
  EXPECT_EQ(engine->load().kv_pages_pinned, 3);
  engine->Unpin(pin->id);
  EXPECT_OK(Pin(engine, Prompt(2, 1)).status());
  EXPECT_EQ(engine->load().kv_pages_pinned, 3);
}

TEST(Pin, AtTheLimitTheLongestSequencesStillRun) {
  const TinyEngine engine(Pages(9)), free(Pages(9));
  ASSERT_OK(Pin(engine, Prompt(1, 96)));
  std::vector<std::shared_ptr<testing::Generation>> generations;
  for (uint64_t number = 0; number < 6; ++number) {
    generations.push_back(engine.Submit(TinyEngine::Request(number, 20, kContext - 20)));
  }
  for (uint64_t number = 0; number < 6; ++number) {
    EXPECT_EQ(generations[number]->Wait().sample(0).tokens, free.Alone(TinyEngine::Request(number, 20, kContext - 20)));
  }
  EXPECT_EQ(Cached(engine, Prompt(1, 96), 1), 96);
}

TEST(Pin, WhatCannotBePinned) {
  const TinyEngine engine(Pages(24));
  EXPECT_THAT(Pin(engine, {}).status(), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("prompt")));
  EXPECT_THAT(Pin(engine, {1, -1}).status(), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("prompt[1]")));
  EXPECT_THAT(Pin(engine, Prompt(1, kContext + 1)).status(),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("PROMPT_TOO_LONG")));
  EXPECT_OK(Pin(engine, Prompt(1, kContext)).status());
  engine->Drain();
  EXPECT_THAT(Pin(engine, Prompt(1, 3)).status(), StatusIs(absl::StatusCode::kUnavailable, HasSubstr("DRAINING")));
  EngineOptions options = Pages(24);
  options.prefix_reuse = false;
  const TinyEngine forgetful(options);
  EXPECT_THAT(Pin(forgetful, Prompt(1, 3)).status(),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("CAPABILITY_MISSING")));
}

}  // namespace
}  // namespace conclave::engine
