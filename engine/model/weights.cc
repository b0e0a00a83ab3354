// SPDX-License-Identifier: Apache-2.0
#include "engine/model/weights.h"

#include <set>

#include "common/status.h"

namespace conclave::engine {
namespace {

class Binder {
 public:
  Binder(const GgufFile& file, const ModelSpec& spec, Ops* ops) : file_(file), spec_(spec), ops_(ops) {}

  absl::StatusOr<BoundModel> Bind() {
    const int64_t D = spec_.hidden, V = spec_.vocab;
    ModelWeights& weights = model_.weights;
    const WeightUse use = spec_.tied_head ? WeightUse::kEmbeddingAndMatmul : WeightUse::kEmbedding;
    ASSIGN_OR_RETURN(weights.embedding, Matrix({{"token_embd.weight", V}}, D, use));
    ASSIGN_OR_RETURN(weights.output_norm, Vector({{"output_norm.weight", D}}));
    for (int32_t layer = 0; layer < spec_.layers; ++layer) {
      ASSIGN_OR_RETURN(LayerWeights bound, BindLayer(fmt::format("blk.{}.", layer)));
      weights.layers.push_back(bound);
    }
    ModelSize& size = model_.size;
    size.params_head = V * D;
    if (spec_.tied_head) {
      weights.head = weights.embedding;
      size.bytes_head = last_embedding_bytes_;
    } else {
      const int64_t before = size.bytes_total;
      ASSIGN_OR_RETURN(weights.head, Matrix({{"output.weight", V}}, D, WeightUse::kMatmul));
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
  struct Part {
    std::string name;
    int64_t rows;  // a vector's width
  };

  absl::StatusOr<LayerWeights> BindLayer(const std::string& prefix) {
    const int64_t D = spec_.hidden, F = spec_.feed_forward, Dk = spec_.head_dim;
    const int64_t q_rows = spec_.heads * Dk, kv_rows = spec_.kv_heads * Dk;
    ModelSize& size = model_.size;
    const int64_t bytes_before = size.bytes_total;
    LayerWeights w;
    const auto name = [&prefix](std::string_view suffix) { return fmt::format("{}{}", prefix, suffix); };
    ASSIGN_OR_RETURN(w.attention_norm, Vector({{name("attn_norm.weight"), D}}));
    const int64_t params_before_matrices = size.params_total;
    ASSIGN_OR_RETURN(
        w.qkv,
        Matrix({{name("attn_q.weight"), q_rows}, {name("attn_k.weight"), kv_rows}, {name("attn_v.weight"), kv_rows}}, D,
               WeightUse::kMatmul));
    ASSIGN_OR_RETURN(w.attention_out, Matrix({{name("attn_output.weight"), D}}, q_rows, WeightUse::kMatmul));
    ASSIGN_OR_RETURN(w.gate_up,
                     Matrix({{name("ffn_gate.weight"), F}, {name("ffn_up.weight"), F}}, D, WeightUse::kMatmul));
    ASSIGN_OR_RETURN(w.down, Matrix({{name("ffn_down.weight"), D}}, F, WeightUse::kMatmul));
    size.params_layers += size.params_total - params_before_matrices;
    ASSIGN_OR_RETURN(w.ffn_norm, Vector({{name("ffn_norm.weight"), D}}));
    if (spec_.attention_bias) {
      ASSIGN_OR_RETURN(
          w.qkv_bias,
          Vector({{name("attn_q.bias"), q_rows}, {name("attn_k.bias"), kv_rows}, {name("attn_v.bias"), kv_rows}}));
    }
    if (spec_.head_norm) {
      ASSIGN_OR_RETURN(w.q_norm, Vector({{name("attn_q_norm.weight"), Dk}}));
      ASSIGN_OR_RETURN(w.k_norm, Vector({{name("attn_k_norm.weight"), Dk}}));
    }
    size.bytes_layers += size.bytes_total - bytes_before;
    return w;
  }

  // Matrices [rows, columns], stacked along their rows.
  absl::StatusOr<const Weight*> Matrix(const std::vector<Part>& parts, int64_t columns, WeightUse use) {
    std::vector<WeightSource> sources;
    for (const Part& part : parts) {
      ASSIGN_OR_RETURN(const GgufTensor tensor, file_.GetTensor(part.name, Shape{part.rows, columns}));
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
      ASSIGN_OR_RETURN(const GgufTensor tensor, file_.GetTensor(part.name, Shape{part.rows}));
      sources.push_back({tensor.dtype, 1, part.rows, tensor.bytes});
      Count(part.name, part.rows, tensor);
    }
    if (sources.size() == 1) return Make(parts, sources, WeightUse::kVector);
    return Concatenated(parts, sources);
  }

  // Ops stacks rows only; a bias over q | k | v is one row, so its parts are joined here. They are small.
  absl::StatusOr<const Weight*> Concatenated(const std::vector<Part>& parts, const std::vector<WeightSource>& sources) {
    std::vector<std::byte> bytes;
    WeightSource whole{sources[0].dtype, 1, 0, {}};
    for (size_t i = 0; i < sources.size(); ++i) {
      if (sources[i].dtype != whole.dtype) {
        return Unimplemented("{}: tensors \"{}\" ({}) and \"{}\" ({}) differ in format", file_.path(), parts[0].name,
                             Name(whole.dtype), parts[i].name, Name(sources[i].dtype));
      }
      bytes.insert(bytes.end(), sources[i].bytes.begin(), sources[i].bytes.end());
      whole.columns += sources[i].columns;
    }
    model_.joined.push_back(std::move(bytes));
    whole.bytes = model_.joined.back();
    return Make(parts, {&whole, 1}, WeightUse::kVector);
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

  void Count(const std::string& name, int64_t elements, const GgufTensor& tensor) {
    used_.insert(name);
    model_.size.params_total += elements;
    model_.size.bytes_total += static_cast<int64_t>(tensor.bytes.size());
  }

  // A layer tensor that nothing reads is a term of the mathematics that would be left out.
  absl::Status RefuseUnknown() const {
    for (const GgufTensor& tensor : file_.tensors()) {
      if (tensor.name.substr(0, 4) != "blk." || used_.contains(std::string(tensor.name))) continue;
      return Unimplemented("{}: tensor \"{}\" {} is not part of a \"{}\" model of {} layers as this program knows it",
                           file_.path(), tensor.name, tensor.shape.ToString(), spec_.family, spec_.layers);
    }
    return absl::OkStatus();
  }

  const GgufFile& file_;
  const ModelSpec& spec_;
  Ops* const ops_;
  BoundModel model_;
  std::set<std::string> used_;
  std::set<DType> formats_;
  int64_t last_embedding_bytes_ = 0;
};

}  // namespace

absl::StatusOr<BoundModel> BindWeights(const GgufFile& file, const ModelSpec& spec, Ops* ops) {
  return Binder(file, spec, ops).Bind();
}

}  // namespace conclave::engine
