// SPDX-License-Identifier: Apache-2.0
#include "engine/model/weights.h"

#include <memory>
#include <set>

#include "common/status.h"
#include "engine/model/expert_layout.h"
#include "engine/model/latent_heads.h"
#include "engine/model/quantized_matrix.h"
#include "engine/model/unread_tensors.h"
#include "engine/quant/codec.h"

namespace conclave::engine {
namespace {

class Binder {
 public:
  Binder(const Checkpoint& file, const ModelSpec& spec, Ops* ops, const BindProgress& progress)
      : file_(file), spec_(spec), names_(*spec.names), ops_(ops), progress_(progress) {
    for (const CheckpointTensor& tensor : file.tensors()) bytes_in_file_ += static_cast<int64_t>(tensor.bytes.size());
  }

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
    RETURN_IF_ERROR(RefuseUnread(file_, spec_, used_));
    RETURN_IF_ERROR(file_.CheckIntact());
    if (progress_) progress_(bytes_in_file_, bytes_in_file_);  // also of what is not used
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
    size.bytes_expert.push_back(0);
    LayerWeights w;
    const auto name = [&](std::string_view stem) { return WeightOf(names_.Layer(layer, stem)); };
    const auto bias = [&](std::string_view stem) { return names_.Layer(layer, stem) + ".bias"; };
    ASSIGN_OR_RETURN(w.attention_norm, Vector({{name(names_.attention_norm), D}}));
    const int64_t params_before_matrices = size.params_total;
    if (spec_.latent) {
      RETURN_IF_ERROR(BindLatentAttention(layer, &w));
    } else {
      ASSIGN_OR_RETURN(w.qkv, Matrix({{name(names_.q), q_rows}, {name(names_.k), kv_rows}, {name(names_.v), kv_rows}},
                                     D, WeightUse::kMatmul));
    }
    ASSIGN_OR_RETURN(w.attention_out,
                     Matrix({{name(names_.attention_out), D}}, spec_.heads * spec_.head_output(), WeightUse::kMatmul));
    if (spec_.IsExpertLayer(layer)) {
      RETURN_IF_ERROR(BindExperts(layer, &w));
    } else {
      ASSIGN_OR_RETURN(w.gate_up, Matrix({{name(names_.gate), F}, {name(names_.up), F}}, D, WeightUse::kMatmul));
      ASSIGN_OR_RETURN(w.down, Matrix({{name(names_.down), D}}, F, WeightUse::kMatmul));
    }
    const int64_t experts = spec_.IsExpertLayer(layer) ? spec_.experts->router.experts : 0;
    size.params_layers += size.params_total - params_before_matrices - experts * size.params_expert;
    ASSIGN_OR_RETURN(w.ffn_norm, Vector({{name(names_.ffn_norm), D}}));
    if (spec_.attention_bias) {
      ASSIGN_OR_RETURN(w.qkv_bias,
                       Vector({{bias(names_.q), q_rows}, {bias(names_.k), kv_rows}, {bias(names_.v), kv_rows}}));
    }
    if (spec_.attention_out_bias) {
      ASSIGN_OR_RETURN(w.attention_out_bias, Vector({{bias(names_.attention_out), D}}));
    }
    if (spec_.attention_sinks) {
      ASSIGN_OR_RETURN(w.sinks, Vector({{names_.Layer(layer, names_.sinks), spec_.heads}}));
    }
    if (spec_.head_norm) {
      ASSIGN_OR_RETURN(w.q_norm, Vector({{name(names_.q_norm), spec_.head_norm_whole ? q_rows : Dk}}));
      ASSIGN_OR_RETURN(w.k_norm, Vector({{name(names_.k_norm), spec_.head_norm_whole ? kv_rows : Dk}}));
    }
    size.bytes_layers += size.bytes_total - bytes_before - experts * size.bytes_expert.back();
    return w;
  }

  absl::Status BindLatentAttention(int32_t layer, LayerWeights* w) {
    const LatentAttentionSpec& latent = *spec_.latent;
    const int64_t D = spec_.hidden, q_rows = spec_.heads * int64_t{spec_.query_width()};
    const auto name = [&](std::string_view stem) { return WeightOf(names_.Layer(layer, stem)); };
    if (latent.query_rank > 0) {
      ASSIGN_OR_RETURN(w->q_down, Matrix({{name(names_.q_down), latent.query_rank}}, D, WeightUse::kMatmul));
      ASSIGN_OR_RETURN(w->q_down_norm, Vector({{name(names_.q_down_norm), latent.query_rank}}));
      ASSIGN_OR_RETURN(w->q_up, Matrix({{name(names_.q_up), q_rows}}, latent.query_rank, WeightUse::kMatmul));
    } else {
      ASSIGN_OR_RETURN(w->q_up, Matrix({{name(names_.q), q_rows}}, D, WeightUse::kMatmul));
    }
    ASSIGN_OR_RETURN(w->kv_down,
                     Matrix({{name(names_.kv_down), latent.latent + spec_.rotated}}, D, WeightUse::kMatmul));
    ASSIGN_OR_RETURN(w->latent_norm, Vector({{name(names_.latent_norm), latent.latent}}));
    if (!names_.k_up.empty() && file_.FindTensor(name(names_.k_up)) != nullptr) {
      ASSIGN_OR_RETURN(w->k_up, HeadStack(name(names_.k_up), latent.latent, latent.unrotated));
      ASSIGN_OR_RETURN(w->v_up, HeadStack(name(names_.v_up), latent.value, latent.latent));
      return absl::OkStatus();
    }
    return BindJoinedLatent(name(names_.kv_up), w);
  }

  // A tensor [H, rows, columns].
  absl::StatusOr<const WeightStack*> HeadStack(const std::string& name, int64_t rows, int64_t columns) {
    ASSIGN_OR_RETURN(const CheckpointTensor tensor, file_.GetTensor(name, Shape{spec_.heads, rows, columns}));
    formats_.insert(tensor.dtype);
    Count(name, tensor.shape.elements(), tensor);
    ASSIGN_OR_RETURN(const WeightStack* stack, MakeStack(name, Slices(tensor), StackUse::kHeads));
    Drop(Slices(tensor));
    return stack;
  }

  // One tensor whose rows are per head [unrotated | value].
  absl::Status BindJoinedLatent(const std::string& name, LayerWeights* w) {
    const LatentAttentionSpec& latent = *spec_.latent;
    const int64_t rows = int64_t{spec_.heads} * (latent.unrotated + latent.value);
    ASSIGN_OR_RETURN(const WeightSource source, Source(name, rows, latent.latent));
    formats_.insert(source.dtype);
    if (!quant::CanDecode(source.dtype)) {
      return Unimplemented("{}: tensor \"{}\": format {} is not supported", file_.path(), name, Name(source.dtype));
    }
    LatentHeads heads = SplitLatent(source, latent);
    model_.turned.push_back(std::move(heads.floats));
    ASSIGN_OR_RETURN(w->k_up, MakeStack(name, heads.keys, StackUse::kHeads));
    ASSIGN_OR_RETURN(w->v_up, MakeStack(name, heads.values, StackUse::kHeads));
    if (!ops_->uses_sources_in_place()) model_.turned.pop_back();
    Drop({&source, 1});
    return absl::OkStatus();
  }

  absl::Status BindExperts(int32_t layer, LayerWeights* w) {
    const ExpertsSpec& experts = *spec_.experts;
    const int64_t D = spec_.hidden, E = experts.router.experts, F = experts.feed_forward;
    const int64_t S = experts.shared_feed_forward;
    const auto name = [&](std::string_view stem) { return WeightOf(names_.Layer(layer, stem)); };
    ASSIGN_OR_RETURN(w->router, Matrix({{name(names_.router), E}}, D, WeightUse::kMatmul));
    if (experts.biases) {
      ASSIGN_OR_RETURN(w->router_bias, Vector({{names_.Layer(layer, names_.router) + ".bias", E}}));
    }
    if (experts.selection_bias) {
      ASSIGN_OR_RETURN(w->selection_bias, Vector({{names_.Layer(layer, names_.selection_bias), E}}));
    }
    if (S > 0) {
      ASSIGN_OR_RETURN(w->gate_up,
                       Matrix({{name(names_.shared_gate), S}, {name(names_.shared_up), S}}, D, WeightUse::kMatmul));
      ASSIGN_OR_RETURN(w->down, Matrix({{name(names_.shared_down), D}}, S, WeightUse::kMatmul));
    }
    if (experts.shared_gate) {
      ASSIGN_OR_RETURN(w->shared_router, SharedRouter(name(names_.shared_router)));
    }
    const int64_t bytes_before = model_.size.bytes_total;
    std::vector<WeightSource> gate_up, down;
    const std::string joined = names_.Layer(layer, names_.experts_gate_up);
    if (names_.turned_experts) {
      ASSIGN_OR_RETURN(gate_up, Turned(joined, {E, 2 * F, D, RowOrder::kAlternating}));
      ASSIGN_OR_RETURN(down, Turned(names_.Layer(layer, names_.experts_down), {E, D, F, RowOrder::kKept}));
    } else if (!names_.experts_gate_up.empty() && file_.FindTensor(joined) != nullptr) {
      ASSIGN_OR_RETURN(gate_up, Experts(joined, E, 2 * F, D));
      ASSIGN_OR_RETURN(down, Experts(names_.Layer(layer, names_.experts_down), E, D, F));
    } else {
      ASSIGN_OR_RETURN(const std::vector<WeightSource> gate, Experts(name(names_.expert_gate), E, F, D));
      ASSIGN_OR_RETURN(const std::vector<WeightSource> up, Experts(name(names_.expert_up), E, F, D));
      ASSIGN_OR_RETURN(down, Experts(name(names_.expert_down), E, D, F));
      for (int64_t e = 0; e < E; ++e) gate_up.insert(gate_up.end(), {gate[e], up[e]});
    }
    if (experts.biases) RETURN_IF_ERROR(BindExpertBiases(layer, w));
    model_.size.params_expert = experts.ParamsOfOne(D);
    model_.size.params_experts += E * model_.size.params_expert;
    model_.size.bytes_expert.back() = (model_.size.bytes_total - bytes_before) / E;
    ASSIGN_OR_RETURN(w->experts_gate_up, MakeStack(name(names_.expert_gate), gate_up, StackUse::kExperts, E));
    ASSIGN_OR_RETURN(w->experts_down, MakeStack(name(names_.expert_down), down, StackUse::kExperts, E));
    if (names_.turned_experts) {
      if (!ops_->uses_sources_in_place()) model_.turned.resize(model_.turned.size() - 2);
      return absl::OkStatus();
    }
    Drop(gate_up);
    Drop(down);
    return absl::OkStatus();
  }

  // Experts that lie otherwise (expert_layout.h). The file's pages leave memory here.
  absl::StatusOr<std::vector<WeightSource>> Turned(const std::string& name, const ExpertShape& shape) {
    ASSIGN_OR_RETURN(TurnedExperts experts, ReadTurnedExperts(file_, name, shape));
    model_.size.params_total += shape.count * shape.rows * shape.columns;
    for (const CheckpointTensor& tensor : experts.tensors) {
      Count(std::string(tensor.name), 0, tensor);
      file_.DropResident(tensor.bytes);
    }
    formats_.insert(experts.dtype);
    const std::vector<std::byte>& bytes = model_.turned.emplace_back(std::move(experts.bytes));
    return Slices({name, experts.dtype, Shape{shape.count, shape.rows, shape.columns}, bytes});
  }

  absl::Status BindExpertBiases(int32_t layer, LayerWeights* w) {
    const ExpertsSpec& experts = *spec_.experts;
    ASSIGN_OR_RETURN(const ExpertBiases biases, ReadExpertBiases(file_, names_, layer, experts.router.experts,
                                                                 spec_.hidden, experts.feed_forward));
    for (const CheckpointTensor& tensor : biases.tensors) {
      Count(std::string(tensor.name), tensor.shape.elements(), tensor);
    }
    const auto make = [&](const std::vector<float>& values) {
      const auto bytes = std::as_bytes(std::span(values));
      const WeightSource source = {DType::kF32, 1, static_cast<int64_t>(values.size()), bytes};
      return ops_->MakeWeight({&source, 1}, WeightUse::kVector);
    };
    ASSIGN_OR_RETURN(w->experts_gate_up_bias, make(biases.gate_up));
    ASSIGN_OR_RETURN(w->experts_down_bias, make(biases.down));
    return absl::OkStatus();
  }

  // [1, D] in Hugging Face's form, [D] in GGUF's.
  absl::StatusOr<const Weight*> SharedRouter(const std::string& name) {
    const int64_t D = spec_.hidden;
    const CheckpointTensor* found = file_.FindTensor(name);
    const bool vector = found != nullptr && found->shape.rank() == 1;
    ASSIGN_OR_RETURN(const CheckpointTensor tensor, file_.GetTensor(name, vector ? Shape{D} : Shape{1, D}));
    Count(name, D, tensor);
    const WeightSource source = {tensor.dtype, 1, D, tensor.bytes};
    return Make({{name, 1}}, {&source, 1}, WeightUse::kMatmul);
  }

  // The matrices of all experts: of one tensor [E, rows, columns], or of one each if `name` has a '#'.
  absl::StatusOr<std::vector<WeightSource>> Experts(const std::string& name, int64_t count, int64_t rows,
                                                    int64_t columns) {
    if (name.find('#') == std::string::npos) {
      ASSIGN_OR_RETURN(const CheckpointTensor tensor, file_.GetTensor(name, Shape{count, rows, columns}));
      formats_.insert(tensor.dtype);
      Count(name, tensor.shape.elements(), tensor);
      return Slices(tensor);
    }
    std::vector<WeightSource> sources;
    for (int64_t e = 0; e < count; ++e) {
      const std::string numbered = TensorNames::Numbered(name, static_cast<int>(e));
      ASSIGN_OR_RETURN(const WeightSource source, Source(numbered, rows, columns));
      formats_.insert(source.dtype);
      sources.push_back(source);
    }
    return sources;
  }

  // The matrices along the slowest of three dimensions.
  static std::vector<WeightSource> Slices(const CheckpointTensor& tensor) {
    const size_t bytes = tensor.bytes.size() / static_cast<size_t>(tensor.shape[0]);
    std::vector<WeightSource> sources;
    for (size_t i = 0; i < static_cast<size_t>(tensor.shape[0]); ++i) {
      sources.push_back({tensor.dtype, tensor.shape[1], tensor.shape[2], tensor.bytes.subspan(i * bytes, bytes)});
    }
    return sources;
  }

  absl::StatusOr<const WeightStack*> MakeStack(const std::string& name, const std::vector<WeightSource>& sources,
                                               StackUse use, int64_t count = 0) {
    absl::StatusOr<const WeightStack*> stack =
        ops_->MakeWeightStack(sources, count > 0 ? count : static_cast<int64_t>(sources.size()), use);
    if (!stack.ok()) return Annotate(stack.status(), fmt::format("{}: tensor \"{}\"", file_.path(), name));
    Report();
    return stack;
  }

  // The matrix of one name, "x.weight", whatever tensors it is made of.
  absl::StatusOr<WeightSource> Source(const std::string& name, int64_t rows, int64_t columns) {
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
    for (const CheckpointTensor* tensor : matrix->tensors) Count(std::string(tensor->name), 0, *tensor);
    pending_.push_back(std::move(matrix));
    return pending_.back()->source;
  }

  // A quantised matrix of which config.json says nothing.
  absl::Status RefuseUndeclared(std::string_view module) const {
    for (const std::string_view suffix : {".qweight", ".weight_packed"}) {
      const std::string name = std::string(module).append(suffix);
      if (spec_.quantization.storage != QuantStorage::kPlain || file_.FindTensor(name) == nullptr) continue;
      return ModelFileInvalid(file_.path(),
                              "tensor \"{}\" is quantised, but config.json has no \"quantization_config\"", name);
    }
    return absl::OkStatus();
  }

  // Matrices [rows, columns], stacked along their rows.
  absl::StatusOr<const Weight*> Matrix(const std::vector<Part>& parts, int64_t columns, WeightUse use) {
    std::vector<WeightSource> sources;
    for (const Part& part : parts) {
      const int64_t before = model_.size.bytes_total;
      ASSIGN_OR_RETURN(const WeightSource source, Source(part.name, part.rows, columns));
      sources.push_back(source);
      if (use == WeightUse::kMatmul) formats_.insert(source.dtype);
      if (use != WeightUse::kMatmul) last_embedding_bytes_ = model_.size.bytes_total - before;
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
    Drop(sources);
    Report();
    return weight;
  }

  // What was counted is ready.
  void Report() const {
    if (progress_) progress_(model_.size.bytes_total, bytes_in_file_);
  }

  // The file's pages, once they were repacked. What readers put together is never used in place.
  void Drop(std::span<const WeightSource> sources) {
    for (const std::unique_ptr<QuantizedMatrix>& matrix : pending_) {
      for (const CheckpointTensor* tensor : matrix->tensors) file_.DropResident(tensor->bytes);
    }
    pending_.clear();
    if (ops_->uses_sources_in_place()) return;
    for (const WeightSource& source : sources) file_.DropResident(source.bytes);
  }

  void Count(const std::string& name, int64_t elements, const CheckpointTensor& tensor) {
    used_.insert(name);
    model_.size.params_total += elements;
    model_.size.bytes_total += static_cast<int64_t>(tensor.bytes.size());
  }

  const Checkpoint& file_;
  const ModelSpec& spec_;
  const TensorNames& names_;
  Ops* const ops_;
  const BindProgress& progress_;
  int64_t bytes_in_file_ = 0;
  BoundModel model_;
  std::set<std::string> used_;
  std::set<DType> formats_;
  int64_t last_embedding_bytes_ = 0;
  std::vector<std::unique_ptr<QuantizedMatrix>> pending_;  // of which weights are being made
};

}  // namespace

absl::StatusOr<BoundModel> BindWeights(const Checkpoint& checkpoint, const ModelSpec& spec, Ops* ops,
                                       const BindProgress& progress) {
  return Binder(checkpoint, spec, ops, progress).Bind();
}

}  // namespace conclave::engine
