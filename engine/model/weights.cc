// SPDX-License-Identifier: Apache-2.0
#include "engine/model/weights.h"

#include "common/status.h"
#include "engine/model/expert_layout.h"
#include "engine/model/latent_heads.h"
#include "engine/model/weight_maker.h"
#include "engine/quant/codec.h"

namespace conclave::engine {
namespace {

std::string WeightOf(std::string_view stem) { return std::string(stem).append(".weight"); }

class Binder {
 public:
  Binder(const Checkpoint& file, const ModelSpec& spec, const Partition& part, Ops* ops, const BindProgress& progress)
      : file_(file), spec_(spec), names_(*spec.names), part_(part), maker_(file, spec, ops, progress) {}

  absl::StatusOr<BoundModel> Bind() {
    const int64_t D = spec_.hidden, V = spec_.vocab;
    ModelWeights& weights = maker_.bound()->weights;
    const bool whole = part_.ranks == 1;
    const WeightUse use = spec_.tied_head && whole ? WeightUse::kEmbeddingAndMatmul : WeightUse::kEmbedding;
    ASSIGN_OR_RETURN(weights.embedding, maker_.Matrix({{WeightOf(names_.embedding), V}}, D, use));
    ASSIGN_OR_RETURN(weights.output_norm, maker_.Vector({{WeightOf(names_.output_norm), D}}));
    weights.first_expert = static_cast<int32_t>(part_.experts.first);
    for (int32_t layer = 0; layer < spec_.layers; ++layer) {
      ASSIGN_OR_RETURN(LayerWeights bound, BindLayer(layer));
      weights.layers.push_back(bound);
    }
    ModelSize& size = maker_.bound()->size;
    size.params_head = V * D;
    if (spec_.tied_head) {
      size.bytes_head = maker_.last_embedding_bytes();
      weights.head = weights.embedding;
      if (!whole) {
        ASSIGN_OR_RETURN(weights.head, TiedHead());
      }
    } else {
      const int64_t before = size.bytes_total;
      ASSIGN_OR_RETURN(weights.head, maker_.Matrix({{WeightOf(names_.head), V, part_.vocab}}, D, WeightUse::kMatmul));
      size.bytes_head = size.bytes_total - before;
    }
    return maker_.Finish();
  }

 private:
  // This rank's rows of the embedding, which was counted.
  absl::StatusOr<const Weight*> TiedHead() {
    const std::string name = WeightOf(names_.embedding);
    const ModelSize counted = maker_.bound()->size;
    ASSIGN_OR_RETURN(const WeightSource source, maker_.Source(name, spec_.vocab, spec_.hidden));
    maker_.bound()->size = counted;
    const WeightSource rows = maker_.Rows(source, part_.vocab);
    return maker_.Make({{name, spec_.vocab}}, {&rows, 1}, WeightUse::kMatmul);
  }

  absl::StatusOr<LayerWeights> BindLayer(int32_t layer) {
    const int64_t D = spec_.hidden, Dk = spec_.head_dim;
    ModelSize& size = maker_.bound()->size;
    const int64_t bytes_before = size.bytes_total;
    size.bytes_expert.push_back(0);
    LayerWeights w;
    const auto name = [&](std::string_view stem) { return WeightOf(names_.Layer(layer, stem)); };
    ASSIGN_OR_RETURN(w.attention_norm, maker_.Vector({{name(names_.attention_norm), D}}));
    const int64_t params_before_matrices = size.params_total;
    if (spec_.latent) {
      RETURN_IF_ERROR(BindLatentAttention(layer, &w));
    } else {
      ASSIGN_OR_RETURN(w.qkv, maker_.Matrix(QkvParts(layer, ".weight"), D, WeightUse::kMatmul));
    }
    const int64_t out = spec_.head_output();
    ASSIGN_OR_RETURN(w.attention_out, maker_.Matrix({{name(names_.attention_out), D}}, spec_.heads * out,
                                                    WeightUse::kMatmul, part_.heads.Times(out)));
    if (spec_.IsExpertLayer(layer)) {
      RETURN_IF_ERROR(BindExperts(layer, &w));
    } else {
      RETURN_IF_ERROR(BindDense({name(names_.gate), name(names_.up), name(names_.down)}, spec_.feed_forward,
                                part_.feed_forward, &w));
    }
    const int64_t experts = spec_.IsExpertLayer(layer) ? spec_.experts->router.experts : 0;
    size.params_layers += size.params_total - params_before_matrices - experts * size.params_expert;
    ASSIGN_OR_RETURN(w.ffn_norm, maker_.Vector({{name(names_.ffn_norm), D}}));
    if (spec_.attention_bias) {
      ASSIGN_OR_RETURN(w.qkv_bias, maker_.Vector(QkvParts(layer, ".bias")));
    }
    if (spec_.attention_out_bias) {
      ASSIGN_OR_RETURN(w.attention_out_bias, maker_.Vector({{names_.Layer(layer, names_.attention_out) + ".bias", D}}));
    }
    if (spec_.attention_sinks) {
      ASSIGN_OR_RETURN(w.sinks, maker_.Vector({{names_.Layer(layer, names_.sinks), spec_.heads, part_.heads}}));
    }
    if (spec_.head_norm) {
      const bool whole = spec_.head_norm_whole;
      ASSIGN_OR_RETURN(w.q_norm, maker_.Vector({{name(names_.q_norm), whole ? spec_.heads * Dk : Dk}}));
      ASSIGN_OR_RETURN(w.k_norm, maker_.Vector({{name(names_.k_norm), whole ? spec_.kv_heads * Dk : Dk}}));
    }
    size.bytes_layers += size.bytes_total - bytes_before - experts * size.bytes_expert.back();
    return w;
  }

  // Rows of q, k and v, of matrices or of biases.
  std::vector<WeightMaker::Part> QkvParts(int32_t layer, const char* ending) const {
    const int64_t Dk = spec_.head_dim, q_rows = spec_.heads * Dk, kv_rows = spec_.kv_heads * Dk;
    const Range q = part_.heads.Times(Dk), kv = part_.kv_heads.Times(Dk);
    const auto name = [&](std::string_view stem) { return names_.Layer(layer, stem) + ending; };
    return {{name(names_.q), q_rows, q}, {name(names_.k), kv_rows, kv}, {name(names_.v), kv_rows, kv}};
  }

  // `kept`: of the `width` columns of the hidden layer.
  struct DenseNames {
    std::string gate, up, down;
  };
  absl::Status BindDense(const DenseNames& names, int64_t width, Range kept, LayerWeights* w) {
    const int64_t D = spec_.hidden;
    ASSIGN_OR_RETURN(w->gate_up,
                     maker_.Matrix({{names.gate, width, kept}, {names.up, width, kept}}, D, WeightUse::kMatmul));
    ASSIGN_OR_RETURN(w->down, maker_.Matrix({{names.down, D}}, width, WeightUse::kMatmul, kept));
    return absl::OkStatus();
  }

  absl::Status BindLatentAttention(int32_t layer, LayerWeights* w) {
    const LatentAttentionSpec& latent = *spec_.latent;
    const int64_t D = spec_.hidden, width = spec_.query_width(), q_rows = spec_.heads * width;
    const Range q = part_.heads.Times(width);
    const auto name = [&](std::string_view stem) { return WeightOf(names_.Layer(layer, stem)); };
    if (latent.query_rank > 0) {
      ASSIGN_OR_RETURN(w->q_down, maker_.Matrix({{name(names_.q_down), latent.query_rank}}, D, WeightUse::kMatmul));
      ASSIGN_OR_RETURN(w->q_down_norm, maker_.Vector({{name(names_.q_down_norm), latent.query_rank}}));
      ASSIGN_OR_RETURN(w->q_up, maker_.Matrix({{name(names_.q_up), q_rows, q}}, latent.query_rank, WeightUse::kMatmul));
    } else {
      ASSIGN_OR_RETURN(w->q_up, maker_.Matrix({{name(names_.q), q_rows, q}}, D, WeightUse::kMatmul));
    }
    ASSIGN_OR_RETURN(w->kv_down,
                     maker_.Matrix({{name(names_.kv_down), latent.latent + spec_.rotated}}, D, WeightUse::kMatmul));
    ASSIGN_OR_RETURN(w->latent_norm, maker_.Vector({{name(names_.latent_norm), latent.latent}}));
    if (!names_.k_up.empty() && file_.FindTensor(name(names_.k_up)) != nullptr) {
      ASSIGN_OR_RETURN(w->k_up, HeadStack(name(names_.k_up), latent.latent, latent.unrotated));
      ASSIGN_OR_RETURN(w->v_up, HeadStack(name(names_.v_up), latent.value, latent.latent));
      return absl::OkStatus();
    }
    return BindJoinedLatent(name(names_.kv_up), w);
  }

  // A tensor [H, rows, columns].
  absl::StatusOr<const WeightStack*> HeadStack(const std::string& name, int64_t rows, int64_t columns) {
    ASSIGN_OR_RETURN(const std::vector<WeightSource> heads, maker_.Slices(name, spec_.heads, rows, columns));
    ASSIGN_OR_RETURN(const WeightStack* stack,
                     maker_.MakeStack(name, Part(heads, part_.heads), StackUse::kHeads, part_.heads.count));
    maker_.Drop(heads);
    return stack;
  }

  // One tensor whose rows are per head [unrotated | value].
  absl::Status BindJoinedLatent(const std::string& name, LayerWeights* w) {
    const LatentAttentionSpec& latent = *spec_.latent;
    const int64_t head_rows = latent.unrotated + latent.value, rows = spec_.heads * head_rows;
    ASSIGN_OR_RETURN(const WeightSource source, maker_.Source(name, rows, latent.latent));
    maker_.AddFormat(source.dtype);
    if (!quant::CanDecode(source.dtype)) {
      return Unimplemented("{}: tensor \"{}\": format {} is not supported", file_.path(), name, Name(source.dtype));
    }
    LatentHeads heads = SplitLatent(maker_.Rows(source, part_.heads.Times(head_rows)), latent);
    maker_.bound()->turned.push_back(std::move(heads.floats));
    ASSIGN_OR_RETURN(w->k_up, maker_.MakeStack(name, heads.keys, StackUse::kHeads, part_.heads.count));
    ASSIGN_OR_RETURN(w->v_up, maker_.MakeStack(name, heads.values, StackUse::kHeads, part_.heads.count));
    maker_.DropTurned(1);
    maker_.Drop({&source, 1});
    return absl::OkStatus();
  }

  absl::Status BindExperts(int32_t layer, LayerWeights* w) {
    const ExpertsSpec& experts = *spec_.experts;
    const int64_t D = spec_.hidden, E = experts.router.experts, S = experts.shared_feed_forward;
    const auto name = [&](std::string_view stem) { return WeightOf(names_.Layer(layer, stem)); };
    ASSIGN_OR_RETURN(w->router, maker_.Matrix({{name(names_.router), E}}, D, WeightUse::kMatmul));
    if (experts.biases) {
      ASSIGN_OR_RETURN(w->router_bias, maker_.Vector({{names_.Layer(layer, names_.router) + ".bias", E}}));
    }
    if (experts.selection_bias) {
      ASSIGN_OR_RETURN(w->selection_bias, maker_.Vector({{names_.Layer(layer, names_.selection_bias), E}}));
    }
    if (S > 0) {
      RETURN_IF_ERROR(BindDense({name(names_.shared_gate), name(names_.shared_up), name(names_.shared_down)}, S,
                                part_.shared_feed_forward, w));
    }
    if (experts.shared_gate) {
      ASSIGN_OR_RETURN(w->shared_router, SharedRouter(name(names_.shared_router)));
    }
    ModelSize& size = maker_.bound()->size;
    const int64_t bytes_before = size.bytes_total;
    std::vector<WeightSource> gate_up, down;
    RETURN_IF_ERROR(FindExperts(layer, &gate_up, &down));
    if (experts.biases) RETURN_IF_ERROR(BindExpertBiases(layer, w));
    size.params_expert = experts.ParamsOfOne(D);
    size.params_experts += E * size.params_expert;
    size.bytes_expert.back() = (size.bytes_total - bytes_before) / E;
    const int64_t own = part_.experts.count, per_expert = std::ssize(gate_up) / E;
    ASSIGN_OR_RETURN(w->experts_gate_up,
                     maker_.MakeStack(name(names_.expert_gate), Part(gate_up, part_.experts.Times(per_expert)),
                                      StackUse::kExperts, own));
    ASSIGN_OR_RETURN(w->experts_down,
                     maker_.MakeStack(name(names_.expert_down), Part(down, part_.experts), StackUse::kExperts, own));
    if (names_.turned_experts) {
      maker_.DropTurned(2);
      return absl::OkStatus();
    }
    maker_.Drop(gate_up);
    maker_.Drop(down);
    return absl::OkStatus();
  }

  // The matrices of all experts: [2F, D], or gate and up [F, D] in turn; and [D, F].
  absl::Status FindExperts(int32_t layer, std::vector<WeightSource>* gate_up, std::vector<WeightSource>* down) {
    const int64_t D = spec_.hidden, E = spec_.experts->router.experts, F = spec_.experts->feed_forward;
    const auto name = [&](std::string_view stem) { return WeightOf(names_.Layer(layer, stem)); };
    const std::string joined = names_.Layer(layer, names_.experts_gate_up);
    if (names_.turned_experts) {
      ASSIGN_OR_RETURN(*gate_up, maker_.Turned(joined, {E, 2 * F, D, RowOrder::kAlternating}));
      ASSIGN_OR_RETURN(*down, maker_.Turned(names_.Layer(layer, names_.experts_down), {E, D, F, RowOrder::kKept}));
    } else if (!names_.experts_gate_up.empty() && file_.FindTensor(joined) != nullptr) {
      ASSIGN_OR_RETURN(*gate_up, maker_.Experts(joined, E, 2 * F, D));
      ASSIGN_OR_RETURN(*down, maker_.Experts(names_.Layer(layer, names_.experts_down), E, D, F));
    } else {
      ASSIGN_OR_RETURN(const std::vector<WeightSource> gate, maker_.Experts(name(names_.expert_gate), E, F, D));
      ASSIGN_OR_RETURN(const std::vector<WeightSource> up, maker_.Experts(name(names_.expert_up), E, F, D));
      ASSIGN_OR_RETURN(*down, maker_.Experts(name(names_.expert_down), E, D, F));
      for (size_t e = 0; e < gate.size(); ++e) gate_up->insert(gate_up->end(), {gate[e], up[e]});
    }
    return absl::OkStatus();
  }

  absl::Status BindExpertBiases(int32_t layer, LayerWeights* w) {
    const ExpertsSpec& experts = *spec_.experts;
    ASSIGN_OR_RETURN(const ExpertBiases biases, ReadExpertBiases(file_, names_, layer, experts.router.experts,
                                                                 spec_.hidden, experts.feed_forward));
    for (const CheckpointTensor& tensor : biases.tensors) maker_.Count(tensor.name, tensor.shape.elements(), tensor);
    const auto own = [&](const std::vector<float>& values) {
      return Part(values, part_.experts.Times(std::ssize(values) / experts.router.experts));
    };
    ASSIGN_OR_RETURN(w->experts_gate_up_bias, maker_.VectorOf(own(biases.gate_up)));
    ASSIGN_OR_RETURN(w->experts_down_bias, maker_.VectorOf(own(biases.down)));
    return absl::OkStatus();
  }

  // [1, D] in Hugging Face's form, [D] in GGUF's.
  absl::StatusOr<const Weight*> SharedRouter(const std::string& name) {
    const int64_t D = spec_.hidden;
    const CheckpointTensor* found = file_.FindTensor(name);
    const bool vector = found != nullptr && found->shape.rank() == 1;
    ASSIGN_OR_RETURN(const CheckpointTensor tensor, file_.GetTensor(name, vector ? Shape{D} : Shape{1, D}));
    maker_.Count(name, D, tensor);
    const WeightSource source = {tensor.dtype, 1, D, tensor.bytes};
    return maker_.Make({{name, 1}}, {&source, 1}, WeightUse::kMatmul);
  }

  template <typename T>
  static std::span<const T> Part(const std::vector<T>& all, Range kept) {
    return std::span(all).subspan(static_cast<size_t>(kept.first), static_cast<size_t>(kept.count));
  }

  const Checkpoint& file_;
  const ModelSpec& spec_;
  const TensorNames& names_;
  const Partition part_;
  WeightMaker maker_;
};

}  // namespace

absl::StatusOr<BoundModel> BindWeights(const Checkpoint& checkpoint, const ModelSpec& spec, const Partition& part,
                                       Ops* ops, const BindProgress& progress) {
  return Binder(checkpoint, spec, part, ops, progress).Bind();
}

}  // namespace conclave::engine
