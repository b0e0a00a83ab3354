// SPDX-License-Identifier: Apache-2.0
// Models in several GGUF files: joined as one, and every way in which the parts may not belong together.
#include "engine/format/gguf_split.h"

#include <fstream>

#include "tests/testing/gguf_writer.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_dir.h"

namespace conclave::engine {
namespace {

using conclave::testing::GgufWriter;
using conclave::testing::StatusIs;
using ::testing::AllOf;
using ::testing::HasSubstr;

class GgufSplit : public ::testing::Test {
 protected:
  // As gguf-split types them.
  static GgufWriter Part(uint16_t number, uint16_t count, int32_t tensors) {
    GgufWriter w;
    w.Add("split.no", number).Add("split.count", count).Add("split.tensors.count", tensors);
    return w;
  }
  std::string Path(int part, int count = 3) const {
    return dir_.Path("m-0000" + std::to_string(part) + "-of-0000" + std::to_string(count) + ".gguf");
  }
  // Three parts: metadata alone, one tensor, two tensors.
  void WriteParts() const {
    Part(0, 3, 3).Add("general.architecture", "llama").Write(Path(1));
    Part(1, 3, 3).AddTensor("a", {2}, {1, 2}).Write(Path(2));
    Part(2, 3, 3).AddTensor("b", {1}, {3}).AddTensor("c", {2, 1}, {4, 5}).Write(Path(3));
  }
  absl::Status Open(int part = 1, int count = 3) const { return Checkpoint::Open(Path(part, count)).status(); }
  static auto IsInvalid(std::string_view detail) {
    return StatusIs(absl::StatusCode::kFailedPrecondition,
                    AllOf(HasSubstr("MODEL_FILE_INVALID"), HasSubstr(std::string(detail))));
  }

  conclave::testing::TempDir dir_;
};

TEST_F(GgufSplit, ReadsAsOneFile) {
  WriteParts();
  const auto checkpoint = Checkpoint::Open(Path(1));
  ASSERT_OK(checkpoint);
  EXPECT_EQ(*(*checkpoint)->gguf()->GetString("general.architecture"), "llama");
  ASSERT_EQ((*checkpoint)->tensors().size(), 3u);
  float values[2];
  for (const auto& [name, shape, first] :
       {std::tuple{"a", Shape{2}, 1.0f}, {"b", Shape{1}, 3.0f}, {"c", Shape{2, 1}, 4.0f}}) {
    const auto tensor = (*checkpoint)->GetTensor(name, shape);
    ASSERT_OK(tensor);
    std::memcpy(values, tensor->bytes.data(), tensor->bytes.size());
    EXPECT_EQ(values[0], first) << name;
    (*checkpoint)->DropResident(tensor->bytes);
  }
  EXPECT_EQ((*checkpoint)->FindTensor("d"), nullptr);
  // Who holds the metadata finds every tensor too.
  EXPECT_NE((*checkpoint)->gguf()->FindTensor("c"), nullptr);
  EXPECT_OK((*checkpoint)->CheckIntact());
  EXPECT_OK(Checkpoint::OpenMetadata(Path(1)));
  // Another last part is another model.
  const std::string revision = (*checkpoint)->Revision();
  Part(2, 3, 3).AddTensor("b", {1}, {3}).AddTensor("C", {2, 1}, {4, 5}).Write(Path(3));
  EXPECT_NE((*Checkpoint::Open(Path(1)))->Revision(), revision);
}

TEST_F(GgufSplit, OnePartIsAFileLikeAnyOther) {
  Part(0, 1, 1).AddTensor("a", {1}, {1}).Write(dir_.Path("any name.gguf"));
  EXPECT_OK(Checkpoint::Open(dir_.Path("any name.gguf")));
}

TEST_F(GgufSplit, OtherPartsNameTheFirst) {
  WriteParts();
  EXPECT_THAT(Open(2), IsInvalid("is part 2 of 3; name the first, " + Path(1)));
  EXPECT_THAT(Open(3), IsInvalid("is part 3 of 3; name the first, " + Path(1)));
}

TEST_F(GgufSplit, MissingPartIsNamed) {
  WriteParts();
  std::filesystem::remove(Path(3));
  EXPECT_THAT(Open(), StatusIs(absl::StatusCode::kNotFound, AllOf(HasSubstr("part 3 of 3"), HasSubstr(Path(3)))));
  std::ofstream(Path(3)) << "not a model";
  EXPECT_THAT(Open(), StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("part 3 of 3")));
}

TEST_F(GgufSplit, RenamedFirstPartIsRefused) {
  WriteParts();
  std::filesystem::rename(Path(1), dir_.Path("renamed.gguf"));
  EXPECT_THAT(Checkpoint::Open(dir_.Path("renamed.gguf")).status(),
              IsInvalid("its name must end with \"-00001-of-00003.gguf\""));
}

TEST_F(GgufSplit, NumbersThatDisagreeAreRefused) {
  WriteParts();
  Part(2, 3, 3).AddTensor("a", {2}, {1, 2}).Write(Path(2));
  EXPECT_THAT(Open(), IsInvalid("says that it is part 3 of 3, 2 of 3 expected"));
  Part(1, 4, 3).AddTensor("a", {2}, {1, 2}).Write(Path(2));
  EXPECT_THAT(Open(), IsInvalid("says that it is part 2 of 4, 2 of 3 expected"));
  GgufWriter().AddTensor("a", {2}, {1, 2}).Write(Path(2));
  EXPECT_THAT(Open(), IsInvalid("key \"split.no\""));
  Part(1, 3, 3).AddTensor("a", {2}, {1, 2}).AddTensor("more", {1}, {1}).Write(Path(2));
  EXPECT_THAT(Open(), IsInvalid("\"split.tensors.count\" is 3, the 3 parts hold 4 tensors"));
}

TEST_F(GgufSplit, TensorInTwoPartsIsRefused) {
  WriteParts();
  Part(1, 3, 3).AddTensor("b", {1}, {9}).Write(Path(2));
  EXPECT_THAT(Open(), IsInvalid("tensor \"b\" is in an earlier part too"));
}

TEST_F(GgufSplit, OddKeysAreRefused) {
  const auto first = [&](const GgufWriter& w) {
    w.Write(Path(1));
    return Open();
  };
  EXPECT_THAT(first(Part(3, 3, 0)), IsInvalid("\"split.no\" is 3 of 3 parts"));
  EXPECT_THAT(first(Part(0, 0, 0)), IsInvalid("\"split.count\" is 0, 1 to 256 allowed"));
  EXPECT_THAT(first(Part(0, kGgufPartsMax + 1, 0)), IsInvalid("\"split.count\" is 257"));
  EXPECT_THAT(first(Part(0, 3, -1)), IsInvalid("\"split.tensors.count\" holds -1"));
  EXPECT_THAT(first(GgufWriter().Add("split.count", "3")), IsInvalid("\"split.count\" is string"));
  EXPECT_THAT(first(GgufWriter().Add("split.no", uint16_t{0})), IsInvalid("\"split.count\" (u32) is missing"));
}

TEST_F(GgufSplit, AsManyPartsAsAllowed) {
  const auto path = [&](uint32_t part) { return dir_.Path(fmt::format("n-{:05}-of-{:05}.gguf", part, kGgufPartsMax)); };
  for (uint32_t i = 0; i < kGgufPartsMax; ++i) {
    Part(static_cast<uint16_t>(i), kGgufPartsMax, kGgufPartsMax)
        .AddTensor("t" + std::to_string(i), {1}, {1})
        .Write(path(i + 1));
  }
  const auto checkpoint = Checkpoint::Open(path(1));
  ASSERT_OK(checkpoint);
  EXPECT_EQ((*checkpoint)->tensors().size(), kGgufPartsMax);
}

}  // namespace
}  // namespace conclave::engine
