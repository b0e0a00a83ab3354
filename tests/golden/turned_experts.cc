// SPDX-License-Identifier: Apache-2.0
#include "tests/golden/turned_experts.h"

#include <bit>

#include "common/check.h"
#include "engine/quant/codec.h"

namespace conclave::testing {
namespace {

using engine::DType;
using engine::Shape;

// Rows first, first + step, .. of every expert; of a bias [E, rows], elements.
FamilyTensor EveryOther(const FamilyTensor& tensor, int64_t first) {
  const int64_t rows = tensor.shape[1], columns = tensor.shape.rank() == 3 ? tensor.shape[2] : 1;
  FamilyTensor half = tensor;
  half.shape = tensor.shape.rank() == 3 ? Shape{tensor.shape[0], rows / 2, columns} : Shape{tensor.shape[0], rows / 2};
  half.values.clear();
  for (int64_t row = first; row < tensor.shape[0] * rows; row += 2) {
    half.values.insert(half.values.end(), tensor.values.begin() + row * columns,
                       tensor.values.begin() + (row + 1) * columns);
  }
  return half;
}

}  // namespace

std::string PlainBytes(DType dtype, const std::vector<float>& values) {
  std::string bytes;
  for (const float value : values) {
    const uint32_t bits = std::bit_cast<uint32_t>(value);
    const uint16_t high = static_cast<uint16_t>(bits >> 16);
    if (dtype == DType::kBF16) {
      bytes.append(reinterpret_cast<const char*>(&high), sizeof(high));
    } else {
      bytes.append(reinterpret_cast<const char*>(&bits), sizeof(bits));
    }
  }
  return bytes;
}

std::string MicroscaledBytes(const std::vector<float>& values) {
  std::string bytes(static_cast<size_t>(engine::RowBytes(DType::kMXFP4, static_cast<int64_t>(values.size()))), '\0');
  engine::quant::EncodeRow(DType::kMXFP4, values, reinterpret_cast<std::byte*>(bytes.data()));
  std::vector<float> back(values.size());
  engine::quant::DecodeRow(DType::kMXFP4, reinterpret_cast<const std::byte*>(bytes.data()), back);
  CONCLAVE_CHECK(back == values);
  return bytes;
}

void AddTurnedExperts(const std::string& name, const FamilyTensor& tensor, DType dtype, ExpertForm form,
                      SafetensorsWriter* w) {
  const int64_t experts = tensor.shape[0], rows = tensor.shape[1], columns = tensor.shape[2];
  if (form != ExpertForm::kMicroscaled) {
    std::vector<float> turned;
    for (int64_t e = 0; e < experts; ++e) {
      for (int64_t column = 0; column < columns; ++column) {
        for (int64_t row = 0; row < rows; ++row) turned.push_back(tensor.values[(e * rows + row) * columns + column]);
      }
    }
    w->Add(name, dtype, Shape{experts, columns, rows}, PlainBytes(dtype, turned));
    return;
  }
  // From GGUF's blocks, {scale, 16 bytes of elements j and j + 16}, to bytes of neighbours, scales apart.
  const std::string blocks = MicroscaledBytes(tensor.values);
  std::string codes, scales;
  for (size_t block = 0; block < blocks.size(); block += 17) {
    scales.push_back(blocks[block]);
    const auto code = [&](int i) {
      const auto byte = static_cast<uint8_t>(blocks[block + 1 + static_cast<size_t>(i % 16)]);
      return i < 16 ? byte & 15 : byte >> 4;
    };
    for (int i = 0; i < 32; i += 2) codes.push_back(static_cast<char>(code(i) | code(i + 1) << 4));
  }
  w->Add(name + "_blocks", DType::kU8, Shape{experts, rows, columns / 32, 16}, codes);
  w->Add(name + "_scales", DType::kU8, Shape{experts, rows, columns / 32}, scales);
}

std::vector<NamedTensor> GgufExpertParts(const std::string& name, const FamilyTensor& tensor) {
  const size_t at = name.find("mlp.experts.");
  if (at == std::string::npos || tensor.shape.rank() != (name.ends_with("_bias") ? 2 : 3)) return {};
  const std::string layer = name.substr(0, at), ending = name.ends_with("_bias") ? ".bias" : ".weight";
  if (name.find("down_proj") != std::string::npos) return {{layer + "ffn_down_exps" + ending, tensor}};
  return {{layer + "ffn_gate_exps" + ending, EveryOther(tensor, 0)},
          {layer + "ffn_up_exps" + ending, EveryOther(tensor, 1)}};
}

}  // namespace conclave::testing
