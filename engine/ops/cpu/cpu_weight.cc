// SPDX-License-Identifier: Apache-2.0
#include "engine/ops/cpu/cpu_weight.h"

#include <algorithm>

#include "common/check.h"
#include "common/status.h"
#include "engine/ops/cpu/packed_weight.h"
#include "engine/ops/cpu/weight_formats.h"
#include "engine/ops/host_ops.h"
#include "engine/quant/codec.h"

namespace conclave::engine::cpu {
namespace {

int64_t Groups(int64_t rows) { return (rows + kGroupColumns - 1) / kGroupColumns; }

// Row `n` of sources stacked on each other.
const std::byte* SourceRow(std::span<const WeightSource> sources, int64_t n) {
  for (const WeightSource& source : sources) {
    if (n < source.rows) return source.bytes.data() + n * RowBytes(source.dtype, source.columns);
    n -= source.rows;
  }
  CONCLAVE_CHECK_MSG(false, "weight row out of range");
}

}  // namespace

void DecodeWeightRow(const CpuWeight& weight, int64_t n, float* out) {
  for (const WeightPart& part : weight.parts) {
    if (n >= part.first_row + part.rows) continue;
    const int64_t row = n - part.first_row;
    if (weight.repacked) {
      UnpackColumn(part.format, part.data + row / kGroupColumns * part.group_bytes,
                   static_cast<int>(row % kGroupColumns), weight.columns, out);
    } else {
      quant::DecodeRow(FileFormat(part.format), part.data + row * (part.group_bytes / kGroupColumns),
                       {out, static_cast<size_t>(weight.columns)});
    }
    return;
  }
  CONCLAVE_CHECK_MSG(false, "weight row out of range");
}

absl::StatusOr<const CpuWeight*> WeightStore::Add(std::span<const WeightSource> sources, WeightUse use, bool repack,
                                                  ThreadPool* pool) {
  auto weight = std::make_unique<CpuWeight>();
  if (use == WeightUse::kVector) {
    RETURN_IF_ERROR(AddVector(sources, weight.get()));
  } else if (repack) {
    RETURN_IF_ERROR(AddRepacked(sources, pool, weight.get()));
  } else {
    AddInPlace(sources, weight.get());
  }
  weights_.push_back(std::move(weight));
  return weights_.back().get();
}

absl::StatusOr<const CpuStack*> WeightStore::AddStack(std::span<const WeightSource> sources, const CpuStack& shape,
                                                      bool repack, ThreadPool* pool) {
  auto stack = std::make_unique<CpuStack>(shape);
  const size_t parts = sources.size() / static_cast<size_t>(stack->count);
  stack->items.reserve(static_cast<size_t>(stack->count));
  for (size_t i = 0; i < sources.size(); i += parts) {
    ASSIGN_OR_RETURN(const CpuWeight* item, Add(sources.subspan(i, parts), WeightUse::kMatmul, repack, pool));
    stack->items.push_back(item);
    stack->has_blocks = stack->has_blocks || item->has_blocks;
    stack->has_floats = stack->has_floats || item->has_floats;
  }
  stacks_.push_back(std::move(stack));
  return stacks_.back().get();
}

absl::Status WeightStore::AddVector(std::span<const WeightSource> sources, CpuWeight* weight) {
  weight->rows = 1;
  for (const WeightSource& source : sources) weight->columns += source.columns;
  ASSIGN_OR_RETURN(float* values, memory_.AllocateArray<float>(weight->columns));
  DecodeVector(sources, values);
  weight->vector = values;
  bytes_ += weight->columns * static_cast<int64_t>(sizeof(float));
  return absl::OkStatus();
}

void WeightStore::AddInPlace(std::span<const WeightSource> sources, CpuWeight* weight) {
  weight->columns = sources[0].columns;
  weight->has_floats = true;
  for (const WeightSource& source : sources) {
    weight->parts.push_back({*KernelFormat(source.dtype), weight->rows, source.rows, source.bytes.data(),
                             RowBytes(source.dtype, source.columns) * kGroupColumns});
    weight->rows += source.rows;
    weight->groups += Groups(source.rows);
    bytes_ += static_cast<int64_t>(source.bytes.size());
  }
}

absl::Status WeightStore::AddRepacked(std::span<const WeightSource> sources, ThreadPool* pool, CpuWeight* weight) {
  weight->repacked = true;
  weight->columns = sources[0].columns;
  while (!sources.empty()) {
    // Sources of one format become one part, so that groups run across their borders.
    size_t same = 1;
    int64_t rows = sources[0].rows;
    for (; same < sources.size() && sources[same].dtype == sources[0].dtype; ++same) rows += sources[same].rows;
    const std::span<const WeightSource> stack = sources.first(same);
    const WeightFormat format = *KernelFormat(sources[0].dtype);
    const int64_t group_bytes = PackedGroupBytes(format, weight->columns), groups = Groups(rows);
    ASSIGN_OR_RETURN(std::byte * data, memory_.Allocate(groups * group_bytes));
    const int64_t tasks = std::min<int64_t>(groups, pool->threads() * 8);
    pool->ParallelFor(tasks, [&](int64_t task, int) {
      for (int64_t g = groups * task / tasks; g < groups * (task + 1) / tasks; ++g) {
        const std::byte* group_rows[kGroupColumns];
        const int64_t count = std::min<int64_t>(kGroupColumns, rows - g * kGroupColumns);
        for (int64_t c = 0; c < count; ++c) group_rows[c] = SourceRow(stack, g * kGroupColumns + c);
        PackGroup(format, {group_rows, static_cast<size_t>(count)}, weight->columns, data + g * group_bytes);
      }
    });
    weight->parts.push_back({format, weight->rows, rows, data, group_bytes});
    weight->has_blocks = weight->has_blocks || IsBlockFormat(format);
    weight->has_floats = weight->has_floats || !IsBlockFormat(format);
    weight->rows += rows;
    weight->groups += groups;
    bytes_ += groups * group_bytes;
    sources = sources.subspan(same);
  }
  return absl::OkStatus();
}

}  // namespace conclave::engine::cpu
