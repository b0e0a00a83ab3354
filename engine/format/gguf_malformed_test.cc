// SPDX-License-Identifier: Apache-2.0
// What a GGUF reader must refuse: the shapes of the vulnerabilities found in other readers, truncations, bit flips.
#include <limits>
#include <random>

#include "engine/format/gguf.h"
#include "tests/testing/gguf_writer.h"
#include "tests/testing/status_matchers.h"

namespace conclave::engine {
namespace {

using conclave::testing::GgufTensorType;
using conclave::testing::GgufWriter;
using conclave::testing::StatusIs;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::StartsWith;

absl::Status ParseBytes(std::string_view bytes) {
  return GgufFile::Parse("bad.gguf", std::as_bytes(std::span(bytes))).status();
}
absl::Status Parse(const GgufWriter& writer) { return ParseBytes(writer.Build()); }

auto IsInvalid(std::string_view detail) {
  return StatusIs(absl::StatusCode::kFailedPrecondition,
                  AllOf(StartsWith("MODEL_FILE_INVALID bad.gguf: "), HasSubstr(std::string(detail))));
}

template <typename T>
std::string Raw(T value) {
  return std::string(reinterpret_cast<const char*>(&value), sizeof(value));
}
template <typename T>
std::string Patched(std::string bytes, size_t offset, T value) {
  std::memcpy(bytes.data() + offset, &value, sizeof(value));
  return bytes;
}
constexpr size_t kTensorCountOffset = 8;
constexpr size_t kKeyCountOffset = 16;
constexpr uint64_t kHuge = std::numeric_limits<uint64_t>::max();

// About 4 KB with every kind of value and several tensors.
std::string SmallFile() {
  GgufWriter w;
  w.Add("general.architecture", "llama")
      .Add("general.name", std::string(1500, 'n'))
      .Add("a.u32", 7u)
      .Add("a.f32", 0.5f);
  w.Add("a.bool", true).Add("a.u64", uint64_t{1} << 40).AddArray("a.floats", std::vector<float>(50, 1.0f));
  std::vector<std::string> tokens;
  for (int i = 0; i < 100; ++i) tokens.push_back("t" + std::to_string(i));
  w.AddArray("tokenizer.ggml.tokens", tokens);
  w.AddTensor("x.weight", {4, 32}, std::vector<float>(128, 2.0f));
  w.AddTensor("y.weight", DType::kQ4_0, {8, 32}, std::string(144, 'y'));
  w.AddTensor("z.weight", DType::kQ8_0, {2, 64}, std::string(136, 'z'));
  return w.Build();
}

TEST(GgufMalformedTest, RefusesOtherFormatsAndVersions) {
  EXPECT_THAT(ParseBytes(""), IsInvalid("needs 4 bytes at offset 0, the file has 0 bytes"));
  EXPECT_THAT(ParseBytes("GGJT............"), IsInvalid("is not a GGUF file"));
  for (const uint32_t version : {0u, 1u, 4u}) {
    GgufWriter w;
    w.version = version;
    EXPECT_THAT(Parse(w), IsInvalid("GGUF version"));
  }
  GgufWriter big_endian;
  big_endian.version = 0x03000000;
  EXPECT_THAT(Parse(big_endian), IsInvalid("big-endian"));
}

// (a) CVE-2024-21802 and its kin: counts that overflow an allocation.
TEST(GgufMalformedTest, RefusesCountsThatCannotFit) {
  const std::string file = SmallFile();
  for (const uint64_t count : {kHuge, kHuge / 8 + 1, uint64_t{1} << 40, kGgufTensorsMax + 1, uint64_t{1000}}) {
    EXPECT_THAT(ParseBytes(Patched(file, kTensorCountOffset, count)), IsInvalid("tensors")) << count;
    EXPECT_THAT(ParseBytes(Patched(file, kKeyCountOffset, count)), IsInvalid("metadata keys")) << count;
  }
  for (const uint64_t count : {kHuge, kHuge / 8 + 1, kGgufArrayElementsMax + 1, uint64_t{100}}) {
    for (const uint32_t type : {0u, 6u, 8u, 12u}) {  // u8, f32, string, f64
      GgufWriter w;
      w.AddRawArray("list", type, count, "ab");
      EXPECT_THAT(Parse(w), IsInvalid("\"list\"")) << count << " of type " << type;
    }
  }
}

// (a) string lengths; (b) CVE-2024-32878: nothing uninitialised is freed or used on a bad header (with ASan).
TEST(GgufMalformedTest, RefusesLengthsBeyondTheFile) {
  for (const uint64_t length : {kHuge, kHuge - 7, uint64_t{1} << 31, kGgufStringBytesMax + 1, uint64_t{20}}) {
    GgufWriter w;
    w.AddRaw("text", 8, Raw(length) + "short");
    EXPECT_THAT(Parse(w), IsInvalid("\"text\"")) << length;
  }
  EXPECT_THAT(ParseBytes(Patched(SmallFile(), 24, kHuge)), IsInvalid("metadata key 0"));
  GgufWriter long_key;
  long_key.Add(std::string(kGgufKeyBytesMax, 'k'), 1u);
  EXPECT_OK(Parse(long_key));
  GgufWriter too_long_key;
  too_long_key.Add(std::string(kGgufKeyBytesMax + 1, 'k'), 1u);
  EXPECT_THAT(Parse(too_long_key), IsInvalid("65536 bytes long, at most 65535"));
}

TEST(GgufMalformedTest, RefusesUnknownValueTypes) {
  for (const uint32_t type : {13u, 255u, 0xffffffffu}) {
    EXPECT_THAT(Parse(GgufWriter().AddRaw("k", type, "12345678")), IsInvalid("key \"k\" has the unknown value type"));
    EXPECT_THAT(Parse(GgufWriter().AddRawArray("k", type, 1, "12345678")), IsInvalid("unsupported type"));
  }
  EXPECT_THAT(Parse(GgufWriter().AddRawArray("k", 9, 1, "12345678")), IsInvalid("array of arrays"));
  EXPECT_THAT(Parse(GgufWriter().AddRaw("k", 7, "\2")), IsInvalid("key \"k\" holds the bool 2"));
}

TEST(GgufMalformedTest, RefusesDuplicatesAndEmptyNames) {
  EXPECT_THAT(Parse(GgufWriter().Add("k", 1u).Add("k", 2u)), IsInvalid("key \"k\" appears twice"));
  EXPECT_THAT(Parse(GgufWriter().Add("", 1u)), IsInvalid("metadata key 0 is empty"));
  EXPECT_THAT(Parse(GgufWriter().AddTensor("t", {1}, {1}).AddTensor("t", {1}, {2})),
              IsInvalid("tensor \"t\" appears twice"));
  EXPECT_THAT(Parse(GgufWriter().AddTensor("", {1}, {1})), IsInvalid("tensor 0 has no name"));
  EXPECT_OK(Parse(GgufWriter().AddTensor(std::string(kGgufTensorNameBytesMax, 't'), {1}, {1})));
  EXPECT_THAT(Parse(GgufWriter().AddTensor(std::string(kGgufTensorNameBytesMax + 1, 't'), {1}, {1})),
              IsInvalid("the name of tensor 0"));
}

// (c) CVE-2025-53630, CVE-2026-33298: sizes whose product or sum wraps.
TEST(GgufMalformedTest, RefusesShapesThatWrap) {
  const uint32_t f32 = GgufTensorType(DType::kF32);
  const auto shape = [&](const std::vector<uint64_t>& dims) {
    return Parse(GgufWriter().AddRawTensor("w", dims, f32, 0).Add("k", 1u));
  };
  EXPECT_THAT(shape({4194305, 4194305, 211106198978564}), IsInvalid("tensor \"w\" has more elements"));
  EXPECT_THAT(shape({uint64_t{1} << 62, 2, 2}), IsInvalid("more elements"));
  EXPECT_THAT(shape({uint64_t{1} << 62, 1}), IsInvalid("more bytes"));  // x 4 bytes wraps to 0
  EXPECT_THAT(shape({kHuge}), IsInvalid("dimension of 18446744073709551615"));
  EXPECT_THAT(shape({uint64_t{1} << 63}), IsInvalid("dimension of"));
  EXPECT_THAT(shape({0, 4}), IsInvalid("dimension of 0"));
  EXPECT_THAT(shape({}), IsInvalid("has 0 dimensions"));
  EXPECT_THAT(shape({1, 1, 1, 1, 1}), IsInvalid("has 5 dimensions"));
  EXPECT_THAT(shape({(uint64_t{1} << 61) - 1}), IsInvalid("tensor \"w\" needs"));
}

TEST(GgufMalformedTest, RefusesUnsupportedTensorTypesByName) {
  const auto type = [](uint32_t number) { return Parse(GgufWriter().AddRawTensor("w", {256}, number, 0)); };
  EXPECT_THAT(type(16), IsInvalid("tensor \"w\" has type 16 (IQ2_XXS), which is not supported"));
  EXPECT_THAT(type(34), IsInvalid("TQ1_0"));
  for (const uint32_t number : {4u, 5u, 31u, 40u, 0xffffffffu}) EXPECT_THAT(type(number), IsInvalid("unknown"));
  EXPECT_THAT(Parse(GgufWriter().AddRawTensor("w", {255}, GgufTensorType(DType::kQ4_K), 0)),
              IsInvalid("rows of 255 elements, not a multiple of Q4_K's block of 256"));
}

TEST(GgufMalformedTest, RefusesTensorsOutsideTheDataOrOverlapping) {
  const uint32_t f32 = GgufTensorType(DType::kF32);
  for (const uint64_t offset : {uint64_t{4}, uint64_t{32}, kHuge - 31, kHuge}) {
    EXPECT_THAT(Parse(GgufWriter().AddRawTensor("w", {8}, f32, offset)), IsInvalid("starts at data offset")) << offset;
  }
  EXPECT_THAT(Parse(GgufWriter().AddTensor("a", {8}, std::vector<float>(8)).AddRawTensor("b", {8}, f32, 0)),
              IsInvalid("tensor \"b\" starts at data offset 0, 32 expected"));
  EXPECT_THAT(Parse(GgufWriter().AddTensor("a", {8}, std::vector<float>(8)).AddRawTensor("b", {1}, f32, 32)),
              IsInvalid("tensor \"b\" needs 4 bytes at data offset 32, the data section has 32"));
}

// (g) general.alignment of a wrong type, zero, not a power of two, or so large that rounding up wraps.
TEST(GgufMalformedTest, RefusesBadAlignment) {
  for (const uint32_t alignment : {0u, 3u, 24u, kGgufAlignmentMax * 2, uint32_t{1} << 31, 0xffffffffu}) {
    EXPECT_THAT(Parse(GgufWriter().Add("general.alignment", alignment)), IsInvalid("\"general.alignment\" is"))
        << alignment;
  }
  EXPECT_THAT(Parse(GgufWriter().Add("general.alignment", "32")), IsInvalid("is string, u32 expected"));
  EXPECT_THAT(Parse(GgufWriter().Add("general.alignment", uint64_t{32})), IsInvalid("is u64, u32 expected"));
  GgufWriter largest;
  largest.alignment = kGgufAlignmentMax;
  EXPECT_OK(Parse(largest.AddTensor("t", {1}, {1})));
}

TEST(GgufMalformedTest, HostileNamesAreSafeToPrint) {
  const absl::Status status = Parse(GgufWriter().AddRaw("k\x1b[2J\n\xff" + std::string(500, 'x'), 99, ""));
  EXPECT_THAT(status, IsInvalid("key \"k?[2J??xxx"));
  EXPECT_LT(status.message().size(), 200u);
}

TEST(GgufMalformedTest, EveryTruncationIsRefused) {
  const std::string file = SmallFile();
  ASSERT_GT(file.size(), 3000u);
  ASSERT_OK(ParseBytes(file));
  // The last tensor ends 24 bytes before the end of the file (136 bytes padded to 160).
  for (size_t size = 0; size + 24 < file.size(); ++size) {
    // A copy of exactly that size, so that a sanitizer sees a read beyond it.
    const std::vector<char> cut(file.begin(), file.begin() + static_cast<std::ptrdiff_t>(size));
    EXPECT_THAT(ParseBytes(std::string_view(cut.data(), cut.size())), IsInvalid("")) << size;
  }
}

TEST(GgufMalformedTest, BitFlipsNeverCrash) {
  const std::string file = SmallFile();
  constexpr uint64_t kSeed = 20240607;
  RecordProperty("seed", std::to_string(kSeed));
  std::mt19937_64 random(kSeed);
  int refused = 0;
  for (int i = 0; i < 10000; ++i) {
    std::vector<char> bytes(file.begin(), file.end());
    const int flips = 1 + static_cast<int>(random() % 4);
    for (int j = 0; j < flips; ++j) bytes[random() % bytes.size()] ^= static_cast<char>(1 << (random() % 8));
    const auto parsed = GgufFile::Parse("bad.gguf", std::as_bytes(std::span(bytes)));
    if (!parsed.ok()) {
      EXPECT_THAT(parsed, IsInvalid(""));
      ++refused;
      continue;
    }
    for (const CheckpointTensor& tensor : (*parsed)->tensors()) {
      const std::byte* end = std::as_bytes(std::span(bytes)).data() + bytes.size();
      ASSERT_LE(tensor.bytes.data() + tensor.bytes.size(), end);
    }
  }
  EXPECT_GT(refused, 1000);
  EXPECT_LT(refused, 10000);
}

}  // namespace
}  // namespace conclave::engine
