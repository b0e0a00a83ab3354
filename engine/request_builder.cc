// SPDX-License-Identifier: Apache-2.0
#include "engine/request_builder.h"

#include <algorithm>
#include <cmath>

#include "common/status.h"

namespace conclave::engine {
namespace {

absl::Status CheckTokens(const RequestLimits& limits, std::string_view what, std::span<const TokenId> tokens) {
  if (tokens.empty()) return InvalidArgument("{}: must have at least one token", what);
  for (size_t i = 0; i < tokens.size(); ++i) {
    if (tokens[i] < 0 || tokens[i] >= limits.vocab) {
      return InvalidArgument("{}[{}] is {}: must be in [0, {})", what, i, tokens[i], limits.vocab);
    }
  }
  return absl::OkStatus();
}

template <typename T>
absl::Status CheckRange(std::string_view what, T value, T low, T high) {
  if (value >= low && value <= high) return absl::OkStatus();  // false for not-a-number
  return InvalidArgument("{} is {}: must be in [{}, {}]", what, value, low, high);
}

absl::Status CheckSampling(const RequestLimits& limits, const Sampling& sampling) {
  RETURN_IF_ERROR(CheckRange("sampling.temperature", sampling.temperature, 0.0f, kTemperatureMax));
  RETURN_IF_ERROR(CheckRange("sampling.top_k", sampling.top_k, 0, limits.vocab));
  RETURN_IF_ERROR(CheckRange("sampling.min_p", sampling.min_p, 0.0f, 1.0f));
  RETURN_IF_ERROR(CheckRange("sampling.frequency_penalty", sampling.frequency_penalty, -2.0f, 2.0f));
  RETURN_IF_ERROR(CheckRange("sampling.presence_penalty", sampling.presence_penalty, -2.0f, 2.0f));
  if (!(sampling.top_p > 0 && sampling.top_p <= 1)) {
    return InvalidArgument("sampling.top_p is {}: must be in (0, 1]", sampling.top_p);
  }
  if (!(sampling.repetition_penalty > 0 && sampling.repetition_penalty <= 10)) {
    return InvalidArgument("sampling.repetition_penalty is {}: must be in (0, 10]", sampling.repetition_penalty);
  }
  if (sampling.logit_bias.size() > kLogitBiasMax) {
    return InvalidArgument("sampling.logit_bias has {} entries, at most {}", sampling.logit_bias.size(), kLogitBiasMax);
  }
  for (const LogitBias& bias : sampling.logit_bias) {
    if (bias.token < 0 || bias.token >= limits.vocab || !std::isfinite(bias.bias)) {
      return InvalidArgument("sampling.logit_bias: token {} with bias {}: tokens are in [0, {}), biases finite",
                             bias.token, bias.bias, limits.vocab);
    }
  }
  return absl::OkStatus();
}

absl::Status CheckStopping(const RequestLimits& limits, const Stopping& stopping) {
  if (stopping.output_tokens_max < 0) {
    return InvalidArgument("stopping.output_tokens_max is {}: must not be negative", stopping.output_tokens_max);
  }
  if (stopping.stop_strings.size() > kStopStringsMax) {
    return InvalidArgument("stopping.stop_strings has {} entries, at most {}", stopping.stop_strings.size(),
                           kStopStringsMax);
  }
  for (const std::string& text : stopping.stop_strings) {
    if (text.empty() || text.size() > kStopStringBytesMax) {
      return InvalidArgument("stopping.stop_strings: one has {} bytes, must have 1 to {}", text.size(),
                             kStopStringBytesMax);
    }
  }
  if (stopping.stop_tokens.size() > kStopTokensMax) {
    return InvalidArgument("stopping.stop_tokens has {} entries, at most {}", stopping.stop_tokens.size(),
                           kStopTokensMax);
  }
  return stopping.stop_tokens.empty() ? absl::OkStatus()
                                      : CheckTokens(limits, "stopping.stop_tokens", stopping.stop_tokens);
}

// Sets what a request's pages and steps depend on. Asking for the model's own number is the same as not asking.
absl::Status SetRouting(const RequestLimits& limits, RoutingPolicy routing, std::string_view cache_salt,
                        Request* request) {
  if (routing != RoutingPolicy{} && limits.experts_per_token == 0) {
    return FailedPrecondition("CAPABILITY_MISSING: routing.top_k is {}, but this model is dense", routing.top_k);
  }
  RETURN_IF_ERROR(CheckRange("routing.top_k", routing.top_k, 0, limits.experts_per_token));
  if (routing.top_k == limits.experts_per_token) routing.top_k = 0;
  request->root = RootPageKey(limits.model_revision, routing.Hash(), cache_salt);
  request->experts_per_token = routing.top_k > 0 ? routing.top_k : limits.experts_per_token;
  return absl::OkStatus();
}

absl::Status CheckContext(const RequestLimits& limits, std::string_view what, size_t tokens) {
  if (tokens <= static_cast<size_t>(limits.context_tokens)) return absl::OkStatus();
  return InvalidArgument("PROMPT_TOO_LONG: {} needs {} tokens, the context holds {}", what, tokens,
                         limits.context_tokens);
}

static_assert(kConstraintBytesMax == grammar::kSourceBytesMax);

// Not of kNone.
absl::StatusOr<grammar::Language> LanguageOf(const Constraint& constraint) {
  switch (constraint.language) {
    case Constraint::Language::kJsonSchema:
      return grammar::Language::kJsonSchema;
    case Constraint::Language::kRegex:
      return grammar::Language::kRegex;
    case Constraint::Language::kGrammar:
      return grammar::Language::kGrammar;
    case Constraint::Language::kNone:
      break;
  }
  return InvalidArgument("CONSTRAINT_INVALID: the language {} is not known", static_cast<int>(constraint.language));
}

absl::Status InvalidConstraint(const absl::Status& status) {
  return InvalidArgument("CONSTRAINT_INVALID: {}", Message(status));
}

// Null without a constraint.
absl::StatusOr<std::shared_ptr<grammar::Constraint>> FindConstraint(const RequestLimits& limits,
                                                                    const Constraint& constraint) {
  if (constraint.language == Constraint::Language::kNone) return std::shared_ptr<grammar::Constraint>();
  ASSIGN_OR_RETURN(const grammar::Language language, LanguageOf(constraint));
  absl::StatusOr<std::shared_ptr<grammar::Constraint>> compiled = limits.constraints->Get(language, constraint.source);
  if (!compiled.ok()) return InvalidConstraint(compiled.status());
  return compiled;
}

// A sequence whose memory suffices to its end, so that the step thread allocates nothing for it.
std::unique_ptr<Sequence> NewSequence(const RequestLimits& limits, Request* request, int32_t index,
                                      int32_t tokens_max) {
  auto sequence = std::make_unique<Sequence>();
  sequence->request = request;
  sequence->index = index;
  sequence->tokens_max = tokens_max;
  sequence->tokens.reserve(tokens_max);
  sequence->keys.reserve(tokens_max / limits.page_tokens + 1);
  sequence->table.Reserve(tokens_max / limits.page_tokens + 1);
  return sequence;
}

}  // namespace

absl::Status CheckConstraint(const Constraint& constraint) {
  if (constraint.language == Constraint::Language::kNone) return absl::OkStatus();
  ASSIGN_OR_RETURN(const grammar::Language language, LanguageOf(constraint));
  const auto compiled = grammar::CompileAutomaton(language, constraint.source);
  return compiled.ok() ? absl::OkStatus() : InvalidConstraint(compiled.status());
}

absl::StatusOr<std::unique_ptr<Request>> BuildGenerate(const RequestLimits& limits, const Tokenizer& tokenizer,
                                                       GenerateRequest request, std::shared_ptr<GenerateSink> sink) {
  RETURN_IF_ERROR(CheckContext(limits, "the prompt and one token of output", request.prompt.size() + 1));
  RETURN_IF_ERROR(CheckTokens(limits, "prompt", request.prompt));
  RETURN_IF_ERROR(CheckRange("samples", request.samples, 1, kSamplesMax));
  RETURN_IF_ERROR(CheckRange("sample_index_first", request.sample_index_first, 0, kSampleIndexMax));
  RETURN_IF_ERROR(CheckRange("top_logprobs", request.top_logprobs, -1, kTopLogprobsMax));
  RETURN_IF_ERROR(CheckSampling(limits, request.sampling));
  RETURN_IF_ERROR(CheckStopping(limits, request.stopping));
  const auto prompt_tokens = static_cast<int32_t>(request.prompt.size());
  RETURN_IF_ERROR(CheckRange("continued_tokens", request.continued_tokens, 0, prompt_tokens - 1));
  if (request.continued_tokens > 0 && request.samples != 1) {
    return InvalidArgument("samples is {}: a continued sample must be alone", request.samples);
  }
  const int32_t output_tokens_max = request.stopping.output_tokens_max;
  if (output_tokens_max > 0 && output_tokens_max <= request.continued_tokens) {
    return InvalidArgument("stopping.output_tokens_max is {}, but {} tokens are there already", output_tokens_max,
                           request.continued_tokens);
  }
  const int32_t given = prompt_tokens - request.continued_tokens;
  const int32_t tokens_max = output_tokens_max == 0 || output_tokens_max > limits.context_tokens - given
                                 ? limits.context_tokens
                                 : given + output_tokens_max;

  auto built = std::make_unique<Request>();
  built->kind = Request::Kind::kGenerate;
  built->priority = request.priority;
  RETURN_IF_ERROR(SetRouting(limits, request.routing, request.cache_salt, built.get()));
  built->deadline_ns = request.deadline_ns;
  built->prompt_tokens = prompt_tokens;
  built->sink = std::move(sink);
  absl::StatusOr<std::shared_ptr<const StopStrings>> stops = StopStrings::Create(request.stopping.stop_strings);
  if (!stops.ok()) return Annotate(stops.status(), "stopping.stop_strings");
  ASSIGN_OR_RETURN(std::shared_ptr<grammar::Constraint> constraint, FindConstraint(limits, request.constraint));
  const auto rules = std::make_shared<const OutputRules>(OutputRules{request.seed, ToSamplerParams(request.sampling),
                                                                     std::move(request.stopping), *std::move(stops),
                                                                     request.top_logprobs, std::move(constraint)});
  std::vector<PageKey> keys;
  ExtendPageKeys(built->root, request.prompt, limits.page_tokens, &keys);
  for (int32_t i = 0; i < request.samples; ++i) {
    auto sequence = NewSequence(limits, built.get(), i, tokens_max);
    sequence->sample = request.sample_index_first + i;
    sequence->tokens.assign(request.prompt.begin(), request.prompt.end());
    sequence->keys.assign(keys.begin(), keys.end());
    sequence->logits_from = prompt_tokens - 1;
    sequence->output = OutputStream::Create(rules, sequence->sample, tokenizer);
    const std::span<const TokenId> prompt(request.prompt);
    RETURN_IF_ERROR(sequence->output->Begin(prompt.first(given), prompt.subspan(given)));
    // As many samples as can run together fork from the first; the others come later and find its pages in the cache.
    const bool follows = i > 0 && i < limits.sequences_max;
    (follows ? built->sequences[0]->followers : built->sequences).push_back(std::move(sequence));
  }
  return built;
}

absl::StatusOr<std::unique_ptr<Request>> BuildScore(const RequestLimits& limits, ScoreRequest request,
                                                    std::function<void(absl::StatusOr<ScoreResult>)> done) {
  RETURN_IF_ERROR(CheckTokens(limits, "prompt", request.prompt));
  RETURN_IF_ERROR(CheckRange("continuations", request.continuations.size(), size_t{1}, size_t{kSamplesMax}));
  auto built = std::make_unique<Request>();
  built->kind = Request::Kind::kScore;
  RETURN_IF_ERROR(SetRouting(limits, request.routing, request.cache_salt, built.get()));
  built->score_done = std::move(done);
  built->score.continuations.resize(request.continuations.size());
  built->prompt_tokens = static_cast<int32_t>(request.prompt.size());
  for (size_t i = 0; i < request.continuations.size(); ++i) {
    std::vector<TokenId>& continuation = request.continuations[i];
    RETURN_IF_ERROR(CheckTokens(limits, fmt::format("continuations[{}]", i), continuation));
    RETURN_IF_ERROR(CheckContext(limits, fmt::format("the prompt with continuations[{}]", i),
                                 request.prompt.size() + continuation.size()));
    const auto length = static_cast<int32_t>(request.prompt.size() + continuation.size() - 1);
    auto sequence = NewSequence(limits, built.get(), static_cast<int32_t>(i), length);
    // Position p predicts token p + 1, so the last token is never fed.
    sequence->tokens.assign(request.prompt.begin(), request.prompt.end());
    sequence->tokens.insert(sequence->tokens.end(), continuation.begin(), continuation.end() - 1);
    sequence->logits_from = static_cast<int32_t>(request.prompt.size()) - 1;
    ExtendPageKeys(built->root, sequence->tokens, limits.page_tokens, &sequence->keys);
    sequence->score.greedy = true;
    sequence->score.token_logprobs.reserve(continuation.size());
    sequence->targets = std::move(continuation);
    built->sequences.push_back(std::move(sequence));
  }
  return built;
}

absl::StatusOr<std::unique_ptr<Request>> BuildPin(const RequestLimits& limits, PinRequest request,
                                                  std::function<void(absl::StatusOr<PinResult>)> done) {
  if (!limits.prefix_reuse) {
    return FailedPrecondition("CAPABILITY_MISSING: prefix_reuse is off, so a pinned prefix would never be found");
  }
  RETURN_IF_ERROR(CheckTokens(limits, "prompt", request.prompt));
  RETURN_IF_ERROR(CheckContext(limits, "the prompt", request.prompt.size()));
  const auto tokens = static_cast<int32_t>(request.prompt.size());
  const int32_t pages = (tokens + limits.page_tokens - 1) / limits.page_tokens;
  if (pages > limits.pinned_pages_max) {
    return ResourceExhausted("PREFIX_LIMIT: the prompt's {} tokens take {} pages; at most {} are pinned", tokens, pages,
                             limits.pinned_pages_max);
  }
  auto built = std::make_unique<Request>();
  built->kind = Request::Kind::kPin;
  RETURN_IF_ERROR(SetRouting(limits, request.routing, request.cache_salt, built.get()));
  built->pin_done = std::move(done);
  built->prompt_tokens = tokens;
  auto sequence = NewSequence(limits, built.get(), 0, tokens);
  sequence->tokens.assign(request.prompt.begin(), request.prompt.end());
  sequence->logits_from = tokens - 1;
  ExtendPageKeys(built->root, sequence->tokens, limits.page_tokens, &sequence->keys);
  built->sequences.push_back(std::move(sequence));
  return built;
}

absl::StatusOr<std::unique_ptr<Request>> BuildLogits(const RequestLimits& limits, std::span<const TokenId> tokens,
                                                     const RoutingPolicy& routing, std::span<float> out,
                                                     RoutingTrace* trace, std::function<void(absl::Status)> done) {
  RETURN_IF_ERROR(CheckTokens(limits, "tokens", tokens));
  RETURN_IF_ERROR(CheckContext(limits, "the list", tokens.size()));
  auto built = std::make_unique<Request>();
  built->kind = Request::Kind::kLogits;
  RETURN_IF_ERROR(SetRouting(limits, routing, "", built.get()));
  built->logits = out;
  built->routing = trace;
  built->logits_done = std::move(done);
  built->prompt_tokens = static_cast<int32_t>(tokens.size());
  auto sequence = NewSequence(limits, built.get(), 0, built->prompt_tokens);
  sequence->tokens.assign(tokens.begin(), tokens.end());
  ExtendPageKeys(built->root, sequence->tokens, limits.page_tokens, &sequence->keys);
  built->sequences.push_back(std::move(sequence));
  return built;
}

}  // namespace conclave::engine
