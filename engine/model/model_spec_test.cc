// SPDX-License-Identifier: Apache-2.0
#include "engine/model/model_spec.h"

#include <gtest/gtest.h>

#include <cmath>

#include "engine/format/gguf.h"
#include "engine/model/weights.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/tiny_model.h"

namespace conclave::engine {
namespace {

using testing::GgufWriter;
using ::testing::HasSubstr;
using testing::StatusIs;
using testing::TinyModel;

// Reads and binds; `bytes` must outlive the result's views, which are not used.
absl::Status Load(const std::string& bytes) {
  const auto file = GgufFile::Parse("tiny.gguf", std::as_bytes(std::span(bytes)));
  if (!file.ok()) return file.status();
  const auto spec = ReadModelSpec(**file);
  if (!spec.ok()) return spec.status();
  auto ops = *MakeOps({.kernel = "scalar", .threads = 1});
  return BindWeights(**file, *spec, WholeModel(*spec), ops.get()).status();
}

// A file with the metadata of a model of 1 layer, 8 wide, 2 heads, and the given tensors.
GgufWriter Metadata() {
  GgufWriter w;
  w.Add("general.architecture", "llama").Add("llama.block_count", 1u).Add("llama.context_length", 64u);
  w.Add("llama.embedding_length", 8u).Add("llama.feed_forward_length", 12u).Add("llama.attention.head_count", 2u);
  return w;
}
std::vector<float> Ones(int64_t count) { return std::vector<float>(count, 1.0f); }

struct TensorShape {
  const char* name;
  Shape shape;
};
const std::vector<TensorShape>& Tensors() {
  static const auto* tensors = new std::vector<TensorShape>{
      {"token_embd.weight", {16, 8}},       {"output_norm.weight", {8}},       {"blk.0.attn_norm.weight", {8}},
      {"blk.0.attn_q.weight", {8, 8}},      {"blk.0.attn_k.weight", {8, 8}},   {"blk.0.attn_v.weight", {8, 8}},
      {"blk.0.attn_output.weight", {8, 8}}, {"blk.0.ffn_norm.weight", {8}},    {"blk.0.ffn_gate.weight", {12, 8}},
      {"blk.0.ffn_up.weight", {12, 8}},     {"blk.0.ffn_down.weight", {8, 12}}};
  return *tensors;
}
std::string With(GgufWriter w, const std::string& except = "") {
  for (const TensorShape& t : Tensors()) {
    if (t.name != except) w.AddTensor(t.name, t.shape, Ones(t.shape.elements()));
  }
  return w.Build();
}

TEST(ModelSpec, ReadsTheTinyModel) {
  const std::string bytes = TinyModel().Build();
  const auto file = *GgufFile::Parse("tiny", std::as_bytes(std::span(bytes)));
  const auto spec = ReadModelSpec(*file);
  ASSERT_OK(spec);
  EXPECT_EQ(spec->family, "llama");
  EXPECT_EQ(spec->name, "tiny");
  EXPECT_EQ(spec->layers, 2);
  EXPECT_EQ(spec->head_dim, 8);
  EXPECT_EQ(spec->kv_heads, 2);
  EXPECT_EQ(spec->vocab, testing::kTinyVocab);
  EXPECT_TRUE(spec->tied_head);
  ASSERT_EQ(spec->inverse_frequency.size(), 4u);
  EXPECT_FLOAT_EQ(spec->inverse_frequency[1], 0.1f);  // 10000^(-2/8)
}

TEST(ModelSpec, LinearScalingDividesFrequencies) {
  const std::string bytes =
      With(Metadata().Add("llama.rope.scaling.type", "linear").Add("llama.rope.scaling.factor", 4.0f));
  const auto file = *GgufFile::Parse("t", std::as_bytes(std::span(bytes)));
  const auto spec = ReadModelSpec(*file);
  ASSERT_OK(spec);
  EXPECT_FLOAT_EQ(spec->inverse_frequency[0], 0.25f);
}

TEST(ModelSpec, WellFormedMetadataLoads) {
  EXPECT_OK(Load(With(Metadata())));
  EXPECT_OK(Load(With(Metadata().Add("llama.attention.sliding_window", 64u))));  // as long as the context
  EXPECT_OK(Load(With(Metadata().Add("llama.attention.sliding_window", 63u))));
}

TEST(ModelSpec, UnknownArchitectureNamesItAndTheFile) {
  GgufWriter w;
  w.Add("general.architecture", "mamba");
  EXPECT_THAT(Load(w.Build()), StatusIs(absl::StatusCode::kUnimplemented,
                                        ::testing::AllOf(HasSubstr("tiny.gguf"), HasSubstr("\"mamba\""))));
}

TEST(ModelSpec, RefusesWhatItWouldComputeWrongly) {
  EXPECT_THAT(Load(With(Metadata().Add("llama.rope.scaling.type", "longrope"))),
              StatusIs(absl::StatusCode::kUnimplemented, HasSubstr("\"longrope\"")));
  EXPECT_THAT(Load(With(Metadata()
                            .Add("llama.expert_count", 8u)
                            .Add("llama.expert_used_count", 2u)
                            .Add("llama.expert_gating_func", 4u))),
              StatusIs(absl::StatusCode::kUnimplemented, HasSubstr("expert_gating_func")));
  EXPECT_THAT(Load(With(Metadata().Add("llama.attention.value_length", 2u))),
              StatusIs(absl::StatusCode::kUnimplemented, HasSubstr("width 2")));
  EXPECT_THAT(Load(With(Metadata().AddTensor("blk.0.attn_q_norm.weight", {4}, Ones(4)))),
              StatusIs(absl::StatusCode::kUnimplemented, HasSubstr("blk.0.attn_q_norm.weight")));
  EXPECT_THAT(Load(With(Metadata().AddTensor("blk.1.attn_norm.weight", {8}, Ones(8)))),
              StatusIs(absl::StatusCode::kUnimplemented, HasSubstr("blk.1.attn_norm.weight")));
}

TEST(ModelSpec, ImpossibleNumbersAreErrors) {
  const auto invalid = [](std::string_view part) {
    return StatusIs(absl::StatusCode::kFailedPrecondition,
                    ::testing::AllOf(HasSubstr("MODEL_FILE_INVALID tiny.gguf"), HasSubstr(std::string(part))));
  };
  EXPECT_THAT(Load(With(Metadata().Add("llama.attention.head_count_kv", 0u))), invalid("head_count_kv"));
  EXPECT_THAT(Load(With(Metadata().Add("llama.attention.head_count_kv", 3u))), invalid("3 key/value heads"));
  EXPECT_THAT(Load(With(Metadata().Add("llama.rope.dimension_count", 3u))), invalid("rope.dimension_count"));
  EXPECT_THAT(Load(With(Metadata().Add("llama.rope.dimension_count", 6u))), invalid("rope.dimension_count"));
  EXPECT_THAT(Load(With(Metadata().Add("llama.rope.freq_base", -1.0f))), invalid("freq_base"));
  EXPECT_THAT(Load(With(Metadata().AddTensor("rope_freqs.weight", {2}, {0.0f, 1.0f}))), invalid("rope_freqs"));
  EXPECT_THAT(Load(With(Metadata().AddTensor("rope_freqs.weight", {3}, Ones(3)))), invalid("rope_freqs"));
}

TEST(ModelSpec, RoutersThatCannotBeAreErrors) {
  const auto load = [](uint32_t experts, uint32_t used, uint32_t groups, uint32_t kept) {
    return Load(With(Metadata()
                         .Add("llama.expert_count", experts)
                         .Add("llama.expert_used_count", used)
                         .Add("llama.expert_group_count", groups)
                         .Add("llama.expert_group_used_count", kept)));
  };
  const auto invalid = [](std::string_view part) {
    return StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr(std::string(part)));
  };
  EXPECT_THAT(load(8, 4, 4, 2), invalid("blk.0.ffn_gate_inp.weight"));  // fine; the tensors are not there
  EXPECT_THAT(load(8, 5, 4, 2), invalid("5 experts per token"));
  EXPECT_THAT(load(8, 2, 3, 1), invalid("8 experts in 3 groups"));
  EXPECT_THAT(load(8, 2, 2, 3), invalid("3 are kept"));
  EXPECT_THAT(load(kExpertsMax, 1, 1, 1), invalid("blk.0.ffn_gate_inp.weight"));
  EXPECT_THAT(load(kExpertsMax + 1, 1, 1, 1), invalid("expert_count"));
  EXPECT_THAT(load(8, 0, 1, 1), invalid("expert_used_count"));
}

TEST(ModelSpec, AMixtureThatNoLayerHasIsNone) {
  const auto load = [](uint32_t dense) {
    return Load(With(Metadata()
                         .Add("llama.expert_count", 8u)
                         .Add("llama.expert_used_count", 2u)
                         .Add("llama.leading_dense_block_count", dense)));
  };
  EXPECT_OK(load(1));
  EXPECT_THAT(load(0), StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("ffn_gate_inp")));
  EXPECT_THAT(load(2), StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("leading_dense_block_count")));
}

TEST(ModelSpec, CountsAreLimited) {
  const auto layers = [](uint32_t count) {
    GgufWriter w;
    w.Add("general.architecture", "llama").Add("llama.block_count", count);
    return Load(With(w));
  };
  EXPECT_THAT(layers(kLayersMax), StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("embedding_length")));
  EXPECT_THAT(layers(kLayersMax + 1), StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("block_count")));
}

TEST(Weights, EveryMissingTensorIsNamed) {
  for (const TensorShape& t : Tensors()) {
    EXPECT_THAT(Load(With(Metadata(), t.name)), StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr(t.name)));
  }
}

TEST(Weights, EveryMisshapenTensorIsNamed) {
  for (const TensorShape& spoiled : Tensors()) {
    GgufWriter w = Metadata();
    for (const TensorShape& t : Tensors()) {
      Shape shape = t.shape;
      if (&t == &spoiled) shape = shape.rank() == 1 ? Shape{9} : Shape{shape[0], shape[1] + 1};
      w.AddTensor(t.name, shape, Ones(shape.elements()));
    }
    EXPECT_THAT(Load(w.Build()), StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr(spoiled.name)));
  }
}

}  // namespace
}  // namespace conclave::engine
