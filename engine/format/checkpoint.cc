// SPDX-License-Identifier: Apache-2.0
#include "engine/format/checkpoint.h"

#include <filesystem>

#include "engine/format/gguf.h"
#include "engine/format/gguf_split.h"
#include "engine/format/hf_checkpoint.h"

namespace conclave::engine {
namespace {

bool IsDirectory(const std::filesystem::path& path) {
  std::error_code ignored;
  return std::filesystem::is_directory(path, ignored);
}

absl::StatusOr<std::unique_ptr<Checkpoint>> OpenGguf(const std::string& path) {
  ASSIGN_OR_RETURN(std::unique_ptr<GgufFile> file, GgufFile::Open(path));
  if (SplitGguf::IsPart(*file)) return SplitGguf::Open(std::move(file));
  return file;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Checkpoint>> Checkpoint::Open(const std::string& path) {
  if (IsDirectory(path)) return HfCheckpoint::Open(path);
  return OpenGguf(path);
}

absl::StatusOr<std::unique_ptr<Checkpoint>> Checkpoint::OpenMetadata(const std::string& path) {
  if (IsDirectory(path)) return HfCheckpoint::OpenMetadata(path);
  const std::filesystem::path file(path);
  if (file.extension() == ".json") {
    const std::filesystem::path directory = file.has_parent_path() ? file.parent_path() : std::filesystem::path(".");
    return HfCheckpoint::OpenMetadata(directory.string());
  }
  return OpenGguf(path);
}

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
