// SPDX-License-Identifier: Apache-2.0
#include "engine/model/expert_layout.h"

#include <algorithm>
#include <cstring>

#include "common/check.h"
#include "common/status.h"
#include "engine/quant/blocks.h"
#include "engine/quant/codec.h"

namespace conclave::engine {
namespace {

// Rows and columns of a square that stays in cache while it is turned.
constexpr int64_t kTurnTile = 64;

// Where stored row `row` goes.
int64_t Target(const ExpertShape& shape, int64_t row) {
  return shape.order == RowOrder::kKept ? row : row % 2 * (shape.rows / 2) + row / 2;
}

template <int64_t kBytes>
void TurnOne(const std::byte* stored, const ExpertShape& shape, std::byte* out) {
  for (int64_t row0 = 0; row0 < shape.rows; row0 += kTurnTile) {
    for (int64_t column0 = 0; column0 < shape.columns; column0 += kTurnTile) {
      const int64_t row_end = std::min(row0 + kTurnTile, shape.rows);
      const int64_t column_end = std::min(column0 + kTurnTile, shape.columns);
      for (int64_t row = row0; row < row_end; ++row) {
        std::byte* to = out + Target(shape, row) * shape.columns * kBytes;
        for (int64_t column = column0; column < column_end; ++column) {
          std::memcpy(to + column * kBytes, stored + (column * shape.rows + row) * kBytes, kBytes);
        }
      }
    }
  }
}

// A tensor of U8 and this shape.
absl::StatusOr<CheckpointTensor> GetBytes(const Checkpoint& file, const std::string& name, const Shape& shape) {
  ASSIGN_OR_RETURN(const CheckpointTensor tensor, file.GetTensor(name, shape));
  if (tensor.dtype == DType::kU8) return tensor;
  return ModelFileInvalid(file.path(), "tensor \"{}\" is {}, U8 expected", name, Name(tensor.dtype));
}

// [experts, width] as floats.
absl::StatusOr<std::vector<float>> ReadBiases(const Checkpoint& file, const std::string& name, int64_t experts,
                                              int64_t width, std::vector<CheckpointTensor>* read) {
  ASSIGN_OR_RETURN(const CheckpointTensor tensor, file.GetTensor(name, Shape{experts, width}));
  if (!quant::CanDecode(tensor.dtype) || Traits(tensor.dtype).block_elements != 1) {
    return Unimplemented("{}: tensor \"{}\": biases of format {} are not supported", file.path(), name,
                         Name(tensor.dtype));
  }
  read->push_back(tensor);
  std::vector<float> values(static_cast<size_t>(experts * width));
  quant::DecodeRow(tensor.dtype, tensor.bytes.data(), values);
  return values;
}

}  // namespace

std::vector<std::byte> TurnExperts(std::span<const std::byte> stored, int64_t element_bytes, const ExpertShape& shape) {
  const int64_t bytes = shape.rows * shape.columns * element_bytes;
  CONCLAVE_CHECK(static_cast<int64_t>(stored.size()) == shape.count * bytes);
  CONCLAVE_CHECK(element_bytes == 2 || element_bytes == 4);
  std::vector<std::byte> out(stored.size());
  for (int64_t e = 0; e < shape.count; ++e) {
    const auto turn = element_bytes == 2 ? TurnOne<2> : TurnOne<4>;
    turn(stored.data() + e * bytes, shape, out.data() + e * bytes);
  }
  return out;
}

std::vector<std::byte> JoinMicroscaled(std::span<const std::byte> codes, std::span<const std::byte> scales,
                                       const ExpertShape& shape) {
  const int64_t blocks = shape.columns / quant::kBlock;
  CONCLAVE_CHECK(shape.columns % quant::kBlock == 0);
  CONCLAVE_CHECK(static_cast<int64_t>(scales.size()) == shape.count * shape.rows * blocks);
  CONCLAVE_CHECK(codes.size() == 16 * scales.size());
  std::vector<std::byte> out(scales.size() * sizeof(quant::BlockMXFP4));
  for (int64_t row = 0; row < shape.count * shape.rows; ++row) {
    const int64_t first = row / shape.rows * shape.rows, target = first + Target(shape, row % shape.rows);
    const std::byte* from = codes.data() + row * blocks * 16;
    std::byte* to = out.data() + target * blocks * static_cast<int64_t>(sizeof(quant::BlockMXFP4));
    for (int64_t b = 0; b < blocks; ++b, from += 16, to += sizeof(quant::BlockMXFP4)) {
      to[0] = scales[static_cast<size_t>(row * blocks + b)];
      for (int j = 0; j < 8; ++j) {  // elements 2 j, 2 j + 1 and those 16 further on
        to[1 + 2 * j] = (from[j] & std::byte{15}) | (from[j + 8] << 4);
        to[2 + 2 * j] = (from[j] >> 4) | (from[j + 8] & std::byte{0xf0});
      }
    }
  }
  return out;
}

std::vector<float> OrderBiases(std::span<const float> stored, const ExpertShape& shape) {
  CONCLAVE_CHECK(static_cast<int64_t>(stored.size()) == shape.count * shape.rows);
  std::vector<float> out(stored.size());
  for (int64_t i = 0; i < shape.count * shape.rows; ++i) {
    out[static_cast<size_t>(i / shape.rows * shape.rows + Target(shape, i % shape.rows))] =
        stored[static_cast<size_t>(i)];
  }
  return out;
}

absl::StatusOr<TurnedExperts> ReadTurnedExperts(const Checkpoint& file, const std::string& name,
                                                const ExpertShape& shape) {
  TurnedExperts result;
  if (file.FindTensor(name + "_blocks") == nullptr) {
    ASSIGN_OR_RETURN(const CheckpointTensor tensor,
                     file.GetTensor(name, Shape{shape.count, shape.columns, shape.rows}));
    if (!quant::CanDecode(tensor.dtype) || Traits(tensor.dtype).block_elements != 1) {
      return Unimplemented("{}: tensor \"{}\": format {} is not supported", file.path(), name, Name(tensor.dtype));
    }
    result.dtype = tensor.dtype;
    result.bytes = TurnExperts(tensor.bytes, Traits(tensor.dtype).block_bytes, shape);
    result.tensors = {tensor};
    return result;
  }
  if (shape.columns % quant::kBlock != 0) {
    return ModelFileInvalid(file.path(), "tensor \"{}_blocks\": rows of {} are no whole blocks of {}", name,
                            shape.columns, quant::kBlock);
  }
  const int64_t blocks = shape.columns / quant::kBlock;
  ASSIGN_OR_RETURN(const CheckpointTensor codes,
                   GetBytes(file, name + "_blocks", Shape{shape.count, shape.rows, blocks, 16}));
  ASSIGN_OR_RETURN(const CheckpointTensor scales,
                   GetBytes(file, name + "_scales", Shape{shape.count, shape.rows, blocks}));
  result.dtype = DType::kMXFP4;
  result.bytes = JoinMicroscaled(codes.bytes, scales.bytes, shape);
  result.tensors = {codes, scales};
  return result;
}

absl::StatusOr<ExpertBiases> ReadExpertBiases(const Checkpoint& file, const TensorNames& names, int32_t layer,
                                              int64_t experts, int64_t hidden, int64_t feed_forward) {
  ExpertBiases result;
  const auto read = [&](const std::string& name, int64_t width) {
    return ReadBiases(file, name, experts, width, &result.tensors);
  };
  const auto name = [&](std::string_view stem, const char* ending) { return names.Layer(layer, stem) + ending; };
  if (names.turned_experts) {
    ASSIGN_OR_RETURN(const std::vector<float> stored, read(name(names.experts_gate_up, "_bias"), 2 * feed_forward));
    result.gate_up = OrderBiases(stored, {experts, 2 * feed_forward, hidden, RowOrder::kAlternating});
    ASSIGN_OR_RETURN(result.down, read(name(names.experts_down, "_bias"), hidden));
    return result;
  }
  ASSIGN_OR_RETURN(const std::vector<float> gate, read(name(names.expert_gate, ".bias"), feed_forward));
  ASSIGN_OR_RETURN(const std::vector<float> up, read(name(names.expert_up, ".bias"), feed_forward));
  ASSIGN_OR_RETURN(result.down, read(name(names.expert_down, ".bias"), hidden));
  for (int64_t e = 0; e < experts; ++e) {
    for (const std::vector<float>* part : {&gate, &up}) {
      result.gate_up.insert(result.gate_up.end(), part->begin() + e * feed_forward,
                            part->begin() + (e + 1) * feed_forward);
    }
  }
  return result;
}

}  // namespace conclave::engine
