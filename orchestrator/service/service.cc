// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/service/service.h"

#include <algorithm>
#include <utility>

#include "common/status.h"
#include "orchestrator/graph/binding.h"
#include "orchestrator/graph/compile.h"
#include "orchestrator/graph/cost_bound.h"
#include "orchestrator/service/build_run.h"
#include "orchestrator/service/validate.h"
#include "protos/rpc_calls.h"
#include "protos/rpc_status.h"

namespace conclave::orchestrator {
namespace {

namespace pb = ::conclave::deliberation::v1;

absl::Status Draining() {
  return rpc::WithReason(Unavailable("the orchestrator is stopping; try another one, or later"), "DRAINING");
}

// gRPC's half of a Run or Watch. Deletes itself after the last reaction.
template <typename Response>
class EventReactor final : public grpc::ServerWriteReactor<grpc::ByteBuffer>, public EventTransport {
 public:
  explicit EventReactor(const EventStream::Options& options) : stream_(std::make_shared<EventStream>(options, this)) {}

  const std::shared_ptr<EventStream>& stream() const { return stream_; }

  // ---- EventTransport
  void Write(const pb::Event& event) override {
    *response_.mutable_event() = event;
    bytes_ = rpc::ToBytes(response_);
    StartWrite(&bytes_);
  }
  void Finish(const grpc::Status& status) override { ServerWriteReactor::Finish(status); }

  // ---- grpc
  void OnWriteDone(bool ok) override { stream_->OnWriteDone(ok); }
  void OnCancel() override { stream_->OnCancel(); }
  void OnDone() override {
    stream_->OnTransportDone();
    delete this;
  }

 private:
  const std::shared_ptr<EventStream> stream_;
  Response response_;
  grpc::ByteBuffer bytes_;  // what is being written
};

}  // namespace

Service::Service(Options options) : options_(std::move(options)), pool_(options_.calls) {}

absl::Status Service::Admit(const std::shared_ptr<EventStream>& stream) {
  MutexLock lock(&mutex_);
  std::erase_if(streams_, [](const auto& s) { return s->ended(); });
  if (static_cast<int32_t>(streams_.size()) >= kStreamsMax) {
    return rpc::Overloaded(fmt::format("{} streams are open, at most {}", streams_.size(), kStreamsMax));
  }
  streams_.push_back(stream);
  return absl::OkStatus();
}

// ---- Run

Service::EventWriter* Service::Run(Context*, const grpc::ByteBuffer* bytes) {
  auto* reactor = new EventReactor<pb::RunResponse>({.executor = options_.executor, .clock = options_.clock});
  const std::shared_ptr<EventStream> stream = reactor->stream();
  absl::Status status = draining_ ? Draining() : Admit(stream);
  if (status.ok()) {
    status = rpc::RunInPool(&pool_, *bytes, [this, copy = *bytes, stream] { BeginRun(copy, stream); });
    if (!status.ok() && draining_) status = Draining();  // the reason why nothing is taken any more
  }
  if (!status.ok()) stream->Fail(status);
  return reactor;
}

void Service::BeginRun(const grpc::ByteBuffer& bytes, const std::shared_ptr<EventStream>& stream) {
  // Not acknowledged, so nothing is lost: neither parsed nor begun for nobody.
  if (stream->reader_gone()) return;
  pb::RunRequest request;
  absl::Status status = rpc::Parse(bytes, &request);
  if (status.ok()) status = Validate(request);
  if (!status.ok()) return stream->Fail(status);
  const EventStream::Reading reading = {request.stream_tokens(), request.cancel_on_disconnect()};
  absl::StatusOr<NewRun> run =
      BuildRun(std::move(request), options_.graphs, options_.bindings, options_.backend->Describe());
  if (!run.ok()) return stream->Fail(run.status());
  options_.executor->StartRun(*std::move(run), stream, [stream, reading](absl::StatusOr<StartedRun> started) {
    if (!started.ok()) return stream->Fail(started.status());
    if (started->existing) return stream->Follow(started->run_id, 0, reading);
    stream->Observe(started->run_id, reading);
  });
}

// ---- Watch and state

Service::EventWriter* Service::Watch(Context*, const grpc::ByteBuffer* bytes) {
  auto* reactor = new EventReactor<pb::WatchResponse>({.executor = options_.executor, .clock = options_.clock});
  const std::shared_ptr<EventStream> stream = reactor->stream();
  pb::WatchRequest request;
  absl::Status status = Admit(stream);
  if (status.ok()) status = rpc::ParseSmall(*bytes, &request);
  if (status.ok()) status = Validate(request);
  if (status.ok()) {
    stream->Follow(request.run_id(), request.after_sequence_number(), {.stream_tokens = request.stream_tokens()});
  } else {
    stream->Fail(status);
  }
  return reactor;
}

grpc::ServerUnaryReactor* Service::GetRun(Context* context, const grpc::ByteBuffer* bytes, grpc::ByteBuffer* reply) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  pb::GetRunRequest request;
  if (const absl::Status status = rpc::ParseSmall(*bytes, &request); !status.ok()) {
    rpc::Finish(reactor, status, pb::GetRunResponse(), reply);
    return reactor;
  }
  options_.executor->GetRun(request.run_id(), [reactor, reply](absl::StatusOr<pb::Run> run) {
    pb::GetRunResponse response;
    if (run.ok()) *response.mutable_run() = *std::move(run);
    rpc::Finish(reactor, run.status(), response, reply);
  });
  return reactor;
}

grpc::ServerUnaryReactor* Service::ListRuns(Context* context, const grpc::ByteBuffer* bytes, grpc::ByteBuffer* reply) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  pb::ListRunsRequest request;
  absl::Status status = rpc::ParseSmall(*bytes, &request);
  absl::StatusOr<RunsPage> page = status.ok() ? Validate(request) : status;
  if (!page.ok()) {
    rpc::Finish(reactor, page.status(), pb::ListRunsResponse(), reply);
    return reactor;
  }
  options_.executor->OnReader([executor = options_.executor, page = *page, reactor, reply] {
    // One more than asked for tells whether there is a next page.
    pb::ListRunsResponse response;
    auto runs = executor->ListRuns(page.before_number, page.size + 1);
    if (runs.ok()) {
      const bool more = static_cast<int32_t>(runs->size()) > page.size;
      if (more) runs->pop_back();
      for (Executor::ListedRun& run : *runs) *response.add_runs() = std::move(run.run);
      if (more) response.set_next_page_token(PageToken(runs->back().number));
    }
    rpc::Finish(reactor, runs.status(), response, reply);
  });
  return reactor;
}

grpc::ServerUnaryReactor* Service::CancelRun(Context* context, const grpc::ByteBuffer* bytes, grpc::ByteBuffer* reply) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  pb::CancelRunRequest request;
  if (const absl::Status status = rpc::ParseSmall(*bytes, &request); !status.ok()) {
    rpc::Finish(reactor, status, pb::CancelRunResponse(), reply);
    return reactor;
  }
  options_.executor->CancelRun(request.run_id(), [reactor, reply](absl::StatusOr<pb::RunState> state) {
    pb::CancelRunResponse response;
    if (state.ok()) response.set_state(*state);
    rpc::Finish(reactor, state.status(), response, reply);
  });
  return reactor;
}

grpc::ServerUnaryReactor* Service::ListMembers(Context* context, const grpc::ByteBuffer* bytes,
                                               grpc::ByteBuffer* reply) {
  return rpc::AnswerHere<pb::ListMembersRequest, pb::ListMembersResponse>(
      context, *bytes, reply, [this](const pb::ListMembersRequest&, pb::ListMembersResponse* response) {
        for (MemberFacts& facts : options_.backend->Describe()) {
          pb::ListMembersResponse::Member* member = response->add_members();
          member->set_name(std::move(facts.name));
          member->set_backend(std::move(facts.backend));
          member->set_location(std::move(facts.location));
          member->set_available(facts.available);
          if (facts.model.has_value()) *member->mutable_model() = *std::move(facts.model);
        }
        return absl::OkStatus();
      });
}

// ---- ValidateGraph

grpc::ServerUnaryReactor* Service::ValidateGraph(Context* context, const grpc::ByteBuffer* bytes,
                                                 grpc::ByteBuffer* reply) {
  return rpc::AnswerInPool<pb::ValidateGraphRequest, pb::ValidateGraphResponse>(
      &pool_, context, *bytes, reply,
      [this](const pb::ValidateGraphRequest& request, pb::ValidateGraphResponse* response) {
        RETURN_IF_ERROR(Validate(request));
        return FillValidation(request, response);
      });
}

absl::Status Service::FillValidation(const pb::ValidateGraphRequest& request,
                                     pb::ValidateGraphResponse* response) const {
  const std::string file = request.file_name().empty() ? "graph" : request.file_name();
  const GraphLibrary& library = *options_.graphs;
  CompileResult compiled = CompileGraphText(request.graph_textproto(), file, library.roles(), library.Callable());
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
