// SPDX-License-Identifier: Apache-2.0
// The checkpoints of quantized_test.cc with one thing wrong: the error names the tensor, what was found and what to do.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>

#include "common/file.h"
#include "common/status.h"
#include "engine/engine.h"
#include "engine/format/hf_checkpoint.h"
#include "tests/testing/safetensors_writer.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_dir.h"

namespace conclave::engine {
namespace {

using ::testing::HasSubstr;
using testing::StatusIs;

constexpr std::string_view kModule = "model.layers.0.mlp.up_proj.";

struct StoredTensor {
  DType dtype;
  Shape shape;
  std::string bytes;
};
using Tensors = std::map<std::string, StoredTensor>;

void SetInt32(StoredTensor* tensor, size_t index, int32_t value) {
  std::memcpy(tensor->bytes.data() + 4 * index, &value, sizeof(value));
}

class QuantizedErrors : public ::testing::Test {
 protected:
  // Loads the checkpoint `name` after `edit` changed one of its tensors, or its config.
  absl::Status Load(const std::string& name, const std::function<void(Tensors*, nlohmann::json*)>& edit) {
    const std::string folder = std::string(CONCLAVE_SOURCE_DIR) + "/tests/golden/quantized/" + name;
    const auto checkpoint = HfCheckpoint::Open(folder);
    EXPECT_OK(checkpoint);
    Tensors tensors;
    for (const CheckpointTensor& t : (*checkpoint)->tensors()) {
      tensors[std::string(t.name)] = {t.dtype, t.shape,
                                      std::string(reinterpret_cast<const char*>(t.bytes.data()), t.bytes.size())};
    }
    auto config = nlohmann::json::parse(*ReadFile(folder + "/config.json"));
    edit(&tensors, &config);
    testing::SafetensorsWriter w;
    for (const auto& [tensor_name, t] : tensors) w.Add(tensor_name, t.dtype, t.shape, t.bytes);
    const testing::TempDir dir;
    w.Write(dir.Path("model.safetensors"));
    EXPECT_OK(WriteFileAtomically(dir.Path("config.json"), config.dump()));
    EngineOptions options;
    options.model_path = dir.path();
    options.tokenizer_optional = true;
    options.kernel = "auto";
    options.threads = 1;
    options.kv_bytes = 1 << 20;
    return Engine::Create(options).status();
  }
  static StoredTensor& Of(Tensors* tensors, std::string_view suffix) {
    return tensors->at(std::string(kModule).append(suffix));
  }
  // One tensor of the module changed.
  absl::Status LoadWith(const std::string& name, std::string_view suffix,
                        const std::function<void(StoredTensor*)>& edit) {
    return Load(name, [&](Tensors* tensors, nlohmann::json*) { edit(&Of(tensors, suffix)); });
  }
  absl::Status LoadWithout(const std::string& name, std::string_view suffix) {
    return Load(name, [&](Tensors* tensors, nlohmann::json*) { tensors->erase(std::string(kModule).append(suffix)); });
  }
  static void ExpectInvalid(const absl::Status& status, std::string_view tensor, std::string_view found) {
    EXPECT_THAT(status, StatusIs(absl::StatusCode::kFailedPrecondition,
                                 ::testing::AllOf(HasSubstr(std::string(kModule).append(tensor)),
                                                  HasSubstr(std::string(found)), HasSubstr("expected"))));
  }
};

TEST_F(QuantizedErrors, UnchangedCopiesLoad) {
  for (const char* name : {"awq", "gptq_desc_act", "gptq_8bit", "fp8_block", "fp8_tensor", "packed_g_idx"}) {
    EXPECT_OK(Load(name, [](Tensors*, nlohmann::json*) {}));
  }
}

TEST_F(QuantizedErrors, MissingTensors) {
  for (const auto& [name, suffix] :
       std::initializer_list<std::pair<const char*, const char*>>{{"awq", "qweight"},
                                                                  {"awq", "qzeros"},
                                                                  {"awq", "scales"},
                                                                  {"gptq_desc_act", "g_idx"},
                                                                  {"gptq_desc_act", "qweight"},
                                                                  {"packed_g_idx", "weight_packed"},
                                                                  {"packed_g_idx", "weight_scale"},
                                                                  {"packed_g_idx", "weight_zero_point"},
                                                                  {"packed_g_idx", "weight_g_idx"},
                                                                  {"fp8_block", "weight_scale_inv"},
                                                                  {"fp8_tensor", "weight_scale"}}) {
    const absl::Status status = LoadWithout(name, suffix);
    EXPECT_THAT(status,
                StatusIs(absl::StatusCode::kFailedPrecondition,
                         ::testing::AllOf(HasSubstr(std::string(kModule)), HasSubstr("config.json and weights"))))
        << name << " " << suffix;
  }
  // Where columns lie in order a g_idx may be absent.
  EXPECT_OK(LoadWithout("gptq_sym", "g_idx"));
}

TEST_F(QuantizedErrors, ShapesAndFormats) {
  const auto shape = [this](const char* name, const char* suffix, Shape to) {
    return LoadWith(name, suffix, [&](StoredTensor* t) {
      t->shape = to;
      t->bytes.resize(static_cast<size_t>(to.elements() * Traits(t->dtype).block_bytes));
    });
  };
  ExpectInvalid(shape("awq", "scales", {2, 128}), "scales", "4 bits in groups of 64 columns");
  ExpectInvalid(shape("awq", "qzeros", {1, 8}), "qzeros", "[1, 8]");
  ExpectInvalid(shape("awq", "qweight", {16, 64}), "qweight", "[16, 64]");
  ExpectInvalid(shape("gptq_desc_act", "g_idx", {32}), "g_idx", "[32]");
  ExpectInvalid(shape("packed_g_idx", "weight_zero_point", {96, 2}), "weight_zero_point", "[96, 2]");
  ExpectInvalid(shape("packed_g_idx", "weight_scale", {2, 96}), "weight_scale", "[2, 96]");
  ExpectInvalid(shape("fp8_block", "weight_scale_inv", {1, 1}), "weight_scale_inv", "FP8 blocks of 128 x 128");
  ExpectInvalid(shape("fp8_tensor", "weight_scale", {2}), "weight_scale", "[2]");
  const auto format = [this](const char* name, const char* suffix, DType to) {
    return LoadWith(name, suffix, [&](StoredTensor* t) {
      t->dtype = to;
      t->bytes.resize(static_cast<size_t>(t->shape.elements() * Traits(to).block_bytes));
    });
  };
  ExpectInvalid(format("awq", "qweight", DType::kF32), "qweight", "has format F32, I32");
  ExpectInvalid(format("awq", "scales", DType::kF32), "scales", "has format F32, F16 or BF16");
  ExpectInvalid(format("gptq_desc_act", "g_idx", DType::kI64), "g_idx", "I64");
  ExpectInvalid(format("fp8_block", "weight_scale_inv", DType::kU8), "weight_scale_inv", "U8");
  ExpectInvalid(LoadWith("packed_g_idx", "weight_shape", [](StoredTensor* t) { t->bytes[0] = 7; }), "weight_shape",
                "says [7, 64]");
}

TEST_F(QuantizedErrors, Values) {
  const auto g_idx = [this](size_t column, int32_t group) {
    return LoadWith("gptq_desc_act", "g_idx", [=](StoredTensor* t) { SetInt32(t, column, group); });
  };
  const auto infinite = [](StoredTensor* t) { std::memcpy(t->bytes.data(), "\x00\x7c", 2); };
  ExpectInvalid(LoadWith("awq", "scales", infinite), "scales", "scale 0 is inf");
  EXPECT_THAT(g_idx(5, 2),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("puts column 5 into group 2 of 2")));
  EXPECT_THAT(g_idx(63, -1),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("puts column 63 into group -1 of 2")));
  // One column more in a group than in the other.
  const absl::Status odd = LoadWith("gptq_desc_act", "g_idx", [](StoredTensor* t) {
    int32_t first;
    std::memcpy(&first, t->bytes.data(), sizeof(first));
    SetInt32(t, 0, 1 - first);
  });
  EXPECT_THAT(odd, StatusIs(absl::StatusCode::kUnimplemented,
                            ::testing::AllOf(HasSubstr("up_proj.qweight"), HasSubstr("known are multiples of 32"))));
  EXPECT_THAT(LoadWith("gptq_8bit", "qzeros", [](StoredTensor* t) { t->bytes[3] = static_cast<char>(255); }),
              StatusIs(absl::StatusCode::kUnimplemented, HasSubstr("up_proj.qzeros\" has a zero point of 256")));
  EXPECT_THAT(LoadWith("fp8_block", "weight", [](StoredTensor* t) { t->bytes[64 + 3] = static_cast<char>(0xff); }),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("is no number at row 1, column 3")));
}

TEST_F(QuantizedErrors, WhatConfigAndTensorsDoNotAgreeOn) {
  const auto config = [this](const char* name, const std::function<void(nlohmann::json&)>& edit) {
    return Load(name, [&](Tensors*, nlohmann::json* c) { edit(*c); });
  };
  const auto set = [&](const char* name, const char* key, nlohmann::json value) {
    return config(name, [&](nlohmann::json& c) { c["quantization_config"][key] = value; });
  };
  EXPECT_THAT(config("awq", [](nlohmann::json& c) { c.erase("quantization_config"); }),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("config.json has no \"quantization_config\"")));
  EXPECT_THAT(set("awq", "modules_to_not_convert", {"model.layers.0.mlp.up_proj"}),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("up_proj.qweight\" is quantised")));
  EXPECT_THAT(set("awq", "group_size", 32), StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("groups of 32")));
  EXPECT_THAT(set("gptq_sym", "bits", 8), StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("8 bits")));
  EXPECT_THAT(set("awq", "quant_method", "gptq"),
              StatusIs(absl::StatusCode::kUnimplemented, HasSubstr("quantization_config.version")));
  // A matrix may be there in both forms, or in none.
  const absl::Status both = Load("awq", [](Tensors* tensors, nlohmann::json*) {
    (*tensors)[std::string(kModule) + "weight"] = {DType::kBF16, Shape{128, 64}, std::string(2 * 128 * 64, '\0')};
  });
  ExpectInvalid(both, "weight", "both of tensors");
  const absl::Status scales = Load("fp8_block", [](Tensors* tensors, nlohmann::json*) {
    (*tensors)[std::string(kModule) + "weight_scale"] = Of(tensors, "weight_scale_inv");
  });
  ExpectInvalid(scales, "weight_scale", "both");
  // A bias of zeros is what some programs write; another one is a term that would be lost.
  const absl::Status bias = Load("gptq_sym", [](Tensors* tensors, nlohmann::json*) {
    tensors->at("model.layers.1.self_attn.o_proj.bias").bytes[7] = 1;
  });
  EXPECT_THAT(bias, StatusIs(absl::StatusCode::kUnimplemented, HasSubstr("o_proj.bias")));
}

}  // namespace
}  // namespace conclave::engine
