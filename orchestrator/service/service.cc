// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/service/service.h"

#include <algorithm>
#include <utility>

#include "common/status.h"
#include "orchestrator/graph/binding.h"
#include "orchestrator/graph/compile.h"
#include "orchestrator/graph/cost_bound.h"
#include "orchestrator/service/validate.h"
#include "protos/rpc_status.h"

namespace conclave::orchestrator {
namespace {

namespace pb = ::conclave::deliberation::v1;

absl::Status Draining() {
  return rpc::WithReason(Unavailable("the orchestrator is stopping; try another one, or later"), "DRAINING");
}

// gRPC's half of a Run or Watch. Deletes itself after the last reaction.
template <typename Response>
class EventReactor final : public grpc::ServerWriteReactor<Response>, public EventTransport {
 public:
  explicit EventReactor(const EventStream::Options& options)
      : executor_(options.executor), stream_(std::make_shared<EventStream>(options, this)) {}

  const std::shared_ptr<EventStream>& stream() const { return stream_; }
  void set_cancel_on_disconnect() { cancel_on_disconnect_ = true; }

  // ---- EventTransport
  void Write(const pb::Event& event) override {
    *response_.mutable_event() = event;
    this->StartWrite(&response_);
  }
  void Finish(const grpc::Status& status) override { grpc::ServerWriteReactor<Response>::Finish(status); }

  // ---- grpc
  void OnWriteDone(bool ok) override { stream_->OnWriteDone(ok); }
  void OnCancel() override {
    const std::string run_id = stream_->run_id();
    if (cancel_on_disconnect_ && !run_id.empty()) executor_->CancelRun(run_id, [](const auto&) {});
    stream_->OnCancel();
  }
  void OnDone() override {
    stream_->OnTransportDone();
    delete this;
  }

 private:
  Executor* const executor_;
  const std::shared_ptr<EventStream> stream_;
  std::atomic<bool> cancel_on_disconnect_ = false;
  Response response_;
};

}  // namespace

absl::Status Service::Admit(const std::shared_ptr<EventStream>& stream) {
  MutexLock lock(&mutex_);
  std::erase_if(streams_, [](const auto& s) { return s->ended(); });
  if (static_cast<int32_t>(streams_.size()) >= kStreamsMax) {
    return rpc::WithReason(ResourceExhausted("{} streams are open, at most {}", streams_.size(), kStreamsMax),
                           "OVERLOADED");
  }
  streams_.push_back(stream);
  return absl::OkStatus();
}

grpc::ServerWriteReactor<pb::RunResponse>* Service::Run(Context*, const pb::RunRequest* request) {
  auto* reactor = new EventReactor<pb::RunResponse>(
      {.executor = options_.executor, .clock = options_.clock, .stream_tokens = request->stream_tokens()});
  if (request->cancel_on_disconnect()) reactor->set_cancel_on_disconnect();
  const std::shared_ptr<EventStream> stream = reactor->stream();
  absl::Status status = draining_ ? Draining() : Validate(*request);
  if (status.ok()) status = Admit(stream);
  if (!status.ok()) {
    stream->Fail(status);
  } else if (!work_.Post([this, copy = *request, stream] { BeginRun(copy, stream); })) {
    stream->Fail(Draining());
  }
  return reactor;
}

void Service::BeginRun(const pb::RunRequest& request, const std::shared_ptr<EventStream>& stream) {
  absl::StatusOr<NewRun> run = Build(request);
  if (!run.ok()) return stream->Fail(run.status());
  options_.executor->StartRun(*std::move(run), stream, [stream](absl::StatusOr<StartedRun> started) {
    if (!started.ok()) return stream->Fail(started.status());
    if (started->existing) return stream->Follow(started->run_id, 0);
    stream->Observe(started->run_id);
  });
}

absl::StatusOr<NewRun> Service::Build(const pb::RunRequest& request) const {
  NewRun run;
  absl::StatusOr<std::shared_ptr<const CompiledGraph>> graph =
      request.has_graph() ? options_.graphs->Compile(request.graph()) : options_.graphs->Find(request.graph_name());
  if (!graph.ok()) {
    return graph.status().code() == absl::StatusCode::kInvalidArgument
               ? rpc::WithReason(graph.status(), "GRAPH_INVALID")
               : graph.status();
  }
  run.graph = *std::move(graph);
  ASSIGN_OR_RETURN(run.spec, BuildRunSpec(*run.graph, request, options_.bindings, options_.backend->Describe()));
  run.request = request;
  return run;
}

grpc::ServerWriteReactor<pb::WatchResponse>* Service::Watch(Context*, const pb::WatchRequest* request) {
  auto* reactor = new EventReactor<pb::WatchResponse>(
      {.executor = options_.executor, .clock = options_.clock, .stream_tokens = request->stream_tokens()});
  const std::shared_ptr<EventStream> stream = reactor->stream();
  absl::Status status = Validate(*request);
  if (status.ok()) status = Admit(stream);
  if (status.ok()) {
    stream->Follow(request->run_id(), request->after_sequence_number());
  } else {
    stream->Fail(status);
  }
  return reactor;
}

grpc::ServerUnaryReactor* Service::GetRun(Context* context, const pb::GetRunRequest* request,
                                          pb::GetRunResponse* response) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  options_.executor->GetRun(request->run_id(), [reactor, response](absl::StatusOr<pb::Run> run) {
    if (run.ok()) *response->mutable_run() = *std::move(run);
    reactor->Finish(rpc::ToGrpc(run.status()));
  });
  return reactor;
}

grpc::ServerUnaryReactor* Service::ListRuns(Context* context, const pb::ListRunsRequest* request,
                                            pb::ListRunsResponse* response) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  const absl::StatusOr<Page> page = Validate(*request);
  if (!page.ok()) {
    reactor->Finish(rpc::ToGrpc(page.status()));
    return reactor;
  }
  options_.executor->OnReader([executor = options_.executor, page = *page, reactor, response] {
    // One more than asked for tells whether there is a next page.
    auto runs = executor->ListRuns(page.before_number, page.size + 1);
    if (runs.ok()) {
      const bool more = static_cast<int32_t>(runs->size()) > page.size;
      if (more) runs->pop_back();
      for (Executor::ListedRun& run : *runs) *response->add_runs() = std::move(run.run);
      if (more) response->set_next_page_token(PageToken(runs->back().number));
    }
    reactor->Finish(rpc::ToGrpc(runs.status()));
  });
  return reactor;
}

grpc::ServerUnaryReactor* Service::CancelRun(Context* context, const pb::CancelRunRequest* request,
                                             pb::CancelRunResponse* response) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  options_.executor->CancelRun(request->run_id(), [reactor, response](absl::StatusOr<pb::RunState> state) {
    if (state.ok()) response->set_state(*state);
    reactor->Finish(rpc::ToGrpc(state.status()));
  });
  return reactor;
}

grpc::ServerUnaryReactor* Service::ValidateGraph(Context* context, const pb::ValidateGraphRequest* request,
                                                 pb::ValidateGraphResponse* response) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  absl::Status status = Validate(*request);
  if (!status.ok()) {
    reactor->Finish(rpc::ToGrpc(status));
  } else if (!work_.Post([this, request, response, reactor] {
               reactor->Finish(rpc::ToGrpc(FillValidation(*request, response)));
             })) {
    reactor->Finish(rpc::ToGrpc(Draining()));
  }
  return reactor;
}

absl::Status Service::FillValidation(const pb::ValidateGraphRequest& request,
                                     pb::ValidateGraphResponse* response) const {
  const std::string file = request.file_name().empty() ? "graph" : request.file_name();
  CompileResult compiled = CompileGraphText(request.graph_textproto(), file, options_.graphs->roles());
  for (std::string& error : compiled.errors) response->add_errors(std::move(error));
  if (compiled.graph == nullptr) return absl::OkStatus();
  pb::RunRequest bound;
  *bound.mutable_bindings() = request.bindings();
  const auto spec = BuildRunSpec(*compiled.graph, bound, options_.bindings, options_.backend->Describe());
  if (!spec.ok()) {
    // Without a complete binding there is no bound; one that was given and does not fit is an error of the graph's use.
    if (request.bindings_size() > 0) response->add_errors(std::string(Message(spec.status())));
    return absl::OkStatus();
  }
  CostInputs inputs;
  inputs.binding = spec->binding;
  for (const RunMember& member : spec->members) inputs.members.push_back(member.cost);
  const absl::StatusOr<pb::CostBound> cost = BoundCost(*compiled.graph, inputs);
  if (cost.ok()) {
    *response->mutable_cost() = *cost;
  } else {
    response->add_errors(std::string(Message(cost.status())));
  }
  return absl::OkStatus();
}

grpc::ServerUnaryReactor* Service::ListMembers(Context* context, const pb::ListMembersRequest*,
                                               pb::ListMembersResponse* response) {
  for (MemberFacts& facts : options_.backend->Describe()) {
    pb::ListMembersResponse::Member* member = response->add_members();
    member->set_name(std::move(facts.name));
    member->set_backend(std::move(facts.backend));
    member->set_location(std::move(facts.location));
    member->set_available(facts.available);
    if (facts.model.has_value()) *member->mutable_model() = *std::move(facts.model);
  }
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  reactor->Finish(grpc::Status::OK);
  return reactor;
}

void Service::Tick() {
  std::vector<std::shared_ptr<EventStream>> streams;
  {
    MutexLock lock(&mutex_);
    std::erase_if(streams_, [](const auto& s) { return s->ended(); });
    streams = streams_;
  }
  for (const auto& stream : streams) stream->Tick();
}

}  // namespace conclave::orchestrator
