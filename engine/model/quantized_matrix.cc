// SPDX-License-Identifier: Apache-2.0
#include "engine/model/quantized_matrix.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>
#include <optional>
#include <string>
#include <utility>

#include "common/status.h"
#include "engine/quant/codec.h"
#include "engine/quant/grouped_rows.h"

namespace conclave::engine {
namespace {

constexpr std::string_view kAdvice =
    "config.json and weights must be of one checkpoint: compare their revisions, or download the file again";

int64_t CeilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }

class Finder {
 public:
  Finder(const Checkpoint& file, const QuantizationSpec& spec, std::string_view module, int64_t rows, int64_t columns)
      : file_(file), spec_(spec), module_(module), rows_(rows), columns_(columns) {}

  absl::StatusOr<std::unique_ptr<QuantizedMatrix>> Find() {
    if (spec_.storage == QuantStorage::kPlain) return nullptr;
    const std::string_view main = MainTensor();
    const CheckpointTensor* plain = file_.FindTensor(Name("weight"));
    if (spec_.storage == QuantStorage::kFp8) {
      if (plain == nullptr || plain->dtype != DType::kF8_E4M3) return nullptr;
    } else {
      const bool quantized = file_.FindTensor(Name(main)) != nullptr;
      if (quantized == (plain != nullptr)) {
        return ModelFileInvalid(file_.path(), "{} of tensors \"{}\" and \"{}\" {}there, one of them expected; {}",
                                quantized ? "both" : "neither", Name(main), Name("weight"), quantized ? "are " : "is ",
                                kAdvice);
      }
      if (!quantized) return nullptr;
    }
    if (std::find(spec_.plain_modules.begin(), spec_.plain_modules.end(), module_) != spec_.plain_modules.end()) {
      return ModelFileInvalid(file_.path(),
                              "tensor \"{}\" is quantised, but quantization_config lists \"{}\" as not; {}", Name(main),
                              module_, kAdvice);
    }
    RETURN_IF_ERROR(spec_.storage == QuantStorage::kFp8 ? ReadFp8() : ReadCodes());
    result_->source.rows = rows_;
    result_->source.columns = columns_;
    result_->source.reader = result_->reader.get();
    result_->source.order = result_->order;
    return std::move(result_);
  }

 private:
  std::string_view MainTensor() const {
    return spec_.storage == QuantStorage::kFp8      ? "weight"
           : spec_.storage == QuantStorage::kPacked ? "weight_packed"
                                                    : "qweight";
  }
  std::string Name(std::string_view suffix) const { return fmt::format("{}.{}", module_, suffix); }

  // A tensor of the module in one of the formats.
  absl::StatusOr<CheckpointTensor> Tensor(std::string_view suffix, const Shape& shape,
                                          std::initializer_list<DType> formats) {
    absl::StatusOr<CheckpointTensor> tensor = file_.GetTensor(Name(suffix), shape);
    if (!tensor.ok()) return WithAdvice(tensor.status());
    if (std::find(formats.begin(), formats.end(), tensor->dtype) == formats.end()) {
      std::string known;
      for (const DType format : formats) known.append(known.empty() ? "" : " or ").append(engine::Name(format));
      return ModelFileInvalid(file_.path(), "tensor \"{}\" has format {}, {} expected; {}", Name(suffix),
                              engine::Name(tensor->dtype), known, kAdvice);
    }
    result_->tensors.push_back(file_.FindTensor(Name(suffix)));
    return tensor;
  }

  absl::Status WithAdvice(const absl::Status& status) const {
    std::string way = "FP8";
    if (spec_.storage != QuantStorage::kFp8) {
      way = fmt::format("{} bits in groups of {} columns", spec_.bits,
                        spec_.group_columns > 0 ? std::to_string(spec_.group_columns) : "all");
    } else if (spec_.fp8_scale == QuantizationSpec::Fp8Scale::kBlock) {
      way = fmt::format("FP8 blocks of {} x {}", spec_.block_rows, spec_.block_columns);
    }
    return absl::Status(status.code(),
                        fmt::format("{} for quantization_config's {}; {}", Message(status), way, kAdvice));
  }

  absl::Status CheckScales(const CheckpointTensor& tensor) const {
    std::vector<float> values(static_cast<size_t>(tensor.shape.elements()));
    quant::DecodeRow(tensor.dtype, tensor.bytes.data(), values);
    const auto bad = std::find_if(values.begin(), values.end(), [](float v) { return !std::isfinite(v); });
    if (bad == values.end()) return absl::OkStatus();
    return ModelFileInvalid(file_.path(),
                            "tensor \"{}\": scale {} is {}, a finite number expected: download the file again",
                            tensor.name, bad - values.begin(), *bad);
  }

  // ---- Integer codes

  absl::Status ReadCodes() {
    const bool packed = spec_.storage == QuantStorage::kPacked, awq = spec_.storage == QuantStorage::kAwq;
    const int64_t per_word = 32 / spec_.bits;
    const int64_t groups = spec_.group_columns > 0 ? CeilDiv(columns_, spec_.group_columns) : 1;
    if (columns_ % 32 != 0 || (!packed && rows_ % per_word != 0)) {
      return Unimplemented(
          "{}: tensor \"{}\" of a matrix of {} x {}: {} columns and {} rows must be multiples of 32 and {}",
          file_.path(), Name(MainTensor()), rows_, columns_, columns_, rows_, packed ? 1 : per_word);
    }
    const Shape codes_shape = packed ? Shape{rows_, columns_ / per_word}
                              : awq  ? Shape{columns_, rows_ / per_word}
                                     : Shape{columns_ / per_word, rows_};
    ASSIGN_OR_RETURN(const CheckpointTensor codes, Tensor(MainTensor(), codes_shape, {DType::kI32}));
    const Shape scales_shape = packed ? Shape{rows_, groups} : Shape{groups, rows_};
    ASSIGN_OR_RETURN(const CheckpointTensor scales,
                     Tensor(packed ? "weight_scale" : "scales", scales_shape, {DType::kF16, DType::kBF16}));
    RETURN_IF_ERROR(CheckScales(scales));
    quant::GroupedCodes source = {.layout = packed ? quant::CodeLayout::kPacked
                                            : awq  ? quant::CodeLayout::kAwq
                                                   : quant::CodeLayout::kGptq,
                                  .bits = spec_.bits,
                                  .rows = rows_,
                                  .columns = columns_,
                                  .codes = codes.bytes,
                                  .scales = scales.bytes,
                                  .scale_format = scales.dtype,
                                  .zeros = {},
                                  .zero_offset = spec_.zero_offset,
                                  .groups = groups,
                                  .order = {},
                                  .block_groups = {}};
    if (!packed || !spec_.symmetric) {
      const Shape zeros_shape = packed ? Shape{CeilDiv(rows_, per_word), groups} : Shape{groups, rows_ / per_word};
      ASSIGN_OR_RETURN(const CheckpointTensor zeros,
                       Tensor(packed ? "weight_zero_point" : "qzeros", zeros_shape, {DType::kI32}));
      RETURN_IF_ERROR(CheckZeros(zeros));
      source.zeros = zeros.bytes;
    }
    if (packed) RETURN_IF_ERROR(CheckShapeTensor());
    return MakeReader(std::move(source));
  }

  // Eight-bit zero points of 255 and one more would be 256.
  absl::Status CheckZeros(const CheckpointTensor& zeros) const {
    if (spec_.bits != 8 || spec_.zero_offset == 0) return absl::OkStatus();
    if (std::find(zeros.bytes.begin(), zeros.bytes.end(), std::byte{255}) == zeros.bytes.end()) return absl::OkStatus();
    return Unimplemented("{}: tensor \"{}\" has a zero point of 256: that is not supported", file_.path(), zeros.name);
  }

  // compressed-tensors repeats the matrix's shape in a tensor.
  absl::Status CheckShapeTensor() {
    if (file_.FindTensor(Name("weight_shape")) == nullptr) return absl::OkStatus();
    ASSIGN_OR_RETURN(const CheckpointTensor tensor, Tensor("weight_shape", Shape{2}, {DType::kI64, DType::kI32}));
    int64_t shape[2];
    for (size_t i = 0; i < 2; ++i) {
      if (tensor.dtype == DType::kI64) {
        std::memcpy(&shape[i], tensor.bytes.data() + 8 * i, sizeof(shape[i]));
      } else {
        int32_t value;
        std::memcpy(&value, tensor.bytes.data() + 4 * i, sizeof(value));
        shape[i] = value;
      }
    }
    if (shape[0] == rows_ && shape[1] == columns_) return absl::OkStatus();
    return ModelFileInvalid(file_.path(), "tensor \"{}\" says [{}, {}], [{}, {}] expected; {}", tensor.name, shape[0],
                            shape[1], rows_, columns_, kAdvice);
  }

  absl::Status MakeReader(quant::GroupedCodes source) {
    ASSIGN_OR_RETURN(const std::vector<int32_t> group_of, GroupOfColumns(source.groups));
    // Columns of a group end up beside one another; blocks then fill whole groups.
    const auto size = static_cast<size_t>(columns_);
    if (!std::is_sorted(group_of.begin(), group_of.end())) {
      result_->order.resize(size);
      std::iota(result_->order.begin(), result_->order.end(), 0);
      std::stable_sort(result_->order.begin(), result_->order.end(), [&group_of](int32_t a, int32_t b) {
        return group_of[static_cast<size_t>(a)] < group_of[static_cast<size_t>(b)];
      });
    }
    std::vector<int64_t> runs(static_cast<size_t>(source.groups));
    for (const int32_t group : group_of) ++runs[static_cast<size_t>(group)];
    const std::optional<DType> format = quant::GroupFormat(spec_.bits, runs);
    if (!format.has_value()) {
      const auto odd = std::find_if(runs.begin(), runs.end(), [](int64_t run) { return run % 32 != 0; });
      return Unimplemented("{}: tensor \"{}\": group {} has {} columns; known are multiples of 32", file_.path(),
                           Name(MainTensor()), odd - runs.begin(), *odd);
    }
    for (int64_t k = 0; k < columns_; k += Traits(*format).block_elements) {
      const auto i = static_cast<size_t>(k);
      source.block_groups.push_back(group_of[result_->order.empty() ? i : static_cast<size_t>(result_->order[i])]);
    }
    source.order = result_->order;
    result_->source.dtype = *format;
    result_->reader = std::make_unique<quant::GroupedRows>(std::move(source), *format);
    return absl::OkStatus();
  }

  // [columns], each in [0, groups).
  absl::StatusOr<std::vector<int32_t>> GroupOfColumns(int64_t groups) {
    std::vector<int32_t> group_of(static_cast<size_t>(columns_));
    const std::string name = Name(spec_.storage == QuantStorage::kPacked ? "weight_g_idx" : "g_idx");
    const bool given = spec_.storage != QuantStorage::kAwq && (spec_.ordered || file_.FindTensor(name) != nullptr);
    if (!given) {
      for (size_t k = 0; k < group_of.size(); ++k) {
        group_of[k] = spec_.group_columns > 0 ? static_cast<int32_t>(static_cast<int64_t>(k) / spec_.group_columns) : 0;
      }
      return group_of;
    }
    ASSIGN_OR_RETURN(const CheckpointTensor tensor,
                     Tensor(std::string_view(name).substr(module_.size() + 1), Shape{columns_}, {DType::kI32}));
    std::memcpy(group_of.data(), tensor.bytes.data(), tensor.bytes.size());
    for (size_t k = 0; k < group_of.size(); ++k) {
      if (group_of[k] >= 0 && group_of[k] < groups) continue;
      return ModelFileInvalid(file_.path(), "tensor \"{}\" puts column {} into group {} of {}; {}", name, k,
                              group_of[k], groups, kAdvice);
    }
    return group_of;
  }

  // ---- FP8

  absl::Status ReadFp8() {
    ASSIGN_OR_RETURN(const CheckpointTensor codes, Tensor("weight", Shape{rows_, columns_}, {DType::kF8_E4M3}));
    if (const std::optional<int64_t> at = quant::FindFp8Nan(codes.bytes)) {
      return ModelFileInvalid(file_.path(), "tensor \"{}\" is no number at row {}, column {}: download the file again",
                              codes.name, *at / columns_, *at % columns_);
    }
    const bool inverse = file_.FindTensor(Name("weight_scale_inv")) != nullptr;
    const std::string_view suffix = inverse ? "weight_scale_inv" : "weight_scale";
    if (inverse && file_.FindTensor(Name("weight_scale")) != nullptr) {
      return ModelFileInvalid(file_.path(), "both \"{}\" and \"{}\" are there, one of them expected",
                              Name("weight_scale_inv"), Name("weight_scale"));
    }
    const auto [scale_rows, scale_columns, shape] = ScaleShape(Name(suffix));
    ASSIGN_OR_RETURN(const CheckpointTensor tensor, Tensor(suffix, shape, {DType::kF32, DType::kBF16, DType::kF16}));
    RETURN_IF_ERROR(CheckScales(tensor));
    std::vector<float> scales(static_cast<size_t>(shape.elements()));
    quant::DecodeRow(tensor.dtype, tensor.bytes.data(), scales);
    if (const CheckpointTensor* activations = file_.FindTensor(Name("input_scale"))) {
      result_->tensors.push_back(activations);  // scales activations, which stay as they are
    }
    result_->source.dtype = DType::kFp8_G128;
    result_->reader =
        std::make_unique<quant::ScaledFp8Rows>(codes.bytes, columns_, std::move(scales), scale_rows, scale_columns);
    return absl::OkStatus();
  }

  struct ScaleLayout {
    int64_t rows, columns;  // that share a scale
    Shape shape;            // of the tensor
  };
  ScaleLayout ScaleShape(const std::string& name) const {
    using Fp8Scale = QuantizationSpec::Fp8Scale;
    const CheckpointTensor* tensor = file_.FindTensor(name);
    const bool scalar = tensor != nullptr && tensor->shape.elements() == 1;
    if (spec_.fp8_scale == Fp8Scale::kTensor || (spec_.fp8_scale == Fp8Scale::kTensorOrBlock && scalar)) {
      return {rows_, columns_, scalar ? tensor->shape : Shape{1}};
    }
    if (spec_.fp8_scale == Fp8Scale::kRow) {
      const bool vector = tensor != nullptr && tensor->shape.rank() == 1;
      return {1, columns_, vector ? Shape{rows_} : Shape{rows_, 1}};
    }
    return {spec_.block_rows, spec_.block_columns,
            Shape{CeilDiv(rows_, spec_.block_rows), CeilDiv(columns_, spec_.block_columns)}};
  }

  const Checkpoint& file_;
  const QuantizationSpec& spec_;
  const std::string_view module_;
  const int64_t rows_, columns_;
  std::unique_ptr<QuantizedMatrix> result_ = std::make_unique<QuantizedMatrix>();
};

}  // namespace

absl::StatusOr<std::unique_ptr<QuantizedMatrix>> FindQuantized(const Checkpoint& file, const QuantizationSpec& spec,
                                                               std::string_view module, int64_t rows, int64_t columns) {
  return Finder(file, spec, module, rows, columns).Find();
}

}  // namespace conclave::engine
