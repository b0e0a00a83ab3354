// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/experiment/benchmark/examples.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <string>
#include <vector>

#include "common/file.h"
#include "tests/testing/shared_data.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_dir.h"

namespace conclave::benchmark {
namespace {

using conclave::testing::StatusIs;
using ::testing::HasSubstr;

constexpr absl::StatusCode kInvalid = absl::StatusCode::kInvalidArgument;

class ExamplesTest : public ::testing::Test {
 protected:
  std::string Write(const std::string& name, std::string_view text) {
    EXPECT_OK(WriteFileAtomically(dir_.Path(name), text));
    return dir_.Path(name);
  }
  testing::TempDir dir_;
  std::vector<Item> items_ = {{"1", "2+2?", "4", "", {}, "", "sums"}, {"2", "Which?", "B", "", {"x", "y"}, "", "law"}};
};

TEST_F(ExamplesTest, PromptsByStratum) {
  Write("sums.txt", "canary\n-----\nAdd.\n\nQ: 1+1?\nA: Let's think step by step.\nSo the answer is 2.\n");
  Write("law.txt", "Q: Who?\nA: B\n");
  ASSERT_OK(AddExamples(dir_.Path(""), 0, items_));
  EXPECT_EQ(
      items_[0].question,
      "Add.\n\nQ: 1+1?\nA: Let's think step by step.\nSo the answer is 2.\n\nQ: 2+2?\nA: Let's think step by step.");
  EXPECT_EQ(items_[1].question, "Q: Who?\nA: B\n\nQ: Which?");
}

TEST_F(ExamplesTest, Shots) {
  const std::string path =
      Write("dev.jsonl",
            "{\"id\":\"a\",\"question\":\"1+1?\",\"answer\":\"2\",\"stratum\":\"sums\"}\n"
            "{\"id\":\"b\",\"question\":\"1+2?\",\"answer\":\"3\",\"stratum\":\"sums\"}\n"
            "{\"id\":\"c\",\"question\":\"Who?\",\"answer\":\"A\",\"choices\":[\"p\",\"q\"],\"stratum\":\"law\"}\n");
  std::vector<Item> items = items_;
  ASSERT_OK(AddExamples(path, 1, items));
  EXPECT_EQ(items[0].question, "Question: 1+1?\nAnswer: 2\n\nQuestion: 2+2?");
  EXPECT_EQ(items[1].question, "Question: Who?\nA. p\nB. q\nAnswer: A\n\nQuestion: Which?");
  items = items_;
  EXPECT_THAT(AddExamples(path, 2, items), StatusIs(kInvalid, HasSubstr("1 examples for stratum \"law\"")));
  items = items_;
  EXPECT_THAT(AddExamples(path, 0, items), StatusIs(kInvalid, HasSubstr("1 to 64")));
  EXPECT_THAT(AddExamples(path, kShotsMax + 1, items), StatusIs(kInvalid, HasSubstr("65 shots")));
}

TEST_F(ExamplesTest, NothingAskedIsShown) {
  const std::string path =
      Write("test.jsonl", "{\"id\":\"a\",\"question\":\"2+2?\",\"answer\":\"4\",\"stratum\":\"sums\"}\n");
  EXPECT_THAT(AddExamples(path, 1, items_), StatusIs(kInvalid, HasSubstr("take examples from another split")));
}

TEST_F(ExamplesTest, TheHashSeesWhatIsAsked) {
  const std::string before = ItemsSha256(items_);
  EXPECT_EQ(before.size(), 64u);
  EXPECT_EQ(before, ItemsSha256(items_));
  std::vector<Item> other = items_;
  other[1].choices = {"xy", ""};  // the same letters, divided otherwise
  EXPECT_NE(before, ItemsSha256(other));
  const std::string prompt = Write("all.txt", "Be brief.");
  ASSERT_OK(AddExamples(prompt, 0, items_));
  EXPECT_NE(before, ItemsSha256(items_));
}

TEST_F(ExamplesTest, PublishedPrompts) {
  SKIP_WITHOUT_SHARED(bbh, "data/benchmarks/bbh");
  auto items = LoadItems(bbh);
  ASSERT_OK(items);
  ASSERT_OK(AddExamples(bbh + "/cot-prompts", 0, *items));
  for (const Item& item : *items) {
    ASSERT_EQ(item.question.find("canary"), std::string::npos) << item.id;
    ASSERT_TRUE(item.question.ends_with("\nA: Let's think step by step.")) << item.id;
  }
  SKIP_WITHOUT_SHARED(dev, "data/benchmarks/mmlu/mmlu_dev.jsonl");
  SKIP_WITHOUT_SHARED(test, "data/benchmarks/mmlu/mmlu_test.jsonl");
  auto mmlu = LoadItems(test);
  ASSERT_OK(mmlu);
  ASSERT_OK(AddExamples(dev, 5, *mmlu));  // the published five shots of every subject
}

}  // namespace
}  // namespace conclave::benchmark
