// SPDX-License-Identifier: Apache-2.0
// A graph of one node with one member is the plain model, token for token: what an experiment calls a baseline is one.
// The graph runs over a real conclave-worker process; the plain model is the engine in this process, given the prompt,
// the seed and the sampling that the run's record shows, and nothing else.
#include <gtest/gtest.h>

#include "common/check.h"
#include "common/mutex.h"
#include "common/status.h"
#include "orchestrator/backend/worker_backend.h"
#include "orchestrator/graph/binding.h"
#include "orchestrator/graph/compile.h"
#include "orchestrator/run/executor.h"
#include "orchestrator/run/executor_testing.h"
#include "orchestrator/store/memory_store.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_dir.h"
#include "tests/testing/tiny_engine.h"
#include "tests/testing/worker_child.h"

namespace conclave::orchestrator {
namespace {

namespace pb = ::conclave::deliberation::v1;

constexpr int64_t kConnectNs = 20'000'000'000;
constexpr int32_t kOutputTokens = 96;

struct Sampling {
  float temperature, top_p;
};

NewRun OneNode(const Sampling& sampling, uint64_t seed, const std::string& question) {
  RoleLibrary roles;
  CONCLAVE_CHECK(
      roles
          .AddText(fmt::format("name: \"solver\" system: \"Short steps.\" task: \"{{{{ question }}}}\" answer {{}}"
                               "sampling {{ temperature: {} top_p: {} max_output_tokens: {} }}",
                               sampling.temperature, sampling.top_p, kOutputTokens),
                   "solver.textproto")
          .empty());
  auto graph = CompileGraphText(
                   "name: \"single\" input { name: \"question\" }"
                   "node { name: \"answer\" speak { role: \"solver\" members: \"solver\" } }",
                   "single.textproto", roles)
                   .ToStatusOr();
  CONCLAVE_CHECK_MSG(graph.ok(), graph.status().ToString().c_str());
  NewRun run;
  run.graph = *std::move(graph);
  run.spec.members.push_back({"m", 1, {}});
  pb::Binding seat;
  seat.set_name("solver");
  seat.add_members("m");
  run.spec.binding = *ResolveBinding(*run.graph, std::vector<pb::Binding>{seat}, std::vector<std::string>{"m"});
  run.spec.inputs["question"] = question;
  run.spec.seed = seed;
  return run;
}

// The one call of a run.
pb::CallFinished CallOf(const std::vector<pb::Event>& events) {
  std::vector<pb::CallFinished> calls;
  for (const pb::Event& event : events) {
    if (event.has_call_finished()) calls.push_back(event.call_finished());
  }
  CONCLAVE_CHECK(calls.size() == 1);
  return calls[0];
}

engine::GenerateRequest PlainRequest(const testing::TinyEngine& plain, const pb::CallFinished& call,
                                     const Sampling& sampling) {
  std::vector<engine::ChatMessage> messages;
  for (const pb::PromptMessage& message : call.prompt()) messages.push_back({message.role(), message.content()});
  engine::GenerateRequest request;
  request.prompt = plain->ApplyChatTemplate(messages, /*add_generation_prompt=*/true, 0)->tokens;
  request.seed = call.seed();
  request.sampling.temperature = sampling.temperature;
  request.sampling.top_p = sampling.top_p;
  request.stopping.output_tokens_max = kOutputTokens;
  return request;
}

TEST(PlainModel, AGraphOfOneNodeWithOneMemberIsThePlainModel) {
  testing::TempDir dir;
  testing::TinyModel().Write(dir.Path("tiny.gguf"));
  testing::WorkerChild worker(dir.Path("tiny.gguf"));
  auto connected = ConnectWorkers({{.name = "m", .addresses = {worker.address()}}}, {}, kConnectNs);
  ASSERT_OK(connected);
  const std::unique_ptr<Backend> backend = *std::move(connected);
  const std::unique_ptr<Store> store = NewMemoryStore();
  const std::unique_ptr<Executor> executor = *Executor::Start({.store = store.get(), .backend = backend.get()});
  const testing::TinyEngine plain;  // the same weights in this process

  int64_t tokens = 0;
  for (const Sampling sampling : {Sampling{0, 1}, Sampling{0.7f, 0.95f}, Sampling{1, 1}}) {
    // All at once, so that the worker batches what the plain model does alone.
    std::vector<std::shared_ptr<Recorder>> runs;
    for (uint64_t seed = 1; seed <= 6; ++seed) {
      runs.push_back(std::make_shared<Recorder>());
      const std::string question = fmt::format("What is {} + the {}?", 3 * seed, seed);
      ASSERT_OK(StartAndWait(executor.get(), OneNode(sampling, seed, question), runs.back()));
    }
    for (const auto& run : runs) {
      ASSERT_OK(run->Await());
      const std::vector<pb::Event> events = run->events();
      const pb::CallFinished call = CallOf(events);
      const auto alone = plain.Submit(PlainRequest(plain, call, sampling));
      ASSERT_OK(alone->Wait().status());
      EXPECT_EQ(call.text(), alone->sample().text) << "temperature " << sampling.temperature;
      EXPECT_EQ(call.usage().output_token_count(), static_cast<int64_t>(alone->sample().tokens.size()));
      EXPECT_EQ(call.usage().prompt_token_count(), alone->usage().prompt_tokens);
      EXPECT_EQ(events.back().run_finished().text(), alone->sample().text);
      EXPECT_EQ(events.back().run_finished().ledger().calls(), 1);
      tokens += call.usage().output_token_count();
    }
  }
  EXPECT_GT(tokens, 6 * kOutputTokens);  // most run to their limit, none is empty by accident
}

}  // namespace
}  // namespace conclave::orchestrator
