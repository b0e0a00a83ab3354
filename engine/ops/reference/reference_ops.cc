// SPDX-License-Identifier: Apache-2.0
#include "engine/ops/reference/reference_ops.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "common/status.h"
#include "engine/ops/host_ops.h"
#include "engine/ops/reference/reference_weight.h"

namespace conclave::engine {
namespace {

const ReferenceStack& Cast(const WeightStack& stack) { return static_cast<const ReferenceStack&>(stack); }

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
  absl::StatusOr<const WeightStack*> MakeWeightStack(std::span<const WeightSource> sources, int64_t count,
                                                     StackUse use) override;
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
  void Attention(const View& y, const View& q, int64_t q_row_stride, const View& pages, const AttentionTerms& terms,
                 const AttentionPlan& plan) override;
  void SwiGlu(const View& y, const View& gate_up) override;
  void SigmoidGate(const View& y, const View& gate) override;
  void HeadGemm(const View& y, const View& x, const WeightStack& w) override;
  void Route(const View& ids, const View& weights, const View& logits, const Weight* selection_bias,
             const RouterSpec& router, const AttentionPlan& plan) override;
  void ExpertFfn(const View& y, const View& x, const View& ids, const View& weights, const WeightStack& gate_up,
                 const WeightStack& down, const ExpertTerms& terms, Accumulate accumulate) override;

 private:
  float* Key(const View& pages, int32_t page, int32_t g, int32_t offset) const;
  float* Value(const View& pages, int32_t page, int32_t g, int32_t offset) const;
  std::vector<std::unique_ptr<ReferenceWeight>> weights_;
  std::vector<std::unique_ptr<ReferenceStack>> stacks_;
  HostPlan plan_;
};

absl::StatusOr<const Weight*> ReferenceOps::MakeWeight(std::span<const WeightSource> sources, WeightUse use) {
  RETURN_IF_ERROR(CheckSources(sources, use));
  auto weight = std::make_unique<ReferenceWeight>();
  weight->columns = sources[0].columns;
  for (const WeightSource& source : sources) {
    weight->rows += source.rows;
    weight_bytes_ += SourceBytes(source);
  }
  if (use == WeightUse::kVector) {
    weight->columns = 0;
    for (const WeightSource& source : sources) weight->columns += source.columns;
    weight->rows = 1;
    weight->vector.resize(static_cast<size_t>(weight->columns));
    DecodeVector(sources, weight->vector.data());
  } else {
    for (const WeightSource& source : sources) weight->sources.emplace_back(source);
  }
  weights_.push_back(std::move(weight));
  return weights_.back().get();
}

absl::StatusOr<const WeightStack*> ReferenceOps::MakeWeightStack(std::span<const WeightSource> sources, int64_t count,
                                                                 StackUse use) {
  auto stack = std::make_unique<ReferenceStack>();
  RETURN_IF_ERROR(CheckStack(sources, count, use, stack.get()));
  const size_t parts = sources.size() / static_cast<size_t>(count);
  stack->items.resize(static_cast<size_t>(count));
  for (size_t i = 0; i < sources.size(); ++i) {
    stack->items[i / parts].sources.emplace_back(sources[i]);
    weight_bytes_ += SourceBytes(sources[i]);
  }
  stacks_.push_back(std::move(stack));
  return stacks_.back().get();
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
                             const AttentionTerms& terms, const AttentionPlan& plan) {
  CheckTerms(terms, limits_);
  const HostPlan& host_plan = static_cast<const HostPlan&>(plan);
  const StepBatch& batch = host_plan.batch;
  const int32_t heads = limits_.query_heads, group = heads / layout_.kv_heads;
  std::vector<double> p, out(static_cast<size_t>(layout_.dim_v));
  for (size_t t = 0; t < batch.tokens.size(); ++t) {
    const int32_t* page_ids = &batch.pages[static_cast<size_t>(batch.page_indptr[host_plan.sequence_of_token[t]])];
    const int32_t length = batch.positions[t] + 1;
    const int32_t first = terms.window == 0 ? 0 : std::max(0, length - terms.window);
    for (int32_t h = 0; h < heads; ++h) {
      const float* query = q.as<float>() + static_cast<int64_t>(t) * q_row_stride + h * layout_.dim_k;
      p.assign(static_cast<size_t>(length), 0);
      for (int32_t j = first; j < length; ++j) {
        const float* key = Key(pages, page_ids[j / layout_.page_tokens], h / group, j % layout_.page_tokens);
        for (int32_t d = 0; d < layout_.dim_k; ++d) p[static_cast<size_t>(j)] += double{query[d]} * key[d];
        p[static_cast<size_t>(j)] *= layout_.scale;
      }
      double top = *std::max_element(p.begin() + first, p.end()), sum = 0;
      if (terms.sinks != nullptr) {
        const double sink = Cast(*terms.sinks).vector[static_cast<size_t>(h)];
        top = std::max(top, sink);
        sum = std::exp(sink - top);
      }
      for (size_t j = static_cast<size_t>(first); j < p.size(); ++j) sum += p[j] = std::exp(p[j] - top);
      out.assign(out.size(), 0);
      for (int32_t j = first; j < length; ++j) {
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

void ReferenceOps::SigmoidGate(const View& y, const View& gate) {
  CONCLAVE_CHECK(gate.shape == (Shape{y.shape[0], 1}));
  for (int64_t t = 0; t < y.shape[0]; ++t) {
    const double factor = Sigmoid(gate.row(t)[0]);
    for (int64_t i = 0; i < y.shape.back(); ++i) y.row(t)[i] = static_cast<float>(y.row(t)[i] * factor);
  }
}

void ReferenceOps::HeadGemm(const View& y, const View& x, const WeightStack& w) {
  const int64_t heads = w.count, rest = x.shape[2] - w.columns;
  CONCLAVE_CHECK(rest >= 0 && y.shape == (Shape{x.shape[0], heads, w.rows + rest}) && x.shape[1] == heads);
  for (int64_t i = 0; i < x.shape[0] * heads; ++i) {
    const float* from = x.as<float>() + i * x.shape[2];
    float* to = y.as<float>() + i * y.shape[2];
    const std::vector<double> product = Cast(w).Times(i % heads, std::vector<double>(from, from + w.columns));
    for (size_t n = 0; n < product.size(); ++n) to[n] = static_cast<float>(product[n]);
    std::copy(from + w.columns, from + x.shape[2], to + w.rows);
  }
}

// Sorts everything, in double.
void ReferenceOps::Route(const View& ids, const View& weights, const View& logits, const Weight* selection_bias,
                         const RouterSpec& router, const AttentionPlan& plan) {
  CheckRoute(ids, weights, logits, selection_bias, router);
  const size_t experts = static_cast<size_t>(router.experts), group_size = experts / router.groups;
  // The first `n` of 0.. by falling value, of equal ones the lower.
  const auto best = [](const std::vector<double>& values, size_t n) {
    std::vector<size_t> order(values.size());
    for (size_t i = 0; i < order.size(); ++i) order[i] = i;
    std::stable_sort(order.begin(), order.end(), [&values](size_t a, size_t b) { return values[a] > values[b]; });
    order.resize(n);
    return order;
  };
  for (int64_t t = 0; t < logits.shape[0]; ++t) {
    std::vector<double> scores(logits.row(t), logits.row(t) + experts);
    const double top = *std::max_element(scores.begin(), scores.end());
    double sum = 0;
    for (double& score : scores) {
      score = router.scores == RouterSpec::Scores::kSoftmax ? std::exp(score - top) : Sigmoid(score);
      sum += score;
    }
    std::vector<double> choices(experts), group_scores;
    for (size_t e = 0; e < experts; ++e) {
      if (router.scores == RouterSpec::Scores::kSoftmax) scores[e] /= sum;
      choices[e] = scores[e] + (selection_bias == nullptr ? 0 : Cast(*selection_bias).vector[e]);
    }
    for (size_t e = 0; e < experts; e += group_size) {
      const std::vector<double> group(choices.begin() + e, choices.begin() + e + group_size);
      const std::vector<size_t> order = best(group, group_size);
      const bool second = router.group_score == RouterSpec::GroupScore::kTopTwoSum && group_size > 1;
      group_scores.push_back(group[order[0]] + (second ? group[order[1]] : 0));
    }
    std::vector<double> allowed(experts, -std::numeric_limits<double>::infinity());
    for (const size_t g : best(group_scores, static_cast<size_t>(router.top_groups))) {
      std::copy_n(choices.begin() + g * group_size, group_size, allowed.begin() + g * group_size);
    }
    const size_t k = static_cast<size_t>(ExpertsOf(static_cast<const HostPlan&>(plan), t, router));
    const std::vector<size_t> chosen = best(allowed, k);
    double total = router.sum_epsilon;
    for (const size_t e : chosen) total += scores[e];
    for (size_t slot = 0; slot < static_cast<size_t>(router.top_k); ++slot) {
      const bool live = slot < k;
      ids.as<int32_t>()[t * router.top_k + slot] = live ? static_cast<int32_t>(chosen[slot]) : -1;
      const double weight = live ? scores[chosen[slot]] / (router.normalise ? total : 1) * router.scale : 0;
      weights.row(t)[slot] = static_cast<float>(weight);
    }
  }
}

void ReferenceOps::ExpertFfn(const View& y, const View& x, const View& ids, const View& weights,
                             const WeightStack& gate_up, const WeightStack& down, const ExpertTerms& terms,
                             Accumulate accumulate) {
  CheckExpertFfn(y, x, ids, weights, gate_up, down, terms, limits_);
  const auto add_bias = [](const Weight* bias, int32_t expert, std::vector<double>* values) {
    if (bias == nullptr) return;
    const float* of_expert = Cast(*bias).vector.data() + static_cast<size_t>(expert) * values->size();
    for (size_t i = 0; i < values->size(); ++i) (*values)[i] += of_expert[i];
  };
  const int64_t slots = ids.shape.back(), width = down.columns;
  for (int64_t t = 0; t < x.shape[0]; ++t) {
    std::vector<double> sum(static_cast<size_t>(y.shape.back()), 0.0);
    if (accumulate == Accumulate::kAdd) sum.assign(y.row(t), y.row(t) + y.shape.back());
    const std::vector<double> input(x.row(t), x.row(t) + x.shape.back());
    for (int64_t slot = 0; slot < slots; ++slot) {
      const int32_t id = ids.as<int32_t>()[t * slots + slot], expert = id - terms.first_expert;
      if (id < 0 || expert < 0 || expert >= gate_up.count) continue;
      std::vector<double> both = Cast(gate_up).Times(expert, input);
      add_bias(terms.gate_up_bias, expert, &both);
      std::vector<double> activated(static_cast<size_t>(width));
      for (size_t i = 0; i < activated.size(); ++i) {
        const double limit = terms.activation.limit, gate = std::min(both[i], limit);
        const double up = std::clamp(both[static_cast<size_t>(width) + i], -limit, limit);
        activated[i] = gate * Sigmoid(terms.activation.alpha * gate) * (up + terms.activation.up_offset);
      }
      std::vector<double> out = Cast(down).Times(expert, activated);
      add_bias(terms.down_bias, expert, &out);
      for (size_t i = 0; i < sum.size(); ++i) sum[i] += weights.row(t)[slot] * out[i];
    }
    for (size_t i = 0; i < sum.size(); ++i) y.row(t)[i] = static_cast<float>(sum[i]);
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
