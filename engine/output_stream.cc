// SPDX-License-Identifier: Apache-2.0
#include "engine/output_stream.h"

#include <algorithm>
#include <cmath>

#include "common/hash.h"
#include "common/status.h"
#include "engine/tokenizer/stream_decoder.h"

namespace conclave::engine {
namespace {

class SampledStream final : public OutputStream {
 public:
  SampledStream(std::shared_ptr<const OutputRules> rules, int32_t sample, const Tokenizer& tokenizer)
      : rules_(std::move(rules)), sample_(sample), tokenizer_(tokenizer), decoder_(&tokenizer) {}

  void Begin(std::span<const TokenId> /*prompt*/, std::span<const TokenId> continued) override {
    std::string text;
    for (const TokenId token : continued) decoder_.Append(token, &text);
    drawn_ = continued.size();
  }

  absl::StatusOr<TokenId> Next(std::span<float> logits, bool last, SampleDelta* delta) override {
    const size_t best = std::max_element(logits.begin(), logits.end()) - logits.begin();
    double sum = 0;
    for (const float logit : logits) sum += std::exp(static_cast<double>(logit) - logits[best]);
    if (!std::isfinite(sum)) return Internal("NUMERIC_FAILURE: the logits are not numbers");
    size_t chosen = best;
    if (rules_->sampling.temperature > 0) {
      double total = 0;
      const double scale = 1.0 / rules_->sampling.temperature;
      for (const float logit : logits) total += std::exp((static_cast<double>(logit) - logits[best]) * scale);
      double rest = PhiloxUniform(rules_->seed, sample_, drawn_) * total;
      for (chosen = 0; chosen + 1 < logits.size(); ++chosen) {
        rest -= std::exp((static_cast<double>(logits[chosen]) - logits[best]) * scale);
        if (rest < 0) break;
      }
    }
    ++drawn_;
    const auto token = static_cast<TokenId>(chosen);
    delta->tokens.push_back(token);
    if (rules_->top_logprobs >= 0) {
      delta->logprobs.push_back({token, static_cast<float>(logits[chosen] - logits[best] - std::log(sum))});
    }
    const bool ends = !rules_->stopping.ignore_end_of_sequence && tokenizer_.IsEnd(token);
    if (ends) {
      delta->finished = FinishReason::kStop;
    } else {
      decoder_.Append(token, &delta->text);
      if (last) delta->finished = FinishReason::kLength;
    }
    if (delta->finished.has_value()) decoder_.Finish(&delta->text);
    return token;
  }

 private:
  const std::shared_ptr<const OutputRules> rules_;
  const int32_t sample_;
  const Tokenizer& tokenizer_;
  StreamDecoder decoder_;
  uint64_t drawn_ = 0;
};

}  // namespace

std::unique_ptr<OutputStream> OutputStream::Create(std::shared_ptr<const OutputRules> rules, int32_t sample,
                                                   const Tokenizer& tokenizer) {
  return std::make_unique<SampledStream>(std::move(rules), sample, tokenizer);
}

}  // namespace conclave::engine
