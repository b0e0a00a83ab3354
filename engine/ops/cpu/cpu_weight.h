// SPDX-License-Identifier: Apache-2.0
// Weights of the CPU backend: repacked for the SIMD kernels, in place for the scalar ones.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "engine/ops/cpu/kernels.h"
#include "engine/ops/cpu/thread_pool.h"
#include "engine/ops/host_memory.h"
#include "engine/ops/ops.h"

namespace conclave::engine::cpu {

// Consecutive rows of one format.
struct WeightPart {
  WeightFormat format;
  int64_t first_row, rows;
  const std::byte* data;  // groups of 16 rows, repacked or as in the file
  int64_t group_bytes;
  size_t input = 0;  // of CpuWeight::orders
};

struct CpuWeight final : Weight {
  std::vector<WeightPart> parts;
  bool repacked = false;
  bool has_blocks = false;  // repacked, and some part multiplies 8-bit activations
  bool has_floats = false;  // some part multiplies floats
  int64_t groups = 0;       // over all parts
  // How parts want the activations: null as they are, else [K], element i of a row being x[order[i]]. Never empty.
  std::vector<const int32_t*> orders = {nullptr};
  const float* vector = nullptr;  // kVector: the values, and no parts
};

struct CpuStack final : WeightStack {
  std::vector<const CpuWeight*> items;
  bool has_blocks = false, has_floats = false;  // of any item
  int64_t inputs = 1;                           // the most orders that an item has
};

// Row n as floats, [K]; the file's values bit for bit.
void DecodeWeightRow(const CpuWeight& weight, int64_t n, float* out);

// Owns the weights and their memory.
class WeightStore {
 public:
  // Sources were checked (CheckSources). Repacking runs on the pool.
  absl::StatusOr<const CpuWeight*> Add(std::span<const WeightSource> sources, WeightUse use, bool repack,
                                       ThreadPool* pool);
  // Sources were checked (CheckStack), which gave `shape`.
  absl::StatusOr<const CpuStack*> AddStack(std::span<const WeightSource> sources, const CpuStack& shape, bool repack,
                                           ThreadPool* pool);
  int64_t bytes() const { return bytes_; }

 private:
  absl::Status AddVector(std::span<const WeightSource> sources, CpuWeight* weight);
  absl::Status AddInPlace(std::span<const WeightSource> sources, ThreadPool* pool, CpuWeight* weight);
  absl::Status AddRepacked(std::span<const WeightSource> sources, ThreadPool* pool, CpuWeight* weight);
  // The index in weight->orders of what `order` says.
  absl::StatusOr<size_t> InputOf(std::span<const int32_t> order, CpuWeight* weight);

  HostMemory memory_;
  std::vector<std::unique_ptr<CpuWeight>> weights_;
  std::vector<std::unique_ptr<CpuStack>> stacks_;
  int64_t bytes_ = 0;
};

}  // namespace conclave::engine::cpu
