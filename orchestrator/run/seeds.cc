// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/run/seeds.h"

#include <numeric>
#include <utility>

#include "common/hash.h"

namespace conclave::orchestrator {

uint64_t QuestionHash(const std::map<std::string, std::string>& inputs) {
  constexpr std::string_view kNul("\0", 1);
  uint64_t h = Fnv1a64("");
  for (const auto& [name, value] : inputs) h = Fnv1a64(kNul, Fnv1a64(value, Fnv1a64(kNul, Fnv1a64(name, h))));
  return h;
}

uint64_t DeriveSeed(const SeedKey& key) {
  uint64_t h = Mix64(key.run_seed);
  h = Mix64(h ^ key.question);
  h = Mix64(h ^ Fnv1a64(key.node_path));
  h = Mix64(h ^ Fnv1a64(key.member));
  h = Mix64(h ^ static_cast<uint64_t>(key.sample));
  h = Mix64(h ^ static_cast<uint64_t>(key.subject + 1));
  return h & 0x7fff'ffff'ffff'ffffULL;
}

std::vector<int32_t> Permutation(uint64_t seed, int32_t n) {
  std::vector<int32_t> order(static_cast<size_t>(n));
  std::iota(order.begin(), order.end(), 0);
  for (int32_t i = n - 1; i > 0; --i) {
    const double u = PhiloxUniform(seed, static_cast<uint64_t>(n), static_cast<uint64_t>(i));
    const auto j = static_cast<size_t>(u * static_cast<double>(i + 1));  // u < 1, so j <= i
    std::swap(order[static_cast<size_t>(i)], order[j]);
  }
  return order;
}

}  // namespace conclave::orchestrator
