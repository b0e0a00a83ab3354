// SPDX-License-Identifier: Apache-2.0
// Training documents are what the shipped graphs ask, and what they teach is right.
#include "zoo/data/writer.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "common/file.h"
#include "orchestrator/experiment/benchmark/difficulty.h"
#include "orchestrator/experiment/grade/grader.h"
#include "orchestrator/run/arithmetic.h"
#include "orchestrator/run/machine_testing.h"
#include "tests/testing/status_matchers.h"

namespace conclave::zoo {
namespace {

using conclave::testing::StatusIs;
using orchestrator::CallSpec;
using orchestrator::Reply;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

const std::string kGraphs = CONCLAVE_SOURCE_DIR "/graphs";

Prompts TheRoles() {
  auto prompts = Prompts::Load(kGraphs + "/roles");
  EXPECT_OK(prompts);
  return *std::move(prompts);
}

WriterOptions AllFamilies() {
  WriterOptions options;
  for (const benchmark::Family& family : benchmark::Families()) options.families.push_back(&family);
  options.seed = 5;
  return options;
}

Writer MakeWriter(WriterOptions options) {
  auto writer = Writer::Create(std::move(options), TheRoles());
  EXPECT_OK(writer);
  return *std::move(writer);
}

Case SomeCase(uint64_t stream = 1) { return MakeCase({benchmark::FindFamily("chain"), 4, 9, stream}); }

// ---- The prompts are those of the machine that runs graphs.

struct Scene {
  Case c = SomeCase();
  Draft draft;
  std::string plan, critique, verdict = "VERDICT: reject";
};

// Runs a graph whose members say what the scene holds and compares each prompt with what the documents would hold.
// Every draft has the same text, so that the order in which drafts are shuffled does not matter.
std::map<std::string, int> CompareGraph(const std::string& text, const Scene& scene) {
  orchestrator::RoleLibrary roles;
  EXPECT_OK(roles.AddDirectory(kGraphs + "/roles"));
  orchestrator::CompileResult compiled = orchestrator::CompileGraphText(text, "graph", roles);
  EXPECT_THAT(compiled.errors, ::testing::IsEmpty());
  auto spec =
      orchestrator::SpecFor(*compiled.graph, {"solver", "planner", "critic", "verifier", "dense/m01", "dense/m02"}, 3);
  for (auto& [name, value] : spec.inputs) value = scene.c.problem.question;
  const Prompts prompts = TheRoles();
  const auto render = [&](Part part, const std::vector<Seen>& seen, const std::string& candidate) {
    auto messages = prompts.Render(part, scene.c.problem.question, seen, candidate);
    EXPECT_OK(messages);
    return *messages;
  };
  const std::string system_of_critic = render(Part::kCritic, {}, "")[0].content;
  const auto log = orchestrator::Drive(compiled.graph, spec, [&](const CallSpec& call) {
    const std::string system = call.prompt->messages[0].content();  // tells the roles apart
    std::string said = scene.draft.text;
    if (system == system_of_critic) said = scene.critique;
    if (system == render(Part::kPlanner, {}, "")[0].content) said = scene.plan;
    if (system == render(Part::kVerifier, {}, "x")[0].content) said = scene.verdict;
    return Reply{Reply::Kind::kText, said, 10, 0.5};
  });
  std::map<std::string, int> compared;
  for (const deliberation::v1::Event& event : log.events) {
    if (!event.has_call_finished()) continue;
    const auto& call = event.call_finished();
    std::string node = event.node_path();
    node = node.substr(node.rfind('.') == std::string::npos ? 0 : node.rfind('.') + 1);
    const std::vector<Seen> drafts(call.prompt(1).content().find("[draft 4]") != std::string::npos ? 4 : 1,
                                   {"draft", "", scene.draft.text});
    std::vector<Prompts::Message> expected;
    if (node == "plan") expected = render(Part::kPlanner, {}, "");
    if (node == "draft" || node == "answer") {
      expected = scene.plan.empty() ? render(Part::kSolver, {}, "")
                                    : render(Part::kProver, {{{"plan", "planner", scene.plan}}}, "");
    }
    if (node == "critique") expected = render(Part::kCritic, drafts, "");
    if (node == "revise") {
      const Part part = scene.plan.empty() ? Part::kReviser : Part::kRepair;
      expected = render(part, {{{"draft", "x", scene.draft.text}, {"critique", "critic", scene.critique}}}, "");
    }
    if (node == "verify") expected = render(Part::kVerifier, {}, scene.draft.text);
    if (node == "score") expected = render(Part::kJudge, {}, scene.draft.text);
    if (node == "consolidate" || node == "consolidate_anonymous") {
      const bool named = node == "consolidate";
      expected = render(Part::kConsolidate,
                        {{{"draft", named ? "dense/m01" : "", scene.draft.text},
                          {"draft", named ? "dense/m02" : "", scene.draft.text}}},
                        "");
    }
    EXPECT_EQ(static_cast<size_t>(call.prompt_size()), expected.size()) << node;
    for (int i = 0; i < call.prompt_size() && i < static_cast<int>(expected.size()); ++i) {
      EXPECT_EQ(call.prompt(i).role(), expected[static_cast<size_t>(i)].role);
      EXPECT_EQ(call.prompt(i).content(), expected[static_cast<size_t>(i)].content) << node;
    }
    compared[node] += 1;
  }
  return compared;
}

std::string GraphText(const std::string& name) {
  const auto text = ReadFile(kGraphs + "/" + name + ".textproto");
  EXPECT_OK(text);
  return *text;
}

Scene SomeScene() {
  Scene scene;
  benchmark::Dice dice(1, 1);
  // A wrong draft whose equations hold, as the reflect graph would show those that do not.
  do scene.draft = MakeDraft(scene.c, false, dice);
  while (!orchestrator::CheckArithmetic(scene.draft.text).wrong.empty());
  scene.critique = CritiqueText(scene.c, {scene.draft}, Checks::kSteps);
  return scene;
}

TEST(ZooPrompts, AreThoseOfTheCouncil) {
  Scene scene = SomeScene();
  scene.plan = PlanText(scene.c);
  const auto compared = CompareGraph(GraphText("council"), scene);
  const std::map<std::string, int> expected = {
      {"plan", 1}, {"draft", 4}, {"critique", 1}, {"revise", 2}, {"verify", 2}};
  for (const auto& [node, count] : expected) EXPECT_GE(compared.at(node), count) << node;
}

TEST(ZooPrompts, AreThoseOfTheOtherGraphs) {
  const Scene scene = SomeScene();
  EXPECT_EQ(CompareGraph(GraphText("single"), scene).at("answer"), 1);
  EXPECT_GE(CompareGraph(GraphText("vote"), scene).at("draft"), 6);
  EXPECT_GE(CompareGraph(GraphText("best_of_n"), scene).at("score"), 1);
  EXPECT_GE(CompareGraph(GraphText("reflect"), scene).at("revise"), 1);
}

TEST(ZooPrompts, AreThoseOfASolverThatReadsDrafts) {
  for (const auto& [node, sees] : {std::pair("consolidate", ""), {"consolidate_anonymous", "anonymous: true"}}) {
    const auto compared = CompareGraph(fmt::format(R"(
name: "g" input {{ name: "question" }}
node {{ name: "draft" speak {{ role: "solver" members: "dense/*" }} }}
node {{ name: "{}" speak {{ role: "solver" members: "solver" sees {{ node: "draft" {} }} }} }}
)",
                                                   node, sees),
                                       SomeScene());
    EXPECT_EQ(compared.at(node), 1);
  }
}

// ---- What the documents teach.

TEST(ZooDocuments, AreAPureFunctionOfSeedAndNumber) {
  const Writer writer = MakeWriter(AllFamilies());
  WriterOptions other = AllFamilies();
  other.seed = 6;
  const auto one = writer.Make(17);
  ASSERT_OK(one);
  EXPECT_EQ(ToJson(*one), ToJson(*MakeWriter(AllFamilies()).Make(17)));
  EXPECT_NE(ToJson(*one), ToJson(*writer.Make(18)));
  EXPECT_NE(ToJson(*one), ToJson(*MakeWriter(other).Make(17)));
}

TEST(ZooDocuments, SayWhatIsRight) {
  const Writer writer = MakeWriter(AllFamilies());
  const auto grader = grade::MakeGrader("gsm8k");
  ASSERT_OK(grader);
  std::map<Part, int> parts;
  std::map<std::string, int> labels;
  for (uint64_t i = 0; i < 6000; ++i) {
    const auto d = writer.Make(i);
    ASSERT_OK(d);
    parts[d->part] += 1;
    EXPECT_EQ(benchmark::SplitOf(d->question), benchmark::Split::kTrain);
    ASSERT_EQ(d->messages.size(), 2u);
    EXPECT_THAT(d->messages[1].content, StartsWith(d->question));
    const auto id = ProblemId::Parse(d->id);
    ASSERT_OK(id);
    const Case c = MakeCase(*id);
    EXPECT_EQ(c.problem.question, d->question);
    switch (d->part) {
      case Part::kPlanner:
        EXPECT_EQ(d->completion, PlanText(c));
        break;
      case Part::kCritic:
        for (size_t k = 0; k < d->wrong_steps.size(); ++k) {
          const int64_t step = d->wrong_steps[k];
          const std::string expected = step == 0 ? fmt::format("Draft {}: no mistake.", k + 1)
                                       : step > static_cast<int64_t>(c.right.steps.size())
                                           ? fmt::format("Draft {}: the answer should be {}.", k + 1, c.answer)
                                           : fmt::format("Draft {}: step {} should be {}.", k + 1, step,
                                                         c.right.steps[static_cast<size_t>(step) - 1].text);
          EXPECT_THAT("\n" + d->completion + "\n", HasSubstr("\n" + expected + "\n"));
        }
        break;
      case Part::kVerifier:
        EXPECT_TRUE(d->completion.ends_with("VERDICT: " + d->label)) << d->completion;
        EXPECT_EQ(d->completion.find("wrong") == std::string::npos, d->label == "accept") << d->completion;
        EXPECT_EQ(d->wrong_steps[0] == 0, d->label == "accept");
        labels[d->label] += 1;
        break;
      case Part::kJudge:
        EXPECT_EQ(d->completion, d->label == "accept" ? "Yes" : "No");
        break;
      default:
        EXPECT_EQ(d->completion, c.solution);
        EXPECT_EQ((*grader)->GradeText(d->completion, {.gold = d->answer, .choices = {}}).outcome,
                  grade::Outcome::kCorrect);
        EXPECT_THAT(orchestrator::CheckArithmetic(d->completion).wrong, ::testing::IsEmpty()) << d->completion;
    }
  }
  EXPECT_EQ(parts.size(), static_cast<size_t>(kParts));
  // Shares within five standard deviations: 40 % of 6,000 is 2,400 +- 190.
  EXPECT_NEAR(parts[Part::kSolver], 2400, 190);
  // About 600 verifications, half of them to accept: 300 +- 62.
  EXPECT_NEAR(labels["accept"], labels["reject"], 124);
}

TEST(ZooDocuments, KeepToFamiliesPartsSplitAndDifficulty) {
  WriterOptions options;
  options.families = {benchmark::FindFamily("sorting"), benchmark::FindFamily("graph")};
  options.parts = {Part::kJudge, Part::kCritic};
  options.split = benchmark::Split::kTest;
  options.difficulty_low = 4;
  options.difficulty_high = 5;
  const Writer writer = MakeWriter(options);
  std::set<std::string> kinds;
  for (uint64_t i = 0; i < 100; ++i) {
    const auto d = writer.Make(i);
    ASSERT_OK(d);
    EXPECT_EQ(benchmark::SplitOf(d->question), benchmark::Split::kTest);
    kinds.insert(fmt::format("{} {} {}", d->family, PartName(d->part), d->difficulty));
  }
  EXPECT_EQ(kinds.size(), 8u);
}

TEST(ZooDocuments, OfWhatModelsWrote) {
  const Writer writer = MakeWriter(AllFamilies());
  const Case c = SomeCase(2);
  const size_t cut = c.solution.find("\n2. ");
  const std::string other_way = "1. by magic\n#### " + c.answer;
  const std::string broken = c.solution.substr(0, cut) + "\n2. nonsense\n#### 12345";
  EXPECT_EQ(Compare(c, c.solution).wrong_step, 0);
  EXPECT_EQ(Compare(c, broken).wrong_step, 2);
  EXPECT_FALSE(Compare(c, broken).right);
  EXPECT_TRUE(Compare(c, other_way).right);
  EXPECT_EQ(Compare(c, "").wrong_step, 1);
  EXPECT_FALSE(Compare(c, "").right);
  const auto steps = static_cast<int64_t>(c.right.steps.size());
  EXPECT_EQ(Compare(c, c.solution + "\nAnd so on").wrong_step, steps + 1);
  EXPECT_EQ(Compare(c, c.solution.substr(0, c.solution.find("####"))).wrong_step, steps + 1);

  const auto verified = writer.MakeOf(Part::kVerifier, c, {broken}, 0);
  ASSERT_OK(verified);
  ASSERT_TRUE(verified->has_value());
  EXPECT_EQ((*verified)->completion,
            fmt::format("1: {} ok\n2: {} wrong\nVERDICT: reject", c.right.steps[0].result, c.right.steps[1].result));
  EXPECT_THAT((*verified)->messages[1].content, HasSubstr("2. nonsense"));
  // Right by another way: nothing can be said of its steps, but much of its answer.
  EXPECT_FALSE(writer.MakeOf(Part::kVerifier, c, {other_way}, 0)->has_value());
  EXPECT_EQ((**writer.MakeOf(Part::kJudge, c, {other_way}, 0)).completion, "Yes");
  for (uint64_t i = 0; i < 10; ++i) {
    const auto critique = writer.MakeOf(Part::kCritic, c, {other_way, broken, other_way}, i);
    ASSERT_TRUE(critique->has_value());
    EXPECT_THAT((**critique).wrong_steps, ::testing::ElementsAre(2));
  }
  EXPECT_FALSE(writer.MakeOf(Part::kSolver, c, {broken}, 0)->has_value());
}

// A case of two steps, by hand.
Case TwoSteps() {
  Case c = SomeCase();
  c.right.steps = {{"4 + 5 = 9", "9"}, {"9 * 2 = 18", "18"}};
  c.answer = "18";
  return c;
}

TEST(ZooDocuments, ChecksOfWholeSteps) {
  const Case c = TwoSteps();
  const Draft right, first{"x", false, 1}, second{"y", false, 2}, answer{"z", false, 3};
  EXPECT_EQ(VerificationText(c, right, Checks::kSteps),
            "1: 4 + 5 = 9 ok\n2: 9 * 2 = 18 ok\nAnswer: 18 ok\nVERDICT: accept");
  EXPECT_EQ(VerificationText(c, second, Checks::kSteps), "1: 4 + 5 = 9 ok\n2: 9 * 2 = 18 wrong\nVERDICT: reject");
  EXPECT_EQ(VerificationText(c, answer, Checks::kResults), "1: 9 ok\n2: 18 ok\nAnswer: 18 wrong\nVERDICT: reject");
  EXPECT_EQ(CritiqueText(c, {first, second}, Checks::kSteps),
            "1: 4 + 5 = 9 wrong ok\n2: 9 * 2 = 18 - wrong\n"
            "Draft 1: step 1 should be 4 + 5 = 9.\nDraft 2: step 2 should be 9 * 2 = 18.");
  EXPECT_EQ(CritiqueText(c, {right, answer}, Checks::kSteps),
            "1: 4 + 5 = 9 ok ok\n2: 9 * 2 = 18 ok ok\nAnswer: 18 ok wrong\n"
            "Draft 1: no mistake.\nDraft 2: the answer should be 18.");
  EXPECT_EQ(CritiqueText(c, {right, answer}, Checks::kResults),
            "Draft 1: no mistake.\nDraft 2: the answer should be 18.");
}

// A mistaken critic checks as he believes: his words about the draft are those of his checks.
TEST(ZooDocuments, MistakenCritiquesAgreeWithTheirChecks) {
  for (uint64_t stream = 0; stream < 50; ++stream) {
    const Case c = SomeCase(stream);
    benchmark::Dice dice(3, stream);
    const std::string praise = FalseCritique(c, MakeDraft(c, false, dice), Checks::kSteps, dice);
    EXPECT_EQ(praise, CritiqueText(c, {MakeDraft(c, true, dice)}, Checks::kSteps));
    const std::string blame = FalseCritique(c, MakeDraft(c, true, dice), Checks::kSteps, dice);
    const size_t mark = blame.find(" wrong\n");
    ASSERT_NE(mark, std::string::npos) << blame;
    const size_t line = blame.rfind('\n', mark) + 1;  // npos + 1 is 0
    const size_t colon = blame.find(": ", line);
    const std::string step = blame.substr(line, colon - line);
    const std::string believed = blame.substr(colon + 2, mark - colon - 2);
    EXPECT_EQ(blame.substr(mark + 7), step == "Answer" ? fmt::format("Draft 1: the answer should be {}.", believed)
                                                       : fmt::format("Draft 1: step {} should be {}.", step, believed));
    EXPECT_THAT(c.solution, Not(HasSubstr(". " + believed + "\n")));
  }
}

TEST(ZooDocuments, ChecksAreAnOption) {
  WriterOptions options = AllFamilies();
  options.parts = {Part::kVerifier};
  const Writer results = MakeWriter(options);
  options.checks = Checks::kSteps;
  const Writer steps = MakeWriter(options);
  for (uint64_t i = 0; i < 20; ++i) {
    const auto a = results.Make(i), b = steps.Make(i);
    ASSERT_OK(a);
    ASSERT_OK(b);
    EXPECT_EQ(a->messages[1].content, b->messages[1].content);  // of the same candidate
    const auto id = ProblemId::Parse(b->id);
    ASSERT_OK(id);
    EXPECT_THAT(b->completion, StartsWith("1: " + MakeCase(*id).right.steps[0].text + " "));
  }
}

TEST(ZooDocuments, JsonIsReadBack) {
  Document document;
  document.id = "chain/1/2/3";
  document.family = "chain";
  document.part = Part::kCritic;
  document.question = "a \"b\"\\\n\x01";
  document.messages = {{"system", "s"}, {"user", "u\n"}};
  document.wrong_steps = {2, 0};
  const auto json = nlohmann::json::parse(ToJson(document));
  EXPECT_EQ(json["question"], document.question);
  EXPECT_EQ(json["messages"][1]["content"], "u\n");
  EXPECT_EQ(json["role"], "critic");
  EXPECT_EQ(json["wrong_step"], 2);
  EXPECT_EQ(json["wrong_steps"], (std::vector<int>{2, 0}));
}

TEST(ZooDocuments, BadOptions) {
  constexpr absl::StatusCode kInvalid = absl::StatusCode::kInvalidArgument;
  EXPECT_THAT(Writer::Create({}, TheRoles()), StatusIs(kInvalid, HasSubstr("no family")));
  for (const auto& [low, high] : {std::pair(0, 3), {1, benchmark::kDifficultyMax + 1}, {4, 3}}) {
    WriterOptions options = AllFamilies();
    options.difficulty_low = low;
    options.difficulty_high = high;
    EXPECT_THAT(Writer::Create(options, TheRoles()), StatusIs(kInvalid, HasSubstr("1 to 10")));
  }
  for (const char* id : {"", "chain", "chain/1/2", "chain/1/2/3/4", "chess/1/2/3", "chain/0/2/3", "chain/11/2/3",
                         "chain/1/x/3", "chain/1/2/-3"}) {
    EXPECT_THAT(ProblemId::Parse(id), StatusIs(kInvalid, HasSubstr("is no id"))) << id;
  }
  EXPECT_EQ(ProblemId::Parse("chain/10/2/3")->ToString(), "chain/10/2/3");
  EXPECT_THAT(Prompts::Load(kGraphs + "/nowhere"), StatusIs(absl::StatusCode::kNotFound, HasSubstr("nowhere")));
  EXPECT_EQ(PartNamed("poet"), std::nullopt);
}

}  // namespace
}  // namespace conclave::zoo
