// SPDX-License-Identifier: Apache-2.0
#include "engine/engine.h"

#include <algorithm>

#include "common/clock.h"
#include "common/hash.h"
#include "common/mutex.h"
#include "common/status.h"
#include "engine/loader.h"
#include "engine/request_builder.h"
#include "engine/step_loop.h"
#include "engine/tokenizer/stream_decoder.h"

namespace conclave::engine {

class Engine::Impl {
 public:
  explicit Impl(std::unique_ptr<LoadedModel> loaded)
      : model(std::move(loaded)),
        limits{.context_tokens = model->info.context_tokens,
               .sequences_max = model->step.sequences_max,
               .page_tokens = model->step.page_tokens,
               .vocab = model->info.vocab,
               .model_revision = model->info.revision,
               .experts_per_token = model->info.experts_per_token,
               .pinned_pages_max = model->step.pinned_pages_max,
               .prefix_reuse = model->step.prefix_reuse,
               .constraints = &constraints},
        loop(model->step, model->costs, model->group.get(), &Clock::System()) {
    loop.Start();
  }

  absl::Status Inspect(std::span<const TokenId> tokens, const RoutingPolicy& routing, std::vector<float>* logits,
                       RoutingTrace* trace);

  // What each token adds to a text; special ones nothing, for their text is not to be had from a constraint.
  std::shared_ptr<const grammar::VocabularyTrie> MakeTrie() const {
    const Tokenizer& tokenizer = *model->tokenizer;
    std::vector<std::string_view> bytes(static_cast<size_t>(model->info.vocab));
    const TokenId known = std::min(tokenizer.vocab_size(), model->info.vocab);
    for (TokenId token = 0; token < known; ++token) {
      if (!tokenizer.IsSpecial(token)) bytes[static_cast<size_t>(token)] = tokenizer.TokenBytes(token);
    }
    return std::make_shared<const grammar::VocabularyTrie>(bytes, tokenizer.end_tokens());
  }

  const std::unique_ptr<LoadedModel> model;
  grammar::ConstraintCache constraints{[this] { return MakeTrie(); }};
  const RequestLimits limits;
  StepLoop loop;  // last: its thread uses the rest
};

uint64_t RoutingPolicy::Hash() const { return Mix64(static_cast<uint64_t>(top_k)); }

Engine::Engine(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Engine::~Engine() = default;

absl::StatusOr<std::unique_ptr<Engine>> Engine::Create(const EngineOptions& options) {
  ASSIGN_OR_RETURN(std::unique_ptr<LoadedModel> model, LoadModel(options));
  return std::unique_ptr<Engine>(new Engine(std::make_unique<Impl>(std::move(model))));
}

const ModelInfo& Engine::info() const { return impl_->model->info; }
const MemoryPlan& Engine::memory() const { return impl_->model->memory; }
std::span<const TokenId> Engine::end_tokens() const { return impl_->model->tokenizer->end_tokens(); }

absl::StatusOr<RequestId> Engine::Submit(GenerateRequest request, std::shared_ptr<GenerateSink> sink) {
  ASSIGN_OR_RETURN(std::unique_ptr<Request> built,
                   BuildGenerate(impl_->limits, *impl_->model->tokenizer, std::move(request), std::move(sink)));
  return impl_->loop.Submit(std::move(built));
}

void Engine::Cancel(RequestId id) { impl_->loop.Cancel(id); }
void Engine::Resume(RequestId id) { impl_->loop.Resume(id); }

absl::Status Engine::Score(ScoreRequest request, std::function<void(absl::StatusOr<ScoreResult>)> done) {
  ASSIGN_OR_RETURN(std::unique_ptr<Request> built, BuildScore(impl_->limits, std::move(request), std::move(done)));
  return impl_->loop.Submit(std::move(built)).status();
}

absl::Status Engine::Pin(PinRequest request, std::function<void(absl::StatusOr<PinResult>)> done) {
  ASSIGN_OR_RETURN(std::unique_ptr<Request> built, BuildPin(impl_->limits, std::move(request), std::move(done)));
  return impl_->loop.Submit(std::move(built)).status();
}

void Engine::Unpin(PinId id) { impl_->loop.Unpin(id); }

EngineLoad Engine::load() const { return impl_->loop.load(); }
void Engine::Drain() { impl_->loop.Drain(); }
bool Engine::idle() const { return impl_->loop.idle(); }

absl::Status Engine::Impl::Inspect(std::span<const TokenId> tokens, const RoutingPolicy& routing,
                                   std::vector<float>* logits, RoutingTrace* trace) {
  Mutex mutex;
  CondVar done;
  std::optional<absl::Status> result;
  if (tokens.size() <= static_cast<size_t>(limits.context_tokens)) {
    logits->assign(tokens.size() * static_cast<size_t>(limits.vocab), 0.0f);
  }
  ASSIGN_OR_RETURN(std::unique_ptr<Request> built,
                   BuildLogits(limits, tokens, routing, *logits, trace, [&](absl::Status status) {
                     MutexLock lock(&mutex);
                     result = std::move(status);
                     done.Signal();
                   }));
  RETURN_IF_ERROR(loop.Submit(std::move(built)).status());
  MutexLock lock(&mutex);
  while (!result.has_value()) done.Wait(&mutex);
  return *result;
}

absl::Status Engine::Logits(std::span<const TokenId> tokens, std::vector<float>* out, const RoutingPolicy& routing) {
  return impl_->Inspect(tokens, routing, out, nullptr);
}

absl::StatusOr<RoutingTrace> Engine::Routing(std::span<const TokenId> tokens, const RoutingPolicy& routing) {
  if (impl_->limits.experts_per_token == 0) {
    return FailedPrecondition("CAPABILITY_MISSING: {} is dense, there are no experts to route to", info().name);
  }
  RoutingTrace trace(info().layers, std::vector<ExpertChoice>(tokens.size()));
  std::vector<float> logits;
  RETURN_IF_ERROR(impl_->Inspect(tokens, routing, &logits, &trace));
  return trace;
}

ExpertCounts Engine::expert_counts() const {
  ExpertCounts result;
  const std::vector<int64_t> counts = impl_->loop.expert_counts();
  const ModelSpec& spec = impl_->model->group->spec();
  for (int32_t layer = 0; layer < spec.layers; ++layer) {
    if (!spec.IsExpertLayer(layer)) continue;
    const auto begin = counts.begin() + int64_t{spec.experts->router.experts} * std::ssize(result.counts);
    result.layer_ids.push_back(layer);
    result.counts.emplace_back(begin, begin + spec.experts->router.experts);
  }
  return result;
}

absl::StatusOr<std::vector<TokenId>> Engine::Tokenize(std::string_view text, SpecialTokens special,
                                                      bool add_begin_of_sequence) const {
  return TokenizeText(*impl_->model->tokenizer, text, special, add_begin_of_sequence);
}

std::string Engine::Detokenize(std::span<const TokenId> tokens) const {
  return impl_->model->tokenizer->Decode(tokens, Tokenizer::SpecialText::kAsText);
}

TokenText Engine::TextOf(TokenId token) const {
  const Tokenizer& tokenizer = *impl_->model->tokenizer;
  if (!tokenizer.Contains(token)) return {"", true};
  if (IsShown(tokenizer, token)) return {std::string(tokenizer.TokenBytes(token)), false};
  return {std::string(tokenizer.TokenText(token)), true};
}

absl::StatusOr<Engine::ChatPrompt> Engine::ApplyChatTemplate(std::span<const ChatMessage> messages,
                                                             bool add_generation_prompt,
                                                             int64_t now_unix_seconds) const {
  return impl_->model->chat_template->Render(messages, add_generation_prompt, now_unix_seconds);
}

}  // namespace conclave::engine
