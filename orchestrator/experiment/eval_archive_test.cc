// SPDX-License-Identifier: Apache-2.0
// Packed logs of Inspect: one that it wrote itself (testdata), archives of every kind it has written, and damaged ones.
#include "orchestrator/experiment/eval_archive.h"

#include <archive.h>
#include <archive_entry.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sstream>

#include "common/file.h"
#include "orchestrator/experiment/import.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_dir.h"

namespace conclave::experiment {
namespace {

using conclave::testing::StatusIs;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr char kSums[] = CONCLAVE_SOURCE_DIR "/orchestrator/experiment/testdata/inspect_sums";
constexpr char kGood[] = R"({"status":"success","eval":{"model":"m"}})";

struct File {
  std::string name, text;
};

// A zip, as Python's zipfile and others write it: deflated, or stored.
void WriteZip(const std::string& path, const std::vector<File>& files, bool deflate = true) {
  archive* a = archive_write_new();
  ASSERT_EQ(archive_write_set_format_zip(a), ARCHIVE_OK);
  ASSERT_EQ(archive_write_set_options(a, deflate ? "zip:compression=deflate" : "zip:compression=store"), ARCHIVE_OK);
  ASSERT_EQ(archive_write_open_filename(a, path.c_str()), ARCHIVE_OK);
  archive_entry* entry = archive_entry_new();
  for (const File& file : files) {
    archive_entry_clear(entry);
    archive_entry_set_pathname(entry, file.name.c_str());
    archive_entry_set_size(entry, static_cast<la_int64_t>(file.text.size()));
    archive_entry_set_filetype(entry, AE_IFREG);
    archive_entry_set_perm(entry, 0600);
    ASSERT_EQ(archive_write_header(a, entry), ARCHIVE_OK);
    ASSERT_EQ(archive_write_data(a, file.text.data(), file.text.size()), static_cast<la_ssize_t>(file.text.size()));
  }
  archive_entry_free(entry);
  ASSERT_EQ(archive_write_close(a), ARCHIVE_OK);
  archive_write_free(a);
}

std::string Sample(int id, const std::string& more = "") {
  return fmt::format(R"({{"id":{},"epoch":1,"input":"?","target":"4","scores":{{"match":{{"value":"C"}}}}{}}})", id,
                     more);
}

absl::Status ReadAll(const std::string& path, const EvalLimits& limits, std::vector<std::string>* samples) {
  return ForEachEvalSample(
      path,
      [&](std::string_view text) {
        samples->emplace_back(text);
        return absl::OkStatus();
      },
      limits);
}

TEST(EvalArchive, WhatInspectWroteIsReadAsInspectReadsIt) {
  const auto imported = ImportOutcomes(std::string(kSums) + ".eval", "arm");
  ASSERT_OK(imported);
  const auto table = ReadFile(std::string(kSums) + ".tsv");
  ASSERT_OK(table);
  std::istringstream lines(*table);
  std::string line;
  ASSERT_TRUE(std::getline(lines, line));  // its heading
  size_t n = 0;
  for (; std::getline(lines, line); ++n) {
    ASSERT_LT(n, imported->rows.size());
    const Outcome& row = imported->rows[n];
    EXPECT_EQ(fmt::format("{}\t{}\t{}\t{}\t{}\t{}\t{:.0f}\t{:.0f}\t{}", row.id, row.replicate + 1,
                          row.kind == OutcomeKind::kCorrect ? "C" : "I", row.answer, row.gold, row.cluster,
                          row.prompt_tokens, row.output_tokens, row.answer),
              line);
    EXPECT_THAT(imported->transcripts[n], HasSubstr("I add both."));
    EXPECT_THAT(imported->transcripts[n], HasSubstr(fmt::format("ANSWER: {}\"", row.answer)));
    EXPECT_EQ(row.arm, "mockllm/model");
  }
  EXPECT_EQ(n, 10u);
  EXPECT_EQ(imported->rows.size(), n);
  EXPECT_EQ(imported->items.size(), 5u);
  EXPECT_THAT(imported->items[0], HasSubstr("What is 1 plus 2?"));
}

TEST(EvalArchive, StoredOrDeflatedInAnyOrder) {
  testing::TempDir dir;
  const std::string path = dir.Path("log.eval");
  for (const bool deflate : {false, true}) {
    WriteZip(
        path,
        {{"_journal/start.json", "{}"},
         {"samples/1_epoch_1.json", Sample(1, R"(,"events":[{"deep":[[1]]}],"output":{"completion":"attachment://k"},)"
                                              R"("attachments":{"k":"a long text"})")},
         {"header.json", kGood},
         {"samples/b/2_epoch_1.txt", "not read"},
         {"samples/2_epoch_1.json",
          Sample(2, R"(,"output":{"choices":[{"message":{"content":[{"type":"text","text":"so"},)"
                    R"({"type":"image","image":"x"},{"type":"text","text":"4"}]}}]})")}},
        deflate);
    const auto imported = ImportOutcomes(path, "arm");
    ASSERT_OK(imported);
    ASSERT_EQ(imported->rows.size(), 2u);
    EXPECT_EQ(imported->rows[1].id, "2");
    EXPECT_THAT(imported->transcripts[0], HasSubstr("\"text\":\"a long text\""));
    EXPECT_THAT(imported->transcripts[1], HasSubstr("\"text\":\"so\\n4\""));
  }
}

TEST(EvalArchive, LimitsAreHeldAgainstWhatIsUnpacked) {
  testing::TempDir dir;
  const std::string path = dir.Path("log.eval"), bytes(1000, 'x');
  WriteZip(path, {{"header.json", bytes}, {"samples/1.json", bytes}, {"samples/2.json", bytes}});
  std::vector<std::string> samples;
  EXPECT_OK(ReadAll(path, {.entries = 3, .document_bytes = 1000, .total_bytes = 2000}, &samples));
  EXPECT_THAT(samples, ElementsAre(bytes, bytes));
  const auto refused = [&](const EvalLimits& limits, const char* what) {
    EXPECT_THAT(ReadAll(path, limits, &samples), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(what)));
  };
  refused({.entries = 2}, "holds more than 2 files");
  refused({.document_bytes = 999}, "samples/1.json has more than 999 bytes unpacked");
  refused({.total_bytes = 1999}, "more than 1999 bytes unpacked");
  EXPECT_OK(ReadEvalHeader(path, {.document_bytes = 1000}));
  EXPECT_THAT(ReadEvalHeader(path, {.document_bytes = 999}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("header.json has more than 999 bytes")));

  // A bomb: a thousand times its size in the file, which says what it likes. Only the limit's worth is unpacked.
  WriteZip(path, {{"header.json", kGood}, {"samples/1.json", std::string(size_t{64} << 20, 'x')}});
  ASSERT_LT(ReadFile(path)->size(), size_t{1} << 17);
  refused({.document_bytes = 1 << 20}, "more than 1048576 bytes unpacked");
}

TEST(EvalArchive, WhatIsNoFinishedLogIsAnError) {
  testing::TempDir dir;
  const std::string path = dir.Path("log.eval");
  const auto refused = [&](const std::vector<File>& files, const char* what) {
    WriteZip(path, files);
    EXPECT_THAT(ImportOutcomes(path, "arm"), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(what)));
  };
  refused({{"samples/1_epoch_1.json", Sample(1)}}, "holds no header.json");
  refused({{"header.json", kGood}}, "holds no samples");
  refused({{"header.json", "{"}}, "is no Inspect log");
  refused({{"header.json", R"({"status":"error","eval":{}})"}}, "status is \"error\"");
  refused({{"header.json", kGood}, {"samples/1_epoch_1.json", "[]"}}, "a sample is no JSON object");
  refused({{"header.json", kGood}, {"samples/1_epoch_1/sample.json", "{}"}}, "a sample in chunks");
  refused({{"header.json", kGood}, {"samples/1.json", Sample(1)}, {"samples/2.json", Sample(1)}}, "given before");
  EXPECT_THAT(ReadEvalHeader(dir.Path("none.eval")), StatusIs(absl::StatusCode::kNotFound, HasSubstr("none.eval")));
  ASSERT_OK(WriteFileAtomically(path, "no zip"));
  EXPECT_THAT(ReadEvalHeader(path), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("log.eval: ")));
}

TEST(EvalArchive, CutAndDamagedFilesEndInAnError) {
  testing::TempDir dir;
  const std::string path = dir.Path("log.eval");
  const std::string whole = ReadFile(std::string(kSums) + ".eval").value();
  const auto good = ImportOutcomes(std::string(kSums) + ".eval", "arm");
  ASSERT_OK(good);
  constexpr size_t kStep = 397;
  for (size_t size = 0; size < whole.size(); size += kStep) {
    ASSERT_OK(WriteFileAtomically(path, whole.substr(0, size)));
    EXPECT_FALSE(ImportOutcomes(path, "arm").ok()) << size;
  }
  // A flipped byte is found by its checksum, or lies where nothing is read.
  for (size_t at = 0; at < whole.size(); at += kStep) {
    std::string flipped = whole;
    flipped[at] = static_cast<char>(flipped[at] ^ 0x55);
    ASSERT_OK(WriteFileAtomically(path, flipped));
    const auto imported = ImportOutcomes(path, "arm");
    if (imported.ok()) {
      EXPECT_EQ(imported->rows, good->rows) << at;
    }
  }
}

}  // namespace
}  // namespace conclave::experiment
