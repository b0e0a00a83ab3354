// SPDX-License-Identifier: Apache-2.0
// Internal to engine/model: weights of named tensors, or of one rank's part of them. Tensors are checked, counted,
// whole whatever is taken of them, and leave memory once they were repacked.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/format/checkpoint.h"
#include "engine/model/expert_layout.h"
#include "engine/model/model_spec.h"
#include "engine/model/partition.h"
#include "engine/model/quantized_matrix.h"
#include "engine/model/weight_slices.h"
#include "engine/model/weights.h"
#include "engine/ops/ops.h"

namespace conclave::engine {

// Errors are those of BindWeights.
class WeightMaker {
 public:
  // All outlive the maker.
  WeightMaker(const Checkpoint& file, const ModelSpec& spec, Ops* ops, const BindProgress& progress);

  struct Part {
    std::string name;
    int64_t rows;                    // a vector's width
    std::optional<Range> kept = {};  // those of this rank; none: all
  };

  // Matrices [rows, columns], stacked along their rows.
  absl::StatusOr<const Weight*> Matrix(const std::vector<Part>& parts, int64_t columns, WeightUse use,
                                       std::optional<Range> kept_columns = {});
  // Vectors, laid end to end.
  absl::StatusOr<const Weight*> Vector(const std::vector<Part>& parts);
  // Vectors of values that no tensor holds as they are.
  absl::StatusOr<const Weight*> VectorOf(std::span<const float> values);
  absl::StatusOr<const Weight*> Make(const std::vector<Part>& parts, std::span<const WeightSource> sources,
                                     WeightUse use);
  absl::StatusOr<const WeightStack*> MakeStack(const std::string& name, std::span<const WeightSource> sources,
                                               StackUse use, int64_t count);

  // The matrix of one name, "x.weight", whatever tensors it is made of.
  absl::StatusOr<WeightSource> Source(const std::string& name, int64_t rows, int64_t columns);
  // Those of its rows.
  WeightSource Rows(const WeightSource& source, Range kept) { return SliceRows(source, kept, &slices_); }
  // A tensor [count, rows, columns], slice by slice.
  absl::StatusOr<std::vector<WeightSource>> Slices(const std::string& name, int64_t count, int64_t rows,
                                                   int64_t columns);
  // The matrices of all experts: of one tensor [E, rows, columns], or of one each if `name` has a '#'.
  absl::StatusOr<std::vector<WeightSource>> Experts(const std::string& name, int64_t count, int64_t rows,
                                                    int64_t columns);
  // Experts that lie otherwise (expert_layout.h). The file's pages leave memory here; the rows lie in bound()->turned.
  absl::StatusOr<std::vector<WeightSource>> Turned(const std::string& name, const ExpertShape& shape);

  // The file's pages, once they were repacked. What readers put together is never used in place.
  void Drop(std::span<const WeightSource> sources);
  // Drops what was turned last, `count` buffers, if it was repacked.
  void DropTurned(size_t count);
  // A tensor that was read, and `elements` parameters of the model with it.
  void Count(std::string_view name, int64_t elements, const CheckpointTensor& tensor);
  void AddFormat(DType dtype) { formats_.insert(dtype); }

  // What was counted so far.
  BoundModel* bound() { return &model_; }
  int64_t last_embedding_bytes() const { return last_embedding_bytes_; }
  // After the last tensor: UNIMPLEMENTED for a tensor that should have been read.
  absl::StatusOr<BoundModel> Finish();

 private:
  // A quantised matrix of which config.json says nothing.
  absl::Status RefuseUndeclared(std::string_view module) const;
  // What was counted is ready.
  void Report() const;

  const Checkpoint& file_;
  const ModelSpec& spec_;
  Ops* const ops_;
  const BindProgress& progress_;
  int64_t bytes_in_file_ = 0;
  BoundModel model_;
  std::set<std::string> used_;
  std::set<DType> formats_;
  int64_t last_embedding_bytes_ = 0;
  std::vector<std::unique_ptr<QuantizedMatrix>> pending_;  // of which weights are being made
  SliceReaders slices_;                                    // the same
  std::vector<std::span<const std::byte>> sliced_;         // what they read
};

}  // namespace conclave::engine
