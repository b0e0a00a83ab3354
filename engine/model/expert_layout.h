// SPDX-License-Identifier: Apache-2.0
// Internal to engine/model: experts as Hugging Face stores gpt-oss's, made into the rows that the rest of the engine
// reads. Stored are [E, columns, rows], or 4-bit floats and their scales in tensors of their own; rows of gate and up
// alternate. And the biases of experts, in every form.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/format/checkpoint.h"
#include "engine/model/tensor_names.h"

namespace conclave::engine {

enum class RowOrder : uint8_t {
  kKept,
  kAlternating,  // gate 0, up 0, gate 1, ..: becomes gate | up
};

struct ExpertShape {
  int64_t count, rows, columns;  // E x [rows, columns]
  RowOrder order;                // of the stored rows
};

// Elements of `element_bytes`, [count, columns, rows], as [count, rows, columns].
std::vector<std::byte> TurnExperts(std::span<const std::byte> stored, int64_t element_bytes, const ExpertShape& shape);

// Codes [count, rows, columns / 32, 16], byte j holding elements 2 j (low nibble) and 2 j + 1, and scales
// [count, rows, columns / 32], as rows of MXFP4 blocks.
std::vector<std::byte> JoinMicroscaled(std::span<const std::byte> codes, std::span<const std::byte> scales,
                                       const ExpertShape& shape);

// Biases [count, rows], in the order of the rows above.
std::vector<float> OrderBiases(std::span<const float> stored, const ExpertShape& shape);

// All experts' matrices of the tensor `name`, or of its _blocks and _scales: [count, rows, columns] in `dtype`.
// MODEL_FILE_INVALID or UNIMPLEMENTED names a tensor that is not as it must be.
struct TurnedExperts {
  DType dtype;
  std::vector<std::byte> bytes;
  std::vector<CheckpointTensor> tensors;  // that were read
};
absl::StatusOr<TurnedExperts> ReadTurnedExperts(const Checkpoint& file, const std::string& name,
                                                const ExpertShape& shape);

// Biases of a layer's experts: per expert gate | up, and down. `hidden`: D, `feed_forward`: F.
struct ExpertBiases {
  std::vector<float> gate_up, down;  // [E * 2F], [E * D]
  std::vector<CheckpointTensor> tensors;
};
absl::StatusOr<ExpertBiases> ReadExpertBiases(const Checkpoint& file, const TensorNames& names, int32_t layer,
                                              int64_t experts, int64_t hidden, int64_t feed_forward);

}  // namespace conclave::engine
