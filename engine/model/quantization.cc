// SPDX-License-Identifier: Apache-2.0
#include "engine/model/quantization.h"

#include <algorithm>
#include <array>
#include <optional>
#include <span>

#include "common/status.h"
#include "engine/model/hf_config.h"

namespace conclave::engine {
namespace {

constexpr int64_t kGroupMax = 1 << 20;

// How the weights were made, and how others are to run them: nothing that they mean.
constexpr std::array<std::string_view, 37> kRemarks = {"tokenizer",
                                                       "dataset",
                                                       "damp_percent",
                                                       "damp_auto_increment",
                                                       "act_group_aware",
                                                       "hyb_act",
                                                       "true_sequential",
                                                       "static_groups",
                                                       "mse",
                                                       "meta",
                                                       "backend",
                                                       "model_seqlen",
                                                       "block_name_to_quantize",
                                                       "module_name_preceding_first_block",
                                                       "batch_size",
                                                       "pad_token_id",
                                                       "max_input_length",
                                                       "cache_block_outputs",
                                                       "modules_in_block_to_quantize",
                                                       "use_cuda_fp16",
                                                       "use_exllama",
                                                       "disable_exllama",
                                                       "exllama_config",
                                                       "model_name_or_path",
                                                       "model_file_base_name",
                                                       "do_fuse",
                                                       "fuse_max_seq_len",
                                                       "modules_to_fuse",
                                                       "lm_head",
                                                       "sym",
                                                       "dequantize",
                                                       "modules_to_convert",
                                                       "observer",
                                                       "observer_kwargs",
                                                       "global_compression_ratio",
                                                       "run_compressed",
                                                       "use_optimized_inference"};

// A key that is neither read nor a remark may say anything. Those whose value is null say nothing.
absl::Status RefuseUnknownKeys(const JsonObject& object, std::span<const std::string_view> read) {
  for (const auto& [key, value] : object.members()) {
    if (value.IsNull() || std::find(read.begin(), read.end(), key) != read.end() ||
        std::find(kRemarks.begin(), kRemarks.end(), key) != kRemarks.end()) {
      continue;
    }
    return Unknown(object, "\"{}\" is no key that this program knows: what it says of the weights would be lost",
                   value.where());
  }
  return absl::OkStatus();
}

// The value, in lower case, must be absent, null or one of `known`, which it comes back as.
absl::StatusOr<std::string_view> Choice(const JsonObject& object, std::string_view key, std::string_view fallback,
                                        std::span<const std::string_view> known) {
  ASSIGN_OR_RETURN(const std::string_view written, object.StringOr(key, fallback));
  std::string value(written);
  for (char& c : value) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  const auto found = std::find(known.begin(), known.end(), value);
  if (found != known.end()) return *found;
  std::string list;
  for (const std::string_view name : known) list.append(list.empty() ? "" : ", ").append(name);
  return Unknown(object, "\"{}.{}\" is \"{}\"; known: {}", object.self().where(), key, written, list);
}

absl::Status RequireBool(const JsonObject& object, std::string_view key, bool wanted, bool fallback) {
  ASSIGN_OR_RETURN(const bool value, object.BoolOr(key, fallback));
  if (value == wanted) return absl::OkStatus();
  return Unknown(object, "\"{}.{}\" is {}: that is not supported", object.self().where(), key, value);
}

absl::Status RefusePresent(const JsonObject& object, std::string_view key) {
  const JsonValue* value = object.Find(key);
  if (value == nullptr) return absl::OkStatus();
  if (value->IsObject()) {
    ASSIGN_OR_RETURN(const JsonObject inner, value->Object());
    if (inner.members().empty()) return absl::OkStatus();
  }
  return Unknown(object, "\"{}\" is set: that is not supported", value->where());
}

absl::Status ReadBits(const JsonObject& object, std::string_view key, std::optional<int64_t> fallback,
                      std::span<const int64_t> known, QuantizationSpec* spec) {
  int64_t bits = 0;
  if (fallback.has_value()) {
    ASSIGN_OR_RETURN(bits, object.IntegerOr(key, 1, 64, *fallback));
  } else {
    ASSIGN_OR_RETURN(const JsonValue value, object.Get(key));
    ASSIGN_OR_RETURN(bits, value.Integer(1, 64));
  }
  if (std::find(known.begin(), known.end(), bits) == known.end()) {
    return Unknown(object, "\"{}.{}\" is {}; known: {}", object.self().where(), key, bits, fmt::join(known, ", "));
  }
  spec->bits = static_cast<int32_t>(bits);
  return absl::OkStatus();
}

// -1: a whole row.
absl::Status ReadGroup(const JsonObject& object, int64_t fallback, QuantizationSpec* spec) {
  ASSIGN_OR_RETURN(const int64_t group, object.IntegerOr("group_size", -1, kGroupMax, fallback));
  if (group == 0 || (group > 0 && group % 32 != 0)) {
    return Unknown(object, "\"{}.group_size\" is {}; known are -1 and multiples of 32", object.self().where(), group);
  }
  spec->group_columns = std::max<int64_t>(group, 0);
  return absl::OkStatus();
}

absl::Status ReadModules(const JsonObject& object, std::string_view key, QuantizationSpec* spec) {
  const JsonValue* value = object.Find(key);
  if (value == nullptr) return absl::OkStatus();
  ASSIGN_OR_RETURN(const std::vector<JsonValue> list, value->Array());
  for (const JsonValue& entry : list) {
    ASSIGN_OR_RETURN(const std::string_view name, entry.String());
    spec->plain_modules.emplace_back(name);
  }
  return absl::OkStatus();
}

constexpr int64_t kFourBits[] = {4}, kFourOrEight[] = {4, 8};

absl::Status ReadAwq(const JsonObject& object, QuantizationSpec* spec) {
  constexpr std::string_view kRead[] = {"quant_method", "bits",   "group_size", "zero_point",
                                        "version",      "format", "desc_act",   "modules_to_not_convert"};
  constexpr std::string_view kLayouts[] = {"gemm"};
  RETURN_IF_ERROR(RefuseUnknownKeys(object, kRead));
  spec->storage = QuantStorage::kAwq;
  RETURN_IF_ERROR(ReadBits(object, "bits", 4, kFourBits, spec));
  RETURN_IF_ERROR(ReadGroup(object, 128, spec));
  RETURN_IF_ERROR(RequireBool(object, "zero_point", true, true));
  RETURN_IF_ERROR(RequireBool(object, "desc_act", false, false));
  for (const std::string_view key : {"version", "format"}) {
    RETURN_IF_ERROR(Choice(object, key, "gemm", kLayouts).status());
  }
  return ReadModules(object, "modules_to_not_convert", spec);
}

// Per-module exceptions: patterns after "-:" leave modules plain, which their tensors tell; others would change them.
absl::Status CheckDynamic(const JsonObject& object) {
  const JsonValue* value = object.Find("dynamic");
  if (value == nullptr || value->IsBool()) return absl::OkStatus();
  ASSIGN_OR_RETURN(const JsonObject patterns, value->Object());
  for (const auto& [pattern, changes] : patterns.members()) {
    if (!pattern.starts_with("-:")) {
      return Unknown(object, "\"{}\" quantises some modules in another way: that is not supported", changes.where());
    }
  }
  return absl::OkStatus();
}

absl::Status ReadGptq(const JsonObject& object, QuantizationSpec* spec) {
  constexpr std::string_view kRead[] = {
      "quant_method", "bits",    "group_size",       "desc_act",   "checkpoint_format",
      "format",       "dynamic", "is_marlin_format", "pack_dtype", "modules_to_not_convert"};
  constexpr std::string_view kVersions[] = {"gptq", "gptq_v2"}, kWords[] = {"int32"};
  RETURN_IF_ERROR(RefuseUnknownKeys(object, kRead));
  spec->storage = QuantStorage::kGptq;
  RETURN_IF_ERROR(ReadBits(object, "bits", std::nullopt, kFourOrEight, spec));
  RETURN_IF_ERROR(ReadGroup(object, 128, spec));
  ASSIGN_OR_RETURN(spec->ordered, object.BoolOr("desc_act", false));
  RETURN_IF_ERROR(RequireBool(object, "is_marlin_format", false, false));
  RETURN_IF_ERROR(Choice(object, "pack_dtype", "int32", kWords).status());
  RETURN_IF_ERROR(CheckDynamic(object));
  RETURN_IF_ERROR(ReadModules(object, "modules_to_not_convert", spec));
  const std::string_view key = object.Has("checkpoint_format") ? "checkpoint_format" : "format";
  ASSIGN_OR_RETURN(const std::string_view version, Choice(object, key, "gptq", kVersions));
  spec->zero_offset = version == "gptq" ? 1 : 0;
  return absl::OkStatus();
}

// [rows, columns]; whole groups of FP8_G128 along columns.
absl::Status ReadBlocks(const JsonValue& value, const JsonObject& object, QuantizationSpec* spec) {
  ASSIGN_OR_RETURN(const std::vector<JsonValue> sizes, value.Array());
  if (sizes.size() != 2) return value.Invalid(fmt::format("has {} numbers, 2 expected", sizes.size()));
  ASSIGN_OR_RETURN(spec->block_rows, sizes[0].Integer(1, kGroupMax));
  ASSIGN_OR_RETURN(spec->block_columns, sizes[1].Integer(1, kGroupMax));
  spec->fp8_scale = QuantizationSpec::Fp8Scale::kBlock;
  if (spec->block_columns % 128 == 0) return absl::OkStatus();
  return Unknown(object, "\"{}\" has blocks of {} columns; known are multiples of 128", value.where(),
                 spec->block_columns);
}

absl::Status ReadFp8(const JsonObject& object, QuantizationSpec* spec) {
  constexpr std::string_view kRead[] = {"quant_method",      "activation_scheme",      "fmt",           "scale_fmt",
                                        "weight_block_size", "modules_to_not_convert", "ignored_layers"};
  constexpr std::string_view kSchemes[] = {"dynamic", "static"}, kFormats[] = {"e4m3", "float8_e4m3fn"},
                             kScales[] = {"float", "ue8m0"};
  RETURN_IF_ERROR(RefuseUnknownKeys(object, kRead));
  spec->storage = QuantStorage::kFp8;
  // Activations are not rounded here, so what would scale them says nothing.
  RETURN_IF_ERROR(Choice(object, "activation_scheme", "dynamic", kSchemes).status());
  RETURN_IF_ERROR(Choice(object, "fmt", "e4m3", kFormats).status());
  RETURN_IF_ERROR(Choice(object, "scale_fmt", "float", kScales).status());
  RETURN_IF_ERROR(ReadModules(object, "modules_to_not_convert", spec));
  RETURN_IF_ERROR(ReadModules(object, "ignored_layers", spec));
  if (const JsonValue* blocks = object.Find("weight_block_size")) return ReadBlocks(*blocks, object, spec);
  // Where the key is absent programs differ in what they take for granted: the tensors tell.
  const auto named = [](const auto& member) { return member.first == "weight_block_size"; };
  const bool null = std::any_of(object.members().begin(), object.members().end(), named);
  spec->fp8_scale = null ? QuantizationSpec::Fp8Scale::kTensor : QuantizationSpec::Fp8Scale::kTensorOrBlock;
  spec->block_rows = spec->block_columns = 128;
  return absl::OkStatus();
}

absl::Status ReadPackedWeights(const JsonObject& weights, QuantizationSpec* spec) {
  constexpr std::string_view kTypes[] = {"int"}, kStrategies[] = {"group", "channel"},
                             kOrders[] = {"", "weight", "static", "group", "dynamic"};
  spec->storage = QuantStorage::kPacked;
  RETURN_IF_ERROR(Choice(weights, "type", "int", kTypes).status());
  RETURN_IF_ERROR(ReadBits(weights, "num_bits", 8, kFourOrEight, spec));
  ASSIGN_OR_RETURN(spec->symmetric, weights.BoolOr("symmetric", true));
  ASSIGN_OR_RETURN(const std::string_view strategy, Choice(weights, "strategy", "", kStrategies));
  RETURN_IF_ERROR(ReadGroup(weights, -1, spec));
  if ((strategy == "group") != (spec->group_columns > 0)) {
    return weights.self().Invalid(
        fmt::format("has strategy \"{}\" and group size {}: they do not go together", strategy, spec->group_columns));
  }
  const JsonValue* order = weights.Find("actorder");
  if (order == nullptr || order->IsBool()) {
    ASSIGN_OR_RETURN(spec->ordered, weights.BoolOr("actorder", false));
    return absl::OkStatus();
  }
  ASSIGN_OR_RETURN(const std::string_view kind, Choice(weights, "actorder", "", kOrders));
  spec->ordered = kind == "group" || kind == "dynamic";
  return absl::OkStatus();
}

absl::Status ReadFloatWeights(const JsonObject& weights, QuantizationSpec* spec) {
  constexpr std::string_view kTypes[] = {"float"}, kStrategies[] = {"tensor", "channel", "block"};
  constexpr int64_t kEight[] = {8};
  spec->storage = QuantStorage::kFp8;
  RETURN_IF_ERROR(Choice(weights, "type", "int", kTypes).status());
  RETURN_IF_ERROR(ReadBits(weights, "num_bits", 8, kEight, spec));
  RETURN_IF_ERROR(RequireBool(weights, "symmetric", true, true));
  ASSIGN_OR_RETURN(const std::string_view strategy, Choice(weights, "strategy", "tensor", kStrategies));
  spec->fp8_scale = strategy == "tensor" ? QuantizationSpec::Fp8Scale::kTensor : QuantizationSpec::Fp8Scale::kRow;
  if (strategy != "block") return absl::OkStatus();
  ASSIGN_OR_RETURN(const JsonValue blocks, weights.Get("block_structure"));
  return ReadBlocks(blocks, weights, spec);
}

absl::Status ReadScheme(const JsonObject& scheme, std::string_view format, QuantizationSpec* spec) {
  constexpr std::string_view kRead[] = {"targets", "weights", "input_activations", "output_activations", "format"};
  constexpr std::string_view kWeights[] = {"num_bits", "type",     "symmetric",       "strategy", "group_size",
                                           "dynamic",  "actorder", "block_structure", "zp_dtype", "scale_dtype"};
  RETURN_IF_ERROR(RefuseUnknownKeys(scheme, kRead));
  RETURN_IF_ERROR(RefusePresent(scheme, "output_activations"));
  const std::string_view same[] = {format};
  RETURN_IF_ERROR(Choice(scheme, "format", format, same).status());
  ASSIGN_OR_RETURN(const JsonValue value, scheme.Get("weights"));
  ASSIGN_OR_RETURN(const JsonObject weights, value.Object());
  RETURN_IF_ERROR(RefuseUnknownKeys(weights, kWeights));
  RETURN_IF_ERROR(RequireBool(weights, "dynamic", false, false));
  return format == "pack-quantized" ? ReadPackedWeights(weights, spec) : ReadFloatWeights(weights, spec);
}

absl::Status ReadCompressedTensors(const JsonObject& object, QuantizationSpec* spec) {
  constexpr std::string_view kRead[] = {"quant_method",    "config_groups",   "format",           "quantization_status",
                                        "kv_cache_scheme", "sparsity_config", "transform_config", "moe_sparsity_config",
                                        "ignore",          "version"};
  constexpr std::string_view kFormats[] = {"pack-quantized", "float-quantized"};
  constexpr std::string_view kStates[] = {"compressed", "frozen"};
  RETURN_IF_ERROR(RefuseUnknownKeys(object, kRead));
  for (const std::string_view key : {"kv_cache_scheme", "transform_config", "moe_sparsity_config"}) {
    RETURN_IF_ERROR(RefusePresent(object, key));
  }
  if (const JsonValue* sparsity = object.Find("sparsity_config")) {
    constexpr std::string_view kDense[] = {"dense"};
    ASSIGN_OR_RETURN(const JsonObject inner, sparsity->Object());
    RETURN_IF_ERROR(Choice(inner, "format", "dense", kDense).status());
  }
  RETURN_IF_ERROR(Choice(object, "quantization_status", "compressed", kStates).status());
  ASSIGN_OR_RETURN(const std::string_view format, Choice(object, "format", "", kFormats));
  RETURN_IF_ERROR(ReadModules(object, "ignore", spec));
  ASSIGN_OR_RETURN(const JsonValue groups_value, object.Get("config_groups"));
  ASSIGN_OR_RETURN(const JsonObject groups, groups_value.Object());
  if (groups.members().size() != 1) {
    return Unknown(object, "\"{}\" has {} entries; one is supported", groups_value.where(), groups.members().size());
  }
  ASSIGN_OR_RETURN(const JsonObject scheme, groups.members()[0].second.Object());
  return ReadScheme(scheme, format, spec);
}

// 4-bit floats, in experts only: their tensors tell (expert_layout.h), all matrices of other names are plain.
absl::Status ReadMicroscaled(const JsonObject& object, QuantizationSpec* spec) {
  constexpr std::string_view kRead[] = {"quant_method", "modules_to_not_convert"};
  RETURN_IF_ERROR(RefuseUnknownKeys(object, kRead));
  spec->microscaled_experts = true;
  return ReadModules(object, "modules_to_not_convert", spec);
}

struct Method {
  std::string_view name;
  absl::Status (*read)(const JsonObject& object, QuantizationSpec* spec);
};
constexpr std::array kMethods = {Method{"awq", ReadAwq}, Method{"gptq", ReadGptq}, Method{"fp8", ReadFp8},
                                 Method{"compressed-tensors", ReadCompressedTensors}, Method{"mxfp4", ReadMicroscaled}};

}  // namespace

absl::StatusOr<QuantizationSpec> ReadQuantization(const JsonObject& config) {
  QuantizationSpec spec;
  const JsonValue* value = config.Find("quantization_config");
  if (value == nullptr) value = config.Find("compression_config");
  if (value == nullptr) return spec;
  ASSIGN_OR_RETURN(const JsonObject object, value->Object());
  ASSIGN_OR_RETURN(const JsonValue method_value, object.Get("quant_method"));
  ASSIGN_OR_RETURN(const std::string_view name, method_value.String());
  std::string known;
  for (const Method& method : kMethods) {
    known.append(known.empty() ? "" : ", ").append(method.name);
    if (method.name != name) continue;
    RETURN_IF_ERROR(method.read(object, &spec));
    return spec;
  }
  return Unknown(config, "\"{}\" is \"{}\"; known: {}", method_value.where(), name, known);
}

}  // namespace conclave::engine
