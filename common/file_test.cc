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

// The second is FIPS 180-2's vector of a million times "a", longer than any piece.
TEST(File, HashesWhatItHolds) {
  TempDir dir;
  ASSERT_OK(WriteFileAtomically(dir.Path("empty"), ""));
  EXPECT_EQ(HashFile(dir.Path("empty")).value(), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  ASSERT_OK(WriteFileAtomically(dir.Path("a"), std::string(1'000'000, 'a')));
  EXPECT_EQ(HashFile(dir.Path("a")).value(), "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
  EXPECT_THAT(HashFile(dir.Path("missing")), StatusIs(absl::StatusCode::kNotFound, ::testing::HasSubstr("missing")));
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
