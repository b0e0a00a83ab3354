// SPDX-License-Identifier: Apache-2.0
#include "engine/format/hf_checkpoint.h"

#include <gtest/gtest.h>

#include <fstream>

#include "tests/testing/safetensors_writer.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_dir.h"

namespace conclave::engine {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::SafetensorsWriter;
using testing::StatusIs;

class HfCheckpointTest : public ::testing::Test {
 protected:
  void Put(const std::string& name, const std::string& text) {
    std::ofstream(dir_.Path(name), std::ios::binary) << text;
  }
  void PutShard(const std::string& name, const std::string& tensor, float value) {
    SafetensorsWriter().Add(tensor, Shape{1}, {value}).Write(dir_.Path(name));
  }
  absl::StatusOr<std::unique_ptr<Checkpoint>> Open() { return Checkpoint::Open(dir_.path()); }
  void ExpectInvalid(const std::string& detail) {
    EXPECT_THAT(Open().status(), StatusIs(absl::StatusCode::kFailedPrecondition,
                                          AllOf(HasSubstr("MODEL_FILE_INVALID"), HasSubstr(detail))));
  }

  testing::TempDir dir_;
};

constexpr const char* kIndexFile = "model.safetensors.index.json";

TEST_F(HfCheckpointTest, SingleFile) {
  Put("config.json", "{}");
  PutShard("model.safetensors", "a", 3);
  const auto checkpoint = Open();
  ASSERT_OK(checkpoint);
  ASSERT_NE((*checkpoint)->hf(), nullptr);
  EXPECT_EQ((*checkpoint)->gguf(), nullptr);
  EXPECT_OK((*checkpoint)->GetTensor("a", Shape{1}).status());
  EXPECT_THAT((*checkpoint)->GetTensor("b", Shape{1}).status(),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("\"b\"")));
  EXPECT_THAT((*checkpoint)->GetTensor("a", Shape{2}).status(),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("[2] expected")));
}

TEST_F(HfCheckpointTest, Shards) {
  Put("config.json", "{}");
  // An index may name tensors that no shard has.
  Put(kIndexFile,
      R"({"metadata":{"total_size":8},"weight_map":{"a":"1.safetensors","b":"2.safetensors","z":"2.safetensors"}})");
  PutShard("1.safetensors", "a", 1);
  PutShard("2.safetensors", "b", 2);
  const auto checkpoint = Open();
  ASSERT_OK(checkpoint);
  EXPECT_EQ((*checkpoint)->tensors().size(), 2u);
  EXPECT_NE((*checkpoint)->FindTensor("a"), nullptr);
  EXPECT_NE((*checkpoint)->FindTensor("b"), nullptr);
  EXPECT_EQ((*checkpoint)->FindTensor("z"), nullptr);
  EXPECT_OK((*checkpoint)->CheckIntact());
  (*checkpoint)->DropResident((*checkpoint)->FindTensor("b")->bytes);
  float value = 0;
  std::memcpy(&value, (*checkpoint)->FindTensor("b")->bytes.data(), sizeof(value));
  EXPECT_EQ(value, 2.0f);
}

TEST_F(HfCheckpointTest, ShardsThatCannotBe) {
  Put("config.json", "{}");
  EXPECT_THAT(Open().status(), StatusIs(absl::StatusCode::kNotFound, HasSubstr("safetensors")));
  Put(kIndexFile, "{}");
  ExpectInvalid("weight_map");
  Put(kIndexFile, R"({"weight_map":{}})");
  ExpectInvalid("no shard");
  for (const char* name : {"../1.safetensors", "/etc/passwd", "..", ""}) {
    Put(kIndexFile, std::string(R"({"weight_map":{"a":")") + name + "\"}}");
    ExpectInvalid("file name");
  }
  Put(kIndexFile, R"({"weight_map":{"a":3}})");
  ExpectInvalid("weight_map.a");
  Put(kIndexFile, R"({"weight_map":{"a":"1.safetensors"}})");
  EXPECT_THAT(Open().status(), StatusIs(absl::StatusCode::kNotFound, HasSubstr("1.safetensors")));
  Put(kIndexFile, R"({"weight_map":{"a":"1.safetensors","b":"2.safetensors"}})");
  PutShard("1.safetensors", "a", 1);
  PutShard("2.safetensors", "a", 1);
  ExpectInvalid("another shard");
  std::string map = "\"t\":\"s\"";
  for (size_t i = 0; i < kShardsMax; ++i) map += fmt::format(",\"{}\":\"{}.safetensors\"", i, i);
  Put(kIndexFile, "{\"weight_map\":{" + map + "}}");
  ExpectInvalid("401 shards");
}

TEST_F(HfCheckpointTest, RevisionNamesConfigTokenizerAndWeights) {
  Put("config.json", "{}");
  PutShard("model.safetensors", "a", 3);
  const std::string plain = (*Open())->Revision();
  EXPECT_EQ((*Open())->Revision(), plain);
  Put("tokenizer.json", "{}");
  const std::string with_tokenizer = (*Open())->Revision();
  EXPECT_NE(with_tokenizer, plain);
  PutShard("model.safetensors", "b", 3);
  EXPECT_NE((*Open())->Revision(), with_tokenizer);
}

TEST_F(HfCheckpointTest, MetadataNeedsNoWeights) {
  EXPECT_THAT(Checkpoint::OpenMetadata(dir_.path()).status(),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("config.json")));
  Put("config.json", "{}");
  for (const std::string& path : {dir_.path(), dir_.Path("config.json")}) {
    const auto checkpoint = Checkpoint::OpenMetadata(path);
    ASSERT_OK(checkpoint);
    EXPECT_TRUE((*checkpoint)->tensors().empty());
  }
}

}  // namespace
}  // namespace conclave::engine
