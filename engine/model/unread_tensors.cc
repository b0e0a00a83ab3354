// SPDX-License-Identifier: Apache-2.0
#include "engine/model/unread_tensors.h"

#include <algorithm>
#include <string_view>

#include "common/status.h"

namespace conclave::engine {
namespace {

// Some programs write a bias of zeros beside every matrix that they quantise.
bool IsEmptyBias(const ModelSpec& spec, const CheckpointTensor& tensor) {
  return spec.quantization.storage != QuantStorage::kPlain && tensor.name.ends_with(".bias") &&
         std::all_of(tensor.bytes.begin(), tensor.bytes.end(), [](std::byte b) { return b == std::byte{0}; });
}

bool IsPredictionLayer(const ModelSpec& spec, std::string_view name) {
  for (int32_t i = 0; i < spec.prediction_layers; ++i) {
    if (name.starts_with(spec.names->Layer(spec.layers + i, ""))) return true;
  }
  return false;
}

}  // namespace

absl::Status RefuseUnread(const Checkpoint& file, const ModelSpec& spec, const std::set<std::string>& read) {
  const TensorNames& names = *spec.names;
  const std::string head = std::string(names.head).append(".weight");
  for (const CheckpointTensor& tensor : file.tensors()) {
    if (read.contains(std::string(tensor.name))) continue;
    if (!names.closed && !tensor.name.starts_with(names.layer_prefix)) continue;
    if (!names.ignored_suffix.empty() && tensor.name.ends_with(names.ignored_suffix)) continue;
    if (IsPredictionLayer(spec, tensor.name) || IsEmptyBias(spec, tensor)) continue;
    if (spec.tied_head && tensor.name == head) continue;
    return Unimplemented("{}: tensor \"{}\" {} is not part of a \"{}\" model of {} layers as this program knows it",
                         file.path(), tensor.name, tensor.shape.ToString(), spec.family, spec.layers);
  }
  return absl::OkStatus();
}

}  // namespace conclave::engine
