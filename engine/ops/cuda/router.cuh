// SPDX-License-Identifier: Apache-2.0
// Routing of one token by one warp.
#pragma once

#include <climits>

#include "engine/ops/cuda/device.cuh"
#include "engine/ops/cuda/grouped.h"

namespace conclave::engine::cuda {

// Numbers in the order of their values; what is not a number is the least; 0: cannot be chosen (any more).
__device__ inline uint32_t KeyOf(float v) {
  const uint32_t bits = __float_as_uint(v != v ? -INFINITY : v + 0.0f);  // -0 as 0
  return (bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u;
}
__device__ inline float ValueOf(uint32_t key) {
  return __uint_as_float((key & 0x80000000u) != 0 ? key ^ 0x80000000u : ~key);
}

// Element lane + 32 i is keys[i]. The place of the largest, of equal ones the first, which is taken out. Some must be
// in.
template <int kPerLane>
__device__ int TakeBest(uint32_t (&keys)[kPerLane]) {
  const int lane = threadIdx.x % 32;
  uint32_t best = 0;
  int at = INT_MAX;
#pragma unroll
  for (int i = 0; i < kPerLane; ++i) {
    if (keys[i] > best) best = keys[i], at = lane + 32 * i;
  }
  const uint32_t largest = __reduce_max_sync(0xffffffffu, best);
  at = __reduce_min_sync(0xffffffffu, best == largest ? at : INT_MAX);
#pragma unroll
  for (int i = 0; i < kPerLane; ++i) {
    if (at == lane + 32 * i) keys[i] = 0;
  }
  return at;
}

// An element of all lanes' arrays.
template <int kPerLane>
__device__ float Element(const float (&values)[kPerLane], int at) {
  float mine = 0;
#pragma unroll
  for (int i = 0; i < kPerLane; ++i) mine = at / 32 == i ? values[i] : mine;
  return __shfl_sync(0xffffffffu, mine, at % 32);
}

template <int kPerLane>
__device__ void Score(const RouteArgs& a, int64_t token, float (&scores)[kPerLane], uint32_t (&choices)[kPerLane]) {
  const int lane = threadIdx.x % 32, experts = a.router.experts;
  const float* logits = a.logits + token * experts;
  const bool softmax = a.router.scores == RouterSpec::Scores::kSoftmax;
  float bias[kPerLane], top = -INFINITY, sum = 0;
#pragma unroll
  for (int i = 0; i < kPerLane; ++i) {
    const int e = lane + 32 * i;
    scores[i] = e < experts ? logits[e] : -INFINITY;
    bias[i] = a.bias != nullptr && e < experts ? a.bias[e] : 0.0f;
    top = fmaxf(top, scores[i]);
  }
  top = ValueOf(__reduce_max_sync(0xffffffffu, KeyOf(top)));
#pragma unroll
  for (int i = 0; i < kPerLane; ++i) {
    scores[i] = softmax ? expf(scores[i] - top) : 1.0f / (1.0f + expf(-scores[i]));
    if (lane + 32 * i < experts) sum += scores[i];
  }
  sum = WarpSum(sum);
#pragma unroll
  for (int i = 0; i < kPerLane; ++i) {
    if (softmax) scores[i] /= sum;
    choices[i] = lane + 32 * i < experts ? KeyOf(scores[i] + bias[i]) : 0;
  }
}

// Takes out the experts of all but the best groups. shared: [E + groups] of this warp.
template <int kPerLane>
__device__ void KeepGroups(const RouterSpec& router, uint32_t (&choices)[kPerLane], float* shared) {
  const int lane = threadIdx.x % 32, size = router.experts / router.groups;
  const bool second_too = router.group_score == RouterSpec::GroupScore::kTopTwoSum && size > 1;
  uint32_t* kept = reinterpret_cast<uint32_t*>(shared + router.experts);  // per group: 0 if it is
#pragma unroll
  for (int i = 0; i < kPerLane; ++i) {
    if (lane + 32 * i < router.experts) shared[lane + 32 * i] = ValueOf(choices[i]);
  }
  __syncwarp();
  uint32_t groups[kPerLane];
#pragma unroll
  for (int g = 0; g < kPerLane; ++g) {
    const int group = lane + 32 * g;
    float best = -INFINITY, second = -INFINITY;
    for (int i = 0; group < router.groups && i < size; ++i) {
      const float v = shared[group * size + i];
      second = fmaxf(second, fminf(best, v));
      best = fmaxf(best, v);
    }
    groups[g] = group < router.groups ? KeyOf(second_too ? best + second : best) : 0;
  }
  for (int i = 0; i < router.top_groups; ++i) TakeBest(groups);
#pragma unroll
  for (int g = 0; g < kPerLane; ++g) {
    if (lane + 32 * g < router.groups) kept[lane + 32 * g] = groups[g];
  }
  __syncwarp();
#pragma unroll
  for (int i = 0; i < kPerLane; ++i) {
    const int e = lane + 32 * i;
    if (e < router.experts && kept[e / size] != 0) choices[i] = 0;
  }
}

// Chooses a token's experts as one warp, slot by slot. Returns that of `slots` - 1, -1 if there is none. Writes ids and
// weights, where wanted: then `slots` must be all. shared: [E + groups] of this warp, where there are groups.
template <int kPerLane>
__device__ int RouteToken(const RouteArgs& a, int64_t token, int slots, bool write, float* shared) {
  const int lane = threadIdx.x % 32;
  const RouterSpec& router = a.router;
  const int own = a.experts_of_token[token], count = own > 0 ? min(own, router.top_k) : router.top_k;
  float scores[kPerLane];
  uint32_t choices[kPerLane];
  Score(a, token, scores, choices);
  if (router.top_groups < router.groups) KeepGroups(router, choices, shared);
  int32_t* ids = a.ids + token * router.top_k;
  float* weights = a.weights + token * router.top_k;
  float total = router.sum_epsilon;
  int expert = -1;
  for (int slot = 0; slot < slots; ++slot) {
    expert = slot < count ? TakeBest(choices) : -1;
    if (!write) continue;
    const float score = expert < 0 ? 0.0f : Element(scores, expert);
    total += score;
    if (slot % 32 == lane) {
      ids[slot] = expert;
      weights[slot] = score;
    }
  }
  for (int slot = lane; write && slot < router.top_k; slot += 32) {
    weights[slot] = slot < count ? weights[slot] / (router.normalise ? total : 1.0f) * router.scale : 0.0f;
  }
  return expert;
}

}  // namespace conclave::engine::cuda
