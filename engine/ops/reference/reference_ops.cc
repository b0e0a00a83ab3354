// SPDX-License-Identifier: Apache-2.0
#include "engine/ops/reference/reference_ops.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "common/status.h"
#include "engine/ops/host_ops.h"
#include "engine/quant/codec.h"

namespace conclave::engine {
namespace {

struct ReferenceWeight final : Weight {
  std::vector<WeightSource> sources;
  std::vector<float> vector;  // kVector: the decoded values

  // Row n, decoded, [K].
  void Row(int64_t n, std::span<float> out) const {
    for (const WeightSource& source : sources) {
      if (n < source.rows) {
        quant::DecodeRow(source.dtype, source.bytes.data() + n * RowBytes(source.dtype, source.columns), out);
        return;
      }
      n -= source.rows;
    }
    CONCLAVE_CHECK_MSG(false, "weight row out of range");
  }
};

const ReferenceWeight& Cast(const Weight& weight) { return static_cast<const ReferenceWeight&>(weight); }

double Sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

void RmsNorm(float* y, const float* x, const float* gain, int64_t n, float eps) {
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += double{x[i]} * x[i];
  const double scale = 1 / std::sqrt(sum / static_cast<double>(n) + eps);
  for (int64_t i = 0; i < n; ++i) y[i] = static_cast<float>(x[i] * scale * gain[i]);
}

class ReferenceOps final : public HostOps {
 public:
  std::string_view name() const override { return "reference"; }
  DType kv_dtype() const override { return DType::kF32; }
  bool uses_sources_in_place() const override { return true; }
  absl::StatusOr<const Weight*> MakeWeight(std::span<const WeightSource> sources, WeightUse use) override;
  const AttentionPlan& BeginStep(const StepBatch& batch) override;
  void Embed(const View& y, const Weight& table, const AttentionPlan& plan) override;
  void AddRmsNorm(const View& residual, const View& y, const View& x, const Weight& gain, float eps) override;
  void Gemm(const View& y, const View& x, const Weight& w, Accumulate accumulate) override;
  void AddBias(const View& y, const Weight& bias) override;
  void HeadRmsNorm(const View& x, int64_t row_stride, const Weight& gain, float eps) override;
  void Rope(const View& x, int64_t row_stride, const RopeSpec& rope, const AttentionPlan& plan) override;
  // A page: per kv head [B, Dk] keys then [B, Dv] values (none with v_in_k).
  int64_t kv_page_bytes(const KvLayout& layout) const override;
  void KvWrite(const View& pages, const View& k, const View& v, int64_t row_stride, const AttentionPlan& plan) override;
  void Attention(const View& y, const View& q, int64_t q_row_stride, const View& pages,
                 const AttentionPlan& plan) override;
  void SwiGlu(const View& y, const View& gate_up) override;

 private:
  float* Key(const View& pages, int32_t page, int32_t g, int32_t offset) const;
  float* Value(const View& pages, int32_t page, int32_t g, int32_t offset) const;
  std::vector<std::unique_ptr<ReferenceWeight>> weights_;
  HostPlan plan_;
};

absl::StatusOr<const Weight*> ReferenceOps::MakeWeight(std::span<const WeightSource> sources, WeightUse use) {
  RETURN_IF_ERROR(CheckSources(sources, use));
  auto weight = std::make_unique<ReferenceWeight>();
  weight->columns = sources[0].columns;
  for (const WeightSource& source : sources) {
    weight->rows += source.rows;
    weight_bytes_ += static_cast<int64_t>(source.bytes.size());
  }
  if (use == WeightUse::kVector) {
    weight->columns = 0;
    for (const WeightSource& source : sources) weight->columns += source.columns;
    weight->rows = 1;
    weight->vector.resize(static_cast<size_t>(weight->columns));
    DecodeVector(sources, weight->vector.data());
  } else {
    weight->sources.assign(sources.begin(), sources.end());
  }
  weights_.push_back(std::move(weight));
  return weights_.back().get();
}

const AttentionPlan& ReferenceOps::BeginStep(const StepBatch& batch) {
  FillPlan(batch, &plan_);
  return plan_;
}

void ReferenceOps::Embed(const View& y, const Weight& table, const AttentionPlan& plan) {
  const StepBatch& batch = static_cast<const HostPlan&>(plan).batch;
  for (size_t t = 0; t < batch.tokens.size(); ++t) {
    CONCLAVE_CHECK(batch.tokens[t] >= 0 && batch.tokens[t] < table.rows);
    Cast(table).Row(batch.tokens[t], {y.row(static_cast<int64_t>(t)), static_cast<size_t>(table.columns)});
  }
}

void ReferenceOps::AddRmsNorm(const View& residual, const View& y, const View& x, const Weight& gain, float eps) {
  const int64_t width = residual.shape.back();
  CONCLAVE_CHECK(gain.columns == width);
  for (int64_t t = 0; t < residual.shape[0]; ++t) {
    float* r = residual.row(t);
    if (!x.empty()) {
      for (int64_t i = 0; i < width; ++i) r[i] = static_cast<float>(double{r[i]} + x.row(t)[i]);
    }
    RmsNorm(y.row(t), r, Cast(gain).vector.data(), width, eps);
  }
}

void ReferenceOps::Gemm(const View& y, const View& x, const Weight& w, Accumulate accumulate) {
  CONCLAVE_CHECK(x.shape.back() == w.columns && y.shape.back() == w.rows && x.shape[0] == y.shape[0]);
  std::vector<float> row(static_cast<size_t>(w.columns));
  for (int64_t n = 0; n < w.rows; ++n) {
    Cast(w).Row(n, row);
    for (int64_t m = 0; m < x.shape[0]; ++m) {
      double sum = accumulate == Accumulate::kAdd ? y.row(m)[n] : 0;
      const float* a = x.row(m);
      for (size_t k = 0; k < row.size(); ++k) sum += double{a[k]} * row[k];
      y.row(m)[n] = static_cast<float>(sum);
    }
  }
}

void ReferenceOps::AddBias(const View& y, const Weight& bias) {
  CONCLAVE_CHECK(bias.columns == y.shape.back());
  for (int64_t m = 0; m < y.shape[0]; ++m) {
    for (int64_t n = 0; n < bias.columns; ++n) {
      y.row(m)[n] = static_cast<float>(double{y.row(m)[n]} + Cast(bias).vector[static_cast<size_t>(n)]);
    }
  }
}

void ReferenceOps::HeadRmsNorm(const View& x, int64_t row_stride, const Weight& gain, float eps) {
  const int64_t heads = x.shape[1], width = x.shape[2];
  CONCLAVE_CHECK(gain.columns == width);
  for (int64_t t = 0; t < x.shape[0]; ++t) {
    for (int64_t h = 0; h < heads; ++h) {
      float* head = x.as<float>() + t * row_stride + h * width;
      RmsNorm(head, head, Cast(gain).vector.data(), width, eps);
    }
  }
}

void ReferenceOps::Rope(const View& x, int64_t row_stride, const RopeSpec& rope, const AttentionPlan& plan) {
  const StepBatch& batch = static_cast<const HostPlan&>(plan).batch;
  const int64_t heads = x.shape[1], width = x.shape[2], pairs = rope.rotated / 2;
  CONCLAVE_CHECK(rope.rotated % 2 == 0 && rope.rotated <= width &&
                 rope.inverse_frequency.size() == static_cast<size_t>(pairs));
  for (int64_t t = 0; t < x.shape[0]; ++t) {
    for (int64_t h = 0; h < heads; ++h) {
      float* head = x.as<float>() + t * row_stride + h * width;
      for (int64_t i = 0; i < pairs; ++i) {
        const double angle = double{rope.inverse_frequency[static_cast<size_t>(i)]} * batch.positions[t];
        const double c = std::cos(angle) * rope.magnitude, s = std::sin(angle) * rope.magnitude;
        float& a = rope.layout == RopeLayout::kInterleaved ? head[2 * i] : head[i];
        float& b = rope.layout == RopeLayout::kInterleaved ? head[2 * i + 1] : head[i + pairs];
        const double a0 = a, b0 = b;
        a = static_cast<float>(a0 * c - b0 * s);
        b = static_cast<float>(a0 * s + b0 * c);
      }
    }
  }
}

int64_t ReferenceOps::kv_page_bytes(const KvLayout& layout) const {
  return int64_t{layout.kv_heads} * layout.page_tokens * (layout.dim_k + (layout.v_in_k ? 0 : layout.dim_v)) *
         static_cast<int64_t>(sizeof(float));
}

void ReferenceOps::KvWrite(const View& pages, const View& k, const View& v, int64_t row_stride,
                           const AttentionPlan& plan) {
  const StepBatch& batch = static_cast<const HostPlan&>(plan).batch;
  for (int64_t t = 0; t < k.shape[0]; ++t) {
    const int32_t page = batch.kv_slots[t] / layout_.page_tokens, offset = batch.kv_slots[t] % layout_.page_tokens;
    for (int32_t g = 0; g < layout_.kv_heads; ++g) {
      std::memcpy(Key(pages, page, g, offset), k.as<float>() + t * row_stride + g * layout_.dim_k,
                  static_cast<size_t>(layout_.dim_k) * sizeof(float));
      if (layout_.v_in_k) continue;
      std::memcpy(Value(pages, page, g, offset), v.as<float>() + t * row_stride + g * layout_.dim_v,
                  static_cast<size_t>(layout_.dim_v) * sizeof(float));
    }
  }
}

void ReferenceOps::Attention(const View& y, const View& q, int64_t q_row_stride, const View& pages,
                             const AttentionPlan& plan) {
  const HostPlan& host_plan = static_cast<const HostPlan&>(plan);
  const StepBatch& batch = host_plan.batch;
  const int32_t heads = limits_.query_heads, group = heads / layout_.kv_heads;
  std::vector<double> p, out(static_cast<size_t>(layout_.dim_v));
  for (size_t t = 0; t < batch.tokens.size(); ++t) {
    const int32_t* page_ids = &batch.pages[static_cast<size_t>(batch.page_indptr[host_plan.sequence_of_token[t]])];
    const int32_t length = batch.positions[t] + 1;
    for (int32_t h = 0; h < heads; ++h) {
      const float* query = q.as<float>() + static_cast<int64_t>(t) * q_row_stride + h * layout_.dim_k;
      p.assign(static_cast<size_t>(length), 0);
      for (int32_t j = 0; j < length; ++j) {
        const float* key = Key(pages, page_ids[j / layout_.page_tokens], h / group, j % layout_.page_tokens);
        for (int32_t d = 0; d < layout_.dim_k; ++d) p[static_cast<size_t>(j)] += double{query[d]} * key[d];
        p[static_cast<size_t>(j)] *= layout_.scale;
      }
      const double top = *std::max_element(p.begin(), p.end());
      double sum = 0;
      for (double& value : p) sum += value = std::exp(value - top);
      out.assign(out.size(), 0);
      for (int32_t j = 0; j < length; ++j) {
        const float* value = Value(pages, page_ids[j / layout_.page_tokens], h / group, j % layout_.page_tokens);
        for (size_t d = 0; d < out.size(); ++d) out[d] += p[static_cast<size_t>(j)] * value[d];
      }
      float* destination = y.as<float>() + (static_cast<int64_t>(t) * heads + h) * layout_.dim_v;
      for (size_t d = 0; d < out.size(); ++d) destination[d] = static_cast<float>(out[d] / sum);
    }
  }
}

void ReferenceOps::SwiGlu(const View& y, const View& gate_up) {
  const int64_t width = y.shape.back();
  CONCLAVE_CHECK(gate_up.shape.back() == 2 * width);
  for (int64_t t = 0; t < y.shape[0]; ++t) {
    const float* gate = gate_up.row(t);
    for (int64_t i = 0; i < width; ++i) {
      y.row(t)[i] = static_cast<float>(double{gate[i]} * Sigmoid(gate[i]) * gate[width + i]);
    }
  }
}

float* ReferenceOps::Key(const View& pages, int32_t page, int32_t g, int32_t offset) const {
  const int64_t head = int64_t{layout_.page_tokens} * (layout_.dim_k + (layout_.v_in_k ? 0 : layout_.dim_v));
  CONCLAVE_CHECK(page >= 0 && page < pages.shape[0]);
  return reinterpret_cast<float*>(pages.data + page * pages.shape.back()) + g * head + offset * layout_.dim_k;
}

float* ReferenceOps::Value(const View& pages, int32_t page, int32_t g, int32_t offset) const {
  if (layout_.v_in_k) return Key(pages, page, g, offset);
  return Key(pages, page, g, layout_.page_tokens) + offset * layout_.dim_v;
}

}  // namespace

std::unique_ptr<Ops> MakeReferenceOps() { return std::make_unique<ReferenceOps>(); }

}  // namespace conclave::engine
