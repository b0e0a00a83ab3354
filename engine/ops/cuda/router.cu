// SPDX-License-Identifier: Apache-2.0
// Routing: a warp per token.
#include "engine/ops/cuda/router.cuh"

namespace conclave::engine::cuda {
namespace {

constexpr int kWarps = 2;

template <int kPerLane>
__global__ void __launch_bounds__(kWarps * 32) RouteKernel(RouteArgs a) {
  extern __shared__ float shared[];  // per warp: [E + groups]
  AwaitPrevious();
  AllowNext();
  const int warp = threadIdx.x / 32;
  const int64_t token = int64_t{blockIdx.x} * kWarps + warp;
  if (token >= a.tokens) return;
  RouteToken<kPerLane>(a, token, a.router.top_k, true, shared + warp * (a.router.experts + a.router.groups));
}

}  // namespace

void RouteTokens(const Stream& s, const RouteArgs& args) {
  const size_t floats = static_cast<size_t>(kWarps) * (args.router.experts + args.router.groups);
  const auto start = [&](auto kernel) {
    Launch(s, kernel, dim3(static_cast<unsigned>((args.tokens + kWarps - 1) / kWarps)), dim3(kWarps * 32),
           floats * sizeof(float), args);
  };
  static_assert(kExpertsMax == 64 * 32);
  if (args.router.experts <= 4 * 32) return start(RouteKernel<4>);
  if (args.router.experts <= 8 * 32) return start(RouteKernel<8>);
  start(RouteKernel<64>);
}

}  // namespace conclave::engine::cuda
