// SPDX-License-Identifier: Apache-2.0
#include "common/file.h"

#include <gtest/gtest.h>
#include <zlib.h>

#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_dir.h"

namespace conclave {
namespace {

using testing::StatusIs;
using testing::TempDir;

TEST(File, WritesAndReadsBack) {
  TempDir dir;
  ASSERT_OK(WriteFileAtomically(dir.Path("a"), std::string("x\0y", 3)));
  EXPECT_EQ(ReadFile(dir.Path("a")).value(), std::string("x\0y", 3));
}

TEST(File, NamesThePathAndTheReason) {
  TempDir dir;
  EXPECT_THAT(ReadFile(dir.Path("missing")), StatusIs(absl::StatusCode::kNotFound, ::testing::HasSubstr("missing")));
  EXPECT_THAT(ReadFile(dir.path()), StatusIs(absl::StatusCode::kInvalidArgument, ::testing::HasSubstr("directory")));
  ASSERT_OK(WriteFileAtomically(dir.Path("a"), "12345"));
  EXPECT_OK(ReadFile(dir.Path("a"), 5));
  EXPECT_THAT(ReadFile(dir.Path("a"), 4), StatusIs(absl::StatusCode::kResourceExhausted));
}

TEST(File, GzipIsRecognisedByItsBytes) {
  TempDir dir;
  gzFile gz = gzopen(dir.Path("a").c_str(), "wb");
  gzwrite(gz, "hello", 5);
  gzclose(gz);
  EXPECT_EQ(ReadMaybeGzip(dir.Path("a")).value(), "hello");
  EXPECT_THAT(ReadMaybeGzip(dir.Path("a"), 4), StatusIs(absl::StatusCode::kResourceExhausted));
  std::string cut = ReadFile(dir.Path("a")).value();
  cut.resize(cut.size() - 6);
  ASSERT_OK(WriteFileAtomically(dir.Path("b"), cut));
  EXPECT_THAT(ReadMaybeGzip(dir.Path("b")), StatusIs(absl::StatusCode::kDataLoss));
}

}  // namespace
}  // namespace conclave
