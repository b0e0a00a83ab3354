// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/experiment/benchmark/item.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <zlib.h>

#include <string>

#include "common/file.h"
#include "orchestrator/experiment/benchmark/line_reader.h"
#include "tests/testing/shared_data.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_dir.h"

namespace conclave::benchmark {
namespace {

using conclave::testing::StatusIs;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr absl::StatusCode kInvalid = absl::StatusCode::kInvalidArgument;

class ItemTest : public ::testing::Test {
 protected:
  std::string Write(const std::string& name, std::string_view text) {
    EXPECT_OK(WriteFileAtomically(dir_.Path(name), text));
    return dir_.Path(name);
  }
  std::string WriteGzip(const std::string& name, std::string_view text) {
    gzFile file = gzopen(dir_.Path(name).c_str(), "wb");
    EXPECT_EQ(gzwrite(file, text.data(), static_cast<unsigned>(text.size())), static_cast<int>(text.size()));
    gzclose(file);
    return dir_.Path(name);
  }
  absl::StatusOr<std::vector<Item>> Load(std::string_view text, const LoadOptions& options = {}) {
    return LoadItems(Write("items.jsonl", text), options);
  }
  testing::TempDir dir_;
};

TEST_F(ItemTest, OwnForm) {
  const auto items = Load(
      "{\"id\":\"a\",\"question\":\"2+2?\",\"answer\":4,\"cluster\":\"c1\",\"stratum\":\"sums\"}\n"
      "\n"
      "{\"id\":7,\"question\":\"Which?\",\"answer\":\"B\",\"choices\":[\"x\",\"y\"]}\r\n");
  ASSERT_OK(items);
  ASSERT_EQ(items->size(), 2u);
  EXPECT_EQ((*items)[0].id, "a");
  EXPECT_EQ((*items)[0].answer, "4");
  EXPECT_EQ((*items)[0].cluster, "c1");
  EXPECT_EQ((*items)[0].stratum, "sums");
  EXPECT_EQ((*items)[1].id, "7");
  EXPECT_THAT((*items)[1].choices, ElementsAre("x", "y"));
}

TEST_F(ItemTest, PublishedGsm8kForm) {
  const std::string line = "{\"question\": \"How many?\", \"answer\": \"2+2=<<2+2=4>>4\\n#### 1,004 \"}\n";
  for (const std::string& path : {Write("test.jsonl", line + line), WriteGzip("test.jsonl.gz", line + line)}) {
    const auto items = LoadItems(path);
    ASSERT_OK(items);
    ASSERT_EQ(items->size(), 2u);
    EXPECT_EQ((*items)[1].id, "gsm8k-main-test-#1");
    EXPECT_EQ((*items)[1].answer, "1,004");
    EXPECT_THAT((*items)[1].solution, HasSubstr("<<2+2=4>>"));
  }
}

TEST_F(ItemTest, RecordedFormAndLimit) {
  const auto items = Load(
      "{\"id\":\"x\",\"question\":\"q\",\"gold\":\"18\"}\n{\"id\":\"y\",\"question\":\"q\",\"gold\":\"2,125\"}\nnot",
      {.format = "", .limit = 2, .split = {}});
  ASSERT_OK(items);
  EXPECT_EQ((*items)[1].answer, "2,125");
}

TEST_F(ItemTest, ErrorsNameFileAndLine) {
  const std::string good = "{\"id\":\"a\",\"question\":\"q\",\"answer\":\"1\"}\n";
  EXPECT_THAT(Load(good + "oops\n"), StatusIs(kInvalid, AllOf(HasSubstr("items.jsonl:2: not JSON"))));
  EXPECT_THAT(Load(good + "[1]\n"), StatusIs(kInvalid, HasSubstr(":2: not a JSON object")));
  EXPECT_THAT(Load(good + "{\"id\":\"b\",\"answer\":\"1\"}"),
              StatusIs(kInvalid, HasSubstr(":2: field \"question\" is missing")));
  EXPECT_THAT(Load(good + "{\"id\":\"b\",\"question\":5,\"answer\":\"1\"}"),
              StatusIs(kInvalid, HasSubstr(":2: field \"question\" must be a string")));
  EXPECT_THAT(Load(good + "\n" + good), StatusIs(kInvalid, HasSubstr(":3: id \"a\" was used on line 1")));
  EXPECT_THAT(Load(good + "{\"id\":\"b\",\"question\":\"q\",\"answer\":\"1\",\"chioces\":[]}"),
              StatusIs(kInvalid, HasSubstr(":2: unknown field \"chioces\"; known: id, question")));
  EXPECT_THAT(Load(good + "{\"id\":\"b\",\"question\":\"q\",\"answer\":\"\"}"),
              StatusIs(kInvalid, HasSubstr(":2: field \"answer\" is empty")));
  EXPECT_THAT(Load("{\"question\":\"q\",\"answer\":\"no mark\"}"),
              StatusIs(kInvalid, HasSubstr(":1: field \"answer\"")));
  EXPECT_THAT(Load("{\"a\":1}"), StatusIs(kInvalid, HasSubstr("cannot tell the items format")));
  EXPECT_THAT(Load(""), StatusIs(kInvalid, HasSubstr("no items")));
  EXPECT_THAT(Load(good, {.format = "gsm", .limit = 0, .split = {}}),
              StatusIs(kInvalid, HasSubstr("gsm8k, humaneval, items")));
  EXPECT_THAT(LoadItems(dir_.Path("none")), StatusIs(absl::StatusCode::kNotFound, HasSubstr("none")));
  EXPECT_THAT(LoadItems(dir_.path()), StatusIs(kInvalid, HasSubstr("directory")));
}

TEST_F(ItemTest, ChoicesAtTheLimit) {
  const auto line = [](size_t n) {
    std::string choices;
    for (size_t i = 0; i < n; ++i) choices += (i ? ",\"o\"" : "\"o\"");
    return "{\"id\":\"a\",\"question\":\"q\",\"answer\":\"A\",\"choices\":[" + choices + "]}";
  };
  EXPECT_OK(Load(line(kChoicesMax)));
  EXPECT_THAT(Load(line(kChoicesMax + 1)), StatusIs(kInvalid, HasSubstr("more than 26 choices")));
}

TEST_F(ItemTest, LinesAcrossChunksAndAtTheLimit) {
  // Longer than one read; the line breaks fall everywhere.
  std::string text;
  for (int i = 0; i < 3000; ++i) {
    text += "{\"id\":" + std::to_string(i) + ",\"question\":\"" + std::string(static_cast<size_t>(i % 701), 'q') +
            "?\",\"answer\":\"" + std::to_string(i) + "\"}\n";
  }
  const auto items = Load(text);
  ASSERT_OK(items);
  ASSERT_EQ(items->size(), 3000u);
  for (size_t i = 0; i < items->size(); ++i) EXPECT_EQ((*items)[i].question.size(), i % 701 + 1);
  const std::string head = "{\"id\":\"a\",\"answer\":\"1\",\"question\":\"";
  const std::string tail = "\"}";
  const std::string longest = head + std::string(kLineBytesMax - head.size() - tail.size(), 'q') + tail;
  EXPECT_OK(Load(longest));
  EXPECT_THAT(Load(longest + " "), StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("longer than the limit")));
}

TEST_F(ItemTest, CutGzipIsDataLoss) {
  std::string text;
  for (int i = 0; i < 2000; ++i) {
    text += "{\"id\":" + std::to_string(i) + ",\"question\":\"q" + std::to_string(i * 7919) + "\",\"answer\":\"1\"}\n";
  }
  const auto whole = ReadFile(WriteGzip("a.gz", text));
  ASSERT_OK(whole);
  EXPECT_THAT(LoadItems(Write("cut.gz", std::string_view(*whole).substr(0, whole->size() / 2))),
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr("cut.gz")));
}

TEST_F(ItemTest, SharedGsm8k) {
  SKIP_WITHOUT_SHARED(published, "data/benchmarks/gsm8k/test.jsonl");
  SKIP_WITHOUT_SHARED(recorded, "data/recorded/gsm_items.jsonl");
  const auto a = LoadItems(published);
  const auto b = LoadItems(recorded);
  ASSERT_OK(a);
  ASSERT_OK(b);
  ASSERT_EQ(a->size(), 1319u);
  ASSERT_EQ(b->size(), 1319u);
  for (size_t i = 0; i < a->size(); ++i) {
    EXPECT_EQ((*a)[i].id, (*b)[i].id);
    EXPECT_EQ((*a)[i].answer, (*b)[i].answer);
  }
}

}  // namespace
}  // namespace conclave::benchmark
