// SPDX-License-Identifier: Apache-2.0
#include "engine/format/hf_checkpoint.h"

#include <array>
#include <filesystem>
#include <set>

#include "common/file.h"
#include "common/hash.h"
#include "engine/format/byte_reader.h"

namespace conclave::engine {
namespace {

constexpr std::string_view kConfig = "config.json";
constexpr std::string_view kSingle = "model.safetensors";
constexpr std::string_view kIndex = "model.safetensors.index.json";

// What else decides a model's answers.
constexpr std::array<std::string_view, 5> kHashedFiles = {kConfig, "generation_config.json", "tokenizer.json",
                                                          "tokenizer_config.json", "chat_template.jinja"};

bool IsPlainFileName(std::string_view name) {
  return !name.empty() && name != "." && name != ".." && name.find('/') == std::string_view::npos &&
         name.find('\0') == std::string_view::npos;
}

}  // namespace

std::string HfDirectory::FilePath(std::string_view name) const {
  return (std::filesystem::path(path_) / std::string(name)).string();
}

absl::StatusOr<std::optional<std::string>> HfDirectory::ReadText(std::string_view name) const {
  const std::string path = FilePath(name);
  absl::StatusOr<std::string> text = ReadFile(path, static_cast<int64_t>(kJsonBytesMax));
  if (text.ok()) return std::optional<std::string>(*std::move(text));
  if (absl::IsNotFound(text.status())) return std::optional<std::string>();
  if (absl::IsResourceExhausted(text.status())) return ModelFileInvalid(path, "{}", Message(text.status()));
  return text.status();
}

absl::StatusOr<std::unique_ptr<JsonDocument>> HfDirectory::ReadJson(std::string_view name) const {
  ASSIGN_OR_RETURN(const std::optional<std::string> text, ReadText(name));
  if (!text.has_value()) return nullptr;
  return JsonDocument::Parse(FilePath(name), *text);
}

absl::StatusOr<std::unique_ptr<HfCheckpoint>> HfCheckpoint::Open(const std::string& directory) {
  ASSIGN_OR_RETURN(std::unique_ptr<HfCheckpoint> checkpoint, OpenMetadata(directory));
  RETURN_IF_ERROR(checkpoint->OpenShards());
  RETURN_IF_ERROR(checkpoint->ComputeRevision());
  return checkpoint;
}

absl::StatusOr<std::unique_ptr<HfCheckpoint>> HfCheckpoint::OpenMetadata(const std::string& directory) {
  std::unique_ptr<HfCheckpoint> checkpoint(new HfCheckpoint(directory));
  RETURN_IF_ERROR(checkpoint->ComputeRevision());
  return checkpoint;
}

absl::StatusOr<std::vector<std::string>> HfCheckpoint::ShardNames() const {
  if (std::filesystem::exists(directory_.FilePath(kSingle))) return std::vector<std::string>{std::string(kSingle)};
  ASSIGN_OR_RETURN(const std::unique_ptr<JsonDocument> index, directory_.ReadJson(kIndex));
  if (index == nullptr) {
    return NotFound("{}: neither {} nor {} is there; weights must be safetensors", path(), kSingle, kIndex);
  }
  ASSIGN_OR_RETURN(const JsonObject root, index->root().Object());
  ASSIGN_OR_RETURN(const JsonValue map_value, root.Get("weight_map"));
  ASSIGN_OR_RETURN(const JsonObject map, map_value.Object());
  std::set<std::string> names;
  for (const auto& [tensor, shard_value] : map.members()) {
    ASSIGN_OR_RETURN(const std::string_view shard, shard_value.String());
    if (!IsPlainFileName(shard)) return shard_value.Invalid(fmt::format("is \"{}\", a file name expected", shard));
    names.emplace(shard);
  }
  if (names.empty()) return map_value.Invalid("names no shard");
  if (names.size() > kShardsMax) {
    return map_value.Invalid(fmt::format("names {} shards, at most {} allowed", names.size(), kShardsMax));
  }
  return std::vector<std::string>(names.begin(), names.end());
}

absl::Status HfCheckpoint::OpenShards() {
  ASSIGN_OR_RETURN(const std::vector<std::string> names, ShardNames());
  for (const std::string& name : names) {
    ASSIGN_OR_RETURN(std::unique_ptr<SafetensorsFile> shard, SafetensorsFile::Open(directory_.FilePath(name)));
    for (const CheckpointTensor& tensor : shard->tensors()) {
      if (!index_.emplace(tensor.name, tensors_.size()).second) {
        return ModelFileInvalid(shard->path(), "tensor \"{}\" is in another shard too", tensor.name);
      }
      tensors_.push_back(tensor);
    }
    shards_.push_back(std::move(shard));
  }
  return absl::OkStatus();
}

absl::Status HfCheckpoint::ComputeRevision() {
  Sha256 hash;
  for (const std::string_view name : kHashedFiles) {
    ASSIGN_OR_RETURN(const std::optional<std::string> text, directory_.ReadText(name));
    if (!text.has_value() && name == kConfig) {
      return NotFound("{}: no {}: not a Hugging Face model directory", path(), kConfig);
    }
    hash.Update(fmt::format("{} {}\n", name, text.has_value() ? static_cast<int64_t>(text->size()) : -1));
    if (text.has_value()) hash.Update(*text);
  }
  for (const auto& shard : shards_) {
    hash.Update(AsText(shard->header_bytes()));
    hash.Update(fmt::format("{}", shard->file_bytes()));
  }
  revision_ = hash.HexDigest();
  return absl::OkStatus();
}

const CheckpointTensor* HfCheckpoint::FindTensor(std::string_view name) const {
  const auto it = index_.find(std::string(name));
  return it == index_.end() ? nullptr : &tensors_[it->second];
}

absl::Status HfCheckpoint::CheckIntact() const {
  for (const auto& shard : shards_) RETURN_IF_ERROR(shard->CheckIntact());
  return absl::OkStatus();
}

void HfCheckpoint::DropResident(std::span<const std::byte> bytes) const {
  for (const auto& shard : shards_) shard->DropResident(bytes);
}

}  // namespace conclave::engine
