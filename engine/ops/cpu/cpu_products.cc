// SPDX-License-Identifier: Apache-2.0
// Matrix products of the CPU backend: whole rows, per head, and by expert.
#include <algorithm>
#include <cmath>

#include "common/check.h"
#include "engine/ops/cpu/cpu_gemm.h"
#include "engine/ops/cpu/cpu_ops.h"

namespace conclave::engine::cpu {

void CpuOps::QuantizeRows(const View& x, const CpuWeight& w) {
  const int64_t k = x.shape.back(), rows = x.shape[0], row_blocks = k / 32;
  for (size_t i = 0; i < w.orders.size(); ++i) {
    ActivationBlock* blocks = blocks_ + static_cast<int64_t>(i) * rows * row_blocks;
    ForRows(rows, k, [&](int64_t m) { kernels_.quantize_row(x.row(m), w.orders[i], k, blocks + m * row_blocks); });
  }
}

void CpuOps::Gemm(const View& y, const View& x, const Weight& weight, Accumulate accumulate) {
  const CpuWeight& w = static_cast<const CpuWeight&>(weight);
  CONCLAVE_CHECK(x.shape.back() == w.columns && y.shape.back() == w.rows && x.shape[0] == y.shape[0]);
  CONCLAVE_CHECK(w.vector == nullptr && x.shape[0] <= std::max(limits_.tokens_max, limits_.logit_rows_max));
  const int64_t rows = x.shape[0];
  if (rows == 0) return;
  if (w.has_blocks) QuantizeRows(x, w);
  const GemmOperands operands = {.x = x.as<float>(),
                                 .x_stride = w.columns,
                                 .blocks = blocks_,
                                 .input_blocks = rows * (w.columns / 32),
                                 .y = y.as<float>(),
                                 .y_stride = y.shape.back(),
                                 .accumulate = accumulate == Accumulate::kAdd};
  // Tasks are pairs of groups by blocks of rows: enough of them that a slow thread does not hold up the rest.
  const int64_t pairs = (w.groups + 1) / 2;
  const int64_t row_blocks = (rows + kRowBlock - 1) / kRowBlock;
  const int64_t wanted = rows * w.rows * w.columns < 8 * ThreadPool::kSerialElements ? 1 : int64_t{pool_.threads()} * 4;
  const int64_t column_tasks = std::min(pairs, std::max<int64_t>(1, wanted / row_blocks));
  pool_.ParallelFor(column_tasks * row_blocks, [&](int64_t task, int thread) {
    const int64_t block = task / column_tasks, column = task % column_tasks;
    RunGemm(kernels_, w, operands,
            {2 * (pairs * column / column_tasks), 2 * (pairs * (column + 1) / column_tasks), rows * block / row_blocks,
             rows * (block + 1) / row_blocks},
            Scratch(thread));
  });
}

void CpuOps::HeadGemm(const View& y, const View& x, const WeightStack& stack) {
  const CpuStack& w = static_cast<const CpuStack&>(stack);
  const int64_t rows = x.shape[0], heads = w.count, x_width = x.shape[2], y_width = y.shape[2];
  const int64_t rest = x_width - w.columns, blocks_per_row = w.columns / 32;
  CONCLAVE_CHECK(rest >= 0 && x.shape[1] == heads && y_width == w.rows + rest && rows <= limits_.tokens_max);
  CONCLAVE_CHECK(y.shape[0] == rows && y.shape[1] == heads);
  ForRows(rows, heads * x_width, [&](int64_t t) {
    for (int64_t h = 0; h < heads; ++h) {
      const float* from = x.as<float>() + (t * heads + h) * x_width;
      std::copy_n(from + w.columns, rest, y.as<float>() + (t * heads + h) * y_width + w.rows);
      if (w.has_blocks) {
        kernels_.quantize_row(from, nullptr, w.columns, head_blocks_ + (h * limits_.tokens_max + t) * blocks_per_row);
      }
    }
  });
  const int64_t row_blocks = (rows + kRowBlock - 1) / kRowBlock;
  const int64_t work = rows * heads * w.rows * w.columns;
  const int64_t tasks =
      work < 8 * ThreadPool::kSerialElements ? 1 : std::min<int64_t>(heads * row_blocks, ThreadPool::kTasksMax);
  pool_.ParallelFor(tasks, [&](int64_t task, int thread) {
    for (int64_t i = heads * row_blocks * task / tasks; i < heads * row_blocks * (task + 1) / tasks; ++i) {
      const int64_t h = i % heads, block = i / heads;
      const CpuWeight& item = *w.items[static_cast<size_t>(h)];
      RunGemm(kernels_, item,
              {.x = x.as<float>() + h * x_width,
               .x_stride = heads * x_width,
               .blocks = head_blocks_ + h * limits_.tokens_max * blocks_per_row,
               .input_blocks = 0,
               .y = y.as<float>() + h * y_width,
               .y_stride = heads * y_width,
               .accumulate = false},
              {0, item.groups, rows * block / row_blocks, rows * (block + 1) / row_blocks}, Scratch(thread));
    }
  });
}

// ---- Mixtures of experts

void CpuOps::SigmoidGate(const View& y, const View& gate) {
  const int64_t width = y.shape.back();
  CONCLAVE_CHECK(gate.shape == (engine::Shape{y.shape[0], 1}));
  ForRows(y.shape[0], width, [&](int64_t t) {
    const float factor = 1.0f / (1.0f + std::exp(-gate.row(t)[0]));
    for (int64_t i = 0; i < width; ++i) y.row(t)[i] *= factor;
  });
}

void CpuOps::Route(const View& ids, const View& weights, const View& logits, const Weight* selection_bias,
                   const RouterSpec& router, const AttentionPlan& plan) {
  CheckRoute(ids, weights, logits, selection_bias, router);
  CONCLAVE_CHECK(&plan == &plan_ && RouteScratchFloats(router.experts) <= scratch_floats_);
  const float* bias = selection_bias == nullptr ? nullptr : static_cast<const CpuWeight*>(selection_bias)->vector;
  const int64_t rows = logits.shape[0];
  const int64_t work = rows * router.experts * (router.top_k + 8);
  const int64_t tasks = work < ThreadPool::kSerialElements ? 1 : std::min<int64_t>(rows, pool_.threads() * 4);
  pool_.ParallelFor(tasks, [&](int64_t task, int thread) {
    for (int64_t t = rows * task / tasks; t < rows * (task + 1) / tasks; ++t) {
      RouteToken(router, logits.row(t), bias, ExpertsOf(plan_, t, router), ids.as<int32_t>() + t * router.top_k,
                 weights.row(t), Scratch(thread));
    }
  });
}

void CpuOps::ExpertFfn(const View& y, const View& x, const View& ids, const View& weights, const WeightStack& gate_up,
                       const WeightStack& down, const ExpertTerms& terms, Accumulate accumulate) {
  CheckExpertFfn(y, x, ids, weights, gate_up, down, terms, limits_);
  const auto vector = [](const Weight* weight) {
    return weight == nullptr ? nullptr : static_cast<const CpuWeight*>(weight)->vector;
  };
  experts_.Run({.y = y.as<float>(),
                .x = x.as<float>(),
                .ids = ids.as<int32_t>(),
                .weights = weights.as<float>(),
                .tokens = x.shape[0],
                .slots = ids.shape.back(),
                .gate_up = &static_cast<const CpuStack&>(gate_up),
                .down = &static_cast<const CpuStack&>(down),
                .gate_up_bias = vector(terms.gate_up_bias),
                .down_bias = vector(terms.down_bias),
                .activation = terms.activation,
                .first_expert = terms.first_expert,
                .accumulate = accumulate == Accumulate::kAdd},
               [this](int thread) { return Scratch(thread); });
}

}  // namespace conclave::engine::cpu
