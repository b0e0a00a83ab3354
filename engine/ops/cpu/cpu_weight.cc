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

// Rows first .. first + count of sources of one format stacked on each other: where they lie, or in `buffer`.
void SourceRows(std::span<const WeightSource> sources, int64_t first, int64_t count, std::byte* buffer,
                const std::byte** rows) {
  const int64_t row_bytes = RowBytes(sources[0].dtype, sources[0].columns);
  for (const WeightSource& source : sources) {
    const int64_t here = std::clamp<int64_t>(source.rows - first, 0, count);
    if (source.reader != nullptr) source.reader->Read(first, here, buffer);
    const std::byte* begin = source.reader != nullptr ? buffer : source.bytes.data() + first * row_bytes;
    for (int64_t i = 0; i < here; ++i) *rows++ = begin + i * row_bytes;
    buffer += here * row_bytes;
    count -= here;
    first = std::max<int64_t>(first - source.rows, 0);
  }
  CONCLAVE_CHECK_MSG(count == 0, "weight row out of range");
}

bool SameOrder(const WeightSource& a, const WeightSource& b) {
  return std::equal(a.order.begin(), a.order.end(), b.order.begin(), b.order.end());
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
    RETURN_IF_ERROR(AddInPlace(sources, pool, weight.get()));
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
    stack->inputs = std::max(stack->inputs, static_cast<int64_t>(item->orders.size()));
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

absl::StatusOr<size_t> WeightStore::InputOf(std::span<const int32_t> order, CpuWeight* weight) {
  if (weight->parts.empty()) weight->orders.clear();
  for (size_t i = 0; i < weight->orders.size(); ++i) {
    const int32_t* known = weight->orders[i];
    if (known == nullptr ? order.empty() : std::equal(order.begin(), order.end(), known) && !order.empty()) return i;
  }
  int32_t* copy = nullptr;
  if (!order.empty()) {
    ASSIGN_OR_RETURN(copy, memory_.AllocateArray<int32_t>(static_cast<int64_t>(order.size())));
    std::copy(order.begin(), order.end(), copy);
    bytes_ += static_cast<int64_t>(order.size_bytes());
  }
  weight->orders.push_back(copy);
  return weight->orders.size() - 1;
}

absl::Status WeightStore::AddInPlace(std::span<const WeightSource> sources, ThreadPool* pool, CpuWeight* weight) {
  weight->columns = sources[0].columns;
  weight->has_floats = true;
  for (const WeightSource& source : sources) {
    ASSIGN_OR_RETURN(const size_t input, InputOf(source.order, weight));
    const int64_t row_bytes = RowBytes(source.dtype, source.columns);
    const std::byte* rows = source.bytes.data();
    if (source.reader != nullptr) {
      ASSIGN_OR_RETURN(std::byte * own, memory_.Allocate(SourceBytes(source)));
      pool->ParallelFor(Groups(source.rows), [&](int64_t g, int) {
        const int64_t first = g * kGroupColumns, count = std::min<int64_t>(kGroupColumns, source.rows - first);
        source.reader->Read(first, count, own + first * row_bytes);
      });
      rows = own;
    }
    weight->parts.push_back(
        {*KernelFormat(source.dtype), weight->rows, source.rows, rows, row_bytes * kGroupColumns, input});
    weight->rows += source.rows;
    weight->groups += Groups(source.rows);
    bytes_ += SourceBytes(source);
  }
  return absl::OkStatus();
}

absl::Status WeightStore::AddRepacked(std::span<const WeightSource> sources, ThreadPool* pool, CpuWeight* weight) {
  weight->repacked = true;
  weight->columns = sources[0].columns;
  while (!sources.empty()) {
    // Sources of one format become one part, so that groups run across their borders.
    size_t same = 1;
    int64_t rows = sources[0].rows;
    for (; same < sources.size() && sources[same].dtype == sources[0].dtype && SameOrder(sources[same], sources[0]);
         ++same) {
      rows += sources[same].rows;
    }
    const std::span<const WeightSource> stack = sources.first(same);
    ASSIGN_OR_RETURN(const size_t input, InputOf(sources[0].order, weight));
    const WeightFormat format = *KernelFormat(sources[0].dtype);
    const int64_t group_bytes = PackedGroupBytes(format, weight->columns), groups = Groups(rows);
    ASSIGN_OR_RETURN(std::byte * data, memory_.Allocate(groups * group_bytes));
    const int64_t tasks = std::min<int64_t>(groups, pool->threads() * 8);
    const int64_t row_bytes = RowBytes(sources[0].dtype, weight->columns);
    pool->ParallelFor(tasks, [&](int64_t task, int) {
      std::vector<std::byte> buffer(static_cast<size_t>(kGroupColumns * row_bytes));
      for (int64_t g = groups * task / tasks; g < groups * (task + 1) / tasks; ++g) {
        const std::byte* group_rows[kGroupColumns];
        const int64_t count = std::min<int64_t>(kGroupColumns, rows - g * kGroupColumns);
        SourceRows(stack, g * kGroupColumns, count, buffer.data(), group_rows);
        PackGroup(format, {group_rows, static_cast<size_t>(count)}, weight->columns, data + g * group_bytes);
      }
    });
    weight->parts.push_back({format, weight->rows, rows, data, group_bytes, input});
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
