// SPDX-License-Identifier: Apache-2.0
// A live experiment of shipped models, killed without warning at random moments and gone on with: its outcomes are
// those of an undisturbed run, byte for byte up to what is measured in a line: what shared a batch or a cache, and the
// clock. So are those of the same experiment run twice, run from the manifest alone, and in shards that are merged.
// CONCLAVE_KILLS sets the number of kills; the default keeps CI short.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <random>
#include <set>

#include "common/clock.h"
#include "common/file.h"
#include "tests/testing/child_process.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_dir.h"

namespace conclave {
namespace {

using Json = nlohmann::ordered_json;
using Words = std::vector<std::string>;

constexpr int kKills = 4;
constexpr int kItems = 10;
constexpr int64_t kMillisecond = 1'000'000;
constexpr char kMeasured[] = ",\"cached_tokens\":";
constexpr uint32_t kSeed = 20250101;

Words Command(const Words& arguments) {
  Words words = {CONCLAVE_BINARY_DIR "/bin/conclave"};
  words.insert(words.end(), arguments.begin(), arguments.end());
  return words;
}

void ExpectDone(const Words& arguments) {
  testing::ChildProcess process(Command(arguments));
  const std::string errors = process.ReadErrors();
  EXPECT_EQ(process.Wait(), 0) << errors;
}

// The bytes of outcomes.jsonl without what is measured: each line ends where its measured fields begin.
Words Outcomes(const std::string& directory) {
  const auto text = ReadFile(directory + "/outcomes.jsonl");
  EXPECT_OK(text);
  Words rows;
  for (size_t begin = 0; text.ok() && begin < text->size();) {
    const size_t end = text->find('\n', begin);
    const std::string line = text->substr(begin, end - begin);
    const size_t measured = line.find(kMeasured);
    EXPECT_NE(measured, std::string::npos) << line;
    const Json fields = Json::parse("{" + line.substr(measured + 1));
    std::set<std::string> names;
    for (const auto& [name, value] : fields.items()) names.insert(name);
    EXPECT_THAT(names, ::testing::ElementsAre("cached_tokens", "flops", "kv_bytes", "seconds", "weight_bytes"));
    rows.push_back(line.substr(0, measured));
    begin = end + 1;
  }
  return rows;
}

class KilledExperiment : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    dir_ = new testing::TempDir;
    std::string text =
        "name: \"killed\"\nbenchmark { generator { kind: \"steps:1-2\" count: " + std::to_string(kItems) +
        " seed: 3 split: \"test\" } }\nfleet {\n";
    for (const char* member : {"m03", "m11", "m14"}) {
      text += fmt::format(
          "  member {{ name: \"{0}\" model {{ path: \"{1}/zoo/models/{0}\" threads: 1 kv_bytes: 16777216 }} }}\n",
          member, CONCLAVE_SOURCE_DIR);
    }
    text +=
        "  bind { name: \"dense/*\" member: \"m*\" }\n  bind { name: \"planner\" member: \"m11\" }\n"
        "  bind { name: \"critic\" member: \"m03\" }\n  bind { name: \"verifier\" member: \"m14\" member: \"m03\" "
        "}\n}\n"
        "arm { name: \"vote\" graph: \"member_vote\" }\narm { name: \"council\" graph: \"council\" }\nseed: "
        "5\nbaselines: false\n";
    ASSERT_OK(WriteFileAtomically(File(), text));
    const int64_t begin = Clock::System().NowNs();
    ExpectDone({"experiment", File(), "--out", Path("whole")});
    undisturbed_ns_ = Clock::System().NowNs() - begin;
    ASSERT_EQ(Outcomes(Path("whole")).size(), 2u * kItems);
  }
  static void TearDownTestSuite() { delete dir_; }

  static std::string Path(const std::string& name) { return dir_->Path(name); }
  static std::string File() { return Path("experiment.textproto"); }

  static testing::TempDir* dir_;
  static int64_t undisturbed_ns_;
};
testing::TempDir* KilledExperiment::dir_ = nullptr;
int64_t KilledExperiment::undisturbed_ns_ = 0;

TEST_F(KilledExperiment, EndsAsTheUndisturbedOne) {
  const char* wanted = std::getenv("CONCLAVE_KILLS");  // NOLINT(concurrency-mt-unsafe): no thread yet
  const int kills_wanted = wanted == nullptr ? kKills : std::atoi(wanted);
  const Words whole = Outcomes(Path("whole"));
  std::mt19937 random(kSeed);
  int kills = 0, rounds = 0;
  while (kills < kills_wanted) {
    const std::string out = Path(fmt::format("killed-{}", rounds++));
    for (bool done = false; !done;) {
      Words arguments = {"experiment", File(), "--out", out};
      if (std::filesystem::exists(out + "/store.sqlite")) arguments.push_back("--resume");
      testing::ChildProcess process(Command(arguments));
      const auto span = static_cast<uint32_t>(undisturbed_ns_ / kMillisecond) + 1;
      const int64_t until = Clock::System().NowNs() + static_cast<int64_t>(random() % span) * kMillisecond;
      bool said_all = false;
      while (!said_all && Clock::System().NowNs() < until) {
        const int64_t left = (until - Clock::System().NowNs()) / kMillisecond + 1;
        const bool line = process.ReadErrorLine(left).has_value();
        said_all = !line && Clock::System().NowNs() < until;  // the end of its output: it has ended by itself
      }
      process.Signal(SIGKILL);
      const int code = process.Wait();
      done = code == 0;
      if (code == 128 + SIGKILL) ++kills;
      ASSERT_TRUE(done || code == 128 + SIGKILL) << code << " " << process.ReadErrors();
      if (kills >= kills_wanted && !done) {
        arguments = {"experiment", File(), "--out", out};
        if (std::filesystem::exists(out + "/store.sqlite")) arguments.push_back("--resume");
        ExpectDone(arguments);
        done = true;
      }
    }
    ASSERT_EQ(Outcomes(out), whole) << out;
    std::filesystem::remove_all(out);
  }
  RecordProperty("kills", kills);
  fmt::print("{} kills in {} experiments, {:.1f} s undisturbed\n", kills, rounds,
             static_cast<double>(undisturbed_ns_) / 1e9);
}

TEST_F(KilledExperiment, RunTwiceItIsTheSame) {
  ExpectDone({"experiment", File(), "--out", Path("twice")});
  EXPECT_EQ(Outcomes(Path("twice")), Outcomes(Path("whole")));
}

TEST_F(KilledExperiment, TheManifestAloneRepeatsIt) {
  std::filesystem::create_directories(Path("alone"));
  std::filesystem::copy_file(Path("whole/manifest.json"), Path("alone/manifest.json"));
  ExpectDone({"experiment", "--from-manifest", Path("alone"), "--out", Path("again")});
  EXPECT_EQ(Outcomes(Path("again")), Outcomes(Path("whole")));

  // Another model under the same name is another experiment.
  Json manifest = Json::parse(ReadFile(Path("alone/manifest.json")).value());
  manifest["members"][0]["sha256"] = std::string(64, '0');
  ASSERT_OK(WriteFileAtomically(Path("alone/manifest.json"), manifest.dump()));
  testing::ChildProcess process(Command({"experiment", "--from-manifest", Path("alone"), "--out", Path("other")}));
  EXPECT_THAT(process.ReadErrors(), ::testing::HasSubstr("\"members\" differs"));
  EXPECT_EQ(process.Wait(), 65);
}

TEST_F(KilledExperiment, ShardsMergeIntoTheWhole) {
  for (const char* part : {"1", "2"}) {
    ExpectDone({"experiment", File(), "--out", Path(std::string("part-") + part), "--shard", std::string(part) + "/2"});
  }
  ExpectDone({"merge", Path("part-2"), Path("part-1"), "--out", Path("merged")});
  EXPECT_EQ(Outcomes(Path("merged")), Outcomes(Path("whole")));
  EXPECT_TRUE(std::filesystem::exists(Path("merged/report.html")));
  ExpectDone({"experiment", File(), "--out", Path("merged"), "--resume"});  // nothing is asked again
  ExpectDone({"regrade", Path("merged")});
  EXPECT_EQ(Outcomes(Path("merged")), Outcomes(Path("whole")));

  const auto refused = [&](const Words& parts, const char* what) {
    Words arguments = {"merge"};
    for (const std::string& part : parts) arguments.push_back(Path(part));
    arguments.insert(arguments.end(), {"--out", Path("refused")});
    testing::ChildProcess process(Command(arguments));
    EXPECT_THAT(process.ReadErrors(), ::testing::HasSubstr(what));
    EXPECT_EQ(process.Wait(), 65);
  };
  refused({"part-1"}, "shard 2/2 is missing");
  refused({"part-1", "part-2", "part-1"}, "overlap");
  refused({"part-1", "whole"}, "not parts of one whole");
  ExpectDone({"experiment", File(), "--out", Path("fewer"), "--shard", "2/2", "--limit", "6"});
  refused({"part-1", "fewer"}, "differs in their manifests");
}

}  // namespace
}  // namespace conclave
