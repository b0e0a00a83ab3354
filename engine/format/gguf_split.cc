// SPDX-License-Identifier: Apache-2.0
#include "engine/format/gguf_split.h"

#include "common/hash.h"
#include "common/status.h"
#include "engine/format/gguf_parse.h"

namespace conclave::engine {
namespace {

constexpr std::string_view kNumber = "split.no", kCount = "split.count", kTensors = "split.tensors.count";

std::string Suffix(uint32_t part, uint32_t count) { return fmt::format("-{:05}-of-{:05}.gguf", part, count); }

}  // namespace

bool SplitGguf::IsPart(const GgufFile& file) {
  const GgufValue* value = file.Find(kCount);
  if (value == nullptr) return file.Has(kNumber) || file.Has(kTensors);
  const auto count = file.GetU32(kCount);
  return !count.ok() || *count != 1;  // what is wrong with it is Open's to say
}

absl::StatusOr<std::unique_ptr<SplitGguf>> SplitGguf::Open(std::unique_ptr<GgufFile> first) {
  const std::string path = first->path();
  ASSIGN_OR_RETURN(const uint32_t count, first->GetU32(kCount));
  ASSIGN_OR_RETURN(const uint32_t number, first->GetU32(kNumber));
  ASSIGN_OR_RETURN(const uint32_t tensors, first->GetU32(kTensors));
  if (count < 1 || count > kGgufPartsMax) {
    return ModelFileInvalid(path, "key \"{}\" is {}, 1 to {} allowed", kCount, count, kGgufPartsMax);
  }
  if (number >= count) return ModelFileInvalid(path, "key \"{}\" is {} of {} parts", kNumber, number, count);
  const std::string suffix = Suffix(number + 1, count);
  if (!path.ends_with(suffix)) {
    return ModelFileInvalid(path,
                            "is part {} of {}: its name must end with \"{}\", as the others' names are made of it",
                            number + 1, count, suffix);
  }
  const std::string stem = path.substr(0, path.size() - suffix.size());
  if (number != 0) {
    return ModelFileInvalid(path, "is part {} of {}; name the first, {}", number + 1, count, stem + Suffix(1, count));
  }
  std::unique_ptr<SplitGguf> split(new SplitGguf());
  RETURN_IF_ERROR(split->Add(std::move(first), count));
  for (uint32_t i = 1; i < count; ++i) {
    absl::StatusOr<std::unique_ptr<GgufFile>> part = GgufFile::Open(stem + Suffix(i + 1, count));
    if (!part.ok()) return Annotate(part.status(), fmt::format("part {} of {}", i + 1, count));
    RETURN_IF_ERROR(split->Add(*std::move(part), count));
  }
  if (split->tensors().size() != tensors) {
    return ModelFileInvalid(path, "key \"{}\" is {}, the {} parts hold {} tensors", kTensors, tensors, count,
                            split->tensors().size());
  }
  return split;
}

absl::Status SplitGguf::Add(std::unique_ptr<GgufFile> part, uint32_t count) {
  ASSIGN_OR_RETURN(const uint32_t number, part->GetU32(kNumber));
  ASSIGN_OR_RETURN(const uint32_t parts, part->GetU32(kCount));
  if (number != parts_.size() || parts != count) {
    return ModelFileInvalid(part->path(), "says that it is part {} of {}, {} of {} expected", number + 1, parts,
                            parts_.size() + 1, count);
  }
  for (const CheckpointTensor& tensor : part->tensors()) {
    if (parts_.empty()) break;  // they are its own
    GgufFile& first = *parts_[0];
    if (!first.tensor_index_.emplace(tensor.name, first.tensors_.size()).second) {
      return ModelFileInvalid(part->path(), "tensor \"{}\" is in an earlier part too", Printable(tensor.name));
    }
    first.tensors_.push_back(tensor);
  }
  parts_.push_back(std::move(part));
  return absl::OkStatus();
}

std::string SplitGguf::Revision() const {
  Sha256 hash;
  for (const auto& part : parts_) hash.Update(part->Revision());
  return hash.HexDigest();
}

absl::Status SplitGguf::CheckIntact() const {
  for (const auto& part : parts_) RETURN_IF_ERROR(part->CheckIntact());
  return absl::OkStatus();
}

void SplitGguf::DropResident(std::span<const std::byte> bytes) const {
  for (const auto& part : parts_) part->DropResident(bytes);
}

}  // namespace conclave::engine
