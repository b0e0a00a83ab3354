// SPDX-License-Identifier: Apache-2.0
// Weights in device memory, in the precision of the file (packed_layout.h).
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "engine/ops/cuda/device.h"
#include "engine/ops/cuda/grouped.h"
#include "engine/ops/cuda/kernels.h"
#include "engine/ops/ops.h"

namespace conclave::engine::cuda {

struct CudaWeight final : Weight {
  std::vector<WeightPart> parts;  // consecutive rows of one format
  const float* vector = nullptr;  // kVector: the values, and no parts
};

struct CudaStack final : WeightStack {
  std::vector<StackPart> parts;  // consecutive rows of one format

  // Whether some part is multiplied in f32, and whether some is not.
  bool has_f32() const;
  bool has_bf16() const;
};

// Owns the weights and their memory.
class WeightStore {
 public:
  // Sources were checked (CheckSources). Uploads on the stream; the sources' bytes are not needed afterwards.
  absl::StatusOr<const CudaWeight*> Add(std::span<const WeightSource> sources, WeightUse use, const Stream& stream);
  // As Add. UNIMPLEMENTED where the matrices of a stack differ in format. Matrices of heads in F32 whose values are
  // exact in bf16 are kept as that.
  absl::StatusOr<const CudaStack*> AddStack(std::span<const WeightSource> sources, int64_t count, StackUse use,
                                            const Stream& stream);
  int64_t bytes() const { return memory_.bytes(); }
  // Over all matrices: the widest, and the largest part whose product needs it as bf16 first (elements, rows padded).
  int64_t columns_max() const { return columns_max_; }
  int64_t dequantized_max() const { return dequantized_max_; }
  bool has_blocks() const { return has_blocks_; }
  const StackSizes& stack_sizes() const { return stack_sizes_; }
  // Frees what only loading needs.
  absl::Status Finish(const Stream& stream);

 private:
  absl::Status AddVector(std::span<const WeightSource> sources, const Stream& stream, CudaWeight* weight);
  absl::Status AddPart(std::span<const WeightSource> stack, const Stream& stream, CudaWeight* weight);
  // `count` matrices of this format after each other. sources: of them all, in order; the shape is one matrix's.
  // `tiled`: 16-bit plain formats too are in tiles.
  absl::StatusOr<StackPart> Place(std::span<const WeightSource> sources, int64_t count, bool tiled,
                                  const Stream& stream);
  absl::Status UploadPlain(std::span<const WeightSource> stack, int64_t row_bytes, std::byte* data,
                           const Stream& stream);
  absl::Status UploadPacked(std::span<const WeightSource> stack, const WeightPart& part, const Stream& stream);

  DeviceMemory memory_;
  std::unique_ptr<Uploader> uploader_;
  std::unique_ptr<DeviceMemory> raw_memory_;
  std::byte* raw_ = nullptr;  // a piece of file bytes, before packing
  int64_t raw_bytes_ = 0;
  std::vector<std::unique_ptr<CudaWeight>> weights_;
  std::vector<std::unique_ptr<CudaStack>> stacks_;
  StackSizes stack_sizes_;
  int64_t columns_max_ = 0, dequantized_max_ = 0;
  bool has_blocks_ = false;
};

}  // namespace conclave::engine::cuda
