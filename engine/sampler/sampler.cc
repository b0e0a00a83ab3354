// SPDX-License-Identifier: Apache-2.0
#include "engine/sampler/sampler.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

#include "common/check.h"
#include "common/hash.h"
#include "common/status.h"
#include "engine/sampler/logit_math.h"

namespace conclave::engine {
namespace {

constexpr float kImpossible = -std::numeric_limits<float>::infinity();

// More likely first; of equal ones the lower id. `value` indexes logits or weights by token.
struct MoreLikely {
  std::span<const float> value;
  bool operator()(TokenId a, TokenId b) const {
    const float x = value[static_cast<size_t>(a)], y = value[static_cast<size_t>(b)];
    return x != y ? x > y : a < b;
  }
};

// The `count` most likely tokens, best first. One pass with a heap of the best so far, whose front is the worst of
// them: most tokens cost one comparison.
void SelectTop(std::span<const float> values, size_t count, std::vector<TokenId>* tokens) {
  tokens->clear();
  if (count == 0) return;
  const MoreLikely more_likely = {values};
  if (count >= values.size() / 8) {  // a heap would be slower than selecting
    for (size_t i = 0; i < values.size(); ++i) tokens->push_back(static_cast<TokenId>(i));
    if (count < tokens->size()) {
      std::nth_element(tokens->begin(), tokens->begin() + static_cast<std::ptrdiff_t>(count), tokens->end(),
                       more_likely);
      tokens->resize(count);
    }
    std::sort(tokens->begin(), tokens->end(), more_likely);
    return;
  }
  for (size_t i = 0; i < count; ++i) tokens->push_back(static_cast<TokenId>(i));
  std::make_heap(tokens->begin(), tokens->end(), more_likely);
  float worst = values[static_cast<size_t>(tokens->front())];
  for (size_t i = count; i < values.size(); ++i) {
    if (!(values[i] > worst)) continue;  // equal: the lower id stays
    std::pop_heap(tokens->begin(), tokens->end(), more_likely);
    tokens->back() = static_cast<TokenId>(i);
    std::push_heap(tokens->begin(), tokens->end(), more_likely);
    worst = values[static_cast<size_t>(tokens->front())];
  }
  std::sort_heap(tokens->begin(), tokens->end(), more_likely);
}

// `to` is `from` with -infinity where a bit is not set; they may be the same. Whole words of the mask are alike mostly.
void Forbid(std::span<const uint64_t> allowed, std::span<const float> from, std::span<float> to) {
  CONCLAVE_CHECK(allowed.size() == (from.size() + 63) / 64);
  for (size_t word = 0; word < allowed.size(); ++word) {
    const uint64_t bits = allowed[word];
    const size_t begin = word * 64, count = std::min<size_t>(64, from.size() - begin);
    const float* const source = from.data() + begin;
    float* const target = to.data() + begin;
    if (bits == 0) {
      std::fill_n(target, count, kImpossible);
    } else if (bits == ~uint64_t{0}) {
      if (source != target) std::copy_n(source, count, target);
    } else {
      constexpr float kAdded[] = {kImpossible, 0.0f};
      for (size_t i = 0; i < count; ++i) target[i] = source[i] + kAdded[bits >> i & 1];
    }
  }
}

// Where a mask leaves few tokens, their logits alone, and which they are: false, and nothing done, where it leaves
// many.
bool GatherAllowed(std::span<const uint64_t> allowed, std::span<const float> logits, SamplerWorkspace* w) {
  if (allowed.empty()) return false;
  CONCLAVE_CHECK(allowed.size() == (logits.size() + 63) / 64);
  size_t count = 0;
  for (const uint64_t bits : allowed) count += static_cast<size_t>(std::popcount(bits));
  if (count > logits.size() / 8) return false;
  w->allowed.clear();
  std::vector<float>& gathered = w->gathered;
  gathered.clear();
  for (size_t word = 0; word < allowed.size(); ++word) {
    for (uint64_t bits = allowed[word]; bits != 0; bits &= bits - 1) {
      const size_t i = word * 64 + static_cast<size_t>(std::countr_zero(bits));
      if (i >= logits.size()) break;
      w->allowed.push_back(static_cast<TokenId>(i));
      gathered.push_back(logits[i]);
    }
  }
  return true;
}

// Bias, penalties and mask applied to a copy; the input's own logits if there is nothing to apply; w->gathered of the
// tokens in w->allowed alone where the mask leaves few.
std::span<const float> AdjustLogits(const SampleInput& input, SamplerWorkspace* w) {
  const SamplerParams& p = *input.params;
  if (p.logit_bias.empty() && !p.HasPenalties()) {
    if (input.allowed.empty()) return input.logits;
    if (GatherAllowed(input.allowed, input.logits, w)) return w->gathered;
    w->logits.resize(input.logits.size());
    Forbid(input.allowed, input.logits, w->logits);
    return w->logits;
  }
  w->logits.assign(input.logits.begin(), input.logits.end());
  for (const SamplerParams::Bias& bias : p.logit_bias) {
    w->logits[static_cast<size_t>(bias.token)] += bias.bias <= kBanBias ? kImpossible : bias.bias;
  }
  if (p.HasPenalties()) {
    CONCLAVE_CHECK(input.counts != nullptr);
    for (const auto& [token, count] : input.counts->counts()) {
      if (token < 0 || static_cast<size_t>(token) >= w->logits.size()) continue;
      float& l = w->logits[static_cast<size_t>(token)];
      l = l > 0 ? l / p.repetition_penalty : l * p.repetition_penalty;
      if (count.in_output > 0) {
        l -= p.frequency_penalty * static_cast<float>(count.in_output) + p.presence_penalty;
      }
    }
  }
  if (input.allowed.empty()) return w->logits;
  if (GatherAllowed(input.allowed, w->logits, w)) return w->gathered;
  Forbid(input.allowed, w->logits, w->logits);
  return w->logits;
}

// Which tokens the filters keep: those with a weight above `weight`, and those of that weight up to `token`.
struct Cut {
  float weight = 0;  // the least positive weight is above it
  TokenId token = -1;
  bool Keeps(float w, size_t i) const { return w > weight || (w == weight && static_cast<TokenId>(i) <= token); }
};

// The cut of top_p over all weights, whose sum is `total`, without sorting them. Weights are put into buckets by the
// top bits of their float representation, which order as the numbers do: 16 buckets per power of two. The buckets say
// in which of them the list ends; only that one is sorted.
Cut CutAtTopP(std::span<const float> weights, double total, float top_p, SamplerWorkspace* w) {
  constexpr int kShift = 19;
  const auto bucket_of = [](float x) { return static_cast<size_t>(std::bit_cast<uint32_t>(x) >> kShift); };
  const size_t buckets = bucket_of(1.0f) + 1;  // weights are in [0, 1]
  w->mass.assign(buckets, 0.0);
  for (const float x : weights) w->mass[std::min(bucket_of(x), buckets - 1)] += static_cast<double>(x);
  const double wanted = static_cast<double>(top_p) * total;
  double sum = 0;
  size_t last = buckets - 1;
  for (; last > 0 && sum + w->mass[last] < wanted; --last) sum += w->mass[last];
  w->tokens.clear();
  for (size_t i = 0; i < weights.size(); ++i) {
    if (std::min(bucket_of(weights[i]), buckets - 1) == last && weights[i] > 0) {
      w->tokens.push_back(static_cast<TokenId>(i));
    }
  }
  if (w->tokens.empty()) return {};  // rounding: all of the weights are needed
  std::sort(w->tokens.begin(), w->tokens.end(), MoreLikely{weights});
  TokenId token = w->tokens.front();
  for (const TokenId t : w->tokens) {
    token = t;
    sum += static_cast<double>(weights[static_cast<size_t>(t)]);
    if (sum >= wanted) break;
  }
  return {weights[static_cast<size_t>(token)], token};
}

// Draws by `uniform` among the weights that `cut` keeps and that are at least min_p. `max_weight` is always kept.
TokenId Draw(std::span<const float> weights, const Cut& cut, float min_p, double uniform, SamplerWorkspace* w) {
  const auto kept = [&](size_t i) {
    const float x = weights[i];
    return x >= min_p && cut.Keeps(x, i) ? static_cast<double>(x) : 0.0;
  };
  double total = 0;
  w->mass.clear();
  for (size_t block = 0; block < weights.size(); block += kWeightBlock) {
    const size_t end = std::min(block + kWeightBlock, weights.size());
    double sum = 0;
    for (size_t i = block; i < end; ++i) sum += kept(i);
    w->mass.push_back(sum);
    total += sum;
  }
  double rest = uniform * total;
  size_t last_kept = 0;
  for (size_t b = 0; b < w->mass.size(); ++b) {
    if (w->mass[b] <= 0) continue;
    const size_t begin = b * kWeightBlock;
    const size_t end = std::min(begin + kWeightBlock, weights.size());
    const bool inside = rest < w->mass[b];
    if (!inside) rest -= w->mass[b];
    for (size_t i = begin; i < end; ++i) {
      const double x = kept(i);
      if (x <= 0) continue;
      last_kept = i;
      if (inside && (rest -= x) < 0) return static_cast<TokenId>(i);
    }
    if (inside) break;  // rounding took it past the block's end: its last token
  }
  return static_cast<TokenId>(last_kept);
}

TokenId DrawFromAll(std::span<const float> logits, float max, const SamplerParams& p, double uniform,
                    SamplerWorkspace* w) {
  w->weights.resize(logits.size());
  const double total = ExpWeights(logits, max, 1.0f / p.temperature, w->weights);
  const Cut cut = p.top_p < 1.0f ? CutAtTopP(w->weights, total, p.top_p, w) : Cut{};
  return Draw(w->weights, cut, p.min_p, uniform, w);
}

TokenId DrawFromTopK(std::span<const float> logits, float max, const SamplerParams& p, double uniform,
                     SamplerWorkspace* w) {
  SelectTop(logits, static_cast<size_t>(p.top_k), &w->tokens);
  // The same arithmetic as over all, on the gathered logits.
  w->weights.clear();
  for (const TokenId t : w->tokens) w->weights.push_back(logits[static_cast<size_t>(t)]);
  const double total = ExpWeights(w->weights, max, 1.0f / p.temperature, w->weights);
  const double wanted = static_cast<double>(p.top_p) * total;
  size_t kept = 0;
  double sum = 0;
  while (kept < w->tokens.size() && (kept == 0 || (sum < wanted && w->weights[kept] >= p.min_p))) {
    sum += static_cast<double>(w->weights[kept++]);
  }
  while (kept > 1 && w->weights[kept - 1] <= 0) --kept;
  // In the order of ids, as over all.
  w->tokens.resize(kept);
  std::sort(w->tokens.begin(), w->tokens.end());
  w->weights.clear();
  for (const TokenId t : w->tokens) w->weights.push_back(logits[static_cast<size_t>(t)]);
  double rest = uniform * ExpWeights(w->weights, max, 1.0f / p.temperature, w->weights);
  for (size_t i = 0; i < kept; ++i) {
    rest -= static_cast<double>(w->weights[i]);
    if (rest < 0) return w->tokens[i];
  }
  return w->tokens.back();
}

absl::Status NumericFailure(std::span<const float> logits) {
  size_t bad = 0;
  while (bad < logits.size() && logits[bad] <= std::numeric_limits<float>::max()) ++bad;
  if (bad == logits.size()) return Internal("NUMERIC_FAILURE all {} logits are -infinity", logits.size());
  return Internal("NUMERIC_FAILURE the logit of token {} is {}", bad, logits[bad]);
}

}  // namespace

absl::StatusOr<SampleOutput> SampleToken(const SampleInput& input, SamplerWorkspace* workspace) {
  CONCLAVE_CHECK(!input.logits.empty() && input.params != nullptr);
  CONCLAVE_CHECK(input.top_logprobs <= kSamplerTopLogprobsMax);
  const LogitPeak raw = FindPeak(input.logits);
  if (!raw.numeric || raw.max == kImpossible) return NumericFailure(input.logits);
  const SamplerParams& p = *input.params;
  const std::span<const float> logits = AdjustLogits(input, workspace);
  const bool gathered = !input.allowed.empty() && logits.data() == workspace->gathered.data();
  const bool none = logits.empty();
  const LogitPeak peak = none                                   ? LogitPeak{kImpossible, 0, true}
                         : logits.data() == input.logits.data() ? raw
                                                                : FindPeak(logits);
  if (!peak.numeric) return NumericFailure(logits);  // a penalty or bias overflowed
  if (peak.max == kImpossible) {
    return FailedPrecondition("NO_TOKEN_ALLOWED bans and the mask of allowed tokens leave none of {}",
                              input.logits.size());
  }

  SampleOutput output;
  if (p.temperature == 0) {
    output.token = static_cast<TokenId>(peak.index);
  } else {
    const double uniform = PhiloxUniform(input.seed, input.candidate, input.position);
    const bool top_k = p.top_k > 0 && static_cast<size_t>(p.top_k) < logits.size();
    output.token = top_k ? DrawFromTopK(logits, peak.max, p, uniform, workspace)
                         : DrawFromAll(logits, peak.max, p, uniform, workspace);
  }
  if (gathered) output.token = workspace->allowed[static_cast<size_t>(output.token)];
  if (input.top_logprobs < 0) return output;

  const double log_sum = static_cast<double>(raw.max) + std::log(ExpSum(input.logits, raw.max, 1.0f));
  const auto logprob = [&](TokenId t) {
    return static_cast<float>(static_cast<double>(input.logits[static_cast<size_t>(t)]) - log_sum);
  };
  output.logprob = logprob(output.token);
  const size_t count = std::min(static_cast<size_t>(input.top_logprobs), input.logits.size());
  SelectTop(input.logits, count, &workspace->tokens);
  workspace->top.clear();
  for (const TokenId t : workspace->tokens) workspace->top.push_back({t, logprob(t)});
  output.top = workspace->top;
  return output;
}

absl::StatusOr<double> LogprobOf(std::span<const float> logits, TokenId token) {
  CONCLAVE_CHECK(token >= 0 && static_cast<size_t>(token) < logits.size());
  const LogitPeak peak = FindPeak(logits);
  if (!peak.numeric || peak.max == kImpossible) return NumericFailure(logits);
  return static_cast<double>(logits[static_cast<size_t>(token)]) - static_cast<double>(peak.max) -
         std::log(ExpSum(logits, peak.max, 1.0f));
}

absl::Status CheckSamplerParams(const SamplerParams& p, int32_t vocab) {
  if (!(p.temperature >= 0 && std::isfinite(p.temperature))) {
    return InvalidArgument("temperature is {}, at least 0 and finite expected", p.temperature);
  }
  if (p.top_k < 0) return InvalidArgument("top_k is {}, at least 0 expected (0 turns it off)", p.top_k);
  if (!(p.top_p > 0 && p.top_p <= 1)) return InvalidArgument("top_p is {}, above 0 and up to 1 expected", p.top_p);
  if (!(p.min_p >= 0 && p.min_p <= 1)) return InvalidArgument("min_p is {}, 0 to 1 expected", p.min_p);
  if (!(p.repetition_penalty > 0 && std::isfinite(p.repetition_penalty))) {
    return InvalidArgument("repetition_penalty is {}, above 0 and finite expected", p.repetition_penalty);
  }
  if (!std::isfinite(p.frequency_penalty) || !std::isfinite(p.presence_penalty)) {
    return InvalidArgument("frequency_penalty is {} and presence_penalty {}, finite numbers expected",
                           p.frequency_penalty, p.presence_penalty);
  }
  if (p.logit_bias.size() > kSamplerBiasMax) {
    return InvalidArgument("logit_bias has {} entries, at most {} allowed", p.logit_bias.size(), kSamplerBiasMax);
  }
  for (const SamplerParams::Bias& bias : p.logit_bias) {
    if (bias.token < 0 || bias.token >= vocab) {
      return InvalidArgument("logit_bias names token {}, the vocabulary has {}", bias.token, vocab);
    }
    if (!std::isfinite(bias.bias)) return InvalidArgument("logit_bias of token {} is {}", bias.token, bias.bias);
  }
  return absl::OkStatus();
}

}  // namespace conclave::engine
