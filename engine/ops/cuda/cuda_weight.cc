// SPDX-License-Identifier: Apache-2.0
#include "engine/ops/cuda/cuda_weight.h"

#include <algorithm>
#include <cstring>

#include "common/check.h"
#include "common/status.h"
#include "engine/ops/cuda/repack.h"
#include "engine/ops/host_ops.h"

namespace conclave::engine::cuda {
namespace {

// Kernels count rows and columns in 32 bits.
constexpr int64_t kSizeMax = int64_t{1} << 30;
constexpr int64_t kMatrixAlignment = 256;  // of the matrices of a stack

// Sources as formats that have a layout. With `one_format` those of one format of the file get one format here.
struct Repacked {
  std::vector<WeightSource> sources;
  std::vector<std::unique_ptr<RepackedRows>> readers;
};

absl::StatusOr<Repacked> Repack(std::span<const WeightSource> sources, bool one_format) {
  Repacked result;
  std::vector<DType> formats;
  for (const WeightSource& source : sources) {
    ASSIGN_OR_RETURN(const DType format, RepackedFormat(source));
    formats.push_back(format);
  }
  for (size_t i = 0; i < sources.size(); ++i) {
    const WeightSource& source = sources[i];
    for (size_t j = 0; one_format && formats[i] == DType::kQ4_0 && j < sources.size(); ++j) {
      if (sources[j].dtype == source.dtype && formats[j] == DType::kQ8_0) formats[i] = DType::kQ8_0;
    }
    result.sources.push_back(source);
    if (formats[i] == source.dtype) continue;
    result.readers.push_back(std::make_unique<RepackedRows>(source, formats[i]));
    result.sources.back() = {formats[i], source.rows, source.columns, {}, result.readers.back().get()};
  }
  return result;
}

}  // namespace

absl::StatusOr<const CudaWeight*> WeightStore::Add(std::span<const WeightSource> sources, WeightUse use,
                                                   const Stream& stream) {
  if (uploader_ == nullptr) uploader_ = std::make_unique<Uploader>();
  auto weight = std::make_unique<CudaWeight>();
  if (use == WeightUse::kVector) {
    RETURN_IF_ERROR(AddVector(sources, stream, weight.get()));
  } else {
    ASSIGN_OR_RETURN(const Repacked repacked, Repack(sources, false));
    weight->columns = sources[0].columns;
    sources = repacked.sources;
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
  ASSIGN_OR_RETURN(StackPart placed, Place(stack, 1, false, stream));
  WeightPart& part = placed.part;
  part.first_row = weight->rows;
  if (part.shape.format.code_bits != 0 || part.dtype == DType::kF16) {
    dequantized_max_ = std::max(dequantized_max_, part.rows * RoundUpTo(part.columns, kTileColumns));
  }
  weight->rows += part.rows;
  weight->parts.push_back(part);
  return absl::OkStatus();
}

absl::StatusOr<StackPart> WeightStore::Place(std::span<const WeightSource> sources, int64_t count, bool tiled,
                                             const Stream& stream) {
  StackPart placed = {};
  WeightPart& part = placed.part;
  part.dtype = sources[0].dtype;
  part.columns = sources[0].columns;
  const size_t per_matrix = sources.size() / static_cast<size_t>(count);
  for (const WeightSource& source : sources.first(per_matrix)) part.rows += source.rows;
  if (part.rows > kSizeMax || part.columns > kSizeMax) {
    return Unimplemented("a weight of {} x {}: the CUDA backend does at most {} of each", part.rows, part.columns,
                         kSizeMax);
  }
  part.shape = ShapeOf(part.dtype, part.rows, part.columns);
  const bool plain = part.shape.format.code_bits == 0,
             rows_as_they_are = plain && !(tiled && part.dtype != DType::kF32);
  const int64_t row_bytes = rows_as_they_are ? PlainStride(part.columns) * Traits(part.dtype).block_bytes : 0;
  const int64_t bytes = rows_as_they_are ? part.rows * row_bytes
                        : plain          ? part.shape.row_tiles * part.shape.column_tiles * kPlainTileBytes
                                         : part.shape.bytes;
  placed.matrix_bytes = RoundUpTo(bytes, kMatrixAlignment);
  ASSIGN_OR_RETURN(std::byte * data, memory_.Allocate(count * placed.matrix_bytes, "weights", stream.stream));
  part.data = reinterpret_cast<const uint8_t*>(data);
  for (int64_t i = 0; i < count; ++i) {
    const auto of_matrix = sources.subspan(static_cast<size_t>(i) * per_matrix, per_matrix);
    WeightPart matrix = part;
    matrix.data += i * placed.matrix_bytes;
    RETURN_IF_ERROR(rows_as_they_are ? UploadPlain(of_matrix, row_bytes, data + i * placed.matrix_bytes, stream)
                                     : UploadPacked(of_matrix, matrix, stream));
  }
  has_blocks_ = has_blocks_ || !plain;
  return placed;
}

namespace {

// F32 as bf16, where that changes no value; empty where it does.
std::vector<uint16_t> ExactBf16(std::span<const std::byte> bytes) {
  std::vector<uint16_t> values(bytes.size() / sizeof(float));
  for (size_t i = 0; i < values.size(); ++i) {
    uint32_t bits = 0;
    std::memcpy(&bits, &bytes[i * sizeof(float)], sizeof(bits));
    if ((bits & 0xffffu) != 0) return {};
    values[i] = static_cast<uint16_t>(bits >> 16);
  }
  return values;
}

}  // namespace

absl::StatusOr<const CudaStack*> WeightStore::AddStack(std::span<const WeightSource> sources, int64_t count,
                                                       StackUse use, const Stream& stream) {
  auto stack = std::make_unique<CudaStack>();
  RETURN_IF_ERROR(CheckStack(sources, count, use, stack.get()));
  if (use == StackUse::kExperts && count > kExpertsMax) {
    return Unimplemented("a mixture of {} experts: the CUDA backend does at most {}", count, kExpertsMax);
  }
  if (uploader_ == nullptr) uploader_ = std::make_unique<Uploader>();
  ASSIGN_OR_RETURN(Repacked repacked, Repack(sources, true));
  std::vector<WeightSource>& all = repacked.sources;
  std::vector<std::vector<uint16_t>> exact;
  if (use == StackUse::kHeads && std::ranges::all_of(all, [](const auto& s) { return s.dtype == DType::kF32; })) {
    for (const WeightSource& source : all) {
      exact.push_back(ExactBf16(source.bytes));
      if (exact.back().empty()) break;
    }
    for (size_t i = 0; !exact.back().empty() && i < all.size(); ++i) {
      all[i].dtype = DType::kBF16;
      all[i].bytes = std::as_bytes(std::span(exact[i]));
    }
  }
  const size_t parts = all.size() / static_cast<size_t>(count);
  int64_t first_row = 0;
  for (size_t begin = 0; begin < parts;) {
    size_t end = begin + 1;
    while (end < parts && all[end].dtype == all[begin].dtype) ++end;
    std::vector<WeightSource> of_part;
    for (size_t i = 0; i < all.size(); ++i) {
      if (i % parts < begin || i % parts >= end) continue;
      if (all[i].dtype != all[begin].dtype || all[i].rows != all[i % parts].rows) {
        return Unimplemented("matrices of a stack in formats {} and {}: the CUDA backend wants one", Name(all[i].dtype),
                             Name(all[begin].dtype));
      }
      of_part.push_back(all[i]);
    }
    ASSIGN_OR_RETURN(StackPart part, Place(of_part, count, true, stream));
    part.part.first_row = first_row;
    first_row += part.part.rows;
    stack->parts.push_back(part);
    begin = end;
  }
  StackSizes& sizes = stack_sizes_;
  if (use == StackUse::kExperts) {
    sizes.experts = std::max(sizes.experts, count);
    sizes.pair_width = std::max(sizes.pair_width, stack->rows);
    sizes.activated_width = std::max(sizes.activated_width, RoundUpTo(stack->columns, kTileColumns));
    sizes.f32 = sizes.f32 || stack->has_f32();
    columns_max_ = std::max(columns_max_, stack->columns);
  } else {
    sizes.head_width = std::max(sizes.head_width, count * RoundUpTo(stack->columns, kTileColumns));
  }
  // What was read from `exact` is on its way: a pinned copy.
  stacks_.push_back(std::move(stack));
  return stacks_.back().get();
}

bool CudaStack::has_f32() const {
  return std::ranges::any_of(parts, [](const StackPart& p) { return p.part.dtype == DType::kF32; });
}
bool CudaStack::has_bf16() const {
  return std::ranges::any_of(parts, [](const StackPart& p) { return p.part.dtype != DType::kF32; });
}

absl::Status WeightStore::UploadPlain(std::span<const WeightSource> stack, int64_t row_bytes, std::byte* data,
                                      const Stream& stream) {
  for (const WeightSource& source : stack) {
    std::span<const std::byte> bytes = source.bytes;
    std::vector<std::byte> read;
    if (source.reader != nullptr) {
      read.resize(static_cast<size_t>(SourceBytes(source)));
      ReadRows(source, 0, source.rows, read.data());
      bytes = read;
    }
    RETURN_IF_ERROR(uploader_->CopyRows(data, row_bytes, bytes, RowBytes(source.dtype, source.columns), stream.stream));
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
      ReadRows(source, row, count, buffer);
      RETURN_IF_ERROR(
          ToStatus(cudaMemcpyAsync(raw_, buffer, static_cast<size_t>(bytes), cudaMemcpyHostToDevice, stream.stream),
                   "uploading weights"));
      RETURN_IF_ERROR(uploader_->Sent(stream.stream));
      const auto* raw = reinterpret_cast<const uint8_t*>(raw_);
      auto* packed = const_cast<uint8_t*>(part.data);
      if (part.shape.format.code_bits == 0) {
        PackTiles(stream, raw, first + row, count, part.columns, part.shape.column_tiles, packed);
      } else {
        PackRows(stream, part.dtype, part.shape, raw, row_bytes, first + row, count, part.columns, packed);
      }
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
