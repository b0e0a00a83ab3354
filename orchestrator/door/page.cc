// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/door/page.h"

#include <google/protobuf/util/json_util.h>

#include <charconv>
#include <deque>
#include <memory>
#include <utility>

#include "common/mutex.h"
#include "common/status.h"
#include "orchestrator/door/openai_reply.h"
#include "orchestrator/door/page_files.h"
#include "orchestrator/graph/draw.h"
#include "orchestrator/service/event_stream.h"
#include "orchestrator/service/validate.h"
#include "protos/rpc_status.h"

namespace conclave::orchestrator {
namespace {

namespace pb = ::conclave::deliberation::v1;
using http::Json;

constexpr int64_t kStillHereNs = 10'000'000'000;
constexpr int64_t kEventsPerRead = 256;
constexpr int64_t kBytesPerRead = 1 << 20;

std::string Parameter(const http::Request& request, const std::string& name) {
  const auto it = request.query.find(name);
  return it == request.query.end() ? "" : it->second;
}

// Bytes that no proto string holds are replaced before they get here.
std::string EventJson(const pb::Event& event) {
  google::protobuf::util::JsonPrintOptions options;
  options.preserve_proto_field_names = true;
  std::string json;
  if (!google::protobuf::util::MessageToJsonString(event, &json, options).ok()) json = "{}";
  return json;
}

http::Reply JsonReply(const Json& json) {
  http::Reply reply;
  reply.text = http::WriteJson(json);
  return reply;
}

// gRPC's half of an EventStream, read by the thread of a connection instead. Lives until the stream has finished.
class Pulled final : public EventTransport, public std::enable_shared_from_this<Pulled> {
 public:
  void Begin(const EventStream::Options& options, std::string run_id) {
    auto stream = std::make_shared<EventStream>(options, this);
    {
      MutexLock lock(&mutex_);
      self_ = shared_from_this();
      stream_ = stream;
    }
    stream->Follow(std::move(run_id), 0, {.stream_tokens = true});
  }

  // Nobody reads any more.
  void Leave() {
    const std::shared_ptr<EventStream> stream = TheStream();
    if (stream == nullptr) return;
    bool held = false;
    {
      MutexLock lock(&mutex_);
      left_ = true;
      held = event_.has_value();
      event_.reset();
    }
    stream->OnCancel();
    if (held) stream->OnWriteDone(false);
  }

  enum class Next : uint8_t { kEvent, kNothingYet, kEnd };
  Next Take(int64_t wait_ns, pb::Event* event, absl::Status* end) {
    {
      MutexLock lock(&mutex_);
      if (!event_.has_value() && !end_.has_value()) changed_.WaitWithTimeout(&mutex_, wait_ns);
      if (!event_.has_value()) {
        if (!end_.has_value()) return Next::kNothingYet;
        *end = *end_;
        return Next::kEnd;
      }
      *event = *std::exchange(event_, std::nullopt);
    }
    if (const auto stream = TheStream(); stream != nullptr) stream->OnWriteDone(true);
    return Next::kEvent;
  }

  // ---- EventTransport
  void Write(const pb::Event& event) override {
    std::shared_ptr<EventStream> vain;
    {
      MutexLock lock(&mutex_);
      if (left_) {
        vain = stream_;
      } else {
        event_ = event;
        changed_.SignalAll();
      }
    }
    if (vain != nullptr) vain->OnWriteDone(false);
  }
  void Finish(const grpc::Status& status) override {
    std::shared_ptr<Pulled> self;
    std::shared_ptr<EventStream> stream;
    {
      MutexLock lock(&mutex_);
      self = std::move(self_);
      stream = std::move(stream_);
      end_ = rpc::FromGrpc(status);
      changed_.SignalAll();
    }
    if (stream != nullptr) stream->OnTransportDone();
  }

 private:
  std::shared_ptr<EventStream> TheStream() {
    MutexLock lock(&mutex_);
    return stream_;
  }

  Mutex mutex_;
  CondVar changed_;
  bool left_ ABSL_GUARDED_BY(mutex_) = false;
  std::shared_ptr<Pulled> self_ ABSL_GUARDED_BY(mutex_);
  std::shared_ptr<EventStream> stream_ ABSL_GUARDED_BY(mutex_);
  std::optional<pb::Event> event_ ABSL_GUARDED_BY(mutex_);
  std::optional<absl::Status> end_ ABSL_GUARDED_BY(mutex_);
};

class EventBody final : public http::Body {
 public:
  EventBody(const EventStream::Options& options, std::string run_id, const std::atomic<bool>* ending)
      : clock_(options.clock), ending_(ending), said_ns_(clock_->NowNs()), pulled_(std::make_shared<Pulled>()) {
    pulled_->Begin(options, std::move(run_id));
  }
  ~EventBody() override { pulled_->Leave(); }

  Next Take(int64_t wait_ns, std::string* piece) override {
    if (ended_ || *ending_) return Next::kEnd;
    pb::Event event;
    absl::Status end;
    switch (pulled_->Take(wait_ns, &event, &end)) {
      case Pulled::Next::kEvent:
        *piece = "data: " + EventJson(event) + "\n\n";
        break;
      case Pulled::Next::kEnd:
        ended_ = true;
        if (end.ok()) return Next::kEnd;
        *piece = ErrorEvent(end);
        break;
      case Pulled::Next::kNothingYet:
        if (clock_->NowNs() - said_ns_ < kStillHereNs) return Next::kNothingYet;
        *piece = kStillHereEvent;
        break;
    }
    said_ns_ = clock_->NowNs();
    return Next::kPiece;
  }

 private:
  const Clock* const clock_;
  const std::atomic<bool>* const ending_;
  int64_t said_ns_;
  const std::shared_ptr<Pulled> pulled_;
  bool ended_ = false;
};

}  // namespace

std::optional<http::Reply> Page::File(std::string_view path) {
  http::Reply reply;
  if (path == "/") {
    reply.content_type = "text/html; charset=utf-8";
    reply.text = kPageHtml;
  } else if (path == "/page.js") {
    reply.content_type = "text/javascript; charset=utf-8";
    reply.text = kPageJs;
  } else if (path == "/page.css") {
    reply.content_type = "text/css; charset=utf-8";
    reply.text = kPageCss;
  } else {
    return std::nullopt;
  }
  // Nothing but what is served here is loaded or run, whatever a model wrote.
  reply.headers = {{"Content-Security-Policy",
                    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "
                    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"},
                   {"X-Content-Type-Options", "nosniff"},
                   {"Referrer-Policy", "no-referrer"},
                   {"Cache-Control", "no-cache"}};
  return reply;
}

http::Reply Page::Api(const http::Request& request) const {
  http::Reply reply;
  if (request.path == "/api/runs") {
    reply = Runs(request);
  } else if (request.path == "/api/graph") {
    reply = Graph(request);
  } else if (request.path == "/api/events") {
    reply = Events(request);
  } else if (request.path == "/api/grades") {
    reply = Grades(request);
  } else {
    return ErrorReply(NotFound("there is nothing at {}", request.path));
  }
  reply.headers.emplace_back("X-Content-Type-Options", "nosniff");
  reply.headers.emplace_back("Cache-Control", "no-store");
  return reply;
}

http::Reply Page::Runs(const http::Request& request) const {
  pb::ListRunsRequest list;
  list.set_page_token(Parameter(request, "before"));
  const auto page = Validate(list);
  if (!page.ok()) return ErrorReply(page.status());
  auto runs = executor_->ListRuns(page->before_number, kRunsPerPage + 1);
  if (!runs.ok()) return ErrorReply(runs.status());
  const bool more = static_cast<int64_t>(runs->size()) > kRunsPerPage;
  if (more) runs->pop_back();
  Json json = {{"runs", Json::array()}, {"next", more ? runs->back().number : 0}};
  for (const Executor::ListedRun& listed : *runs) {
    const pb::Run& run = listed.run;
    const auto question = run.inputs().find("question");
    Json& out = json["runs"].emplace_back();
    out["run_id"] = run.run_id();
    out["state"] = pb::RunState_Name(run.state());
    out["graph"] = run.graph();
    out["question"] =
        question == run.inputs().end() ? "" : std::string(rpc::CutUtf8(question->second, kListedQuestionBytesMax));
    if (run.has_answer()) out["answer"] = run.answer();
    out["calls"] = run.ledger().calls();
    out["tokens"] = run.ledger().output_tokens();
  }
  return JsonReply(json);
}

http::Reply Page::Graph(const http::Request& request) const {
  pb::RunRequest named;  // the rule for names of graphs is that of requests: they are no paths
  named.set_graph_name(Parameter(request, "name"));
  if (const absl::Status status = Validate(named); !status.ok()) return ErrorReply(status);
  const auto graph = graphs_->Find(named.graph_name());
  if (!graph.ok()) return ErrorReply(graph.status());
  http::Reply reply;
  reply.content_type = "image/svg+xml";
  reply.text = DrawSvg(**graph);
  reply.headers.emplace_back("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; sandbox");
  return reply;
}

http::Reply Page::Events(const http::Request& request) const {
  http::Reply reply;
  reply.content_type = "text/event-stream";
  reply.body = std::make_unique<EventBody>(EventStream::Options{.executor = executor_, .clock = clock_},
                                           Parameter(request, "run"), ending_);
  return reply;
}

http::Reply Page::Grades(const http::Request& request) const {
  const std::string run_id = Parameter(request, "run");
  const std::string gold = Parameter(request, "gold");
  if (gold.empty() || static_cast<int64_t>(gold.size()) > kGoldBytesMax) {
    return ErrorReply(InvalidArgument("gold: {} bytes, 1 to {} are allowed", gold.size(), kGoldBytesMax));
  }
  std::shared_ptr<const CompiledGraph> graph;
  Json outcomes = Json::object();
  for (int64_t after = 0;;) {
    const auto events = executor_->ReadEvents(run_id, after, kEventsPerRead, kBytesPerRead);
    if (!events.ok()) return ErrorReply(events.status());
    if (events->empty()) break;
    for (const pb::Event& event : *events) {
      after = event.sequence_number();
      if (event.has_run_started()) {
        pb::RunRequest named;
        named.set_graph_name(event.run_started().graph());
        auto found = Validate(named).ok() ? graphs_->Find(named.graph_name())
                                          : absl::StatusOr<std::shared_ptr<const CompiledGraph>>(NotFound("no name"));
        if (!found.ok())
          return ErrorReply(NotFound("graph \"{}\" is not here: nothing says how to grade", named.graph_name()));
        graph = *std::move(found);
        if (graph->grader().name() == "code") return ErrorReply(InvalidArgument("programs are not run from here"));
      }
      if (graph == nullptr || !event.has_call_finished() || !event.call_finished().has_answer()) continue;
      const grade::Grade graded = graph->grader().GradeAnswer(event.call_finished().answer(), {gold, {}});
      outcomes[std::to_string(event.sequence_number())] = grade::OutcomeName(graded.outcome);
    }
  }
  return JsonReply({{"outcomes", std::move(outcomes)}});
}

}  // namespace conclave::orchestrator
