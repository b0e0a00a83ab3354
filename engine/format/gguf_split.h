// SPDX-License-Identifier: Apache-2.0
// A model in several GGUF files as llama.cpp's gguf-split writes them: NAME-00001-of-00003.gguf and so on. The first
// holds the metadata; each says its own number (split.no, from 0), that of all parts (split.count) and of all their
// tensors (split.tensors.count).
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/format/checkpoint.h"
#include "engine/format/gguf.h"

namespace conclave::engine {

inline constexpr uint32_t kGgufPartsMax = 256;

class SplitGguf final : public Checkpoint {
 public:
  // Whether the file says that it is one of several.
  static bool IsPart(const GgufFile& file);
  // Opens the parts that belong to `first`. NOT_FOUND names a missing one; MODEL_FILE_INVALID: another part than the
  // first, numbers that disagree, a name that no part could have, a tensor that two parts hold.
  static absl::StatusOr<std::unique_ptr<SplitGguf>> Open(std::unique_ptr<GgufFile> first);

  const std::string& path() const override { return parts_[0]->path(); }
  std::string Revision() const override;
  std::span<const CheckpointTensor> tensors() const override { return parts_[0]->tensors(); }
  const CheckpointTensor* FindTensor(std::string_view name) const override { return parts_[0]->FindTensor(name); }
  absl::Status CheckIntact() const override;
  void DropResident(std::span<const std::byte> bytes) const override;
  const GgufFile* gguf() const override { return parts_[0].get(); }

 private:
  SplitGguf() = default;
  absl::Status Add(std::unique_ptr<GgufFile> part, uint32_t count);

  // The first has all tensors, so that who reads metadata and tensors of gguf() reads the whole model.
  std::vector<std::unique_ptr<GgufFile>> parts_;
};

}  // namespace conclave::engine
