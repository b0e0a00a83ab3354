// SPDX-License-Identifier: Apache-2.0
#include "engine/ops/cuda/cuda_weight.h"

#include <algorithm>
#include <cstring>

#include "common/check.h"
#include "common/status.h"
#include "engine/ops/host_ops.h"

namespace conclave::engine::cuda {
namespace {

// Kernels count rows and columns in 32 bits.
constexpr int64_t kSizeMax = int64_t{1} << 30;

}  // namespace

absl::StatusOr<const CudaWeight*> WeightStore::Add(std::span<const WeightSource> sources, WeightUse use,
                                                   const Stream& stream) {
  if (uploader_ == nullptr) uploader_ = std::make_unique<Uploader>();
  auto weight = std::make_unique<CudaWeight>();
  if (use == WeightUse::kVector) {
    RETURN_IF_ERROR(AddVector(sources, stream, weight.get()));
  } else {
    weight->columns = sources[0].columns;
    while (!sources.empty()) {
      size_t same = 1;
      while (same < sources.size() && sources[same].dtype == sources[0].dtype) ++same;
      RETURN_IF_ERROR(AddPart(sources.first(same), stream, weight.get()));
      sources = sources.subspan(same);
    }
    columns_max_ = std::max(columns_max_, weight->columns);
  }
  weights_.push_back(std::move(weight));
  return weights_.back().get();
}

absl::Status WeightStore::AddVector(std::span<const WeightSource> sources, const Stream& stream, CudaWeight* weight) {
  weight->rows = 1;
  for (const WeightSource& source : sources) weight->columns += source.columns;
  std::vector<float> values(static_cast<size_t>(weight->columns));
  DecodeVector(sources, values.data());
  const auto bytes = static_cast<int64_t>(values.size() * sizeof(float));
  ASSIGN_OR_RETURN(std::byte * data, memory_.Allocate(bytes, "weights", stream.stream));
  RETURN_IF_ERROR(uploader_->CopyRows(data, bytes, std::as_bytes(std::span(values)), bytes, stream.stream));
  weight->vector = reinterpret_cast<const float*>(data);
  return absl::OkStatus();
}

absl::Status WeightStore::AddPart(std::span<const WeightSource> stack, const Stream& stream, CudaWeight* weight) {
  WeightPart part = {};
  part.dtype = stack[0].dtype;
  part.first_row = weight->rows;
  part.columns = stack[0].columns;
  if (!HasLayout(part.dtype)) {
    return Unimplemented("weights of format {} on the CUDA backend; --device cpu computes with them", Name(part.dtype));
  }
  for (const WeightSource& source : stack) part.rows += source.rows;
  if (part.rows > kSizeMax || part.columns > kSizeMax) {
    return Unimplemented("a weight of {} x {}: the CUDA backend does at most {} of each", part.rows, part.columns,
                         kSizeMax);
  }
  part.shape = ShapeOf(part.dtype, part.rows, part.columns);
  const bool plain = part.shape.format.code_bits == 0;
  const int64_t row_bytes = plain ? PlainStride(part.columns) * Traits(part.dtype).block_bytes : 0;
  ASSIGN_OR_RETURN(std::byte * data,
                   memory_.Allocate(plain ? part.rows * row_bytes : part.shape.bytes, "weights", stream.stream));
  part.data = reinterpret_cast<const uint8_t*>(data);
  RETURN_IF_ERROR(plain ? UploadPlain(stack, row_bytes, data, stream) : UploadPacked(stack, part, stream));
  has_blocks_ = has_blocks_ || !plain;
  if (!plain || part.dtype == DType::kF16) {
    dequantized_max_ = std::max(dequantized_max_, part.rows * RoundUpTo(part.columns, kTileColumns));
  }
  weight->rows += part.rows;
  weight->parts.push_back(part);
  return absl::OkStatus();
}

absl::Status WeightStore::UploadPlain(std::span<const WeightSource> stack, int64_t row_bytes, std::byte* data,
                                      const Stream& stream) {
  for (const WeightSource& source : stack) {
    RETURN_IF_ERROR(
        uploader_->CopyRows(data, row_bytes, source.bytes, RowBytes(source.dtype, source.columns), stream.stream));
    data += source.rows * row_bytes;
  }
  return absl::OkStatus();
}

absl::Status WeightStore::UploadPacked(std::span<const WeightSource> stack, const WeightPart& part,
                                       const Stream& stream) {
  const int64_t row_bytes = RowBytes(part.dtype, part.columns);
  const int64_t piece = std::max<int64_t>(1, Uploader::kPieceBytes / row_bytes);
  if (raw_bytes_ < piece * row_bytes) {
    raw_memory_ = std::make_unique<DeviceMemory>();
    raw_bytes_ = std::max(piece * row_bytes, Uploader::kPieceBytes);
    ASSIGN_OR_RETURN(raw_, raw_memory_->Allocate(raw_bytes_, "loading weights", stream.stream));
  }
  int64_t first = 0;
  for (const WeightSource& source : stack) {
    for (int64_t row = 0; row < source.rows; row += piece) {
      const int64_t count = std::min(piece, source.rows - row), bytes = count * row_bytes;
      ASSIGN_OR_RETURN(std::byte * buffer, uploader_->Next(bytes));
      std::memcpy(buffer, source.bytes.data() + row * row_bytes, static_cast<size_t>(bytes));
      RETURN_IF_ERROR(
          ToStatus(cudaMemcpyAsync(raw_, buffer, static_cast<size_t>(bytes), cudaMemcpyHostToDevice, stream.stream),
                   "uploading weights"));
      RETURN_IF_ERROR(uploader_->Sent(stream.stream));
      PackRows(stream, part.dtype, part.shape, reinterpret_cast<const uint8_t*>(raw_), row_bytes, first + row, count,
               part.columns, const_cast<uint8_t*>(part.data));
      RETURN_IF_ERROR(ToStatus(cudaGetLastError(), "packing weights"));
    }
    first += source.rows;
  }
  return absl::OkStatus();
}

absl::Status WeightStore::Finish(const Stream& stream) {
  RETURN_IF_ERROR(ToStatus(cudaStreamSynchronize(stream.stream), "loading weights"));
  uploader_.reset();
  raw_memory_.reset();
  raw_ = nullptr;
  raw_bytes_ = 0;
  return absl::OkStatus();
}

}  // namespace conclave::engine::cuda
