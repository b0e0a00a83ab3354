// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/backend/backend_testing.h"

#include <grpcpp/server_builder.h>

#include <chrono>
#include <thread>
#include <utility>

#include "common/check.h"
#include "common/status.h"
#include "protos/rpc_endpoint.h"
#include "protos/rpc_status.h"

namespace conclave::orchestrator {
namespace {

namespace pb = ::conclave::inference::v1;

int64_t Words(const pb::Prompt& prompt) {
  int64_t words = 0;
  const auto count = [&words](const std::string& text) {
    bool inside = false;
    for (const char c : text) {
      if (c == ' ' || c == '\n') {
        inside = false;
      } else if (!std::exchange(inside, true)) {
        ++words;
      }
    }
  };
  count(prompt.text());
  for (const auto& message : prompt.chat().messages()) count(message.content());
  return words;
}

// Of a piece, or without texts.
pb::Logprobs PlaceOf(const std::string& piece) {
  pb::Logprobs place;
  place.mutable_chosen()->set_logprob(-0.5F);
  for (const float top : {-0.5F, -2.5F}) place.add_top()->set_logprob(top);
  if (piece.empty()) return place;
  place.mutable_chosen()->set_text(piece);
  place.mutable_top(0)->set_text(piece);
  place.mutable_top(1)->set_text("other");
  return place;
}

}  // namespace

ScriptedWorker::ScriptedWorker(Answer answer, const std::string& address) : answer_(std::move(answer)) {
  grpc::ServerBuilder builder;
  rpc::ConfigureServer(&builder, rpc::kWorkerReceiveBytesMax);
  int port = 0;
  builder.AddListeningPort(address, grpc::InsecureServerCredentials(), &port);
  builder.RegisterService(this);
  server_ = builder.BuildAndStart();
  CONCLAVE_CHECK_MSG(server_ != nullptr, "the port is taken");
  address_ = fmt::format("127.0.0.1:{}", port);
}

ScriptedWorker::~ScriptedWorker() { Kill(); }

void ScriptedWorker::Kill() {
  if (killed_.exchange(true)) return;
  {
    MutexLock lock(&mutex_);
    changed_.SignalAll();
  }
  server_->Shutdown(std::chrono::system_clock::time_point());  // at once
  server_->Wait();
}

pb::Usage ScriptedWorker::totals() const {
  MutexLock lock(&mutex_);
  return totals_;
}

bool ScriptedWorker::TakeCancel(const std::string& request_id) {
  MutexLock lock(&mutex_);
  return cancelled_.contains(request_id);
}

grpc::Status ScriptedWorker::Generate(grpc::ServerContext* context, const pb::GenerateRequest* request,
                                      grpc::ServerWriter<pb::GenerateResponse>* writer) {
  ++requests_;
  ++running_;
  const ScriptedAnswer answer = answer_(*request);
  {
    MutexLock lock(&mutex_);
    active_.insert(request->request_id());
  }
  pb::Usage usage;
  usage.set_prompt_token_count(Words(request->prompt()));
  int64_t number = 0;
  const auto send = [&](pb::GenerateResponse response) {
    response.set_sequence_number(++number);
    writer->Write(response);
  };
  const auto ended = [&] { return context->IsCancelled() || killed_ || TakeCancel(request->request_id()); };
  const auto wait_ms = [&](int32_t ms) {
    MutexLock lock(&mutex_);
    if (ms > 0 && !killed_ && !cancelled_.contains(request->request_id())) {
      changed_.WaitWithTimeout(&mutex_, int64_t{ms} * 1'000'000);
    }
  };
  pb::GenerateResponse started;
  started.mutable_started()->set_instance_id("scripted@" + address_);
  started.mutable_started()->set_model_revision("scripted");
  started.mutable_started()->set_prompt_token_count(usage.prompt_token_count());
  send(std::move(started));
  const auto continued = static_cast<size_t>(request->continuation().generated_token_ids_size());
  for (size_t i = continued; i < answer.pieces.size(); ++i) {
    const std::string& piece = answer.pieces[i];
    wait_ms(answer.piece_ms);
    if (ended()) break;
    pb::GenerateResponse delta;
    delta.mutable_delta()->set_text(piece);
    delta.mutable_delta()->set_token_count(1);
    if (request->output().token_ids()) delta.mutable_delta()->add_token_ids(static_cast<int32_t>(i));
    if (request->output().has_top_logprob_count()) {
      *delta.mutable_delta()->add_logprobs() = PlaceOf(request->output().token_bytes() ? piece : "");
    }
    usage.set_output_token_count(usage.output_token_count() + 1);
    send(std::move(delta));
  }
  while (answer.hang && !ended()) wait_ms(5);
  // A killed process says nothing more: Kill's Shutdown breaks the stream.
  while (killed_ && !context->IsCancelled()) std::this_thread::yield();
  if (killed_) return grpc::Status(grpc::StatusCode::UNAVAILABLE, "killed");
  const bool cancelled = ended();
  if (!cancelled && answer.status.ok()) {
    pb::GenerateResponse finished;
    const bool cut = request->stopping().has_max_output_token_count() &&
                     request->stopping().max_output_token_count() <= usage.output_token_count();
    finished.mutable_finished()->set_reason(cut ? pb::FINISH_REASON_LENGTH : pb::FINISH_REASON_STOP);
    send(std::move(finished));
  }
  usage.set_flop_count(1000 * (usage.prompt_token_count() + usage.output_token_count()));
  pb::GenerateResponse last;
  *last.mutable_usage() = usage;
  send(std::move(last));
  --running_;
  MutexLock lock(&mutex_);
  active_.erase(request->request_id());
  totals_.set_prompt_token_count(totals_.prompt_token_count() + usage.prompt_token_count());
  totals_.set_output_token_count(totals_.output_token_count() + usage.output_token_count());
  totals_.set_flop_count(totals_.flop_count() + usage.flop_count());
  return cancelled ? rpc::ToGrpc(Cancelled("cancelled")) : rpc::ToGrpc(answer.status);
}

grpc::Status ScriptedWorker::Score(grpc::ServerContext*, const pb::ScoreRequest* request, pb::ScoreResponse* response) {
  ++requests_;
  for (int i = 0; i < request->continuations_size(); ++i) {
    response->add_continuations()->set_logprob(i == 0 ? yes_logprob_.load() : -2.0);
  }
  response->mutable_usage()->set_prompt_token_count(Words(request->prompt()));
  return grpc::Status::OK;
}

grpc::Status ScriptedWorker::GetModel(grpc::ServerContext*, const pb::GetModelRequest*,
                                      pb::GetModelResponse* response) {
  pb::Model* model = response->mutable_model();
  model->set_name("scripted");
  model->set_revision("scripted");
  model->set_context_token_count(4096);
  model->set_flops_per_token(1000);
  model->set_has_chat_template(true);
  response->set_instance_id("scripted@" + address_);
  return grpc::Status::OK;
}

grpc::Status ScriptedWorker::GetLoad(grpc::ServerContext*, const pb::GetLoadRequest*, pb::GetLoadResponse* response) {
  response->set_running_count(running_);
  response->set_step_count(steps_);
  return grpc::Status::OK;
}

grpc::Status ScriptedWorker::CancelRequests(grpc::ServerContext*, const pb::CancelRequestsRequest* request,
                                            pb::CancelRequestsResponse* response) {
  ++cancels_;
  MutexLock lock(&mutex_);
  for (const std::string& id : request->request_ids()) {
    const bool runs = active_.contains(id);
    response->add_outcomes(runs ? pb::CancelRequestsResponse::OUTCOME_CANCELLED
                                : pb::CancelRequestsResponse::OUTCOME_NOT_RUNNING);
    if (!runs) continue;
    cancelled_.insert(id);
    response->set_cancelled_count(response->cancelled_count() + 1);
  }
  changed_.SignalAll();
  return grpc::Status::OK;
}

void CollectingSink::OnDelta(CallId id, CallDelta delta) {
  MutexLock lock(&mutex_);
  deltas_[id] += delta.text;
  std::move(delta.logprobs.begin(), delta.logprobs.end(), std::back_inserter(logprobs_[id]));
  changed_.SignalAll();
}

void CollectingSink::OnDone(CallId id, CallOutcome outcome) {
  MutexLock lock(&mutex_);
  CONCLAVE_CHECK_MSG(done_.emplace(id, std::move(outcome)).second, "a call ended twice");
  changed_.SignalAll();
}

CallOutcome CollectingSink::Await(CallId id) {
  MutexLock lock(&mutex_);
  while (!done_.contains(id)) changed_.Wait(&mutex_);
  return done_.at(id);
}

std::string CollectingSink::deltas(CallId id) const {
  MutexLock lock(&mutex_);
  const auto it = deltas_.find(id);
  return it == deltas_.end() ? "" : it->second;
}

std::vector<inference::v1::Logprobs> CollectingSink::logprobs(CallId id) const {
  MutexLock lock(&mutex_);
  const auto it = logprobs_.find(id);
  return it == logprobs_.end() ? std::vector<inference::v1::Logprobs>() : it->second;
}

void CollectingSink::AwaitDeltas(CallId id, size_t bytes) const {
  MutexLock lock(&mutex_);
  while (!deltas_.contains(id) || deltas_.at(id).size() < bytes) changed_.Wait(&mutex_);
}

}  // namespace conclave::orchestrator
