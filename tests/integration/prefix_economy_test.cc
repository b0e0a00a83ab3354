// SPDX-License-Identifier: Apache-2.0
// What a council computes: a plan, eight proofs on it, a critic who reads all, three verifiers over the critic; once
// with prefixes found again and once without. Counted against the distinct tokens of its prompts, which are the nodes
// of the trie that they make.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <set>

#include "common/check.h"
#include "common/status.h"
#include "engine/engine.h"
#include "orchestrator/fleet/launcher.h"
#include "orchestrator/graph/compile.h"
#include "orchestrator/run/executor.h"
#include "orchestrator/run/executor_testing.h"
#include "orchestrator/service/build_run.h"
#include "orchestrator/store/memory_store.h"
#include "tests/testing/shared_data.h"
#include "tests/testing/status_matchers.h"

namespace conclave::orchestrator {
namespace {

namespace pb = ::conclave::deliberation::v1;
using ::conclave::testing::IsOk;

constexpr int32_t kBranches = 8, kVerifiers = 3;

constexpr std::string_view kGraph = R"(
name: "economy" input { name: "question" }
node { name: "plan" speak { role: "planner" members: "m" } }
node { name: "proof" speak { role: "prover" members: "m" samples: 8 sees { node: "plan" } } }
node { name: "critique" speak { role: "critic" members: "m" sees { node: "proof" } } }
node { name: "verdicts" judge { role: "verifier" members: "m" of: "critique" samples: 3 } }
node { name: "verdict" pick { of: "critique" by: BEST_OF_N weight: "verdicts.mean_score" } }
)";

struct Told {
  std::vector<pb::CallFinished> calls;
  pb::Ledger ledger;
  double seconds = 0;
};

// The council on a worker of its own.
Told Deliberate(const std::string& model, const std::string& question, int32_t output_tokens, bool reuse) {
  pb::Fleet fleet;
  pb::Member* member = fleet.add_member();
  member->set_name("m");
  member->mutable_model()->set_path(model);
  member->mutable_model()->set_threads(2);
  member->mutable_model()->set_prefix_reuse(reuse);
  const auto checked = CheckFleet(fleet, "fleet", "", "");
  CONCLAVE_CHECK(checked.ok());
  LaunchOptions options;
  options.worker_binary = CONCLAVE_BINARY_DIR "/bin/conclave-worker";
  const auto launched = LaunchedFleet::Launch(*checked, options);
  CONCLAVE_CHECK_MSG(launched.ok(), launched.status().ToString().c_str());
  Backend* backend = &(*launched)->backend();
  const std::unique_ptr<Store> store = NewMemoryStore();
  const std::unique_ptr<Executor> executor = *Executor::Start({.store = store.get(), .backend = backend});

  RoleLibrary roles;
  CONCLAVE_CHECK(roles.AddDirectory(CONCLAVE_SOURCE_DIR "/graphs/roles").ok());
  auto graph = CompileGraphText(kGraph, "economy.textproto", roles).ToStatusOr();
  CONCLAVE_CHECK_MSG(graph.ok(), graph.status().ToString().c_str());
  NewRun run;
  run.graph = *std::move(graph);
  (*run.request.mutable_inputs())["question"] = question;
  run.request.mutable_sampling()->set_max_output_tokens(output_tokens);
  run.request.mutable_sampling()->set_temperature(1);
  run.spec = *BuildRunSpec(*run.graph, run.request, {}, backend->Describe());
  run.spec.seed = 7;
  const auto begin = std::chrono::steady_clock::now();
  const auto recorder = std::make_shared<Recorder>();
  EXPECT_OK(StartAndWait(executor.get(), std::move(run), recorder));
  EXPECT_OK(recorder->Await());
  Told told;
  told.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  for (const pb::Event& event : recorder->events()) {
    EXPECT_FALSE(event.has_call_lost()) << event.call_lost().message();
    if (event.has_call_finished()) told.calls.push_back(event.call_finished());
    if (event.has_run_finished()) told.ledger = event.run_finished().ledger();
  }
  return told;
}

// Distinct tokens of the prompts of calls: their sequences are paths from one root.
class Distinct {
 public:
  explicit Distinct(const std::string& model) {
    engine::EngineOptions options;
    options.model_path = model;
    options.threads = 1;
    options.kv_bytes = 4 << 20;
    engine_ = *engine::Engine::Create(options);
  }
  int64_t Of(const std::vector<pb::CallFinished>& calls) const {
    std::set<std::vector<engine::TokenId>> prefixes;
    for (const pb::CallFinished& call : calls) {
      std::vector<engine::ChatMessage> messages;
      for (const pb::PromptMessage& message : call.prompt()) messages.push_back({message.role(), message.content()});
      const auto prompt = engine_->ApplyChatTemplate(messages, /*add_generation_prompt=*/true, 0)->tokens;
      EXPECT_EQ(std::ssize(prompt), call.usage().prompt_token_count());
      for (size_t size = 1; size <= prompt.size(); ++size)
        prefixes.emplace(prompt.begin(), prompt.begin() + static_cast<int64_t>(size));
    }
    return std::ssize(prefixes);
  }

 private:
  std::unique_ptr<engine::Engine> engine_;
};

std::vector<pb::CallFinished> Of(const Told& told, const std::string& role) {
  std::vector<pb::CallFinished> calls;
  for (const pb::CallFinished& call : told.calls) {
    if (call.role() == role) calls.push_back(call);
  }
  return calls;
}

int64_t Output(const std::vector<pb::CallFinished>& calls) {
  int64_t tokens = 0;
  for (const pb::CallFinished& call : calls) tokens += call.usage().output_token_count();
  return tokens;
}

int64_t Computed(const std::vector<pb::CallFinished>& calls) {
  int64_t tokens = Output(calls);
  for (const pb::CallFinished& call : calls) {
    tokens += call.usage().prompt_token_count() - call.usage().cached_prompt_token_count();
  }
  return tokens;
}

void Check(const std::string& model, const std::string& question, int32_t output_tokens) {
  const Told with = Deliberate(model, question, output_tokens, true);
  const Told without = Deliberate(model, question, output_tokens, false);
  const Distinct distinct(model);
  ASSERT_EQ(with.calls.size(), size_t{1 + kBranches + 1 + kVerifiers});
  ASSERT_EQ(without.calls.size(), with.calls.size());
  const auto branches = Of(with, "prover");
  const double computed = static_cast<double>(Computed(with.calls));
  const double ideal = static_cast<double>(distinct.Of(with.calls) + Output(with.calls));
  const double of_branches = static_cast<double>(Computed(branches));
  const double ideal_of_branches = static_cast<double>(distinct.Of(branches) + Output(branches));
  fmt::print("computed {} of {} distinct tokens: {:.3f}; branches {} of {}: {:.3f}\n", computed, ideal,
             computed / ideal, of_branches, ideal_of_branches, of_branches / ideal_of_branches);
  fmt::print("{} of {} prompt tokens and {:.3g} FLOPs saved; {:.2f} s, without reuse {:.2f} s\n",
             with.ledger.cached_tokens(), with.ledger.prompt_tokens(), with.ledger.saved_flops(), with.seconds,
             without.seconds);
  // Prefixes are shared to the token: of a prompt that is there, the last one is computed again for its logits.
  EXPECT_LE(computed, ideal + static_cast<double>(with.calls.size() - 1));
  EXPECT_LE(of_branches, ideal_of_branches + (kBranches - 1));
  const auto verifiers = Of(with, "verifier");
  EXPECT_LE(Computed(verifiers) - Output(verifiers), distinct.Of(verifiers) + (kVerifiers - 1));

  // Reuse changes work, not words: what the ledger says is saved is what is spent without it.
  std::multiset<std::string> texts, texts_without;
  for (const pb::CallFinished& call : with.calls) texts.insert(call.text());
  for (const pb::CallFinished& call : without.calls) texts_without.insert(call.text());
  EXPECT_EQ(texts, texts_without);
  EXPECT_EQ(without.ledger.cached_tokens(), 0);
  EXPECT_EQ(without.ledger.saved_flops(), 0);
  EXPECT_GT(with.ledger.saved_flops(), 0);
  EXPECT_EQ(with.ledger.flops() + with.ledger.saved_flops(), without.ledger.flops());
}

TEST(PrefixEconomy, OfASmallShippedModel) {
  std::string question = "1";
  for (int i = 2; i <= 40; ++i) question += fmt::format(" + {}", i);
  Check(CONCLAVE_SOURCE_DIR "/zoo/models/m11", question + " =", 24);
}

TEST(PrefixEconomy, OfSmolLM2) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "sanitised kernels are some fifty times slower";
#endif
  const std::string model = testing::CachedModelPath("SmolLM2-135M-Instruct.Q4_1.gguf");
  if (model.empty()) GTEST_SKIP() << "needs ~/.cache/conclave/SmolLM2-135M-Instruct.Q4_1.gguf; deploy/demo fetches it";
  Check(model,
        "A robe takes 2 bolts of blue fiber and half that much white fiber. A tailor makes 7 robes a week and pays 3 "
        "dollars for a bolt. How many dollars does he spend on fiber in 4 weeks?",
        96);
}

}  // namespace
}  // namespace conclave::orchestrator
