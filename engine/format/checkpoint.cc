// SPDX-License-Identifier: Apache-2.0
#include "engine/format/checkpoint.h"

#include "engine/format/gguf.h"

namespace conclave::engine {

absl::StatusOr<std::unique_ptr<Checkpoint>> Checkpoint::Open(const std::string& path) { return GgufFile::Open(path); }

absl::StatusOr<CheckpointTensor> Checkpoint::GetTensor(std::string_view name, const Shape& shape) const {
  const CheckpointTensor* tensor = FindTensor(name);
  if (tensor == nullptr) return ModelFileInvalid(path(), "tensor \"{}\" {} is missing", name, shape.ToString());
  if (!(tensor->shape == shape)) {
    return ModelFileInvalid(path(), "tensor \"{}\" has shape {}, {} expected", name, tensor->shape.ToString(),
                            shape.ToString());
  }
  return *tensor;
}

}  // namespace conclave::engine
