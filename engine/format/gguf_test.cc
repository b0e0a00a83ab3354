// SPDX-License-Identifier: Apache-2.0
#include "engine/format/gguf.h"

#include <limits>

#include "tests/testing/gguf_writer.h"
#include "tests/testing/shared_data.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_dir.h"

namespace conclave::engine {
namespace {

using conclave::testing::GgufWriter;
using conclave::testing::StatusIs;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::StartsWith;

auto IsInvalid(std::string_view detail) {
  return StatusIs(absl::StatusCode::kFailedPrecondition,
                  AllOf(StartsWith("MODEL_FILE_INVALID test.gguf: "), HasSubstr(std::string(detail))));
}

// Keeps the bytes alive beside the file that views them.
struct Parsed {
  explicit Parsed(const GgufWriter& writer)
      : bytes(writer.Build()), file(GgufFile::Parse("test.gguf", std::as_bytes(std::span(bytes)))) {}
  std::string bytes;
  absl::StatusOr<std::unique_ptr<GgufFile>> file;
};

TEST(GgufTest, ReadsEveryScalarType) {
  GgufWriter w;
  w.Add("u8", uint8_t{200}).Add("i8", int8_t{-5}).Add("u16", uint16_t{65535}).Add("i16", int16_t{-300});
  w.Add("u32", uint32_t{4000000000}).Add("i32", int32_t{-7}).Add("u64", std::numeric_limits<uint64_t>::max());
  w.Add("i64", int64_t{-1}).Add("f32", 1.5f).Add("f64", 0.25).Add("yes", true).Add("no", false);
  w.Add("text", "h\xc3\xa9llo").Add("empty", "");
  const Parsed p(w);
  ASSERT_OK(p.file);
  const GgufFile& f = **p.file;
  EXPECT_EQ(*f.GetU32("u8"), 200u);
  EXPECT_EQ(*f.GetU32("u16"), 65535u);
  EXPECT_EQ(*f.GetU32("u32"), 4000000000u);
  EXPECT_EQ(*f.GetU64("u64"), std::numeric_limits<uint64_t>::max());
  EXPECT_EQ(*f.GetF32("f32"), 1.5f);
  EXPECT_EQ(*f.GetF32("f64"), 0.25f);
  EXPECT_TRUE(*f.GetBool("yes"));
  EXPECT_FALSE(*f.GetBool("no"));
  EXPECT_EQ(*f.GetString("text"), "h\xc3\xa9llo");
  EXPECT_EQ(*f.GetString("empty"), "");
  EXPECT_EQ(f.keys().size(), 14u);
  EXPECT_EQ(f.keys()[4], "u32");
  EXPECT_EQ(f.version(), 3u);
}

TEST(GgufTest, ErrorsNameKeyTypeAndValue) {
  GgufWriter w;
  w.Add("text", "x").Add("negative", int32_t{-7}).Add("large", uint64_t{1} << 40);
  w.Add("nan", std::numeric_limits<float>::quiet_NaN()).AddArray("list", std::vector<float>{1.0f});
  const Parsed p(w);
  ASSERT_OK(p.file);
  const GgufFile& f = **p.file;
  EXPECT_THAT(f.GetU32("text"), IsInvalid("key \"text\" is string, u32 expected"));
  EXPECT_THAT(f.GetU32("absent"), IsInvalid("key \"absent\" (u32) is missing"));
  EXPECT_THAT(f.GetU32("negative"), IsInvalid("key \"negative\" holds -7, 0 to 4294967295 allowed"));
  EXPECT_THAT(f.GetU32("large"), IsInvalid("key \"large\" holds 1099511627776"));
  EXPECT_THAT(f.GetF32("nan"), IsInvalid("key \"nan\" is nan"));
  EXPECT_THAT(f.GetBool("text"), IsInvalid("is string, bool expected"));
  EXPECT_THAT(f.GetString("list"), IsInvalid("key \"list\" is array of f32, string expected"));
  EXPECT_THAT(f.GetStrings("list"), IsInvalid("is array of f32, array of string expected"));
  EXPECT_THAT(f.GetI32s("list"), IsInvalid("array of i32 expected"));
  EXPECT_THAT(f.GetU32Or("text", 3), IsInvalid("is string"));
  EXPECT_EQ(*f.GetU32Or("absent", 3), 3u);
}

TEST(GgufTest, ReadsArrays) {
  GgufWriter w;
  w.AddArray("strings", std::vector<std::string>{"a", "", "b c"});
  w.AddArray("i32", std::vector<int32_t>{-1, 2, 3}).AddArray("u16", std::vector<uint16_t>{7, 8});
  w.AddArray("f32", std::vector<float>{0.5f, -2.0f}).AddArray("none", std::vector<float>{});
  const Parsed p(w);
  ASSERT_OK(p.file);
  const GgufFile& f = **p.file;
  EXPECT_THAT(*f.GetStrings("strings"), ElementsAre("a", "", "b c"));
  EXPECT_THAT(*f.GetI32s("i32"), ElementsAre(-1, 2, 3));
  EXPECT_THAT(f.GetU32s("i32"), IsInvalid("holds -1"));
  EXPECT_THAT(*f.GetU32s("u16"), ElementsAre(7u, 8u));
  EXPECT_THAT(*f.GetF32s("f32"), ElementsAre(0.5f, -2.0f));
  EXPECT_TRUE(f.GetF32s("none")->empty());
}

TEST(GgufTest, PlacesTensorsSlowestDimensionFirst) {
  GgufWriter w;
  w.AddTensor("a.weight", {2, 3}, {1, 2, 3, 4, 5, 6});
  w.AddTensor("b.weight", DType::kQ4_1, {3, 64}, std::string(3 * 40, 'q'));
  w.AddTensor("c.weight", {1}, {9});
  const Parsed p(w);
  ASSERT_OK(p.file);
  const GgufFile& f = **p.file;
  ASSERT_EQ(f.tensors().size(), 3u);
  const CheckpointTensor* a = f.FindTensor("a.weight");
  ASSERT_NE(a, nullptr);
  EXPECT_EQ(a->shape, (Shape{2, 3}));
  EXPECT_EQ(a->dtype, DType::kF32);
  ASSERT_EQ(a->bytes.size(), 24u);
  float last = 0;
  std::memcpy(&last, a->bytes.data() + 20, 4);
  EXPECT_EQ(last, 6.0f);
  EXPECT_EQ(f.FindTensor("b.weight")->dtype, DType::kQ4_1);
  EXPECT_EQ(f.FindTensor("b.weight")->bytes.size(), 120u);
  EXPECT_EQ(f.FindTensor("b.weight")->bytes[0], std::byte{'q'});
  EXPECT_EQ(f.FindTensor("d.weight"), nullptr);
  EXPECT_OK(f.GetTensor("c.weight", {1}));
  EXPECT_THAT(f.GetTensor("a.weight", {3, 2}), IsInvalid("tensor \"a.weight\" has shape [2, 3], [3, 2] expected"));
  EXPECT_THAT(f.GetTensor("d.weight", {4}), IsInvalid("tensor \"d.weight\" [4] is missing"));
}

TEST(GgufTest, KnowsTheSizeOfEveryFormatItNames) {
  for (int i = 0; i <= static_cast<int>(DType::kMXFP4); ++i) {
    const auto dtype = static_cast<DType>(i);
    if (dtype == DType::kU8 || dtype == DType::kF8_E4M3) continue;  // safetensors only
    GgufWriter w;
    const auto bytes = static_cast<size_t>(RowBytes(dtype, 512));
    w.AddTensor("t", dtype, {2, 512}, std::string(2 * bytes, '\1'));
    const Parsed p(w);
    ASSERT_OK(p.file) << Name(dtype);
    EXPECT_EQ((*p.file)->tensors()[0].dtype, dtype);
    EXPECT_EQ((*p.file)->tensors()[0].bytes.size(), 2 * bytes);
  }
}

TEST(GgufTest, AcceptsVersionTwoOtherAlignmentAndAnUnpaddedEnd) {
  GgufWriter w;
  w.version = 2;
  w.alignment = 8;
  w.AddTensor("a", {3}, {1, 2, 3}).AddTensor("b", {1}, {4});
  std::string bytes = w.Build();
  bytes.resize(bytes.size() - 4);  // b's padding
  const auto f = GgufFile::Parse("test.gguf", std::as_bytes(std::span(bytes)));
  ASSERT_OK(f);
  float b = 0;
  std::memcpy(&b, (*f)->FindTensor("b")->bytes.data(), 4);
  EXPECT_EQ(b, 4.0f);
}

TEST(GgufTest, HeaderBytesEndBeforeTheData) {
  GgufWriter w;
  w.Add("k", uint8_t{1}).AddTensor("a", {1}, {1});
  Parsed p(w);
  ASSERT_OK(p.file);
  // magic, version, two counts; key "k" with type and value; tensor "a" with rank, one dimension, type, offset.
  EXPECT_EQ((*p.file)->header_bytes().size(), size_t{4 + 4 + 16 + (8 + 1 + 4 + 1) + (8 + 1 + 4 + 8 + 4 + 8)});
}

TEST(GgufTest, OpensAFileAndNamesAMissingOne) {
  const conclave::testing::TempDir dir;
  GgufWriter w;
  w.Add("general.architecture", "llama").AddTensor("a", {2}, {1, 2});
  w.Write(dir.Path("m.gguf"));
  const auto f = GgufFile::Open(dir.Path("m.gguf"));
  ASSERT_OK(f);
  EXPECT_EQ(*(*f)->GetString("general.architecture"), "llama");
  EXPECT_OK((*f)->CheckIntact());
  EXPECT_THAT(GgufFile::Open(dir.Path("none.gguf")), StatusIs(absl::StatusCode::kNotFound, HasSubstr("none.gguf")));
  EXPECT_THAT(GgufFile::Open(dir.path()), StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("regular file")));
}

// The header of a real model, as its own tools print it.
TEST(GgufTest, ReadsSmolLm2) {
  const std::string path = conclave::testing::CachedModelPath("SmolLM2-135M-Instruct.Q4_1.gguf");
  if (path.empty()) GTEST_SKIP() << "needs ~/.cache/conclave/SmolLM2-135M-Instruct.Q4_1.gguf (see deploy/demo)";
  const auto f = GgufFile::Open(path);
  ASSERT_OK(f);
  EXPECT_EQ(*(*f)->GetU32("llama.block_count"), 30u);
  EXPECT_EQ(*(*f)->GetF32("llama.rope.freq_base"), 100000.0f);
  EXPECT_EQ((*f)->GetStrings("tokenizer.ggml.tokens")->size(), 49152u);
  EXPECT_EQ((*f)->tensors().size(), 272u);  // 30 x 9 + embedding + final norm
  EXPECT_OK((*f)->GetTensor("token_embd.weight", {49152, 576}));
  EXPECT_EQ((*f)->FindTensor("blk.29.ffn_down.weight")->dtype, DType::kQ4_1);
}

}  // namespace
}  // namespace conclave::engine
