// SPDX-License-Identifier: Apache-2.0
#include "engine/model/weight_maker.h"

#include "common/status.h"
#include "engine/model/unread_tensors.h"

namespace conclave::engine {
namespace {

// The matrices along the slowest of three dimensions.
std::vector<WeightSource> SlicesOf(const CheckpointTensor& tensor) {
  const size_t bytes = tensor.bytes.size() / static_cast<size_t>(tensor.shape[0]);
  std::vector<WeightSource> sources;
  for (size_t i = 0; i < static_cast<size_t>(tensor.shape[0]); ++i) {
    sources.push_back({tensor.dtype, tensor.shape[1], tensor.shape[2], tensor.bytes.subspan(i * bytes, bytes)});
  }
  return sources;
}

}  // namespace

WeightMaker::WeightMaker(const Checkpoint& file, const ModelSpec& spec, Ops* ops, const BindProgress& progress)
    : file_(file), spec_(spec), ops_(ops), progress_(progress) {
  for (const CheckpointTensor& tensor : file.tensors()) bytes_in_file_ += static_cast<int64_t>(tensor.bytes.size());
}

absl::StatusOr<const Weight*> WeightMaker::Matrix(const std::vector<Part>& parts, int64_t columns, WeightUse use,
                                                  std::optional<Range> kept_columns) {
  std::vector<WeightSource> sources;
  for (const Part& part : parts) {
    const int64_t before = model_.size.bytes_total;
    ASSIGN_OR_RETURN(WeightSource source, Source(part.name, part.rows, columns));
    if (use == WeightUse::kMatmul) formats_.insert(source.dtype);
    if (use != WeightUse::kMatmul) last_embedding_bytes_ = model_.size.bytes_total - before;
    if (part.kept.has_value()) source = Rows(source, *part.kept);
    if (kept_columns.has_value()) {
      absl::StatusOr<WeightSource> slice = SliceColumns(source, *kept_columns, part.name, &slices_);
      if (!slice.ok()) return Annotate(slice.status(), file_.path());
      if (slice->reader != source.reader) sliced_.push_back(source.bytes);
      source = *std::move(slice);
    }
    sources.push_back(source);
  }
  return Make(parts, sources, use);
}

absl::StatusOr<const Weight*> WeightMaker::Vector(const std::vector<Part>& parts) {
  std::vector<WeightSource> sources;
  for (const Part& part : parts) {
    ASSIGN_OR_RETURN(const CheckpointTensor tensor, file_.GetTensor(part.name, Shape{part.rows}));
    Count(part.name, part.rows, tensor);
    const WeightSource whole = {tensor.dtype, 1, part.rows, tensor.bytes};
    absl::StatusOr<WeightSource> source =
        SliceColumns(whole, part.kept.value_or(Range{0, part.rows}), part.name, &slices_);
    if (!source.ok()) return Annotate(source.status(), file_.path());
    sources.push_back(*std::move(source));
  }
  return Make(parts, sources, WeightUse::kVector);
}

absl::StatusOr<const Weight*> WeightMaker::VectorOf(std::span<const float> values) {
  const WeightSource source = {DType::kF32, 1, static_cast<int64_t>(values.size()), std::as_bytes(values)};
  return ops_->MakeWeight({&source, 1}, WeightUse::kVector);
}

absl::StatusOr<const Weight*> WeightMaker::Make(const std::vector<Part>& parts, std::span<const WeightSource> sources,
                                                WeightUse use) {
  absl::StatusOr<const Weight*> weight = ops_->MakeWeight(sources, use);
  if (!weight.ok()) {
    return Annotate(weight.status(), fmt::format("{}: tensor \"{}\"", file_.path(), parts[0].name));
  }
  Drop(sources);
  Report();
  return weight;
}

absl::StatusOr<const WeightStack*> WeightMaker::MakeStack(const std::string& name,
                                                          std::span<const WeightSource> sources, StackUse use,
                                                          int64_t count) {
  absl::StatusOr<const WeightStack*> stack = ops_->MakeWeightStack(sources, count, use);
  if (!stack.ok()) return Annotate(stack.status(), fmt::format("{}: tensor \"{}\"", file_.path(), name));
  Report();
  return stack;
}

absl::StatusOr<WeightSource> WeightMaker::Source(const std::string& name, int64_t rows, int64_t columns) {
  const std::string_view module = std::string_view(name).substr(0, name.rfind('.'));
  ASSIGN_OR_RETURN(std::unique_ptr<QuantizedMatrix> matrix,
                   FindQuantized(file_, spec_.quantization, module, rows, columns));
  if (matrix == nullptr) {
    RETURN_IF_ERROR(RefuseUndeclared(module));
    ASSIGN_OR_RETURN(const CheckpointTensor tensor, file_.GetTensor(name, Shape{rows, columns}));
    Count(name, rows * columns, tensor);
    return WeightSource{tensor.dtype, rows, columns, tensor.bytes};
  }
  model_.size.params_total += rows * columns;
  for (const CheckpointTensor* tensor : matrix->tensors) Count(tensor->name, 0, *tensor);
  pending_.push_back(std::move(matrix));
  return pending_.back()->source;
}

absl::Status WeightMaker::RefuseUndeclared(std::string_view module) const {
  for (const std::string_view suffix : {".qweight", ".weight_packed"}) {
    const std::string name = std::string(module).append(suffix);
    if (spec_.quantization.storage != QuantStorage::kPlain || file_.FindTensor(name) == nullptr) continue;
    return ModelFileInvalid(file_.path(), "tensor \"{}\" is quantised, but config.json has no \"quantization_config\"",
                            name);
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<WeightSource>> WeightMaker::Slices(const std::string& name, int64_t count, int64_t rows,
                                                              int64_t columns) {
  ASSIGN_OR_RETURN(const CheckpointTensor tensor, file_.GetTensor(name, Shape{count, rows, columns}));
  formats_.insert(tensor.dtype);
  Count(name, tensor.shape.elements(), tensor);
  return SlicesOf(tensor);
}

absl::StatusOr<std::vector<WeightSource>> WeightMaker::Experts(const std::string& name, int64_t count, int64_t rows,
                                                               int64_t columns) {
  if (name.find('#') == std::string::npos) return Slices(name, count, rows, columns);
  std::vector<WeightSource> sources;
  for (int64_t e = 0; e < count; ++e) {
    const std::string numbered = TensorNames::Numbered(name, static_cast<int>(e));
    ASSIGN_OR_RETURN(const WeightSource source, Source(numbered, rows, columns));
    formats_.insert(source.dtype);
    sources.push_back(source);
  }
  return sources;
}

absl::StatusOr<std::vector<WeightSource>> WeightMaker::Turned(const std::string& name, const ExpertShape& shape) {
  ASSIGN_OR_RETURN(TurnedExperts experts, ReadTurnedExperts(file_, name, shape));
  model_.size.params_total += shape.count * shape.rows * shape.columns;
  for (const CheckpointTensor& tensor : experts.tensors) {
    Count(tensor.name, 0, tensor);
    file_.DropResident(tensor.bytes);
  }
  formats_.insert(experts.dtype);
  const std::vector<std::byte>& bytes = model_.turned.emplace_back(std::move(experts.bytes));
  return SlicesOf({name, experts.dtype, Shape{shape.count, shape.rows, shape.columns}, bytes});
}

void WeightMaker::Drop(std::span<const WeightSource> sources) {
  for (const std::unique_ptr<QuantizedMatrix>& matrix : pending_) {
    for (const CheckpointTensor* tensor : matrix->tensors) file_.DropResident(tensor->bytes);
  }
  for (const std::span<const std::byte> bytes : sliced_) file_.DropResident(bytes);
  pending_.clear();
  slices_.clear();
  sliced_.clear();
  if (ops_->uses_sources_in_place()) return;
  for (const WeightSource& source : sources) file_.DropResident(source.bytes);
}

void WeightMaker::DropTurned(size_t count) {
  if (!ops_->uses_sources_in_place()) model_.turned.resize(model_.turned.size() - count);
}

void WeightMaker::Count(std::string_view name, int64_t elements, const CheckpointTensor& tensor) {
  used_.emplace(name);
  model_.size.params_total += elements;
  model_.size.bytes_total += static_cast<int64_t>(tensor.bytes.size());
}

void WeightMaker::Report() const {
  if (progress_) progress_(model_.size.bytes_total, bytes_in_file_);
}

absl::StatusOr<BoundModel> WeightMaker::Finish() {
  RETURN_IF_ERROR(RefuseUnread(file_, spec_, used_));
  RETURN_IF_ERROR(file_.CheckIntact());
  if (progress_) progress_(bytes_in_file_, bytes_in_file_);  // also of what is not used
  std::string& quantization = model_.size.quantization;
  quantization = formats_.size() > 1 ? "mixed" : "";
  for (const DType dtype : formats_) quantization += fmt::format("{}{}", quantization.empty() ? "" : " ", Name(dtype));
  return std::move(model_);
}

}  // namespace conclave::engine
