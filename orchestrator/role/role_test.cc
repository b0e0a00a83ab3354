// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/role/role.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/file.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_dir.h"

namespace conclave::orchestrator {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

std::vector<std::string> Errors(const std::string& text) { return RoleLibrary().AddText(text, "dir/r.textproto"); }

TEST(Role, ASoundOneLoads) {
  RoleLibrary roles;
  EXPECT_THAT(
      roles.AddText("name: \"r\" system: \"Be brief.\" task: \"{{ question }}\" answer {}\n"
                    "examples { role: \"user\" content: \"1+1?\" } examples { role: \"assistant\" content: \"2\" }",
                    "dir/r.textproto"),
      IsEmpty());
  ASSERT_NE(roles.Find("r"), nullptr);
  EXPECT_EQ(roles.Find("r")->contract, ContractKind::kAnswer);
  EXPECT_THAT(roles.Find("r")->task->names(), ElementsAre("question"));
  EXPECT_EQ(roles.Find("x"), nullptr);
}

TEST(Role, EveryMistakeIsToldWithItsLine) {
  EXPECT_THAT(
      Errors("name: \"q\"\ntask: \"{{ question \"\nsampling { temperature: -1 }\nexamples { role: \"assistant\" }"),
      ElementsAre(HasSubstr("dir/r.textproto:1: role \"q\": the file is named \"r\"; both must be the same"),
                  HasSubstr("dir/r.textproto:2: role \"q\": task: TemplateSyntaxError"),
                  HasSubstr("dir/r.textproto:1: role \"q\": how is its output read?"),
                  HasSubstr("dir/r.textproto:3: role \"q\": temperature is -1"),
                  HasSubstr("dir/r.textproto:4: role \"q\": example turn 1 has role \"assistant\""),
                  HasSubstr("has no assistant turn")));
  EXPECT_THAT(Errors("name: \"r\" tsak: \"x\""),
              ElementsAre("dir/r.textproto:1: Role has no field \"tsak\"; did you mean \"task\"?"));
  EXPECT_THAT(Errors("name: \"r\" answer {}"), Contains(HasSubstr("a role needs a task")));
}

TEST(Role, VerdictsNeedTwoSides) {
  EXPECT_THAT(Errors("name: \"r\" task: \"x\" verdict { accept: \"yes\" }"),
              Contains(HasSubstr("at least one accept and one reject")));
  EXPECT_THAT(Errors("name: \"r\" task: \"x\" verdict { accept: \"yes\" reject: \"yes\" }"),
              Contains(HasSubstr("\"yes\" both accepts and rejects")));
  EXPECT_THAT(Errors("name: \"r\" task: \"x\" verdict { accept: \"**\" reject: \"no\" }"),
              Contains(HasSubstr("phrase is empty")));
  EXPECT_THAT(Errors("name: \"r\" task: \"x\" verdict { accept: \"y\" reject: \"n\" score_max: 0 }"),
              Contains(HasSubstr("score_max is 0")));
  const auto phrases = [](int count) {
    std::string text = "name: \"r\" task: \"x\" verdict { reject: \"n\" ";
    for (int i = 0; i < count; ++i) text += fmt::format("accept: \"y{}\" ", i);
    return text + "}";
  };
  EXPECT_THAT(Errors(phrases(kVerdictPhrasesMax)), IsEmpty());
  EXPECT_THAT(Errors(phrases(kVerdictPhrasesMax + 1)), Contains(HasSubstr("33 accept phrases, at most 32")));
}

TEST(Role, RankingsAndConfidencesNeedTheirPhrases) {
  EXPECT_THAT(Errors("name: \"r\" task: \"x\" ranking { after: \"BEST:\" }"), IsEmpty());
  EXPECT_THAT(Errors("name: \"r\" task: \"x\" ranking {}"), Contains(HasSubstr("a ranking needs a phrase")));
  EXPECT_THAT(Errors("name: \"r\" task: \"x\" ranking { after: \" * \" }"),
              Contains(HasSubstr("a ranking needs a phrase")));
  EXPECT_THAT(Errors("name: \"r\" task: \"x\" answer { confidence_after: \"SURE:\" confidence_max: 100 }"), IsEmpty());
  EXPECT_THAT(Errors("name: \"r\" task: \"x\" answer { confidence_after: \"SURE:\" confidence_max: -1 }"),
              Contains(HasSubstr("confidence_max is -1")));
  EXPECT_THAT(Errors("name: \"r\" task: \"x\" answer { confidence_max: 100 }"),
              Contains(HasSubstr("confidence_max without a phrase")));
}

TEST(Role, RubricsAndLabels) {
  const auto rubric = [](int count) {
    std::string text = "name: \"r\" task: \"x\" verdict { ";
    for (int i = 0; i < count; ++i) text += fmt::format("criterion {{ after: \"C{}:\" max: 10 }} ", i);
    return text + "}";
  };
  EXPECT_THAT(Errors(rubric(kCriteriaMax)), IsEmpty());
  EXPECT_THAT(Errors(rubric(kCriteriaMax + 1)), Contains(HasSubstr("17 criteria, at most 16")));
  const std::string head = "name: \"r\" task: \"x\" ";
  EXPECT_THAT(Errors(head + "verdict { accept: \"y\" reject: \"n\" criterion { after: \"C:\" } }"),
              Contains(HasSubstr("criteria and phrases at once")));
  EXPECT_THAT(Errors(head + "verdict { criterion { } }"), Contains(HasSubstr("a criterion needs a phrase")));
  EXPECT_THAT(Errors(head + "verdict { criterion { after: \"C:\" max: 0 } }"), Contains(HasSubstr("has max 0")));
  EXPECT_THAT(Errors(head + "verdict { criterion { after: \"C:\" weight: -1 } }"),
              Contains(HasSubstr("has weight -1")));
  EXPECT_THAT(Errors(head + "verdict { criterion { after: \"C:\" } accept_from: 1.5 }"),
              Contains(HasSubstr("accept_from is 1.5")));
  EXPECT_THAT(Errors(head + "verdict { accept: \"y\" reject: \"n\" accept_from: 0.5 }"),
              Contains(HasSubstr("accept_from without criteria")));
  const auto labels = [&](int count) {
    std::string text = head + "label { ";
    for (int i = 0; i < count; ++i) text += fmt::format("option: \"o{}\" ", i);
    return text + "}";
  };
  EXPECT_THAT(Errors(labels(2)), IsEmpty());
  EXPECT_THAT(Errors(labels(kLabelsMax)), IsEmpty());
  EXPECT_THAT(Errors(labels(1)), Contains(HasSubstr("1 options of a label; 2 to 32")));
  EXPECT_THAT(Errors(labels(kLabelsMax + 1)), Contains(HasSubstr("33 options")));
  EXPECT_THAT(Errors(head + "label { option: \"a\" option: \"a\" }"), Contains(HasSubstr("\"a\" stands twice")));
  EXPECT_THAT(Errors(head + "label { option: \"a\" option: \" \" }"), Contains(HasSubstr("an option is empty")));
}

TEST(Role, ItemsAreLimited) {
  const auto items = [](int max) { return fmt::format("name: \"r\" task: \"x\" items {{ max: {} }}", max); };
  EXPECT_THAT(Errors(items(1)), IsEmpty());
  EXPECT_THAT(Errors(items(kItemsMax)), IsEmpty());
  EXPECT_THAT(Errors(items(kItemsMax + 1)), Contains(HasSubstr("items has max 65; 1 to 64 allowed")));
  EXPECT_THAT(Errors(items(0)), Contains(HasSubstr("items has max 0")));
}

TEST(Role, ConstraintsAndRepairs) {
  const auto role = [](const std::string& rest) { return "name: \"r\" task: \"x\" " + rest; };
  RoleLibrary roles;
  EXPECT_THAT(
      roles.AddText(role("answer {} constraint { regex: \"[0-9]+\" } repair: \"Digits only.\""), "dir/r.textproto"),
      IsEmpty());
  ASSERT_NE(roles.Find("r")->constraint, nullptr);
  EXPECT_EQ(roles.Find("r")->constraint->regex(), "[0-9]+");
  EXPECT_THAT(Errors(role("answer {} constraint {}")), ElementsAre(HasSubstr("constraint is empty")));
  EXPECT_THAT(Errors(role("text {} repair: \"Again.\"")), ElementsAre(HasSubstr("there is nothing to repair")));
  const auto long_ones = [&](size_t constraint, size_t repair) {
    return Errors(role(fmt::format("answer {{}} constraint {{ grammar: \"{}\" }} repair: \"{}\"",
                                   std::string(constraint, 'a'), std::string(repair, 'b'))));
  };
  EXPECT_THAT(long_ones(kConstraintBytesMax, kRepairBytesMax), IsEmpty());
  EXPECT_THAT(
      long_ones(kConstraintBytesMax + 1, kRepairBytesMax + 1),
      ::testing::UnorderedElementsAre(HasSubstr("a constraint of 131073 bytes"), HasSubstr("repair of 4097 bytes")));
}

TEST(Role, ExamplesAreLimited) {
  const auto examples = [](int pairs) {
    std::string text = "name: \"r\" task: \"x\" answer {} ";
    for (int i = 0; i < pairs; ++i) text += "examples { role: \"user\" } examples { role: \"assistant\" } ";
    return text;
  };
  EXPECT_THAT(Errors(examples(kRoleExamplesMax / 2)), IsEmpty());
  EXPECT_THAT(Errors(examples(kRoleExamplesMax / 2 + 1)), Contains(HasSubstr("66 example turns, at most 64")));
}

TEST(Role, SamplingRanges) {
  deliberation::v1::SamplingDefaults sampling;
  sampling.set_temperature(100);
  sampling.set_top_p(1);
  sampling.set_min_p(0);
  sampling.set_max_output_tokens(1);
  sampling.set_repetition_penalty(10);
  sampling.set_experts_per_token(1);
  for (int i = 0; i < kStopTextsMax; ++i) sampling.add_stop(std::string(256, 'x'));
  EXPECT_THAT(CheckSampling(sampling), IsEmpty());
  sampling.add_stop("x");
  sampling.set_temperature(std::nanf(""));
  sampling.set_top_p(0);
  sampling.set_min_p(1);
  sampling.set_max_output_tokens(0);
  sampling.set_repetition_penalty(0);
  sampling.set_experts_per_token(0);
  EXPECT_EQ(CheckSampling(sampling).size(), 7u);
  sampling.Clear();
  sampling.add_stop("");
  EXPECT_EQ(CheckSampling(sampling).size(), 1u);
}

TEST(Role, OverridesReplaceStopsAsAWhole) {
  deliberation::v1::SamplingDefaults base, over;
  base.set_temperature(1);
  base.set_top_k(5);
  base.add_stop("a");
  over.set_temperature(0);
  OverrideSampling(over, &base);
  EXPECT_EQ(base.temperature(), 0);
  EXPECT_EQ(base.top_k(), 5);
  EXPECT_THAT(base.stop(), ElementsAre("a"));
  over.add_stop("b");
  OverrideSampling(over, &base);
  EXPECT_THAT(base.stop(), ElementsAre("b"));
}

TEST(RoleLibrary, DirectoriesTellAllErrorsOfAllFiles) {
  EXPECT_THAT(RoleLibrary().AddDirectory("/nowhere/roles"), testing::StatusIs(absl::StatusCode::kNotFound));
  const testing::TempDir dir;
  ASSERT_OK(WriteFileAtomically(dir.path() + "/a.textproto", "name: \"a\""));
  ASSERT_OK(WriteFileAtomically(dir.path() + "/b.textproto", "nmae: \"b\""));
  ASSERT_OK(WriteFileAtomically(dir.path() + "/notes.txt", "not a role"));
  RoleLibrary roles;
  EXPECT_THAT(roles.AddDirectory(dir.path()),
              testing::StatusIs(absl::StatusCode::kInvalidArgument,
                                ::testing::AllOf(HasSubstr("a.textproto:1"), HasSubstr("b.textproto:1"))));
}

}  // namespace
}  // namespace conclave::orchestrator
