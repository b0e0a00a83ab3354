// SPDX-License-Identifier: Apache-2.0
#include "orchestrator/door/openai.h"

#include <algorithm>
#include <utility>

#include "common/hash.h"
#include "common/status.h"
#include "orchestrator/fleet/abilities.h"
#include "orchestrator/service/build_run.h"
#include "orchestrator/service/validate.h"
#include "protos/rpc_calls.h"
#include "protos/rpc_status.h"

namespace conclave::orchestrator {
namespace {

namespace pb = ::conclave::deliberation::v1;

constexpr int64_t kTurnNs = 200'000'000;          // how often a caller that went is looked for
constexpr int64_t kFirstWordsNs = 1'000'000'000;  // a failure within this time still has a status of its own
constexpr int64_t kStillHereNs = 10'000'000'000;  // a stream is not silent for longer
constexpr int64_t kNsPerSecond = 1'000'000'000;

absl::Status ModelNotFound(std::string_view name) {
  const rpc::FieldViolation violation = {"model", "is not served here"};
  return rpc::WithReason(
      rpc::WithViolations(NotFound("model \"{}\" is not served here; GET /v1/models lists what is", name),
                          {&violation, 1}),
      "MODEL_NOT_FOUND");
}

absl::Status WrongField(const std::string& field, const std::string& what) {
  const rpc::FieldViolation violation = {field, what};
  return rpc::WithViolations(InvalidArgument("{}: {}", field, what), {&violation, 1});
}

// Whether a member can do what it is asked directly.
absl::Status CheckMember(const OpenAiRequest& request, const MemberAbilities& can) {
  if (!request.inputs.empty()) return WrongField("inputs", "are for graphs; a member reads the messages alone");
  if (request.seed.has_value() && !can.seed) return WrongField("seed", "is not honoured by this member's server");
  if (request.constraint != nullptr && !can.json_schema) {
    return WrongField(kResponseFormatField, "is not honoured by this member's server");
  }
  if (request.logprobs.has_value() && !can.logprobs) return WrongField(kLogprobsField, "are not told by this member");
  if (can.extended_sampling) return absl::OkStatus();
  const pb::SamplingDefaults& sampling = request.sampling;
  for (const auto& [name, wanted] : {std::pair("top_k", sampling.has_top_k()), std::pair("min_p", sampling.has_min_p()),
                                     std::pair("repetition_penalty", sampling.has_repetition_penalty()),
                                     std::pair("ignore_eos", request.ignore_eos)}) {
    if (wanted) return WrongField(name, "is not honoured by this member's server");
  }
  return absl::OkStatus();
}

http::Json ModelJson(const std::string& name, int64_t created) {
  return {{"id", name},
          {"object", "model"},
          {"created", created},
          {"owned_by", name.starts_with(kGraphModelPrefix) ? "conclave" : "fleet"}};
}

http::Reply JsonReply(const http::Json& json) {
  http::Reply reply;
  reply.text = http::WriteJson(json);
  return reply;
}

}  // namespace

OpenAi::OpenAi(Options options) : options_(std::move(options)) {}

absl::Status OpenAi::RoomForOneMore() const {
  if (*running_ < options_.running_max) return absl::OkStatus();
  return rpc::Overloaded(
      fmt::format("{} requests are being answered, at most {}", running_->load(), options_.running_max));
}

// ---- Models

std::vector<std::string> OpenAi::ModelNames() const {
  const std::vector<MemberFacts> members = options_.backend->Describe();
  std::vector<std::string> names;
  for (const std::string& name : options_.graphs->ShippedNames()) {
    const auto graph = options_.graphs->Find(name);
    if (!graph.ok() || !BuildRunSpec(**graph, pb::RunRequest(), options_.bindings, members).ok()) continue;
    names.push_back(std::string(kGraphModelPrefix) + name);
  }
  for (const MemberFacts& member : members) names.push_back(member.name);
  return names;
}

http::Reply OpenAi::Models() const {
  http::Json json = {{"object", "list"}, {"data", http::Json::array()}};
  for (const std::string& name : ModelNames()) {
    json["data"].push_back(ModelJson(name, options_.clock->UnixNs() / kNsPerSecond));
  }
  return JsonReply(json);
}

http::Reply OpenAi::Model(std::string_view name) const {
  const std::vector<std::string> names = ModelNames();
  const auto found = std::find(names.begin(), names.end(), name);
  if (found == names.end()) return ErrorReply(ModelNotFound(name));
  return JsonReply(ModelJson(*found, options_.clock->UnixNs() / kNsPerSecond));
}

// ---- Beginning

absl::StatusOr<NewRun> OpenAi::RunFor(const OpenAiRequest& request, uint64_t seed,
                                      std::span<const MemberFacts> members) {
  if (request.ignore_eos) return WrongField("ignore_eos", "is for members; a deliberation reads ends of texts");
  pb::RunRequest run;
  run.set_graph_name(request.model.substr(kGraphModelPrefix.size()));
  run.set_seed(seed);
  *run.mutable_sampling() = request.sampling;
  run.mutable_sampling()->clear_stop();  // they cut what the caller reads, not what the members say to one another
  if (request.constraint != nullptr) *run.mutable_result_constraint() = *request.constraint;
  if (request.logprobs.has_value()) run.set_result_logprob_count(*request.logprobs);
  run.set_stream_tokens(true);
  run.mutable_inputs()->insert(request.inputs.begin(), request.inputs.end());
  if (!run.mutable_inputs()->insert({"question", QuestionOf(request)}).second) {
    return WrongField("inputs.question", "the messages are the question");
  }
  RETURN_IF_ERROR(Validate(run));  // before anything is looked for by its name: that could be a path
  const auto graph = options_.graphs->Find(run.graph_name());
  if (absl::IsNotFound(graph.status())) return ModelNotFound(request.model);
  RETURN_IF_ERROR(graph.status());
  const auto& declared = (*graph)->proto().input();
  for (const auto& given : request.inputs) {
    if (std::none_of(declared.begin(), declared.end(), [&](const pb::Input& i) { return i.name() == given.first; })) {
      return WrongField("inputs." + given.first, "is no input of this graph");
    }
  }
  auto built = BuildRun(std::move(run), options_.graphs, options_.bindings, members);
  const auto violations = rpc::Violations(built.status());
  for (const auto& [ours, theirs] :
       {std::pair(kResultConstraintField, kResponseFormatField), std::pair(kResultLogprobsField, kLogprobsField)}) {
    if (violations.size() == 1 && violations[0].field == ours) return WrongField(theirs, violations[0].description);
  }
  return built;
}

CallRequest OpenAi::CallFor(const OpenAiRequest& request, OpenAiApi api, uint64_t seed) const {
  CallRequest call;
  call.member = request.model;
  call.prompt = request.messages;
  call.plain = api == OpenAiApi::kCompletions;
  call.seed = seed;
  call.sampling = request.sampling;
  call.ignore_eos = request.ignore_eos;
  call.constraint = request.constraint;
  call.logprobs = request.logprobs;
  call.now_unix_seconds = options_.clock->UnixNs() / kNsPerSecond;
  return call;
}

absl::StatusOr<OpenAi::Begun> OpenAi::Begin(const OpenAiRequest& request, OpenAiApi api) {
  Begun begun;
  begun.place = std::shared_ptr<void>(nullptr, [running = running_](void*) { --*running; });
  if (++*running_ > options_.running_max) return rpc::Overloaded("too many requests are being answered");
  const int64_t now_ns = options_.clock->UnixNs();
  const uint64_t number = ++requests_;
  begun.head = {api,
                fmt::format("{}-{:016x}", api == OpenAiApi::kChat ? "chatcmpl" : "cmpl",
                            Mix64(number + static_cast<uint64_t>(now_ns))),
                request.model, now_ns / kNsPerSecond, request.logprobs};
  const bool wants_tokens = request.logprobs.has_value();
  begun.mailbox = std::make_shared<Mailbox>(request.choices);
  // Without a seed every request has one of its own; further choices count on from it.
  const uint64_t seed = request.seed.value_or(Mix64(number ^ static_cast<uint64_t>(now_ns)) >> 1);
  const std::vector<MemberFacts> members = options_.backend->Describe();
  if (request.model.starts_with(kGraphModelPrefix)) {
    std::vector<NewRun> runs;
    for (int32_t i = 0; i < request.choices; ++i) {
      ASSIGN_OR_RETURN(runs.emplace_back(), RunFor(request, seed + static_cast<uint64_t>(i), members));
    }
    for (int32_t i = 0; i < request.choices; ++i) {
      begun.speakers.push_back(AskGraph(options_.executor, std::move(runs[static_cast<size_t>(i)]),
                                        {request.sampling.stop().begin(), request.sampling.stop().end()},
                                        {begun.mailbox, i, wants_tokens}));
    }
    return begun;
  }
  const auto member =
      std::find_if(members.begin(), members.end(), [&](const MemberFacts& m) { return m.name == request.model; });
  if (member == members.end()) return ModelNotFound(request.model);
  RETURN_IF_ERROR(CheckMember(request, member->abilities));
  for (int32_t i = 0; i < request.choices; ++i) {
    begun.speakers.push_back(AskMember(options_.backend, CallFor(request, api, seed + static_cast<uint64_t>(i)),
                                       {begun.mailbox, i, wants_tokens}));
  }
  return begun;
}

http::Reply OpenAi::Complete(const http::Request& request, OpenAiApi api) {
  const auto read = ReadOpenAiRequest(request.body, api);
  if (!read.ok()) return ErrorReply(read.status());
  absl::StatusOr<Begun> begun = Begin(*read, api);
  if (!begun.ok()) return ErrorReply(begun.status());
  if (read->stream) return AnswerInPieces(*std::move(begun), *read, *request.caller);
  return AnswerWhole(*std::move(begun), *request.caller);
}

// ---- Answering

http::Reply OpenAi::AnswerWhole(Begun begun, const http::Caller& caller) const {
  std::vector<SpokenChoice> choices(begun.speakers.size());
  absl::Status failed;
  bool left = false;
  for (size_t open = choices.size(); open > 0;) {
    std::optional<Spoken> spoken = begun.mailbox->Take(kTurnNs);
    if (!spoken.has_value()) {
      if (!left && caller.gone()) {
        left = true;
        for (const auto& speaker : begun.speakers) speaker->Cancel();
      }
      continue;
    }
    SpokenChoice& choice = choices[static_cast<size_t>(spoken->choice)];
    choice.text += spoken->text;
    std::move(spoken->tokens.begin(), spoken->tokens.end(), std::back_inserter(choice.tokens));
    if (!spoken->end.has_value()) continue;
    choice.end = *std::move(spoken->end);
    --open;
    if (choice.end.status.ok() || !failed.ok()) continue;
    failed = choice.end.status;
    for (const auto& speaker : begun.speakers) speaker->Cancel();  // half an answer is none
  }
  if (!failed.ok()) return ErrorReply(failed);
  http::Reply reply;
  reply.text = WholeReply(begun.head, choices);
  return reply;
}

// Pieces of a streamed reply. Destroyed before its end, it cancels what still speaks.
class OpenAi::Stream final : public http::Body {
 public:
  Stream(Begun begun, bool with_usage, const Clock* clock)
      : begun_(std::move(begun)),
        with_usage_(with_usage),
        clock_(clock),
        choices_(begun_.speakers.size()),
        open_(choices_.size()),
        said_ns_(clock->NowNs()) {
    for (size_t i = 0; i < choices_.size(); ++i) first_ += BeginEvent(begun_.head, static_cast<int32_t>(i));
  }
  ~Stream() override { CancelAll(); }

  // The first that was spoken, taken by whoever made this.
  void PutBack(const Spoken& spoken) { first_ += EventsOf(spoken); }

  Next Take(int64_t wait_ns, std::string* piece) override {
    if (!first_.empty()) {
      *piece = std::exchange(first_, {});
    } else if (open_ == 0) {
      return Next::kEnd;
    } else if (const std::optional<Spoken> spoken = begun_.mailbox->Take(wait_ns); spoken.has_value()) {
      *piece = EventsOf(*spoken);
    } else if (clock_->NowNs() - said_ns_ >= kStillHereNs) {
      *piece = kStillHereEvent;
    }
    if (piece->empty()) return Next::kNothingYet;
    said_ns_ = clock_->NowNs();
    return Next::kPiece;
  }

 private:
  std::string EventsOf(const Spoken& spoken) {
    if (open_ == 0) return "";
    std::string out;
    if (!spoken.text.empty() || !spoken.tokens.empty()) out += TextEvent(begun_.head, spoken);
    if (!spoken.end.has_value()) return out;
    if (!spoken.end->status.ok()) {  // no [DONE]: the reply is not whole
      open_ = 0;
      CancelAll();
      return out + ErrorEvent(spoken.end->status);
    }
    choices_[static_cast<size_t>(spoken.choice)].end = *spoken.end;
    out += EndEvent(begun_.head, spoken.choice, spoken.end->cut);
    if (--open_ > 0) return out;
    if (with_usage_) out += UsageEvent(begun_.head, Sum(choices_));
    return out + std::string(kDoneEvent);
  }

  void CancelAll() {
    for (const auto& speaker : begun_.speakers) speaker->Cancel();
    begun_.speakers.clear();
  }

  Begun begun_;
  const bool with_usage_;
  const Clock* const clock_;
  std::vector<SpokenChoice> choices_;  // their ends
  size_t open_;
  std::string first_;
  int64_t said_ns_;
};

http::Reply OpenAi::AnswerInPieces(Begun begun, const OpenAiRequest& request, const http::Caller& caller) const {
  const std::shared_ptr<Mailbox> mailbox = begun.mailbox;
  auto stream = std::make_unique<Stream>(std::move(begun), request.stream_usage, options_.clock);
  const int64_t until_ns = options_.clock->NowNs() + kFirstWordsNs;
  std::optional<Spoken> first;
  while (!first.has_value() && options_.clock->NowNs() < until_ns && !caller.gone()) first = mailbox->Take(kTurnNs);
  if (first.has_value()) {
    if (first->text.empty() && first->tokens.empty() && first->end.has_value() && !first->end->status.ok())
      return ErrorReply(first->end->status);
    stream->PutBack(*first);
  }
  http::Reply reply;
  reply.content_type = "text/event-stream";
  reply.headers.emplace_back("Cache-Control", "no-cache");
  reply.headers.emplace_back("X-Accel-Buffering", "no");
  reply.body = std::move(stream);
  return reply;
}

}  // namespace conclave::orchestrator
