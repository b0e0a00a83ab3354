// SPDX-License-Identifier: Apache-2.0
// Every shipped graph on real weights: a member of the scale model, in a real worker process, takes every seat. What is
// tested is that each graph runs to its end with real words, which meet no contract by design: that runs end, that
// books balance, that prefixes are found again, and that the same seed gives the same run.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <map>

#include "common/check.h"
#include "common/file.h"
#include "common/status.h"
#include "orchestrator/backend/worker_backend.h"
#include "orchestrator/graph/binding.h"
#include "orchestrator/graph/compile.h"
#include "orchestrator/run/executor.h"
#include "orchestrator/run/executor_testing.h"
#include "orchestrator/store/memory_store.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/worker_child.h"

namespace conclave::orchestrator {
namespace {

namespace fs = std::filesystem;
namespace pb = ::conclave::deliberation::v1;

constexpr int64_t kConnectNs = 20'000'000'000;
constexpr int32_t kOutputTokens = 24;
const std::string kGraphs = CONCLAVE_SOURCE_DIR "/graphs";
const std::vector<std::string> kMembers = {
    "solver",  "planner", "critic",         "verifier",        "cheap",           "dear",        "judge", "dense/a",
    "dense/b", "dense/c", "expert/algebra", "expert/geometry", "expert/counting", "expert/logic"};

std::map<std::string, std::shared_ptr<const CompiledGraph>> ShippedGraphs() {
  RoleLibrary roles;
  EXPECT_OK(roles.AddDirectory(kGraphs + "/roles"));
  std::map<std::string, std::shared_ptr<const CompiledGraph>> graphs;
  for (const auto& entry : fs::directory_iterator(kGraphs)) {
    if (entry.path().extension() != ".textproto") continue;
    const auto text = ReadFile(entry.path());
    EXPECT_OK(text);
    auto graph = CompileGraphText(*text, entry.path(), roles, GraphsIn({kGraphs})).ToStatusOr();
    EXPECT_OK(graph.status());
    if (graph.ok()) graphs[entry.path().stem()] = *std::move(graph);
  }
  return graphs;
}

NewRun RunOf(const std::shared_ptr<const CompiledGraph>& graph) {
  NewRun run;
  run.graph = graph;
  for (const std::string& member : kMembers) run.spec.members.push_back({member, 1, {}});
  run.spec.binding = *ResolveBinding(*graph, {}, kMembers);
  // Long beside a page of KV, so that prefixes found again show.
  std::string question = "1";
  for (int i = 2; i <= 40; ++i) question += fmt::format(" + {}", i);
  run.spec.inputs["question"] = question + " =";
  run.spec.seed = 5;
  run.spec.sampling.set_max_output_tokens(kOutputTokens);
  return run;
}

TEST(ShippedGraphs, RunToTheirEndOnRealWeights) {
  testing::WorkerChild worker(CONCLAVE_SOURCE_DIR "/zoo/models/m11");
  std::vector<WorkerMember> members;
  for (const std::string& name : kMembers) members.push_back({.name = name, .addresses = {worker.address()}});
  auto connected = ConnectWorkers(members, {}, kConnectNs);
  ASSERT_OK(connected);
  const std::unique_ptr<Backend> backend = *std::move(connected);
  const std::unique_ptr<Store> store = NewMemoryStore();
  const std::unique_ptr<Executor> executor = *Executor::Start({.store = store.get(), .backend = backend.get()});

  for (const auto& [name, graph] : ShippedGraphs()) {
    std::vector<std::string> results;
    for (int repeat = 0; repeat < 2; ++repeat) {
      const auto run = std::make_shared<Recorder>();
      ASSERT_OK(StartAndWait(executor.get(), RunOf(graph), run)) << name;
      ASSERT_OK(run->Await()) << name;
      int64_t calls = 0, output = 0, prompt = 0, cached = 0, traces = 0, scores = 0;
      for (const pb::Event& event : run->events()) {
        EXPECT_FALSE(event.has_call_lost()) << name << ": " << event.call_lost().message();
        if (!event.has_call_finished()) continue;
        const pb::CallFinished& call = event.call_finished();
        ++calls;
        output += call.usage().output_token_count();
        prompt += call.usage().prompt_token_count();
        cached += call.usage().cached_prompt_token_count();
        traces += call.has_token_confidence() ? 1 : 0;
        scores += call.has_score() ? 1 : 0;
      }
      const pb::RunFinished finished = run->events().back().run_finished();
      EXPECT_EQ(finished.state(), pb::RUN_STATE_SUCCEEDED) << name << ": " << finished.message();
      EXPECT_EQ(finished.ledger().calls(), calls) << name;
      EXPECT_EQ(finished.ledger().output_tokens(), output) << name;
      EXPECT_EQ(finished.ledger().prompt_tokens(), prompt) << name;
      EXPECT_GT(calls, 0) << name;
      if (name == "confidence_vote") {
        EXPECT_GT(cached, prompt / 2)
            << "the question about the writer's own words stands on a prefix that its worker has";
        EXPECT_EQ(scores, calls / 2);
      }
      if (name == "token_confidence_vote") {
        EXPECT_EQ(traces, calls);
      }
      results.push_back(finished.text() + "/" + finished.answer() + "/" + std::to_string(calls));
    }
    EXPECT_EQ(results[0], results[1]) << name << ": the same seed";
  }
}

// The example of graphs/examples/ruled.textproto, once as it is and once without what its judge is held to.
std::vector<pb::Event> RulingsOf(Executor* executor, bool constrained) {
  RoleLibrary roles;
  EXPECT_OK(roles.AddDirectory(kGraphs + "/examples/roles"));
  RoleLibrary chosen;
  for (const std::string& name : roles.names()) {
    pb::Role role = roles.Find(name)->proto;
    if (!constrained) role.clear_constraint();
    EXPECT_OK(chosen.Add(role));
  }
  auto graph = CompileGraphText(*ReadFile(kGraphs + "/examples/ruled.textproto"), "ruled.textproto", chosen);
  NewRun run;
  run.graph = *std::move(graph).ToStatusOr();
  const std::vector<std::string> members = {"left", "judge"};
  for (const std::string& member : members) run.spec.members.push_back({member, 1, {}});
  run.spec.binding = *ResolveBinding(*run.graph, {}, members);
  run.spec.inputs["question"] = "What is 3 + 4?";
  run.spec.seed = 3;
  const auto recorder = std::make_shared<Recorder>();
  EXPECT_OK(StartAndWait(executor, std::move(run), recorder));
  EXPECT_OK(recorder->Await());
  return recorder->events();
}

// A model that has never seen the judge's question rules in every call where a grammar holds it to ruling, and in none
// where nothing does.
TEST(ShippedGraphs, AJudgeUnderAGrammarRules) {
  testing::WorkerChild worker(CONCLAVE_SOURCE_DIR "/zoo/models/m11");
  auto connected = ConnectWorkers(
      {{.name = "left", .addresses = {worker.address()}}, {.name = "judge", .addresses = {worker.address()}}}, {},
      kConnectNs);
  ASSERT_OK(connected);
  const std::unique_ptr<Backend> backend = *std::move(connected);
  const std::unique_ptr<Store> store = NewMemoryStore();
  const std::unique_ptr<Executor> executor = *Executor::Start({.store = store.get(), .backend = backend.get()});
  for (const bool constrained : {true, false}) {
    int rulings = 0, read = 0, repairs = 0;
    for (const pb::Event& event : RulingsOf(executor.get(), constrained)) {
      EXPECT_FALSE(event.has_call_lost()) << event.call_lost().message();
      if (!event.has_call_finished() || event.call_finished().role() != "ruler") continue;
      const pb::CallFinished& call = event.call_finished();
      ++rulings;
      read += call.has_score() ? 1 : 0;
      repairs += call.will_repair() ? 1 : 0;
      if (!constrained) continue;
      EXPECT_TRUE(call.text().starts_with("RULING: pass ") || call.text().starts_with("RULING: veto ")) << call.text();
      EXPECT_EQ(call.finish_reason(), ::conclave::inference::v1::FINISH_REASON_STOP) << call.text();
      const std::string sure = call.text().substr(13);
      EXPECT_TRUE(!sure.empty() && sure.find_first_not_of("0123456789") == sure.npos && std::stoi(sure) <= 100) << sure;
    }
    std::printf("%s: %d rulings, %d read, %d asked again\n", constrained ? "grammar" : "free", rulings, read, repairs);
    EXPECT_GT(rulings, 0);
    EXPECT_EQ(read, constrained ? rulings : 0);
    EXPECT_EQ(repairs, constrained ? 0 : rulings / 2);
  }
}

}  // namespace
}  // namespace conclave::orchestrator
