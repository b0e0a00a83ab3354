// SPDX-License-Identifier: Apache-2.0
#include "engine/model/latent_heads.h"

#include <span>

#include "common/check.h"
#include "engine/quant/codec.h"

namespace conclave::engine {
namespace {

// Rows of a source as floats, columns in their places.
class RowDecoder {
 public:
  explicit RowDecoder(const WeightSource& source)
      : source_(source),
        bytes_(static_cast<size_t>(RowBytes(source.dtype, source.columns))),
        stored_(static_cast<size_t>(source.columns)) {}

  void Decode(int64_t n, std::span<float> out) {
    const std::byte* row = source_.bytes.data() + n * static_cast<int64_t>(bytes_.size());
    if (source_.reader != nullptr) {
      source_.reader->Read(n, 1, bytes_.data());
      row = bytes_.data();
    }
    if (source_.order.empty()) return quant::DecodeRow(source_.dtype, row, out);
    quant::DecodeRow(source_.dtype, row, stored_);
    for (size_t i = 0; i < stored_.size(); ++i) out[static_cast<size_t>(source_.order[i])] = stored_[i];
  }

 private:
  const WeightSource& source_;
  std::vector<std::byte> bytes_;
  std::vector<float> stored_;
};

}  // namespace

LatentHeads SplitLatent(const WeightSource& joined, const LatentAttentionSpec& latent) {
  const int64_t N = latent.unrotated, V = latent.value, C = latent.latent, H = joined.rows / (N + V);
  CONCLAVE_CHECK(joined.rows == H * (N + V) && joined.columns == C);
  const bool in_place = joined.reader == nullptr;
  const int64_t row_bytes = in_place ? RowBytes(joined.dtype, C) : 0;
  const int64_t key_floats = C * N, value_floats = in_place ? 0 : V * C, head_floats = key_floats + value_floats;
  LatentHeads heads;
  heads.floats.resize(static_cast<size_t>(H * head_floats) * sizeof(float));
  const auto bytes = [&heads](int64_t first, int64_t count) {
    return std::span<const std::byte>(heads.floats)
        .subspan(static_cast<size_t>(first) * sizeof(float), static_cast<size_t>(count) * sizeof(float));
  };
  RowDecoder rows(joined);
  std::vector<float> row(static_cast<size_t>(C));
  for (int64_t h = 0; h < H; ++h) {
    const int64_t first = h * (N + V), at = h * head_floats;
    float* keys = reinterpret_cast<float*>(heads.floats.data()) + at;
    for (int64_t n = 0; n < N; ++n) {
      rows.Decode(first + n, row);
      for (int64_t c = 0; c < C; ++c) keys[c * N + n] = row[static_cast<size_t>(c)];
    }
    heads.keys.push_back({DType::kF32, C, N, bytes(at, key_floats)});
    if (in_place) {
      heads.values.push_back(
          {joined.dtype, V, C,
           joined.bytes.subspan(static_cast<size_t>((first + N) * row_bytes), static_cast<size_t>(V * row_bytes))});
      continue;
    }
    float* values = keys + key_floats;
    for (int64_t v = 0; v < V; ++v) rows.Decode(first + N + v, {values + v * C, static_cast<size_t>(C)});
    heads.values.push_back({DType::kF32, V, C, bytes(at + key_floats, value_floats)});
  }
  return heads;
}

}  // namespace conclave::engine
