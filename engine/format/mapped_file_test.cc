// SPDX-License-Identifier: Apache-2.0
#include "engine/format/mapped_file.h"

#include <filesystem>
#include <fstream>

#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_dir.h"

namespace conclave::engine {
namespace {

using conclave::testing::StatusIs;
using ::testing::HasSubstr;

std::string WriteFile(const conclave::testing::TempDir& dir, const std::string& name, size_t bytes) {
  std::ofstream(dir.Path(name), std::ios::binary) << std::string(bytes, 'x');
  return dir.Path(name);
}

TEST(MappedFileTest, MapsTheBytes) {
  const conclave::testing::TempDir dir;
  const auto file = MappedFile::Open(WriteFile(dir, "f", 5));
  ASSERT_OK(file);
  ASSERT_EQ((*file)->bytes().size(), 5u);
  EXPECT_EQ((*file)->bytes()[4], std::byte{'x'});
  EXPECT_OK((*file)->CheckIntact());
}

TEST(MappedFileTest, RefusesEmptyFilesAndDirectories) {
  const conclave::testing::TempDir dir;
  EXPECT_THAT(MappedFile::Open(WriteFile(dir, "empty", 0)),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("empty")));
  EXPECT_THAT(MappedFile::Open(dir.path()), StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("regular")));
}

// Without the guard this test dies of SIGBUS.
TEST(MappedFileTest, AFileThatShrinksReadsAsZerosAndIsReported) {
  const conclave::testing::TempDir dir;
  const std::string path = WriteFile(dir, "f", 1 << 20);
  const auto file = MappedFile::Open(path);
  ASSERT_OK(file);
  std::filesystem::resize_file(path, 4096);
  const auto byte_at = [&](size_t i) -> std::byte {
    return *static_cast<const volatile std::byte*>(&(*file)->bytes()[i]);
  };
  EXPECT_EQ(byte_at(0), std::byte{'x'});
  EXPECT_EQ(byte_at((1 << 20) - 1), std::byte{0});
  EXPECT_EQ(byte_at(8192), std::byte{0});
  EXPECT_THAT((*file)->CheckIntact(),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("shrank from 1048576 to 4096 bytes")));
  std::filesystem::resize_file(path, 1 << 20);  // growing back does not undo what was read
  EXPECT_THAT((*file)->CheckIntact(), StatusIs(absl::StatusCode::kFailedPrecondition));
}

TEST(MappedFileTest, LimitsTheNumberOfMappings) {
  const conclave::testing::TempDir dir;
  const std::string path = WriteFile(dir, "f", 10);
  std::vector<std::unique_ptr<MappedFile>> files;
  for (int i = 0; i < MappedFile::kMappedFilesMax; ++i) {
    auto file = MappedFile::Open(path);
    ASSERT_OK(file);
    files.push_back(*std::move(file));
  }
  EXPECT_THAT(MappedFile::Open(path), StatusIs(absl::StatusCode::kResourceExhausted));
  files.pop_back();
  EXPECT_OK(MappedFile::Open(path));
}

}  // namespace
}  // namespace conclave::engine
