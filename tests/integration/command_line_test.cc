// SPDX-License-Identifier: Apache-2.0
// What scripts rely on: the exit code of every way to be wrong, and one line on stderr that says what, where and what
// to do. Runs the built programs.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "common/file.h"
#include "tests/integration/command_line.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_dir.h"
#include "tests/testing/tiny_model.h"

namespace conclave {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::StartsWith;
class CommandLine : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    unsetenv("CONCLAVE_ORCHESTRATOR");  // before any thread
    dir_ = new testing::TempDir;
    testing::TinyModel().Write(Path("tiny.gguf"));
    const std::string whole = *ReadFile(Path("tiny.gguf"), 1 << 24);
    Write("cut.gguf", whole.substr(0, whole.size() / 2));
    Write("fleet.textproto",
          "member { name: \"m\" model { path: \"tiny.gguf\" threads: 1 kv_bytes: 33554432 } }\n"
          "bind { name: \"solver\" member: \"m\" }\n");
    Write("typo_fleet.textproto", "member { name: \"m\"\n  modle { path: \"tiny.gguf\" } }\n");
    Write("unseated_fleet.textproto",
          "member { name: \"m\" model { path: \"absent.gguf\" } } member { name: \"n\" model { path: \"absent.gguf\" } "
          "}");
    Write("gone_fleet.textproto", "member { name: \"m\" worker_address: \"127.0.0.1:1\" }\n");
    Write("typo_graph.textproto",
          "name: \"g\" input { name: \"question\" }\n"
          "node { name: \"n\" speak { role: \"solvr\" members: \"m\" } }\n");
    Write("bad.jsonl", "{\"question\": \"1+1?\"}\nnot json\n");
    Write("good.jsonl", "{\"id\": \"a\", \"question\": \"1+1?\"}\n");
    Write("recorded.jsonl", "{\"id\": \"a\", \"model\": \"r\", \"text\": \"#### 2\"}\n");
    Write("items.jsonl", "{\"id\": \"a\", \"question\": \"1+1?\", \"answer\": \"2\"}\n");
    const std::string experiment =
        "name: \"x\" benchmark { path: \"items.jsonl\" }\n"
        "fleet { member { name: \"r\" recorded { path: \"recorded.jsonl\" } } }\n"
        "arm { name: \"one\" graph: \"single\" }\n";
    Write("experiment.textproto", experiment);
    Write("spent.textproto", experiment + "budget { calls: 0 }\n");
    Write("typo_experiment.textproto", experiment + "replicas: 2\n");
    Write("peeked.textproto", experiment + "chosen { what: WEIGHTS split: \"test\" }\n");
  }
  static void TearDownTestSuite() { delete dir_; }

  static std::string Path(const std::string& name) { return dir_->Path(name); }
  static void Write(const std::string& name, const std::string& text) {
    ASSERT_OK(WriteFileAtomically(Path(name), text));
  }

  static testing::TempDir* dir_;
};
testing::TempDir* CommandLine::dir_ = nullptr;

struct Mistake {
  Words arguments;
  int code;
  Words parts;  // of the one line
};

TEST_F(CommandLine, EveryMistakeHasItsCodeAndOneLine) {
  const std::string tiny = Path("tiny.gguf"), fleet = Path("fleet.textproto");
  const std::vector<Mistake> mistakes = {
      // ---- 2: usage
      {{}, 2, {"subcommand", "conclave --help"}},
      {{"aks", "x"}, 2, {"conclave --help"}},
      {{"ask"}, 2, {"question", "conclave ask --help"}},
      {{"ask", "x", "--colour"}, 2, {"--colour", "conclave ask --help"}},
      {{"ask", "x"}, 2, {"--fleet", "--model", "--orchestrator"}},
      {{"ask", "x", "--model", tiny, "--fleet", fleet}, 2, {"excludes"}},
      {{"ask", "x", "--model", tiny, "--bind", "solver"}, 2, {"--bind solver", "ROLE=MEMBER"}},
      {{"ask", "x", "--orchestrator", "nowhere"}, 2, {"nowhere", "HOST:PORT"}},
      {{"run", "single", "--input", Path("good.jsonl"), "--out", Path("o"), "--model", tiny, "--concurrency", "0"},
       2,
       {"--concurrency"}},
      {{"models"}, 2, {"--fleet", "--orchestrator"}},
      {{"graph", "draw", Path("typo_graph.textproto"), "--format", "png"}, 2, {"--format"}},
      // ---- 65: a file, a graph, a binding
      {{"ask", "x", "--fleet", Path("absent.textproto")}, 65, {Path("absent.textproto")}},
      {{"ask", "x", "--fleet", Path("typo_fleet.textproto")},
       65,
       {Path("typo_fleet.textproto") + ":2", "modle", "model"}},
      {{"ask", "x", "--model", Path("absent.gguf")}, 65, {Path("absent.gguf")}},
      {{"ask", "x", "--model", Path("cut.gguf")}, 65, {Path("cut.gguf")}},
      {{"generate", "x", "--model", Path("cut.gguf")}, 65, {Path("cut.gguf")}},
      {{"aks", "x"}, 2, {"\"aks\"", "is \"ask\" meant?"}},
      {{"ask", "x", "--model", tiny, "--graph", "sinlge"}, 65, {"sinlge", "is \"single\" meant?"}},
      {{"ask", "x", "--model", tiny, "--graph", Path("typo_graph.textproto")},
       65,
       {Path("typo_graph.textproto") + ":2", "\"n\"", "solvr", "solver"}},
      {{"graph", "check", Path("typo_graph.textproto")}, 65, {Path("typo_graph.textproto") + ":2", "solvr"}},
      {{"ask", "x", "--fleet", fleet, "--graph", "single", "--bind", "solver=nobody"}, 65, {"solver", "nobody"}},
      // A seat that nobody fills, before anybody is started: the model does not exist.
      {{"ask", "x", "--fleet", Path("unseated_fleet.textproto"), "--graph", "single"}, 65, {"solver", "bind"}},
      {{"run", "single", "--input", Path("bad.jsonl"), "--out", Path("o"), "--model", tiny},
       65,
       {Path("bad.jsonl") + ":2"}},
      {{"run", "single", "--input", Path("absent.jsonl"), "--out", Path("o"), "--model", tiny},
       65,
       {Path("absent.jsonl")}},
      {{"experiment", Path("absent.textproto"), "--out", Path("e")}, 65, {Path("absent.textproto")}},
      {{"experiment", Path("typo_experiment.textproto"), "--out", Path("e")},
       65,
       {Path("typo_experiment.textproto") + ":4", "replicas", "replicates"}},
      {{"report", Path("absent")}, 65, {Path("absent")}},
      {{"regrade", Path("absent")}, 65, {Path("absent")}},
      {{"compare", Path("absent.jsonl"), Path("items.jsonl")}, 65, {Path("absent.jsonl")}},
      {{"compare", Path("bad.jsonl"), Path("bad.jsonl")}, 65, {Path("bad.jsonl") + ":1"}},
      // ---- 69: nobody there
      {{"ask", "x", "--orchestrator", "127.0.0.1:1"}, 69, {"no orchestrator answers on 127.0.0.1:1", "conclave up"}},
      {{"models", "--orchestrator", "127.0.0.1:1"}, 69, {"127.0.0.1:1"}},
      {{"ask", "x", "--fleet", Path("gone_fleet.textproto")}, 69, {"127.0.0.1:1"}},
      // ---- 75: out of budget
      {{"experiment", Path("spent.textproto"), "--out", Path("spent")},
       75,
       {"budget: calls: 0 of 0 are used", "--resume"}},
      // The command that is told goes on with this one, flags included.
      {{"experiment", Path("spent.textproto"), "--out", Path("it's spent"), "--limit", "1", "--no-baselines", "--arm",
        "one"},
       75,
       {"--out '" + Path("it'\\''s spent") + "' --resume --no-baselines --limit 1 --arm one"}},
      // ---- what an experiment may not do
      {{"experiment", Path("experiment.textproto")}, 2, {"--out", "--dry-run"}},
      {{"experiment", Path("peeked.textproto"), "--out", Path("peeked")},
       65,
       {Path("peeked.textproto"), "chosen WEIGHTS", "test split"}},
      {{"roofline", "--model", "many:qwen3-32b"}, 2, {"COPIES:MODEL"}},
      {{"roofline", "--model", "qwen3-23b"}, 65, {"is \"qwen3-32b\" meant?"}},
      {{"roofline", "--accelerator", "h100"}, 65, {"h100-sxm"}},
  };
  for (const Mistake& mistake : mistakes) {
    std::string shown = "conclave";
    for (const std::string& word : mistake.arguments) shown += " " + word;
    const Ended ended = RunProgram("conclave", mistake.arguments);
    EXPECT_EQ(ended.code, mistake.code) << shown;
    EXPECT_EQ(ended.out, "") << shown;
    ASSERT_EQ(ended.errors.size(), 1u) << shown << "\n" << ::testing::PrintToString(ended.errors);
    EXPECT_THAT(ended.errors[0], StartsWith("conclave: ")) << shown;
    for (const std::string& part : mistake.parts) EXPECT_THAT(ended.errors[0], HasSubstr(part)) << shown;
  }
}

TEST_F(CommandLine, ARunThatSucceedsFailsOrIsSpentSaysSoByItsCode) {
  const Words ask = {"ask", "--model", Path("tiny.gguf"), "--graph", "single", "--json"};
  const auto with = [&](Words more) {
    more.insert(more.begin(), ask.begin(), ask.end());
    const Ended ended = RunProgram("conclave", more);
    EXPECT_TRUE(ended.errors.empty()) << ::testing::PrintToString(ended.errors);
    return std::pair(ended.code, nlohmann::json::parse(ended.out, nullptr, false));
  };
  const auto [code, json] = with({"1+1?"});
  EXPECT_EQ(code, 0);
  EXPECT_EQ(json["state"], "RUN_STATE_SUCCEEDED");
  EXPECT_EQ(json["ledger"]["calls"], 1);
  // Longer than the model's context: the call is refused and nothing is left to answer with.
  const auto [failed, why] = with({std::string(3'000, 'x')});
  EXPECT_EQ(failed, 1);
  EXPECT_EQ(why["state"], "RUN_STATE_FAILED");
  const auto [spent, budget] = with({"1+1?", "--budget-output-tokens", "1"});
  EXPECT_EQ(spent, 75);
  EXPECT_THAT(budget["message"].get<std::string>(), HasSubstr("budget"));
}

TEST_F(CommandLine, AResumedExperimentHasTheGraphsItBeganWith) {
  const auto graph = [](int samples) {
    Write("mine.textproto",
          "name: \"mine\" input { name: \"question\" }\n"
          "node { name: \"a\" speak { role: \"solver\" members: \"solver\" samples: " +
              std::to_string(samples) + " } }\n" + "node { name: \"v\" pick { of: \"a\" by: MAJORITY } }\n");
  };
  graph(1);
  const auto whole = ReadFile(Path("experiment.textproto"));
  ASSERT_OK(whole.status());
  std::string text = *whole;
  text.replace(text.find("graph: \"single\""), 15, "graph: \"" + Path("mine.textproto") + "\"");
  Write("mine_experiment.textproto", text);
  const Words words = {"experiment", Path("mine_experiment.textproto"), "--out", Path("mine")};
  const auto resumed = [&] {
    Words more = words;
    more.push_back("--resume");
    return RunProgram("conclave", more);
  };
  ASSERT_EQ(RunProgram("conclave", words).code, 0);
  EXPECT_EQ(resumed().code, 0);
  graph(2);
  const Ended changed = resumed();
  EXPECT_EQ(changed.code, 65);
  ASSERT_FALSE(changed.errors.empty());
  EXPECT_THAT(changed.errors.back(), AllOf(HasSubstr("arm \"one\""), HasSubstr("has changed since")));
}

// By hand: "single" makes one call; what is computed is the prompt and all tokens put out but the last, each through
// all matrices but the output head and over all before it, and the head for every token put out.
TEST_F(CommandLine, ADryRunKnowsWhatModelsWithoutACardCost) {
  Write("dry.textproto", fmt::format("name: \"dry\" benchmark {{ path: \"items.jsonl\" }}\n"
                                     "fleet {{ member {{ name: \"m\" model {{ path: \"tiny.gguf\" }} }} }}\n"
                                     "arm {{ name: \"one\" graph: \"single\" }}\n"));
  const Ended dry = RunProgram("conclave", {"experiment", Path("dry.textproto"), "--dry-run", "--json"});
  ASSERT_EQ(dry.code, 0) << ::testing::PrintToString(dry.errors);
  const auto arm = nlohmann::json::parse(dry.out)["arms"][0];
  const auto model =
      nlohmann::json::parse(RunProgram("conclave", {"inspect", "model", "--json", "--model", Path("tiny.gguf")}).out);
  const double prompt = arm["prompt_tokens"], output = arm["output_tokens"];
  const double all = model["flops_per_token"], head = model["head_flops_per_token"];
  const double per_position = model["attention_flops_per_token_and_position"];
  EXPECT_EQ(head, 2.0 * model["vocab"].get<double>() * model["hidden"].get<double>());
  const double computed = std::floor(prompt) + output - 1;
  const double expected = computed * (all - head) + output * head + per_position * computed * (computed + 1) / 2;
  ASSERT_TRUE(arm["flops"].is_number()) << dry.out;
  EXPECT_NEAR(arm["flops"].get<double>(), expected, 1e-6 * expected);
  const Ended cost = RunProgram("conclave", {"graph", "cost", "single", "--fleet", Path("fleet.textproto"), "--json"});
  EXPECT_TRUE(nlohmann::json::parse(cost.out)["flops"].is_number()) << cost.out;
}

TEST_F(CommandLine, AnOrchestratorThatServesAnswersAskRunAndModels) {
  testing::ChildProcess up({Program("conclave"), "up", Path("fleet.textproto")});
  const auto serving = up.ReadLine();
  ASSERT_TRUE(serving.has_value()) << up.ReadErrors();
  const std::string address = serving->substr(serving->rfind(' ') + 1);
  const Words there = {"--orchestrator", address};

  const Ended models = RunProgram("conclave", {"models", "--json", "--orchestrator", address});
  EXPECT_EQ(models.code, 0);
  EXPECT_EQ(nlohmann::json::parse(models.out, nullptr, false)[0]["name"], "m");

  const Ended ask =
      RunProgram("conclave", {"ask", "1+1?", "--graph", "single", "--seed", "5", "--json", "--orchestrator", address});
  EXPECT_EQ(ask.code, 0) << ::testing::PrintToString(ask.errors);
  const Ended alone = RunProgram(
      "conclave", {"ask", "1+1?", "--graph", "single", "--seed", "5", "--json", "--fleet", Path("fleet.textproto")});
  const auto told = nlohmann::json::parse(ask.out, nullptr, false);
  EXPECT_EQ(told["text"], nlohmann::json::parse(alone.out, nullptr, false)["text"]);
  EXPECT_EQ(told["ledger"]["output_tokens"],
            nlohmann::json::parse(alone.out, nullptr, false)["ledger"]["output_tokens"]);

  // The same command finds its runs again; another directory has its own.
  const Words run = {"run", "single", "--input", Path("good.jsonl"), "--orchestrator", address, "--out"};
  const auto run_to = [&](const std::string& name) {
    Words words = run;
    words.push_back(Path(name));
    const Ended ended = RunProgram("conclave", words);
    EXPECT_EQ(ended.code, 0) << ::testing::PrintToString(ended.errors);
    return *ReadFile(Path(name + "/results.jsonl"), 1 << 20);
  };
  const std::string first = run_to("r1");
  EXPECT_EQ(run_to("r1"), first);  // its seconds, too
  run_to("r2");

  const Ended typo = RunProgram("conclave", {"ask", "x", "--graph", "sinlge", "--orchestrator", address});
  EXPECT_EQ(typo.code, 65);
  ASSERT_EQ(typo.errors.size(), 1u);
  EXPECT_THAT(typo.errors[0], AllOf(HasSubstr(address), HasSubstr("is \"single\" meant?")));

  up.Signal(SIGTERM);
  EXPECT_EQ(up.Wait(), 0);
  EXPECT_EQ(RunProgram("conclave", {"ask", "x", "--orchestrator", address}).code, 69);
}

TEST_F(CommandLine, APastRunIsFollowedSaidAgainAndGoesOnOtherwise) {
  const std::string store = Path("past.sqlite"), tiny = Path("tiny.gguf");
  testing::TinyModel({.seed = 2}).Write(Path("other.gguf"));
  ASSERT_EQ(RunProgram("conclave", {"ask", "--model", tiny, "--graph", "single", "--store", store, "1+1?"}).code, 0);
  const Ended listed = RunProgram("conclave", {"replay", "--store", store});
  EXPECT_EQ(listed.code, 0);
  EXPECT_THAT(listed.out, AllOf(HasSubstr("runs/"), HasSubstr("SUCCEEDED  single"), HasSubstr("1+1?")));
  EXPECT_THAT(RunProgram("conclave", {"replay", "last", "--store", store}).out,
              HasSubstr("events from its record, as they were"));
  // The engine says the same from the same seed; another model does not, and where it parts is said.
  const Ended same = RunProgram("conclave", {"replay", "last", "--store", store, "--model", tiny});
  EXPECT_EQ(same.code, 0) << ::testing::PrintToString(same.errors);
  EXPECT_THAT(same.out, HasSubstr("word for word"));
  const Ended differs =
      RunProgram("conclave", {"replay", "last", "--store", store, "--model", Path("other.gguf"), "--json"});
  EXPECT_EQ(differs.code, 1);
  const auto json = nlohmann::json::parse(differs.out, nullptr, false);
  EXPECT_EQ(json["what"], "text");
  EXPECT_EQ(json["node"], "answer");

  Write("task.jinja", "Quite another: {{ question }}");
  const Ended forked = RunProgram("conclave", {"fork", "last", "--at", "2", "--prompt", "answer=" + Path("task.jinja"),
                                               "--store", store, "--model", tiny, "--json"});
  EXPECT_EQ(forked.code, 0) << ::testing::PrintToString(forked.errors);
  EXPECT_THAT(forked.out, HasSubstr("RUN_STATE_SUCCEEDED"));
  // It is kept beside the first: as its record says, the member was asked the new task.
  EXPECT_THAT(RunProgram("conclave", {"replay", "last", "--store", store, "--model", tiny}).out,
              HasSubstr("word for word"));
  EXPECT_EQ(RunProgram("conclave", {"fork", "last", "--at", "99", "--store", store, "--model", tiny}).code, 65);
  EXPECT_EQ(RunProgram("conclave", {"fork", "last", "--at", "1", "--store", store}).code, 2);
  EXPECT_EQ(RunProgram("conclave", {"replay", "none", "--store", store}).code, 65);
}

TEST_F(CommandLine, EverySubcommandHelpsWithAnExample) {
  for (const char* name : {"ask", "run", "replay", "fork", "up", "experiment", "regrade", "report", "compare",
                           "generate", "models", "bench", "items", "roofline"}) {
    const Ended ended = RunProgram("conclave", {name, "--help"});
    EXPECT_EQ(ended.code, 0) << name;
    EXPECT_THAT(ended.out, HasSubstr("Example: conclave " + std::string(name))) << name;
  }
}

TEST_F(CommandLine, TheServersRefuseWhatTheyCannotServe) {
  EXPECT_EQ(RunProgram("conclave-worker", {}).code, 2);
  EXPECT_EQ(RunProgram("conclave-worker", {"--model", Path("absent.gguf")}).code, 65);
  EXPECT_EQ(RunProgram("conclave-worker", {"--model", Path("cut.gguf")}).code, 65);
  EXPECT_EQ(RunProgram("conclave-worker", {"--model", Path("tiny.gguf"), "--listen", "0.0.0.0:0"}).code, 2);
  EXPECT_EQ(RunProgram("conclave-orchestrator", {}).code, 2);
  EXPECT_EQ(RunProgram("conclave-orchestrator", {"--fleet", Path("absent.textproto")}).code, 65);
  EXPECT_EQ(RunProgram("conclave-orchestrator", {"--fleet", Path("typo_fleet.textproto")}).code, 65);
}

}  // namespace
}  // namespace conclave
