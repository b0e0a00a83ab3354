// SPDX-License-Identifier: Apache-2.0
// A model as Hugging Face lays it out: a directory with config.json, tokenizer files, and weights in one safetensors
// file or in shards that an index names.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/format/checkpoint.h"
#include "engine/format/json.h"
#include "engine/format/safetensors.h"

namespace conclave::engine {

inline constexpr size_t kShardsMax = 400;  // DeepSeek-V3 has 163, Llama 3.1 405B 191

// The small files of the directory.
class HfDirectory {
 public:
  explicit HfDirectory(std::string path) : path_(std::move(path)) {}

  const std::string& path() const { return path_; }
  std::string FilePath(std::string_view name) const;
  // nullopt if there is no such file; FAILED_PRECONDITION MODEL_FILE_INVALID over kJsonBytesMax.
  absl::StatusOr<std::optional<std::string>> ReadText(std::string_view name) const;
  // The same, parsed; null if there is no such file.
  absl::StatusOr<std::unique_ptr<JsonDocument>> ReadJson(std::string_view name) const;

 private:
  std::string path_;
};

// Errors are FAILED_PRECONDITION "MODEL_FILE_INVALID <path>: ..".
class HfCheckpoint final : public Checkpoint {
 public:
  // NOT_FOUND where there is no config.json or no weights.
  static absl::StatusOr<std::unique_ptr<HfCheckpoint>> Open(const std::string& directory);
  // Without weights: no tensor is found.
  static absl::StatusOr<std::unique_ptr<HfCheckpoint>> OpenMetadata(const std::string& directory);

  const std::string& path() const override { return directory_.path(); }
  std::string Revision() const override { return revision_; }
  std::span<const CheckpointTensor> tensors() const override { return tensors_; }
  const CheckpointTensor* FindTensor(std::string_view name) const override;
  absl::Status CheckIntact() const override;
  void DropResident(std::span<const std::byte> bytes) const override;
  const HfDirectory* hf() const override { return &directory_; }

 private:
  explicit HfCheckpoint(std::string directory) : directory_(std::move(directory)) {}
  absl::StatusOr<std::vector<std::string>> ShardNames() const;
  absl::Status OpenShards();
  absl::Status ComputeRevision();

  const HfDirectory directory_;
  std::vector<std::unique_ptr<SafetensorsFile>> shards_;
  std::vector<CheckpointTensor> tensors_;
  absl::flat_hash_map<std::string, size_t> index_;
  std::string revision_;
};

}  // namespace conclave::engine
