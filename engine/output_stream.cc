// SPDX-License-Identifier: Apache-2.0
#include "engine/output_stream.h"

#include <algorithm>
#include <optional>

#include "common/status.h"
#include "engine/sampler/token_counts.h"
#include "engine/tokenizer/stream_decoder.h"

namespace conclave::engine {
namespace {

constexpr size_t kReservedOutputTokens = 1024;  // distinct ones, where the request names no limit

class SampledStream final : public OutputStream {
 public:
  SampledStream(std::shared_ptr<const OutputRules> rules, int32_t sample, const Tokenizer& tokenizer)
      : rules_(std::move(rules)),
        sample_(static_cast<uint64_t>(sample)),
        tokenizer_(tokenizer),
        decoder_(&tokenizer),
        stop_(rules_->stop_strings) {
    if (rules_->constraint != nullptr) matcher_ = std::make_unique<grammar::ConstraintMatcher>(rules_->constraint);
  }

  absl::Status Begin(std::span<const TokenId> prompt, std::span<const TokenId> continued) override {
    if (rules_->sampler.HasPenalties()) {
      const auto limit = static_cast<size_t>(rules_->stopping.output_tokens_max);
      counts_.Reserve(prompt.size() + std::max(continued.size(), limit == 0 ? kReservedOutputTokens : limit));
      counts_.AddPrompt(prompt);
      for (const TokenId token : continued) counts_.AddOutput(token);
    }
    std::string reported;  // by whoever began the sample
    ended_before_ = !continued.empty() && EndsText(continued.back());
    for (const TokenId token : continued.first(continued.size() - (ended_before_ ? 1 : 0))) {  // an end has no text
      AppendToken(token, &reported);
      if (matcher_ != nullptr) RETURN_IF_ERROR(matcher_->Append(token));
    }
    if (!continued.empty() && matcher_ != nullptr && matcher_->exhausted()) ended_before_ = true;
    if (ended_before_ && stopped_by_ == nullptr) Flush(&reported);
    if (stopped_by_ != nullptr) ended_before_ = true;
    drawn_ = continued.size();
    return absl::OkStatus();
  }

  bool EndedBefore(SampleDelta* delta) const override {
    if (!ended_before_) return false;
    delta->finished = FinishReason::kStop;
    if (stopped_by_ != nullptr) delta->stop_match = *stopped_by_;
    return true;
  }

  absl::StatusOr<TokenId> Next(std::span<const float> logits, bool last, SamplerWorkspace* workspace,
                               SampleDelta* delta) override {
    SampleInput input;
    input.logits = logits;
    input.params = &rules_->sampler;
    input.counts = &counts_;
    input.seed = rules_->seed;
    input.candidate = sample_;
    input.position = drawn_;
    input.top_logprobs = rules_->top_logprobs;
    grammar::TokenMask mask;  // until it was used
    if (matcher_ != nullptr) {
      ASSIGN_OR_RETURN(mask, AllowedTokens());
      input.allowed = *mask;
    }
    ASSIGN_OR_RETURN(const SampleOutput drawn, SampleToken(input, workspace));
    ++drawn_;
    if (rules_->sampler.HasPenalties()) counts_.AddOutput(drawn.token);
    delta->tokens.push_back(drawn.token);
    if (rules_->top_logprobs >= 0) delta->logprobs.push_back({drawn.token, drawn.logprob});
    if (rules_->top_logprobs > 0) {
      std::vector<TokenLogprob>& top = delta->top_logprobs.emplace_back();
      for (const SampleOutput::Logprob& entry : drawn.top) top.push_back({entry.token, entry.logprob});
    }

    if (EndsText(drawn.token)) {
      delta->finished = FinishReason::kStop;
    } else {
      AppendToken(drawn.token, &delta->text);
      if (matcher_ != nullptr) {
        RETURN_IF_ERROR(matcher_->Append(drawn.token));
        if (matcher_->exhausted()) delta->finished = FinishReason::kStop;
      }
      if (stopped_by_ == nullptr && last && !delta->finished.has_value()) delta->finished = FinishReason::kLength;
    }
    if (stopped_by_ == nullptr && delta->finished.has_value()) Flush(&delta->text);
    if (stopped_by_ != nullptr) {
      delta->finished = FinishReason::kStop;
      delta->stop_match = *stopped_by_;
    }
    return drawn.token;
  }

 private:
  bool EndsText(TokenId token) const {
    const Stopping& stopping = rules_->stopping;
    return (!stopping.ignore_end_of_sequence && tokenizer_.IsEnd(token)) ||
           std::find(stopping.stop_tokens.begin(), stopping.stop_tokens.end(), token) != stopping.stop_tokens.end();
  }

  // What the constraint allows, end and stop tokens as the request wants them.
  absl::StatusOr<grammar::TokenMask> AllowedTokens() {
    ASSIGN_OR_RETURN(grammar::TokenMask mask, matcher_->Allowed());
    const Stopping& stopping = rules_->stopping;
    const bool stops = !stopping.stop_tokens.empty() && matcher_->complete();
    if (!stopping.ignore_end_of_sequence && !stops) return mask;
    auto changed = std::make_shared<std::vector<uint64_t>>(*mask);
    const auto word = [&](TokenId token) -> uint64_t& { return (*changed)[static_cast<size_t>(token) / 64]; };
    const auto bit = [](TokenId token) { return uint64_t{1} << (token % 64); };
    if (stopping.ignore_end_of_sequence) {
      for (const TokenId token : tokenizer_.end_tokens()) {
        if (static_cast<size_t>(token) / 64 < changed->size()) word(token) &= ~bit(token);
      }
    }
    for (const TokenId token : stopping.stop_tokens) word(token) |= stops ? bit(token) : 0;
    return grammar::TokenMask(std::move(changed));
  }

  void AppendToken(TokenId token, std::string* out) {
    characters_.clear();
    decoder_.Append(token, &characters_);
    if (stopped_by_ == nullptr) stopped_by_ = stop_.Append(characters_, out);
  }

  // The text has ended. What an unfinished character becomes could in principle complete a stop string.
  void Flush(std::string* out) {
    characters_.clear();
    decoder_.Finish(&characters_);
    stopped_by_ = stop_.Append(characters_, out);
    if (stopped_by_ == nullptr) stop_.Finish(out);
  }

  const std::shared_ptr<const OutputRules> rules_;
  const uint64_t sample_;
  const Tokenizer& tokenizer_;
  StreamDecoder decoder_;
  StopMatcher stop_;
  std::unique_ptr<grammar::ConstraintMatcher> matcher_;  // ?
  const std::string* stopped_by_ = nullptr;
  TokenCounts counts_;
  std::string characters_;  // scratch
  uint64_t drawn_ = 0;
  bool ended_before_ = false;
};

}  // namespace

SamplerParams ToSamplerParams(const Sampling& sampling) {
  SamplerParams params;
  params.temperature = sampling.temperature;
  params.top_k = sampling.top_k;
  params.top_p = sampling.top_p;
  params.min_p = sampling.min_p;
  params.repetition_penalty = sampling.repetition_penalty;
  params.frequency_penalty = sampling.frequency_penalty;
  params.presence_penalty = sampling.presence_penalty;
  for (const LogitBias& bias : sampling.logit_bias) params.logit_bias.push_back({bias.token, bias.bias});
  return params;
}

std::unique_ptr<OutputStream> OutputStream::Create(std::shared_ptr<const OutputRules> rules, int32_t sample,
                                                   const Tokenizer& tokenizer) {
  return std::make_unique<SampledStream>(std::move(rules), sample, tokenizer);
}

}  // namespace conclave::engine
