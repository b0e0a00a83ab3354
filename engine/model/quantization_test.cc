// SPDX-License-Identifier: Apache-2.0
#include "engine/model/quantization.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/status.h"
#include "tests/testing/status_matchers.h"

namespace conclave::engine {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::StatusIs;

absl::StatusOr<QuantizationSpec> Read(std::string_view quantization) {
  const std::string text = fmt::format(R"({{"quantization_config":{}}})", quantization);
  ASSIGN_OR_RETURN(const std::unique_ptr<JsonDocument> document, JsonDocument::Parse("config.json", text));
  ASSIGN_OR_RETURN(const JsonObject object, document->root().Object());
  return ReadQuantization(object);
}

void ExpectUnknown(std::string_view quantization, std::string_view named) {
  EXPECT_THAT(Read(quantization).status(), StatusIs(absl::StatusCode::kUnimplemented, HasSubstr(std::string(named))))
      << quantization;
}
void ExpectInvalid(std::string_view quantization, std::string_view named) {
  EXPECT_THAT(Read(quantization).status(),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr(std::string(named))))
      << quantization;
}

// A compressed-tensors config around what it says of weights.
std::string Compressed(std::string_view format, std::string_view weights, std::string_view more = "") {
  return fmt::format(R"({{"quant_method":"compressed-tensors","format":"{}","quantization_status":"compressed",
      "config_groups":{{"group_0":{{"targets":["Linear"],"weights":{},"input_activations":null,
      "output_activations":null}}}},"ignore":["lm_head","re:.*gate$"],"kv_cache_scheme":null,
      "global_compression_ratio":1.5{}}})",
                     format, weights, more);
}

TEST(Quantization, NoneIsPlain) {
  const auto document = JsonDocument::Parse("config.json", R"({"quantization_config":null})");
  EXPECT_EQ(ReadQuantization(*(*document)->root().Object())->storage, QuantStorage::kPlain);
}

// As published checkpoints have it.
TEST(Quantization, Awq) {
  const auto spec = Read(R"({"backend":"autoawq","bits":4,"do_fuse":false,"exllama_config":null,"fuse_max_seq_len":null,
      "group_size":64,"modules_to_fuse":null,"modules_to_not_convert":["gate"],"quant_method":"awq","version":"gemm",
      "zero_point":true})");
  ASSERT_OK(spec);
  EXPECT_EQ(spec->storage, QuantStorage::kAwq);
  EXPECT_EQ(spec->bits, 4);
  EXPECT_EQ(spec->group_columns, 64);
  EXPECT_EQ(spec->zero_offset, 0);
  EXPECT_THAT(spec->plain_modules, ElementsAre("gate"));
  EXPECT_OK(Read(R"({"quant_method":"awq","version":"GEMM"})"));
  ExpectUnknown(R"({"quant_method":"awq","version":"gemv"})", "\"gemv\"");
  ExpectUnknown(R"({"quant_method":"awq","bits":8})", "bits\" is 8; known: 4");
  ExpectUnknown(R"({"quant_method":"awq","group_size":48})", "group_size\" is 48");
  ExpectUnknown(R"({"quant_method":"awq","zero_point":false})", "zero_point");
  ExpectUnknown(R"({"quant_method":"awq","smooth":1})", "quantization_config.smooth");
  ExpectInvalid(R"({"quant_method":"awq","modules_to_not_convert":"gate"})", "modules_to_not_convert");
  ExpectInvalid(R"({"quant_method":"awq","modules_to_not_convert":[3]})", "modules_to_not_convert[0]");
  ExpectInvalid(R"({"quant_method":"awq","group_size":"128"})", "group_size");
}

TEST(Quantization, Gptq) {
  const auto spec = Read(R"({"batch_size":1,"bits":4,"block_name_to_quantize":null,"cache_block_outputs":true,
      "damp_percent":0.01,"dataset":null,"desc_act":true,"exllama_config":{"version":1},"group_size":128,
      "max_input_length":null,"model_seqlen":null,"modules_in_block_to_quantize":null,"pad_token_id":null,
      "quant_method":"gptq","sym":true,"tokenizer":null,"true_sequential":true,"use_cuda_fp16":false})");
  ASSERT_OK(spec);
  EXPECT_EQ(spec->storage, QuantStorage::kGptq);
  EXPECT_EQ(spec->group_columns, 128);
  EXPECT_EQ(spec->zero_offset, 1);
  EXPECT_TRUE(spec->ordered);
  const auto second =
      Read(R"({"quant_method":"gptq","bits":8,"group_size":-1,"checkpoint_format":"gptq_v2","lm_head":true,
               "pack_dtype":"int32","dynamic":{"-:.*gate":{}},"meta":{"quantizer":["gptqmodel:2.0"]}})");
  ASSERT_OK(second);
  EXPECT_EQ(second->bits, 8);
  EXPECT_EQ(second->group_columns, 0);
  EXPECT_EQ(second->zero_offset, 0);
  EXPECT_FALSE(second->ordered);
  ExpectUnknown(R"({"quant_method":"gptq","bits":3})", "bits\" is 3; known: 4, 8");
  ExpectUnknown(R"({"quant_method":"gptq","bits":4,"checkpoint_format":"marlin"})", "\"marlin\"");
  ExpectUnknown(R"({"quant_method":"gptq","bits":4,"is_marlin_format":true})", "is_marlin_format");
  ExpectUnknown(R"({"quant_method":"gptq","bits":4,"pack_dtype":"int16"})", "\"int16\"");
  ExpectUnknown(R"({"quant_method":"gptq","bits":4,"dynamic":{"+:.*down":{"bits":8}}})", "+:.*down");
  ExpectUnknown(R"({"quant_method":"gptq","bits":4,"group_size":0})", "group_size\" is 0");
  ExpectUnknown(R"({"quant_method":"gptq","bits":4,"group_size":33})", "group_size\" is 33");
  ExpectInvalid(R"({"quant_method":"gptq"})", "bits");
  ExpectInvalid(R"({"quant_method":"gptq","bits":4.5})", "bits");
  ExpectInvalid(R"({"quant_method":"gptq","bits":4,"group_size":-2})", "group_size");
}

TEST(Quantization, Fp8) {
  using Scale = QuantizationSpec::Fp8Scale;
  const auto blocks = Read(
      R"({"activation_scheme":"dynamic","fmt":"e4m3","quant_method":"fp8","weight_block_size":[128,256],"scale_fmt":"ue8m0"})");
  ASSERT_OK(blocks);
  EXPECT_EQ(blocks->storage, QuantStorage::kFp8);
  EXPECT_EQ(blocks->fp8_scale, Scale::kBlock);
  EXPECT_EQ(blocks->block_rows, 128);
  EXPECT_EQ(blocks->block_columns, 256);
  const auto tensor = Read(R"({"quant_method":"fp8","activation_scheme":"static","ignored_layers":["lm_head"],
                              "weight_block_size":null})");
  ASSERT_OK(tensor);
  EXPECT_EQ(tensor->fp8_scale, Scale::kTensor);
  EXPECT_THAT(tensor->plain_modules, ElementsAre("lm_head"));
  EXPECT_EQ(Read(R"({"quant_method":"fp8"})")->fp8_scale, Scale::kTensorOrBlock);
  ExpectUnknown(R"({"quant_method":"fp8","fmt":"e5m2"})", "\"e5m2\"");
  ExpectUnknown(R"({"quant_method":"fp8","weight_block_size":[128,64]})", "blocks of 64 columns");
  ExpectUnknown(R"({"quant_method":"fp8","activation_scheme":"often"})", "\"often\"");
  ExpectInvalid(R"({"quant_method":"fp8","weight_block_size":[128]})", "weight_block_size");
  ExpectInvalid(R"({"quant_method":"fp8","weight_block_size":[0,128]})", "weight_block_size[0]");
}

TEST(Quantization, PackedIntegers) {
  const auto spec = Read(Compressed("pack-quantized", R"({"actorder":"weight","block_structure":null,"dynamic":false,
      "group_size":32,"num_bits":4,"observer":"mse","observer_kwargs":{},"strategy":"group","symmetric":false,
      "type":"int"})"));
  ASSERT_OK(spec);
  EXPECT_EQ(spec->storage, QuantStorage::kPacked);
  EXPECT_EQ(spec->bits, 4);
  EXPECT_EQ(spec->group_columns, 32);
  EXPECT_FALSE(spec->symmetric);
  EXPECT_FALSE(spec->ordered);
  EXPECT_THAT(spec->plain_modules, ElementsAre("lm_head", "re:.*gate$"));
  const auto channel = Read(Compressed("pack-quantized", R"({"num_bits":8,"strategy":"channel","actorder":"group"})"));
  ASSERT_OK(channel);
  EXPECT_EQ(channel->group_columns, 0);
  EXPECT_TRUE(channel->symmetric);
  EXPECT_TRUE(channel->ordered);
  const auto weights = [](std::string_view text) { return Compressed("pack-quantized", text); };
  ExpectUnknown(weights(R"({"num_bits":2,"strategy":"group","group_size":128})"), "num_bits\" is 2");
  ExpectUnknown(weights(R"({"num_bits":4,"strategy":"group","group_size":16})"), "group_size\" is 16");
  ExpectUnknown(weights(R"({"num_bits":4,"strategy":"tensor"})"), "\"tensor\"");
  ExpectUnknown(weights(R"({"num_bits":4,"strategy":"channel","type":"float"})"), "\"float\"");
  ExpectUnknown(weights(R"({"num_bits":4,"strategy":"channel","dynamic":true})"), "dynamic");
  ExpectUnknown(weights(R"({"num_bits":4,"strategy":"channel","actorder":"odd"})"), "\"odd\"");
  ExpectUnknown(weights(R"({"num_bits":4,"strategy":"channel","spin":1})"), "spin");
  ExpectInvalid(weights(R"({"num_bits":4,"strategy":"group"})"), "do not go together");
  ExpectUnknown(Compressed("nvfp4-pack-quantized", "{}"), "\"nvfp4-pack-quantized\"");
}

TEST(Quantization, CompressedFloats) {
  using Scale = QuantizationSpec::Fp8Scale;
  const auto read = [](std::string_view strategy) {
    return Read(Compressed("float-quantized", fmt::format(R"({{"num_bits":8,"type":"float",{}}})", strategy)));
  };
  EXPECT_EQ(read(R"("strategy":"tensor")")->fp8_scale, Scale::kTensor);
  EXPECT_EQ(read(R"("strategy":"channel")")->fp8_scale, Scale::kRow);
  EXPECT_EQ(read(R"("strategy":"block","block_structure":[128,128])")->fp8_scale, Scale::kBlock);
  EXPECT_THAT(read(R"("strategy":"block")").status(),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("block_structure")));
  EXPECT_THAT(read(R"("strategy":"token")").status(), StatusIs(absl::StatusCode::kUnimplemented, HasSubstr("token")));
}

TEST(Quantization, WhatChangesMoreThanWeightsIsRefused) {
  constexpr std::string_view kWeights = R"({"num_bits":4,"strategy":"channel"})";
  const auto more = [&](std::string_view text) { return Compressed("pack-quantized", kWeights, text); };
  EXPECT_OK(Read(more(R"(,"sparsity_config":{},"transform_config":{},"version":"0.12")")));
  ExpectUnknown(more(R"(,"sparsity_config":{"format":"sparse-24-bitmask"})"), "\"sparse-24-bitmask\"");
  ExpectUnknown(more(R"(,"transform_config":{"config_groups":{}})"), "transform_config");
  ExpectUnknown(R"({"quant_method":"compressed-tensors","format":"pack-quantized","config_groups":{},
                    "kv_cache_scheme":{"num_bits":8}})",
                "kv_cache_scheme");
  ExpectUnknown(R"({"quant_method":"compressed-tensors","format":"pack-quantized","config_groups":{}})", "0 entries");
  ExpectUnknown(R"({"quant_method":"compressed-tensors","format":"mixed-precision","config_groups":{}})",
                "mixed-precision");
}

TEST(Quantization, UnknownMethodsAreNamed) {
  for (const char* method : {"bitsandbytes", "hqq", "AWQ", ""}) {
    EXPECT_THAT(Read(fmt::format(R"({{"quant_method":"{}","bits":4}})", method)).status(),
                StatusIs(absl::StatusCode::kUnimplemented,
                         AllOf(HasSubstr(fmt::format("is \"{}\"", method)), HasSubstr("awq, gptq, fp8"))));
  }
  ExpectInvalid("{}", "quant_method");
  ExpectInvalid("[]", "quantization_config");
  ExpectInvalid(R"({"quant_method":4})", "quant_method");
}

}  // namespace
}  // namespace conclave::engine
