// SPDX-License-Identifier: Apache-2.0
#include "engine/model/weights.h"

#include <set>

#include "common/status.h"

namespace conclave::engine {
namespace {

class Binder {
 public:
  Binder(const Checkpoint& file, const ModelSpec& spec, Ops* ops)
      : file_(file), spec_(spec), names_(*spec.names), ops_(ops) {}

  absl::StatusOr<BoundModel> Bind() {
    const int64_t D = spec_.hidden, V = spec_.vocab;
    ModelWeights& weights = model_.weights;
    const WeightUse use = spec_.tied_head ? WeightUse::kEmbeddingAndMatmul : WeightUse::kEmbedding;
    ASSIGN_OR_RETURN(weights.embedding, Matrix({{WeightOf(names_.embedding), V}}, D, use));
    ASSIGN_OR_RETURN(weights.output_norm, Vector({{WeightOf(names_.output_norm), D}}));
    for (int32_t layer = 0; layer < spec_.layers; ++layer) {
      ASSIGN_OR_RETURN(LayerWeights bound, BindLayer(layer));
      weights.layers.push_back(bound);
    }
    ModelSize& size = model_.size;
    size.params_head = V * D;
    if (spec_.tied_head) {
      weights.head = weights.embedding;
      size.bytes_head = last_embedding_bytes_;
    } else {
      const int64_t before = size.bytes_total;
      ASSIGN_OR_RETURN(weights.head, Matrix({{WeightOf(names_.head), V}}, D, WeightUse::kMatmul));
      size.bytes_head = size.bytes_total - before;
    }
    RETURN_IF_ERROR(RefuseUnknown());
    RETURN_IF_ERROR(file_.CheckIntact());
    size.quantization = formats_.size() > 1 ? "mixed" : "";
    for (DType dtype : formats_)
      size.quantization += fmt::format("{}{}", size.quantization.empty() ? "" : " ", Name(dtype));
    return std::move(model_);
  }

 private:
  static std::string WeightOf(std::string_view stem) { return std::string(stem).append(".weight"); }

  struct Part {
    std::string name;
    int64_t rows;  // a vector's width
  };

  absl::StatusOr<LayerWeights> BindLayer(int32_t layer) {
    const int64_t D = spec_.hidden, F = spec_.feed_forward, Dk = spec_.head_dim;
    const int64_t q_rows = spec_.heads * Dk, kv_rows = spec_.kv_heads * Dk;
    ModelSize& size = model_.size;
    const int64_t bytes_before = size.bytes_total;
    LayerWeights w;
    const auto name = [&](std::string_view stem) { return WeightOf(names_.Layer(layer, stem)); };
    const auto bias = [&](std::string_view stem) { return names_.Layer(layer, stem) + ".bias"; };
    ASSIGN_OR_RETURN(w.attention_norm, Vector({{name(names_.attention_norm), D}}));
    const int64_t params_before_matrices = size.params_total;
    ASSIGN_OR_RETURN(w.qkv, Matrix({{name(names_.q), q_rows}, {name(names_.k), kv_rows}, {name(names_.v), kv_rows}}, D,
                                   WeightUse::kMatmul));
    ASSIGN_OR_RETURN(w.attention_out, Matrix({{name(names_.attention_out), D}}, q_rows, WeightUse::kMatmul));
    ASSIGN_OR_RETURN(w.gate_up, Matrix({{name(names_.gate), F}, {name(names_.up), F}}, D, WeightUse::kMatmul));
    ASSIGN_OR_RETURN(w.down, Matrix({{name(names_.down), D}}, F, WeightUse::kMatmul));
    size.params_layers += size.params_total - params_before_matrices;
    ASSIGN_OR_RETURN(w.ffn_norm, Vector({{name(names_.ffn_norm), D}}));
    if (spec_.attention_bias) {
      ASSIGN_OR_RETURN(w.qkv_bias,
                       Vector({{bias(names_.q), q_rows}, {bias(names_.k), kv_rows}, {bias(names_.v), kv_rows}}));
    }
    if (spec_.attention_out_bias) {
      ASSIGN_OR_RETURN(w.attention_out_bias, Vector({{bias(names_.attention_out), D}}));
    }
    if (spec_.head_norm) {
      ASSIGN_OR_RETURN(w.q_norm, Vector({{name(names_.q_norm), Dk}}));
      ASSIGN_OR_RETURN(w.k_norm, Vector({{name(names_.k_norm), Dk}}));
    }
    size.bytes_layers += size.bytes_total - bytes_before;
    return w;
  }

  // Matrices [rows, columns], stacked along their rows.
  absl::StatusOr<const Weight*> Matrix(const std::vector<Part>& parts, int64_t columns, WeightUse use) {
    std::vector<WeightSource> sources;
    for (const Part& part : parts) {
      ASSIGN_OR_RETURN(const CheckpointTensor tensor, file_.GetTensor(part.name, Shape{part.rows, columns}));
      sources.push_back({tensor.dtype, part.rows, columns, tensor.bytes});
      if (use == WeightUse::kMatmul) formats_.insert(tensor.dtype);
      Count(part.name, part.rows * columns, tensor);
      if (use != WeightUse::kMatmul) last_embedding_bytes_ = static_cast<int64_t>(tensor.bytes.size());
    }
    return Make(parts, sources, use);
  }

  // Vectors, laid end to end.
  absl::StatusOr<const Weight*> Vector(const std::vector<Part>& parts) {
    std::vector<WeightSource> sources;
    for (const Part& part : parts) {
      ASSIGN_OR_RETURN(const CheckpointTensor tensor, file_.GetTensor(part.name, Shape{part.rows}));
      sources.push_back({tensor.dtype, 1, part.rows, tensor.bytes});
      Count(part.name, part.rows, tensor);
    }
    return Make(parts, sources, WeightUse::kVector);
  }

  absl::StatusOr<const Weight*> Make(const std::vector<Part>& parts, std::span<const WeightSource> sources,
                                     WeightUse use) {
    absl::StatusOr<const Weight*> weight = ops_->MakeWeight(sources, use);
    if (!weight.ok()) {
      return Annotate(weight.status(), fmt::format("{}: tensor \"{}\"", file_.path(), parts[0].name));
    }
    if (!ops_->uses_sources_in_place()) {
      for (const WeightSource& source : sources) file_.DropResident(source.bytes);
    }
    return weight;
  }

  void Count(const std::string& name, int64_t elements, const CheckpointTensor& tensor) {
    used_.insert(name);
    model_.size.params_total += elements;
    model_.size.bytes_total += static_cast<int64_t>(tensor.bytes.size());
  }

  // A layer tensor that nothing reads is a term of the mathematics that would be left out.
  absl::Status RefuseUnknown() const {
    for (const CheckpointTensor& tensor : file_.tensors()) {
      if (used_.contains(std::string(tensor.name))) continue;
      if (!names_.closed && !tensor.name.starts_with(names_.layer_prefix)) continue;
      if (!names_.ignored_suffix.empty() && tensor.name.ends_with(names_.ignored_suffix)) continue;
      if (spec_.tied_head && tensor.name == WeightOf(names_.head)) continue;
      return Unimplemented("{}: tensor \"{}\" {} is not part of a \"{}\" model of {} layers as this program knows it",
                           file_.path(), tensor.name, tensor.shape.ToString(), spec_.family, spec_.layers);
    }
    return absl::OkStatus();
  }

  const Checkpoint& file_;
  const ModelSpec& spec_;
  const TensorNames& names_;
  Ops* const ops_;
  BoundModel model_;
  std::set<std::string> used_;
  std::set<DType> formats_;
  int64_t last_embedding_bytes_ = 0;
};

}  // namespace

absl::StatusOr<BoundModel> BindWeights(const Checkpoint& checkpoint, const ModelSpec& spec, Ops* ops) {
  return Binder(checkpoint, spec, ops).Bind();
}

}  // namespace conclave::engine
