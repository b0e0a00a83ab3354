// SPDX-License-Identifier: Apache-2.0
#include "worker/worker_testing.h"

#include <grpcpp/create_channel.h>

#include <chrono>
#include <latch>
#include <utility>

#include "common/check.h"
#include "common/status.h"
#include "protos/rpc_endpoint.h"
#include "protos/rpc_status.h"
#include "tests/testing/raw_call.h"

namespace conclave::worker {

FakeHost::FakeHost() {
  info_.name = "fake";
  info_.family = "llama";
  info_.quantization = "F32";
  info_.revision = std::string(64, 'a');
  info_.kernel = "reference";
  info_.vocab = kVocab;
  info_.context_tokens = kContext;
  info_.chat_template = "{{ messages }}";
}

FakeHost::Submitted FakeHost::AwaitSubmitted(int32_t n) {
  MutexLock lock(&mutex_);
  while (static_cast<int32_t>(submitted_.size()) <= n) changed_.Wait(&mutex_);
  return submitted_[static_cast<size_t>(n)];
}

void FakeHost::AwaitCancelled(engine::RequestId id) {
  MutexLock lock(&mutex_);
  while (cancelled_[id] == 0) changed_.Wait(&mutex_);
}

int32_t FakeHost::submitted_count() const {
  MutexLock lock(&mutex_);
  return static_cast<int32_t>(submitted_.size());
}

bool FakeHost::cancelled(engine::RequestId id) const {
  MutexLock lock(&mutex_);
  return cancelled_.contains(id);
}

int32_t FakeHost::resumes(engine::RequestId id) const {
  MutexLock lock(&mutex_);
  const auto found = resumed_.find(id);
  return found == resumed_.end() ? 0 : found->second;
}

bool FakeHost::FinishOnce(engine::RequestId id) {
  MutexLock lock(&mutex_);
  return cancelled_[id]++ == 0;
}

void FakeHost::set_submit_error(absl::Status error) {
  MutexLock lock(&mutex_);
  submit_error_ = std::move(error);
}

void FakeHost::set_cancelled_usage(const engine::Usage& usage) {
  MutexLock lock(&mutex_);
  cancelled_usage_ = usage;
}

void FakeHost::set_on_tokenize(std::function<void()> hook) {
  MutexLock lock(&mutex_);
  on_tokenize_ = std::move(hook);
}

absl::StatusOr<std::vector<engine::TokenId>> FakeHost::Tokenize(std::string_view text, TextPart part) const {
  std::function<void()> hook;
  {
    MutexLock lock(&mutex_);
    hook = on_tokenize_;
  }
  if (hook) hook();
  std::vector<engine::TokenId> out;
  if (part == TextPart::kWhole) out.push_back(kBegin);
  for (char c : text) out.push_back(static_cast<uint8_t>(c));
  return out;
}

std::string FakeHost::Detokenize(std::span<const engine::TokenId> tokens) const {
  std::string out;
  for (engine::TokenId token : tokens) {
    if (token < 256) out.push_back(static_cast<char>(token));
  }
  return out;
}
engine::TokenText FakeHost::TextOf(engine::TokenId token) const {
  if (token < 256) return {std::string(1, static_cast<char>(token)), false};
  return {token == kBegin ? "<begin>" : "", true};
}

absl::StatusOr<engine::Engine::ChatPrompt> FakeHost::ApplyChatTemplate(std::span<const engine::ChatMessage> messages,
                                                                       bool generation_prompt,
                                                                       int64_t now_unix_seconds) const {
  std::string text;
  for (const engine::ChatMessage& message : messages) {
    if (message.content == "loop") return InvalidArgument("TEMPLATE_LIMIT: line 1: more than 1000000 steps");
    text += fmt::format("<{}>{}", message.role, message.content);
  }
  if (generation_prompt) text += fmt::format("@{}", now_unix_seconds);
  ASSIGN_OR_RETURN(std::vector<engine::TokenId> tokens, Tokenize(text, TextPart::kContinuation));
  return engine::Engine::ChatPrompt{text, std::move(tokens)};
}

absl::StatusOr<engine::RequestId> FakeHost::Submit(engine::GenerateRequest request,
                                                   std::shared_ptr<engine::GenerateSink> sink) {
  MutexLock lock(&mutex_);
  if (!submit_error_.ok()) return submit_error_;
  const engine::RequestId id = submitted_.size() + 1;
  submitted_.push_back({id, std::move(request), std::move(sink)});
  changed_.SignalAll();
  return id;
}

void FakeHost::Cancel(engine::RequestId id) {
  std::shared_ptr<engine::GenerateSink> sink;
  engine::Usage usage;
  {
    MutexLock lock(&mutex_);
    CONCLAVE_CHECK(id >= 1 && id <= submitted_.size());
    if (cancelled_[id] == 0) sink = submitted_[id - 1].sink;
    ++cancelled_[id];
    usage = cancelled_usage_;
    changed_.SignalAll();
  }
  if (sink != nullptr) sink->OnDone(Cancelled("cancelled"), usage);
}

void FakeHost::Resume(engine::RequestId id) {
  MutexLock lock(&mutex_);
  ++resumed_[id];
  changed_.SignalAll();
}

absl::Status FakeHost::Score(engine::ScoreRequest request,
                             std::function<void(absl::StatusOr<engine::ScoreResult>)> done) {
  engine::ScoreResult result;
  for (const auto& continuation : request.continuations) {
    const std::vector<float> logprobs(continuation.size(), -0.5f);
    result.continuations.push_back({-0.5 * static_cast<double>(continuation.size()), logprobs, true});
  }
  result.usage = UsageOf(static_cast<int64_t>(request.prompt.size()), 0);
  done(std::move(result));
  return absl::OkStatus();
}

void FakeHost::set_pin_error(absl::Status error) {
  MutexLock lock(&mutex_);
  pin_error_ = std::move(error);
}

std::function<void()> FakeHost::HoldBackPins() {
  {
    MutexLock lock(&mutex_);
    hold_pins_ = true;
  }
  return [this] {
    std::function<void()> tell;
    {
      MutexLock lock(&mutex_);
      while (held_pins_.empty()) changed_.Wait(&mutex_);
      tell = std::move(held_pins_.front());
      held_pins_.erase(held_pins_.begin());
    }
    tell();
  };
}

std::vector<engine::PinRequest> FakeHost::pin_requests() const {
  MutexLock lock(&mutex_);
  return pin_requests_;
}

std::vector<engine::PinId> FakeHost::unpinned() const {
  MutexLock lock(&mutex_);
  return unpinned_;
}

absl::Status FakeHost::Pin(engine::PinRequest request, std::function<void(absl::StatusOr<engine::PinResult>)> done) {
  engine::PinResult result;
  {
    MutexLock lock(&mutex_);
    if (!pin_error_.ok()) return pin_error_;
    pin_requests_.push_back(std::move(request));
    result.id = pin_requests_.size();
    result.tokens = static_cast<int32_t>(pin_requests_.back().prompt.size());
    result.pages = 1 + result.tokens / 16;
    result.usage = UsageOf(result.tokens, 0);
    if (hold_pins_) {
      held_pins_.emplace_back([done = std::move(done), result] { done(result); });
      changed_.SignalAll();
      return absl::OkStatus();
    }
  }
  done(result);
  return absl::OkStatus();
}

void FakeHost::Unpin(engine::PinId id) {
  MutexLock lock(&mutex_);
  unpinned_.push_back(id);
}

engine::EngineLoad FakeHost::load() const {
  MutexLock lock(&mutex_);
  engine::EngineLoad out{};
  out.running_sequences = 3;
  out.waiting_requests = 2;
  out.waiting_tokens = 100;
  out.kv_pages_used = 5;
  out.kv_pages_total = 20;
  out.kv_pages_pinned = 4;
  out.kv_page_tokens = 16;
  out.output_tokens = 1234;
  out.draining = draining_;
  return out;
}

void FakeHost::Drain() {
  MutexLock lock(&mutex_);
  draining_ = true;
}

engine::SampleDelta TextDelta(std::string_view text, int32_t sample, std::optional<engine::FinishReason> finished) {
  engine::SampleDelta delta{};
  delta.sample = sample;
  delta.text = text;
  for (char c : text) delta.tokens.push_back(static_cast<uint8_t>(c));
  delta.finished = finished;
  return delta;
}

engine::Usage UsageOf(int64_t prompt_tokens, int64_t output_tokens) {
  engine::Usage usage;
  usage.prompt_tokens = prompt_tokens;
  usage.output_tokens = output_tokens;
  return usage;
}

ServedWorker::ServedWorker(ServerOptions options) {
  options.instance_id = "00000000-0000-4000-8000-000000000000";
  options.version = "test";
  options.clock = &clock;
  auto started = Server::Start(&host, options);
  CONCLAVE_CHECK_MSG(started.ok(), started.status().ToString().c_str());
  server = *std::move(started);
  grpc::ChannelArguments arguments = rpc::ChannelArguments();
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);  // a connection of its own
  channel = grpc::CreateCustomChannel(server->address(), grpc::InsecureChannelCredentials(), arguments);
  stub = pb::InferenceService::NewStub(channel);
}

GenerateCall::GenerateCall(pb::InferenceService::Stub* stub, const pb::GenerateRequest& request,
                           std::optional<int64_t> timeout_ms) {
  if (timeout_ms.has_value()) {
    const auto unix_ms = std::chrono::milliseconds(Clock::System().UnixNs() / 1'000'000 + *timeout_ms);
    context_.set_deadline(std::chrono::system_clock::time_point(unix_ms));
  }
  reader_ = stub->Generate(&context_, request);
}

std::optional<pb::GenerateResponse> GenerateCall::Read() {
  pb::GenerateResponse event;
  if (!reader_->Read(&event)) return std::nullopt;
  return event;
}

absl::Status GenerateCall::Finish(std::vector<pb::GenerateResponse>* events) {
  for (pb::GenerateResponse event; reader_->Read(&event);) {
    if (events != nullptr) events->push_back(event);
  }
  return rpc::FromGrpc(reader_->Finish());
}

std::string TextOf(const Events& events, int32_t sample) {
  std::string text;
  for (const auto& event : events) {
    if (event.has_delta() && event.delta().sample_index() == sample) text += event.delta().text();
  }
  return text;
}

absl::StatusOr<std::string> CallRaw(ServedWorker* worker, const std::string& method, std::string_view bytes) {
  return testing::CallRaw(worker->channel, method, bytes);
}

pb::GenerateRequest TextRequest(std::string_view text, std::string_view request_id) {
  pb::GenerateRequest request;
  request.mutable_prompt()->set_text(std::string(text));
  request.set_request_id(std::string(request_id));
  return request;
}

}  // namespace conclave::worker
