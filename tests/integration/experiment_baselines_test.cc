// SPDX-License-Identifier: Apache-2.0
// An experiment with the baselines that were added to it, from the command line: run, resumed, graded, repeated from
// its manifest, and in shards.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "common/file.h"
#include "tests/integration/command_line.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_dir.h"

namespace conclave {
namespace {

using ::testing::HasSubstr;

class Baselines : public ::testing::Test {
 protected:
  // Two members and a rival, recorded; on every other question the second member writes so much more.
  void Prepare(size_t reasons_bytes) {
    std::string answers, items;
    for (int item = 0; item < 4; ++item) {
      items += fmt::format("{{\"id\": \"{0}\", \"question\": \"{0}+1?\", \"answer\": \"{1}\"}}\n", item, item + 1);
      for (const char* member : {"d/a", "d/b", "big"}) {
        for (int sample = 0; sample < 3; ++sample) {
          const std::string reasons(std::string_view(member) == "d/b" && item % 2 == 0 ? reasons_bytes : 0, 'x');
          const int said = item + (item == 0 && sample == 0 ? 2 : 1);
          answers += fmt::format("{{\"id\":\"{}\",\"model\":\"{}\",\"text\":\"{}#### {}\",\"sample\":{}}}\n", item,
                                 member, reasons, said, sample);
        }
      }
    }
    Write("three.jsonl", answers);
    Write("four.jsonl", items);
    std::string fleet;
    for (const char* member : {"d/a", "d/b", "big"}) {
      const bool big = std::string_view(member) == "big";
      fleet += fmt::format(
          "member {{ name: \"{}\" recorded {{ path: \"three.jsonl\" }} {} card {{ {} total_parameters: {} }} }}\n",
          member, big ? "" : "development { correct: 1 total: 2 }", big ? "kind: \"moe\"" : "", big ? 300 : 200);
    }
    Write("baselines.textproto", "name: \"b\" benchmark { path: \"four.jsonl\" }\nfleet { " + fleet +
                                     "bind { name: \"dense/*\" member: \"d/*\" } }\narm { name: \"vote\" graph: "
                                     "\"member_vote\" }\n");
  }
  std::string Path(const std::string& name) const { return dir_.Path(name); }
  void Write(const std::string& name, const std::string& text) const {
    ASSERT_OK(WriteFileAtomically(Path(name), text));
  }
  static void ExpectDone(const Words& arguments) {
    const Ended ended = RunProgram("conclave", arguments);
    EXPECT_EQ(ended.code, 0) << ::testing::PrintToString(arguments) << ::testing::PrintToString(ended.errors);
  }
  // Rows without what is measured.
  Words Outcomes(const std::string& name) const {
    const auto text = ReadFile(Path(name) + "/outcomes.jsonl");
    EXPECT_OK(text.status());
    Words rows;
    for (size_t begin = 0; text.ok() && begin < text->size(); begin = text->find('\n', begin) + 1) {
      rows.push_back(text->substr(begin, text->find(",\"cached_tokens\":", begin) - begin));
    }
    return rows;
  }

  const testing::TempDir dir_;
};

// Two members that were measured on a development split and a mixture, all recorded: the baselines come by themselves,
// a resumed run has the same, and a grading from the run directory alone.
TEST_F(Baselines, AreAddedRunResumedAndGraded) {
  Prepare(0);
  const std::string file = Path("baselines.textproto"), out = Path("baselines");

  const Ended dry = RunProgram("conclave", {"experiment", file, "--dry-run", "--json"});
  EXPECT_EQ(dry.code, 0);
  const auto plan = nlohmann::json::parse(dry.out);
  EXPECT_EQ(plan["arms"].size(), 5u);  // vote, d/a once, big once, and two curves
  EXPECT_EQ(plan["arms"][0]["calls"], 8.0);
  EXPECT_FALSE(std::filesystem::exists(out));

  const Ended ran = RunProgram("conclave", {"experiment", file, "--out", out});
  ASSERT_EQ(ran.code, 0) << ::testing::PrintToString(ran.errors);
  const auto outcomes = ReadFile(out + "/outcomes.jsonl");
  ASSERT_OK(outcomes.status());
  auto summary = nlohmann::json::parse(*ReadFile(out + "/summary.json"));
  EXPECT_EQ(summary["arms"].size(), 5u);
  EXPECT_EQ(summary["arms"][0]["generated"], false);
  EXPECT_EQ(summary["arms"][1]["generated"], true);
  EXPECT_EQ(summary["baselines"]["added"], true);
  // Two calls of 200 parameters are worth 1.33 of 300, so two samples; every first answer to question 0 is wrong.
  bool matched = false;
  for (const auto& m : summary["matched"]) matched |= m["against"] == "big x2" && m["unit"] == "flops";
  EXPECT_TRUE(matched) << summary["matched"].dump(1);

  EXPECT_EQ(RunProgram("conclave", {"experiment", file, "--out", out, "--resume"}).code, 0);
  EXPECT_EQ(*ReadFile(out + "/outcomes.jsonl"), *outcomes);
  const Ended regraded = RunProgram("conclave", {"regrade", out});
  EXPECT_EQ(regraded.code, 0);
  EXPECT_THAT(regraded.out, HasSubstr("0 of 20 verdicts changed"));

  const std::string plain = Path("no_baselines");
  ASSERT_EQ(RunProgram("conclave", {"experiment", file, "--out", plain, "--no-baselines"}).code, 0);
  summary = nlohmann::json::parse(*ReadFile(plain + "/summary.json"));
  EXPECT_EQ(summary["arms"].size(), 1u);
  EXPECT_EQ(summary["baselines"]["added"], false);
  EXPECT_THAT(summary["warnings"].dump(), HasSubstr("No baselines"));
  EXPECT_EQ(nlohmann::json::parse(*ReadFile(plain + "/manifest.json"))["baselines"], false);
}

TEST_F(Baselines, TheManifestAloneRepeatsThemWithTheirCurves) {
  Prepare(400);
  ExpectDone({"experiment", Path("baselines.textproto"), "--out", Path("first")});
  std::filesystem::create_directories(Path("alone"));
  std::filesystem::copy_file(Path("first/manifest.json"), Path("alone/manifest.json"));
  std::filesystem::remove_all(Path("first/graphs"));
  ExpectDone({"experiment", "--from-manifest", Path("alone"), "--out", Path("again")});
  EXPECT_EQ(Outcomes("again"), Outcomes("first"));
  ExpectDone({"experiment", "--from-manifest", Path("again"), "--out", Path("once more")});
  EXPECT_EQ(Outcomes("once more"), Outcomes("first"));
  // A curve of another length is another experiment.
  auto manifest = nlohmann::ordered_json::parse(*ReadFile(Path("alone/manifest.json")));
  manifest["curves"]["d/a"] = manifest["curves"]["d/a"].get<int>() - 1;
  Write("alone/manifest.json", manifest.dump());
  const Ended other = RunProgram("conclave", {"experiment", "--from-manifest", Path("alone"), "--out", Path("other")});
  EXPECT_EQ(other.code, 65);
  EXPECT_THAT(other.errors, ::testing::Contains(HasSubstr("\"arms\" differs")));
}

// What is measured differs from shard to shard.
TEST_F(Baselines, ShardsHaveTheSameCurvesAndMerge) {
  Prepare(400);
  for (const char* shard : {"1", "2"}) {
    ExpectDone({"experiment", Path("baselines.textproto"), "--out", Path(std::string("part-") + shard) + "/", "--shard",
                std::string(shard) + "/2"});
  }
  ExpectDone({"merge", Path("part-1"), Path("part-2"), "--out", Path("merged")});
  EXPECT_EQ(Outcomes("merged").size(), Outcomes("part-1").size() + Outcomes("part-2").size());
  for (const char* part : {"part-1", "part-2"}) std::filesystem::remove_all(Path(part));
  EXPECT_THAT(RunProgram("conclave", {"regrade", Path("merged")}).out, HasSubstr("0 of 20 verdicts changed"));
}

}  // namespace
}  // namespace conclave
