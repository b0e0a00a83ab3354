// SPDX-License-Identifier: Apache-2.0
// A request ends once, whoever ends it.
#include <gtest/gtest.h>

#include <memory>

#include "common/mutex.h"
#include "engine/engine.h"
#include "tests/testing/tiny_engine.h"

namespace conclave::engine {
namespace {

using testing::Generation;
using testing::StatusIs;
using testing::TinyEngine;

// Holds the engine's thread at its end until released, so that what a test sends meanwhile arrives together.
class Holding final : public GenerateSink {
 public:
  void OnStarted(int64_t /*prompt_tokens*/, int64_t /*cached_prompt_tokens*/) override {}
  bool OnDelta(SampleDelta /*delta*/) override { return true; }
  void OnDone(const absl::Status& /*status*/, const Usage& /*usage*/) override {
    MutexLock lock(&mutex_);
    held_ = true;
    changed_.SignalAll();
    while (!released_) changed_.Wait(&mutex_);
  }
  void AwaitHeld() {
    MutexLock lock(&mutex_);
    while (!held_) changed_.Wait(&mutex_);
  }
  void Release() {
    MutexLock lock(&mutex_);
    released_ = true;
    changed_.SignalAll();
  }

 private:
  Mutex mutex_;
  CondVar changed_;
  bool held_ = false, released_ = false;
};

// Client and engine both see a deadline pass: the cancellation arrives with the request, or in the step that drops it.
TEST(Engine, ARequestThatIsCancelledTwiceAndTooLateEndsOnce) {
  const TinyEngine engine;
  const auto holding = std::make_shared<Holding>();
  ASSERT_OK(engine->Submit(TinyEngine::Request(1, 10, 1), holding));
  holding->AwaitHeld();
  GenerateRequest late = TinyEngine::Request(2, 10, 20);
  late.deadline_ns = 1;
  const auto ended = std::make_shared<Generation>();
  const auto id = engine->Submit(late, ended);
  ASSERT_OK(id);
  engine->Cancel(*id);
  engine->Cancel(*id);
  holding->Release();
  EXPECT_THAT(ended->Wait().status(), StatusIs(absl::StatusCode::kCancelled));
  EXPECT_OK(engine.Submit(TinyEngine::Request(3, 10, 2))->Wait().status());
  EXPECT_EQ(ended->times_done(), 1);
  EXPECT_EQ(engine->load().waiting_requests, 0);
  EXPECT_EQ(engine->load().waiting_tokens, 0);
  engine->Drain();
  while (!engine->idle()) {
  }
}

}  // namespace
}  // namespace conclave::engine
