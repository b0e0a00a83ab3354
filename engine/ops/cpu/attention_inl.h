// SPDX-License-Identifier: Apache-2.0
// Paged attention over F32x16 and KvElement. Included like elementwise_inl.h, after it.
//
// Within a page each kv head has its keys in tiles of 16 positions, transposed to [Dk][16], so that q.k of 16 positions
// is a chain of vector multiply-adds; then its values, [B][Dv padded to 16].
//
// A task is one kv head's group of query heads for a few tokens. For each segment of kSegment positions: scores, page
// by page; softmax; values, page by page; merge with what earlier segments gave. Neighbouring tokens whose block tables
// hold the same page at a place are multiplied with that page together, as a matrix product: a shared prefix is read
// once for all who share it, and so are keys and values by the tokens of a prompt.
#pragma once

struct AttendState {
  float* q;                                          // [rows, Dk], scaled
  float* scores;                                     // [rows, kSegment], later the probabilities
  float* out;                                        // [rows, Dv padded], this segment
  float* total;                                      // [rows, Dv padded], merged
  float *maximum, *sum, *total_maximum, *total_sum;  // [rows]
};

inline int32_t Smaller(int32_t a, int32_t b) { return a < b ? a : b; }

inline int64_t AttendScratchFloats(int32_t dim_k, int32_t dim_v_padded, int32_t rows) {
  return int64_t{rows} * (((dim_k + 15) & ~15) + kSegment + 2 * dim_v_padded + 4) + 64;
}

inline AttendState CarveState(float* scratch, int32_t dim_k, int32_t dim_v_padded, int32_t rows) {
  AttendState s;
  s.scores = scratch;
  s.out = s.scores + int64_t{rows} * kSegment;
  s.total = s.out + int64_t{rows} * dim_v_padded;
  s.q = s.total + int64_t{rows} * dim_v_padded;
  s.maximum = s.q + int64_t{rows} * ((dim_k + 15) & ~15);
  s.sum = s.maximum + rows;
  s.total_maximum = s.sum + rows;
  s.total_sum = s.total_maximum + rows;
  return s;
}

// What to ask memory for while scores are computed, in step with the keys in use: the values of the same positions and
// the keys that come next. Pages are scattered, so the hardware cannot guess them.
struct KvAhead {
  const std::byte *values, *keys;
};

// scores[r, 0..16 kTiles) of kRows query rows against kTiles tiles of keys.
template <int kRows, int kTiles, bool kFetch>
inline void ScoreTiles(const float* q, int32_t dim_k, const KvElement* keys, KvAhead ahead, float* scores) {
  F32x16 sum[kRows][kTiles];
  for (int r = 0; r < kRows; ++r) {
    for (int t = 0; t < kTiles; ++t) sum[r][t] = Zero();
  }
  for (int32_t d = 0; d < dim_k; ++d) {
    F32x16 k[kTiles];
    for (int t = 0; t < kTiles; ++t) k[t] = LoadKv(keys + (int64_t{t} * dim_k + d) * kTile);
    if constexpr (kFetch) {
      constexpr int64_t kStep = kTiles * kTile * static_cast<int64_t>(sizeof(KvElement));
      __builtin_prefetch(ahead.values + d * kStep);
      __builtin_prefetch(ahead.keys + d * kStep);
    }
    for (int r = 0; r < kRows; ++r) {
      const F32x16 x = Broadcast(q[int64_t{r} * dim_k + d]);
      for (int t = 0; t < kTiles; ++t) sum[r][t] = Fma(x, k[t], sum[r][t]);
    }
  }
  for (int r = 0; r < kRows; ++r) {
    for (int t = 0; t < kTiles; ++t) Store(scores + int64_t{r} * kSegment + t * kTile, sum[r][t]);
  }
}

template <int kRows, bool kFetch>
inline void ScoreRows(const float* q, int32_t dim_k, const KvElement* keys, int32_t tiles, KvAhead ahead,
                      float* scores) {
  const int64_t tile = int64_t{dim_k} * kTile;
  int32_t t = 0;
  for (; t + kKeyTiles <= tiles; t += kKeyTiles) {
    const int64_t done = t * tile * static_cast<int64_t>(sizeof(KvElement));
    ScoreTiles<kRows, kKeyTiles, kFetch>(q, dim_k, keys + t * tile, {ahead.values + done, ahead.keys + done},
                                         scores + t * kTile);
  }
  for (; t < tiles; ++t) ScoreTiles<kRows, 1, false>(q, dim_k, keys + t * tile, ahead, scores + t * kTile);
}

// out[r] += sum over j < count of p[r, j] values[j], for kVectors vectors of 16 of the width.
template <int kRows, int kVectors>
inline void AddValueTile(const float* p, const KvElement* values, int32_t stride, int32_t count, float* out) {
  F32x16 sum[kRows][kVectors];
  for (int r = 0; r < kRows; ++r) {
    for (int c = 0; c < kVectors; ++c) sum[r][c] = Load(out + int64_t{r} * stride + c * 16);
  }
  for (int32_t j = 0; j < count; ++j) {
    F32x16 v[kVectors];
    for (int c = 0; c < kVectors; ++c) v[c] = LoadKv(values + int64_t{j} * stride + c * 16);
    for (int r = 0; r < kRows; ++r) {
      const F32x16 x = Broadcast(p[int64_t{r} * kSegment + j]);
      for (int c = 0; c < kVectors; ++c) sum[r][c] = Fma(x, v[c], sum[r][c]);
    }
  }
  for (int r = 0; r < kRows; ++r) {
    for (int c = 0; c < kVectors; ++c) Store(out + int64_t{r} * stride + c * 16, sum[r][c]);
  }
}

template <int kRows>
inline void AddValues(const float* p, const KvElement* values, int32_t width, int32_t count, float* out) {
  int32_t c = 0;
  for (; c + 16 * kValueVectors <= width; c += 16 * kValueVectors) {
    AddValueTile<kRows, kValueVectors>(p, values + c, width, count, out + c);
  }
  for (; c < width; c += 16) AddValueTile<kRows, 1>(p, values + c, width, count, out + c);
}

// Calls body<R>(first row) over `rows` rows in tiles of at most kRowTile.
template <typename Body>
inline void ForRowTiles(int32_t rows, Body body) {
  int32_t r = 0;
  for (; r + kRowTile <= rows; r += kRowTile) body.template operator()<kRowTile>(r);
  switch (rows - r) {
    case 1:
      return body.template operator()<1>(r);
    case 2:
      return body.template operator()<2>(r);
    case 3:
      return body.template operator()<3>(r);
    case 4:
      return body.template operator()<4>(r);
    case 5:
      return body.template operator()<5>(r);
    default:
      return;
  }
}

// Positions of a segment that a token sees, [begin, end); begin >= end: none.
struct Seen {
  int32_t begin, end;
};

// `x` of the 16 positions at `j`, `other` where they are not seen.
inline F32x16 WhereSeen(F32x16 x, F32x16 other, Seen seen, int32_t j) {
  x = FirstN(x, other, seen.end - j);
  return j < seen.begin ? FirstN(other, x, seen.begin - j) : x;
}

// Softmax of those of one row's scores of a segment that are seen, in place; the rest become 0.
inline void SoftmaxRow(float* scores, Seen seen, float* maximum, float* sum) {
  const int32_t start = seen.begin & ~15;
  const F32x16 lowest = Broadcast(-3.0e38f);
  F32x16 top = lowest;
  for (int32_t j = start; j < seen.end; j += 16) top = Max(top, WhereSeen(Load(scores + j), lowest, seen, j));
  *maximum = ReduceMax(top);
  const F32x16 shift = Broadcast(*maximum);
  F32x16 total = Zero();
  for (int32_t j = 0; j < kSegment; j += 16) {
    if (j < start || j >= seen.end) {
      Store(scores + j, Zero());
      continue;
    }
    const F32x16 p = WhereSeen(Exp(Sub(Load(scores + j), shift)), Zero(), seen, j);
    total = Add(total, p);
    Store(scores + j, p);
  }
  *sum = ReduceAdd(total);
}

// total := total merged with (maximum, sum, out), the next segment.
inline void MergeSegment(float maximum, float sum, const float* out, int32_t width, float* total_maximum,
                         float* total_sum, float* total) {
  const float top = maximum > *total_maximum ? maximum : *total_maximum;
  float factors[16] = {*total_maximum - top, maximum - top};
  Store(factors, Exp(Load(factors)));
  const F32x16 a = Broadcast(factors[0]), b = Broadcast(factors[1]);
  *total_maximum = top;
  *total_sum = *total_sum * factors[0] + sum * factors[1];
  for (int32_t c = 0; c < width; c += 16) {
    Store(total + c, Fma(Load(out + c), b, Mul(Load(total + c), a)));
  }
}

// The head's output from its running total.
inline void WriteOutput(const AttendArgs& a, const AttendRow& row, int32_t head, float maximum, float sum,
                        const float* total) {
  if (a.sinks != nullptr) {
    float lanes[16];
    Store(lanes, Exp(Broadcast(a.sinks[head] - maximum)));
    sum += lanes[0];
  }
  float* y = a.y + (int64_t{row.token} * a.heads + head) * a.dim_v;
  const F32x16 inverse = Broadcast(1.0f / sum);
  for (int32_t c = 0; c < a.dim_v; c += 16) StoreN(y + c, Mul(Load(total + c), inverse), a.dim_v - c);
}

// The first segment of which the token sees something.
inline int32_t FirstSegment(const AttendArgs& a, const AttendRow& row) {
  return row.position < a.window ? 0 : (row.position + 1 - a.window) / kSegment;
}

// What the token sees of the segment starting at `base`.
inline Seen SeenPositions(const AttendArgs& a, const AttendRow& row, int32_t base) {
  const int32_t end = Smaller(row.position + 1 - base, kSegment);
  const int32_t begin = row.position < a.window ? 0 : row.position + 1 - a.window - base;
  return {begin > 0 ? begin : 0, end};
}

// Neighbouring tokens that share a page, and the part of it that lies in a segment.
struct PageRun {
  int32_t first, tokens;       // of AttendArgs::rows
  const std::byte* head;       // the kv head within the page
  const std::byte* next_head;  // and within the page that follows, if the first token sees so far
  int32_t offset;              // of the part, in the page
  int32_t begin;               // of the part, in the segment
  int32_t positions;           // of the part: up to the last that any of the tokens sees
};

// Calls body(run) for every page of the segment at `base` and every run of tokens that see some of it.
template <typename Body>
inline void ForPageRuns(const AttendArgs& a, int32_t base, Body body) {
  for (int32_t begin = 0; begin < kSegment;) {
    const int32_t position = base + begin, page = position / a.page_tokens, offset = position % a.page_tokens;
    const int32_t length = Smaller(a.page_tokens - offset, kSegment - begin);
    bool any = false;
    for (int32_t i = 0; i < a.num_rows;) {
      Seen seen = SeenPositions(a, a.rows[i], base);
      any = any || seen.end > begin;
      if (seen.end <= begin || seen.begin >= begin + length) {
        ++i;
        continue;
      }
      const int32_t* pages = a.rows[i].pages;
      int32_t end = i + 1;
      for (; end < a.num_rows; ++end) {
        const Seen next = SeenPositions(a, a.rows[end], base);
        if (next.end <= begin || next.begin >= begin + length || a.rows[end].pages[page] != pages[page]) break;
        seen = {Smaller(seen.begin, next.begin), next.end > seen.end ? next.end : seen.end};
      }
      const std::byte* heads = a.pages + a.kv_head * a.head_bytes;
      const int32_t following = a.rows[i].position / a.page_tokens > page ? page + 1 : page;
      // Whole tiles that none of them sees are left out.
      const int32_t skipped = seen.begin > begin ? (seen.begin - begin) & ~(kTile - 1) : 0;
      body(PageRun{i, end - i, heads + pages[page] * a.page_bytes, heads + pages[following] * a.page_bytes,
                   offset + skipped, begin + skipped, Smaller(seen.end - begin, length) - skipped});
      i = end;
    }
    if (!any) return;
    begin += length;
  }
}

inline void ScoreRun(const AttendArgs& a, const AttendState& s, const PageRun& run) {
  const int32_t n = a.head_count, tiles = (run.positions + kTile - 1) / kTile;
  const KvElement* keys = reinterpret_cast<const KvElement*>(run.head) + int64_t{run.offset} * a.dim_k;
  const KvElement* values =
      reinterpret_cast<const KvElement*>(run.head + a.value_offset) + int64_t{run.offset} * a.dim_v_padded;
  const KvAhead ahead = {reinterpret_cast<const std::byte*>(values), run.next_head};
  ForRowTiles(run.tokens * n, [&]<int kRows>(int32_t tile) {
    const int64_t r = run.first * n + tile;
    const float* q = s.q + r * a.dim_k;
    float* scores = s.scores + r * kSegment + run.begin;
    if (tile == 0) {
      ScoreRows<kRows, true>(q, a.dim_k, keys, tiles, ahead, scores);
    } else {
      ScoreRows<kRows, false>(q, a.dim_k, keys, tiles, ahead, scores);
    }
  });
}

inline void AddRun(const AttendArgs& a, const AttendState& s, const PageRun& run) {
  const int32_t n = a.head_count, width = a.dim_v_padded;
  const KvElement* values = reinterpret_cast<const KvElement*>(run.head + a.value_offset) + int64_t{run.offset} * width;
  ForRowTiles(run.tokens * n, [&]<int kRows>(int32_t tile) {
    const int64_t r = run.first * n + tile;
    AddValues<kRows>(s.scores + r * kSegment + run.begin, values, width, run.positions, s.out + r * width);
  });
}

inline void AttendSegment(const AttendArgs& a, int32_t base, const AttendState& s) {
  const int32_t n = a.head_count, width = a.dim_v_padded;
  ForPageRuns(a, base, [&](const PageRun& run) { ScoreRun(a, s, run); });
  for (int32_t i = 0; i < a.num_rows; ++i) {
    const Seen seen = SeenPositions(a, a.rows[i], base);
    if (seen.begin >= seen.end) continue;
    for (int32_t r = i * n; r < (i + 1) * n; ++r) {
      SoftmaxRow(s.scores + int64_t{r} * kSegment, seen, s.maximum + r, s.sum + r);
      for (int32_t c = 0; c < width; c += 16) Store(s.out + int64_t{r} * width + c, Zero());
    }
  }
  ForPageRuns(a, base, [&](const PageRun& run) { AddRun(a, s, run); });
}

inline float* Partial(const AttendArgs& a, const AttendRow& row, int32_t segment, int32_t head) {
  return a.partials + ((row.partial + segment) * a.heads + head) * (2 + int64_t{a.dim_v_padded});
}

// Keeps a segment's result: in `partials`, or merged into the running total.
inline void FinishSegment(const AttendArgs& a, int32_t segment, const AttendState& s) {
  const int32_t n = a.head_count, width = a.dim_v_padded;
  for (int32_t i = 0; i < a.num_rows; ++i) {
    const Seen seen = SeenPositions(a, a.rows[i], segment * kSegment);
    if (seen.begin >= seen.end) continue;
    for (int32_t h = 0; h < n; ++h) {
      const int64_t r = i * n + h;
      const float* out = s.out + r * width;
      if (a.partials == nullptr && segment > FirstSegment(a, a.rows[i])) {
        MergeSegment(s.maximum[r], s.sum[r], out, width, s.total_maximum + r, s.total_sum + r, s.total + r * width);
        continue;
      }
      float* maximum = s.total_maximum + r;
      float* sum = s.total_sum + r;
      float* total = s.total + r * width;
      if (a.partials != nullptr) {
        maximum = Partial(a, a.rows[i], segment, a.head_begin + h);
        sum = maximum + 1;
        total = maximum + 2;
      }
      *maximum = s.maximum[r];
      *sum = s.sum[r];
      for (int32_t c = 0; c < width; c += 16) Store(total + c, Load(out + c));
    }
  }
}

inline void AttendTask(const AttendArgs& a) {
  const int32_t n = a.head_count;
  const AttendState s = CarveState(a.scratch, a.dim_k, a.dim_v_padded, a.num_rows * n);
  const F32x16 scale = Broadcast(a.scale);
  for (int32_t i = 0; i < a.num_rows; ++i) {
    const float* q = a.q + a.rows[i].token * a.q_stride + int64_t{a.head_begin} * a.dim_k;
    float* scaled = s.q + int64_t{i} * n * a.dim_k;
    const int64_t count = int64_t{n} * a.dim_k;
    for (int64_t d = 0; d < count; d += 16) StoreN(scaled + d, Mul(LoadN(q + d, count - d), scale), count - d);
  }
  int32_t first = a.segment_end;
  for (int32_t i = 0; i < a.num_rows; ++i) first = Smaller(first, FirstSegment(a, a.rows[i]));
  for (int32_t segment = first > a.segment_begin ? first : a.segment_begin; segment < a.segment_end; ++segment) {
    AttendSegment(a, segment * kSegment, s);
    FinishSegment(a, segment, s);
  }
  if (a.partials != nullptr) return;
  for (int32_t i = 0; i < a.num_rows; ++i) {
    for (int32_t h = 0; h < n; ++h) {
      const int64_t r = i * n + h;
      WriteOutput(a, a.rows[i], a.head_begin + h, s.total_maximum[r], s.total_sum[r], s.total + r * a.dim_v_padded);
    }
  }
}

// Uses the first segment's partials as the running total.
inline void MergeRow(const AttendArgs& a, const AttendRow& row) {
  const int32_t first = FirstSegment(a, row), segments = row.position / kSegment + 1;
  for (int32_t h = a.head_begin; h < a.head_begin + a.head_count; ++h) {
    float* total = Partial(a, row, first, h);
    for (int32_t segment = first + 1; segment < segments; ++segment) {
      const float* next = Partial(a, row, segment, h);
      MergeSegment(next[0], next[1], next + 2, a.dim_v_padded, total, total + 1, total + 2);
    }
    WriteOutput(a, row, h, total[0], total[1], total + 2);
  }
}

inline void KvWriteHead(std::byte* head, int64_t value_offset, int32_t offset, const float* k, int32_t dim_k,
                        const float* v, int32_t dim_v, int32_t dim_v_padded) {
  KvElement* keys = reinterpret_cast<KvElement*>(head) + int64_t{offset / kTile} * dim_k * kTile + offset % kTile;
  for (int32_t d = 0; d < dim_k; d += 16) {
    KvElement lanes[16];
    StoreKv(lanes, LoadN(k + d, dim_k - d));
    for (int32_t i = 0; i < Smaller(16, dim_k - d); ++i) keys[int64_t{d + i} * kTile] = lanes[i];
  }
  KvElement* values = reinterpret_cast<KvElement*>(head + value_offset) + int64_t{offset} * dim_v_padded;
  for (int32_t d = 0; d < dim_v_padded; d += 16) StoreKv(values + d, LoadN(v + d, dim_v - d));
}
