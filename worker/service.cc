// SPDX-License-Identifier: Apache-2.0
#include "worker/service.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <chrono>
#include <utility>

#include "common/hash.h"
#include "common/status.h"
#include "protos/rpc_calls.h"
#include "protos/rpc_status.h"
#include "worker/convert.h"
#include "worker/generate_reactor.h"
#include "worker/limits.h"
#include "worker/validate.h"

namespace conclave::worker {
namespace {

constexpr int64_t kNsPerSecond = 1'000'000'000;

// A constraint that the engine could not compile, as the field that it came in.
absl::Status AtConstraint(const absl::Status& status, const pb::Constraint& constraint) {
  constexpr std::string_view kReason = "CONSTRAINT_INVALID";
  if (rpc::Reason(status) != kReason) return status;
  const std::string_view message = Message(status), what = message.substr(message.find(": ") + 2);
  const char* field = constraint.has_json_schema() ? "constraint.json_schema"
                      : constraint.has_regex()     ? "constraint.regex"
                                                   : "constraint.grammar";
  const rpc::FieldViolation violation = {field, std::string(what)};
  return rpc::BadRequest("GenerateRequest", {&violation, 1}, kReason);
}

pb::ScoreResponse ToResponse(const engine::ScoreResult& result,
                             const std::vector<std::vector<engine::TokenId>>& continuations) {
  pb::ScoreResponse out;
  for (size_t i = 0; i < result.continuations.size(); ++i) {
    const engine::ContinuationScore& from = result.continuations[i];
    pb::ContinuationScore* const to = out.add_continuations();
    to->set_logprob(from.logprob);
    to->set_greedy(from.greedy);
    for (size_t t = 0; t < from.token_logprobs.size() && t < continuations[i].size(); ++t) {
      pb::TokenLogprob* const token = to->add_tokens();
      token->set_token_id(continuations[i][t]);
      token->set_logprob(from.token_logprobs[t]);
    }
  }
  *out.mutable_usage() = ToProto(result.usage);
  return out;
}

}  // namespace

Service::Service(ModelHost* host, std::shared_ptr<Metrics> metrics, Options options)
    : host_(host),
      metrics_(std::move(metrics)),
      options_(std::move(options)),
      prefixes_(std::make_shared<PrefixTable>(options_.instance_id)),
      shared_{host_, options_.clock, metrics_.get(), &streams_, options_.instance_id, host_->info().revision},
      pool_({options_.pool_threads, kWaitingCallsMax, kWaitingCallBytesMax, kLargeCallBytes}) {}

Service::~Service() = default;

// ---- Generate

grpc::ServerWriteReactor<grpc::ByteBuffer>* Service::Generate(Context* context, const grpc::ByteBuffer* bytes) {
  auto stream = std::make_shared<GenerateStream>(&shared_);
  auto* const reactor = new Reactor(stream, context);  // gRPC's until OnDone, where it deletes itself
  stream->SetTransport(reactor);
  streams_.Add(stream);
  const int64_t deadline_ns = DeadlineNs(*context);
  const absl::Status taken =
      Take(*bytes, [this, stream, deadline_ns, copy = *bytes] { StartGenerate(copy, deadline_ns, stream); });
  if (!taken.ok()) stream->Fail(taken);
  return reactor;
}

void Service::StartGenerate(const grpc::ByteBuffer& bytes, int64_t deadline_ns,
                            const std::shared_ptr<GenerateStream>& stream) {
  const absl::Status gone = Cancelled("the call ended before it was read");
  if (stream->cancelled()) return stream->Fail(gone);  // neither parsed nor tokenized for nobody
  pb::GenerateRequest request;
  engine::GenerateRequest prepared;
  absl::Status status = rpc::Parse(bytes, &request);
  if (status.ok()) status = PrepareGenerate(request, &prepared);
  if (!status.ok()) return stream->Fail(status);

  if (request.request_id().empty()) {
    request.set_request_id(fmt::format("{}-{}", options_.instance_id.substr(0, 8), ++made_ids_));
  }
  const std::string& id = request.request_id();
  const int64_t seed = request.has_seed() ? request.seed() : static_cast<int64_t>(Mix64(Fnv1a64(id)) >> 1);
  prepared.seed = static_cast<uint64_t>(seed);
  prepared.deadline_ns = deadline_ns;
  if (status = streams_.TakeId(id, stream.get()); !status.ok()) return stream->Fail(status);
  const DeltaFields fields = {request.output().token_ids(), request.output().has_top_logprob_count(),
                              request.output().token_bytes() ? host_ : nullptr};
  if (!stream->Accept({id, seed, fields})) {
    streams_.ReleaseId(id, stream.get());
    return stream->Fail(gone);
  }
  const absl::StatusOr<engine::RequestId> submitted = host_->Submit(std::move(prepared), stream);
  if (!submitted.ok()) {
    streams_.ReleaseId(id, stream.get());
    return stream->Fail(AtConstraint(FromEngine(submitted.status()), request.constraint()));
  }
  stream->Attach(*submitted);
}

absl::Status Service::PrepareGenerate(const pb::GenerateRequest& request, engine::GenerateRequest* prepared) const {
  const engine::ModelInfo& info = host_->info();
  RETURN_IF_ERROR(CheckModel(request.model()));
  RETURN_IF_ERROR(Validate(request, info.vocab));
  *prepared = ToEngine(request);
  ASSIGN_OR_RETURN(prepared->routing, ToEngine(request.routing(), info));
  ASSIGN_OR_RETURN(TokenizedPrompt prompt,
                   TokenizePrompt(request.prompt(), ModelHost::TextPart::kWhole, request.cache_salt()));
  prepared->prompt = std::move(prompt.tokens);
  const auto& generated = request.continuation().generated_token_ids();
  prepared->prompt.insert(prepared->prompt.end(), generated.begin(), generated.end());
  prepared->continued_tokens = generated.size();
  prepared->sample_index_first = request.continuation().sample_index();
  return CheckFits(static_cast<int64_t>(prepared->prompt.size()), 1);
}

// ---- Score

grpc::ServerUnaryReactor* Service::Score(Context* context, const grpc::ByteBuffer* bytes, grpc::ByteBuffer* reply) {
  grpc::ServerUnaryReactor* const reactor = context->DefaultReactor();
  const auto run = [this, reactor, reply, copy = *bytes] {
    pb::ScoreRequest request;
    engine::ScoreRequest prepared;
    absl::Status status = rpc::Parse(copy, &request);
    if (status.ok()) status = PrepareScore(request, &prepared);
    if (!status.ok()) return rpc::Finish(reactor, status, pb::ScoreResponse(), reply);
    auto done = [reactor, reply, continuations = prepared.continuations](absl::StatusOr<engine::ScoreResult> result) {
      rpc::Finish(reactor, result.status(), result.ok() ? ToResponse(*result, continuations) : pb::ScoreResponse(),
                  reply);
    };
    status = FromEngine(host_->Score(std::move(prepared), std::move(done)));
    if (!status.ok()) rpc::Finish(reactor, status, pb::ScoreResponse(), reply);
  };
  const absl::Status taken = Take(*bytes, run);
  if (!taken.ok()) rpc::Finish(reactor, taken, pb::ScoreResponse(), reply);
  return reactor;
}

absl::Status Service::PrepareScore(const pb::ScoreRequest& request, engine::ScoreRequest* prepared) const {
  const engine::ModelInfo& info = host_->info();
  RETURN_IF_ERROR(CheckModel(request.model()));
  RETURN_IF_ERROR(Validate(request, info.vocab));
  ASSIGN_OR_RETURN(prepared->routing, ToEngine(request.routing(), info));
  prepared->cache_salt = request.cache_salt();
  ASSIGN_OR_RETURN(TokenizedPrompt prompt,
                   TokenizePrompt(request.prompt(), ModelHost::TextPart::kWhole, request.cache_salt()));
  prepared->prompt = std::move(prompt.tokens);
  for (const pb::Prompt& continuation : request.continuations()) {
    ASSIGN_OR_RETURN(TokenizedPrompt tokenized, TokenizePrompt(continuation, ModelHost::TextPart::kContinuation, ""));
    RETURN_IF_ERROR(
        CheckFits(static_cast<int64_t>(prepared->prompt.size()), static_cast<int64_t>(tokenized.tokens.size())));
    prepared->continuations.push_back(std::move(tokenized.tokens));
  }
  return absl::OkStatus();
}

// ---- Text

grpc::ServerUnaryReactor* Service::Tokenize(Context* context, const grpc::ByteBuffer* bytes, grpc::ByteBuffer* reply) {
  return rpc::AnswerInPool<pb::TokenizeRequest, pb::TokenizeResponse>(
      &pool_, context, *bytes, reply, [this](const pb::TokenizeRequest& request, pb::TokenizeResponse* response) {
        RETURN_IF_ERROR(CheckModel(request.model()));
        RETURN_IF_ERROR(Validate(request, host_->info().vocab));
        ASSIGN_OR_RETURN(const TokenizedPrompt prompt,
                         TokenizePrompt(request.prompt(), ModelHost::TextPart::kWhole, ""));
        response->mutable_ids()->Assign(prompt.tokens.begin(), prompt.tokens.end());
        response->set_text(rpc::ReplaceInvalidUtf8(prompt.text));
        return absl::OkStatus();
      });
}

grpc::ServerUnaryReactor* Service::Detokenize(Context* context, const grpc::ByteBuffer* bytes,
                                              grpc::ByteBuffer* reply) {
  return rpc::AnswerInPool<pb::DetokenizeRequest, pb::DetokenizeResponse>(
      &pool_, context, *bytes, reply, [this](const pb::DetokenizeRequest& request, pb::DetokenizeResponse* response) {
        RETURN_IF_ERROR(CheckModel(request.model()));
        RETURN_IF_ERROR(Validate(request, host_->info().vocab));
        const std::vector<engine::TokenId> ids(request.ids().begin(), request.ids().end());
        response->set_text(rpc::ReplaceInvalidUtf8(host_->Detokenize(ids)));
        return absl::OkStatus();
      });
}

absl::StatusOr<Service::TokenizedPrompt> Service::TokenizePrompt(const pb::Prompt& prompt, ModelHost::TextPart part,
                                                                 std::string_view cache_salt) const {
  TokenizedPrompt out;
  if (prompt.has_token_ids()) {
    out.tokens.assign(prompt.token_ids().ids().begin(), prompt.token_ids().ids().end());
  } else if (prompt.has_chat()) {
    const pb::Chat& chat = prompt.chat();
    const int64_t now = chat.has_now_unix_seconds() ? chat.now_unix_seconds() : options_.clock->UnixNs() / kNsPerSecond;
    const bool generation_prompt = !chat.has_generation_prompt() || chat.generation_prompt();
    ASSIGN_OR_RETURN(engine::Engine::ChatPrompt rendered,
                     host_->ApplyChatTemplate(ToEngine(chat), generation_prompt, now));
    out = {std::move(rendered.tokens), std::move(rendered.text)};
  } else if (prompt.has_prefix()) {
    ASSIGN_OR_RETURN(out.tokens, TokensOfPrefix(prompt.prefix(), cache_salt));
  } else {
    ASSIGN_OR_RETURN(std::vector<engine::TokenId> tokens, host_->Tokenize(prompt.text(), part));
    out = {std::move(tokens), prompt.text()};
  }
  if (out.tokens.empty()) return rpc::WithReason(InvalidArgument("the prompt has no token"), "INVALID_REQUEST");
  return out;
}

// ---- State and control

grpc::ServerUnaryReactor* Service::GetModel(Context* context, const grpc::ByteBuffer* bytes, grpc::ByteBuffer* reply) {
  return rpc::AnswerHere<pb::GetModelRequest, pb::GetModelResponse>(
      context, *bytes, reply, [this](const pb::GetModelRequest&, pb::GetModelResponse* response) {
        *response->mutable_model() = ToProto(host_->info());
        response->set_instance_id(options_.instance_id);
        response->set_version(options_.version);
        response->set_kernel(host_->info().kernel);
        return absl::OkStatus();
      });
}

grpc::ServerUnaryReactor* Service::GetLoad(Context* context, const grpc::ByteBuffer* bytes, grpc::ByteBuffer* reply) {
  return rpc::AnswerHere<pb::GetLoadRequest, pb::GetLoadResponse>(
      context, *bytes, reply, [this](const pb::GetLoadRequest&, pb::GetLoadResponse* response) {
        *response = ToProto(host_->load());
        response->set_pinned_prefix_count(prefixes_->size());
        response->set_pinned_token_count(prefixes_->tokens());
        response->set_queued_count(response->queued_count() + pool_.waiting());
        response->set_draining(response->draining() || !Draining().ok());
        return absl::OkStatus();
      });
}

grpc::ServerUnaryReactor* Service::CancelRequests(Context* context, const grpc::ByteBuffer* bytes,
                                                  grpc::ByteBuffer* reply) {
  return rpc::AnswerHere<pb::CancelRequestsRequest, pb::CancelRequestsResponse>(
      context, *bytes, reply, [this](const pb::CancelRequestsRequest& request, pb::CancelRequestsResponse* response) {
        RETURN_IF_ERROR(Validate(request));
        const absl::Status status = rpc::WithReason(Cancelled("cancelled by CancelRequests"), "CANCELLED_BY_REQUEST");
        if (request.all()) {
          const auto running = streams_.Running();
          for (const auto& stream : running) stream->EndWith(status);
          response->set_cancelled_count(static_cast<int32_t>(running.size()));
          return absl::OkStatus();
        }
        for (const std::string& id : request.request_ids()) {
          const std::shared_ptr<GenerateStream> stream = streams_.Find(id);
          response->add_outcomes(stream == nullptr ? pb::CancelRequestsResponse::OUTCOME_NOT_RUNNING
                                                   : pb::CancelRequestsResponse::OUTCOME_CANCELLED);
          if (stream == nullptr) continue;
          stream->EndWith(status);
          response->set_cancelled_count(response->cancelled_count() + 1);
        }
        return absl::OkStatus();
      });
}

grpc::ServerUnaryReactor* Service::Drain(Context* context, const grpc::ByteBuffer* bytes, grpc::ByteBuffer* reply) {
  return rpc::AnswerHere<pb::DrainRequest, pb::DrainResponse>(
      context, *bytes, reply, [this](const pb::DrainRequest& request, pb::DrainResponse* response) {
        RETURN_IF_ERROR(Validate(request));
        const int64_t grace_ns = request.has_grace()
                                     ? request.grace().seconds() * kNsPerSecond + request.grace().nanos()
                                     : kDrainGraceSecondsDefault * kNsPerSecond;
        spdlog::info("Drain: {} requests run, {} s of grace", streams_.size(), grace_ns / kNsPerSecond);
        BeginDrain(grace_ns);
        response->set_running_count(streams_.size());
        return absl::OkStatus();
      });
}

void Service::BeginDrain(int64_t grace_ns) {
  const int64_t deadline_ns = options_.clock->NowNs() + grace_ns;
  bool begins = false;
  {
    MutexLock lock(&drain_mutex_);
    begins = !draining_;
    drain_deadline_ns_ = draining_ ? std::min(drain_deadline_ns_, deadline_ns) : deadline_ns;
    draining_ = true;
  }
  if (begins) {
    if (options_.on_drain) options_.on_drain();
    host_->Drain();
    for (const engine::PinId pin : prefixes_->Close()) host_->Unpin(pin);
  }
  Tick();
}

void Service::Tick() {
  for (const engine::PinId pin : prefixes_->TakeExpired(options_.clock->NowNs())) host_->Unpin(pin);
  bool grace_over = false, linger_over = false;
  {
    MutexLock lock(&drain_mutex_);
    const int64_t now_ns = options_.clock->NowNs();
    grace_over = draining_ && now_ns >= drain_deadline_ns_;
    linger_over = draining_ && now_ns >= drain_deadline_ns_ + kDrainLingerNs;
  }
  for (const auto& stream : streams_.All()) {
    if (grace_over) {
      stream->EndWith(rpc::WithReason(Unavailable("this worker is draining and its grace is over"), "DRAINING"));
    }
    if (linger_over) stream->Abandon();
    stream->Tick();
  }
}

// ---- Checks

absl::Status Service::Draining() const {
  MutexLock lock(&drain_mutex_);
  if (!draining_) return absl::OkStatus();
  return rpc::WithReason(Unavailable("this worker is draining; ask another one"), "DRAINING");
}

absl::Status Service::Take(const grpc::ByteBuffer& bytes, std::function<void()> call) {
  RETURN_IF_ERROR(Draining());
  return rpc::RunInPool(&pool_, bytes, std::move(call));
}

absl::Status Service::CheckModel(std::string_view model) const {
  const engine::ModelInfo& info = host_->info();
  if (model.empty() || model == info.name || model == info.revision) return absl::OkStatus();
  return rpc::WithReason(
      NotFound("model \"{}\" is not served here; this worker has \"{}\"", rpc::CutUtf8(model, 128), info.name),
      "MODEL_NOT_FOUND");
}

absl::Status Service::CheckFits(int64_t prompt_tokens, int64_t further_tokens) const {
  const int64_t context = host_->info().context_tokens;
  if (prompt_tokens + further_tokens <= context) return absl::OkStatus();
  return rpc::WithReason(
      InvalidArgument("the prompt has {} tokens and needs room for {} more; the context holds {}", prompt_tokens,
                      further_tokens, context),
      "PROMPT_TOO_LONG",
      {{"prompt_token_count", std::to_string(prompt_tokens)}, {"context_token_count", std::to_string(context)}});
}

int64_t Service::DeadlineNs(const Context& context) const {
  if (context.deadline() == std::chrono::system_clock::time_point::max()) return 0;
  const int64_t unix_ns =
      std::chrono::duration_cast<std::chrono::nanoseconds>(context.deadline().time_since_epoch()).count();
  // At least 1: 0 would mean no deadline.
  return std::max<int64_t>(1, options_.clock->NowNs() + (unix_ns - options_.clock->UnixNs()));
}

}  // namespace conclave::worker
