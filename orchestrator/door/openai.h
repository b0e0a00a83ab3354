// SPDX-License-Identifier: Apache-2.0
// The OpenAI-compatible face: every graph is a model, "deliberation/NAME", and so is every member.
#pragma once

#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "conclave/deliberation/v1/deliberation.pb.h"
#include "orchestrator/backend/backend.h"
#include "orchestrator/door/openai_reply.h"
#include "orchestrator/door/openai_request.h"
#include "orchestrator/door/speakers.h"
#include "orchestrator/fleet/run_builder.h"
#include "orchestrator/http/http_server.h"
#include "orchestrator/run/executor.h"

namespace conclave::orchestrator {

// Names of graphs as models begin so.
inline constexpr std::string_view kGraphModelPrefix = "deliberation/";

// Thread-safe. What it is made of outlives it and its replies.
class OpenAi {
 public:
  struct Options {
    Executor* executor = nullptr;
    Backend* backend = nullptr;
    GraphLibrary* graphs = nullptr;
    std::vector<deliberation::v1::Binding> bindings;  // of the fleet
    int32_t running_max = 256;                        // requests answered at a time; more are refused with 429
    const Clock* clock = &Clock::System();
  };
  explicit OpenAi(Options options);

  // RESOURCE_EXHAUSTED OVERLOADED: as many requests are being answered as may be. To refuse before a body is read.
  absl::Status RoomForOneMore() const;
  // Graphs whose seats this fleet fills, then members.
  http::Reply Models() const;
  http::Reply Model(std::string_view name) const;
  http::Reply Complete(const http::Request& request, OpenAiApi api);

 private:
  // A request begun: who speaks, and into what.
  struct Begun {
    ReplyHead head;
    std::shared_ptr<Mailbox> mailbox;
    std::vector<std::shared_ptr<Speaker>> speakers;
    std::shared_ptr<void> place;  // among the running ones, while it lives
  };
  class Stream;

  std::vector<std::string> ModelNames() const;
  absl::StatusOr<Begun> Begin(const OpenAiRequest& request, OpenAiApi api);
  absl::StatusOr<NewRun> RunFor(const OpenAiRequest& request, uint64_t seed, std::span<const MemberFacts> members);
  CallRequest CallFor(const OpenAiRequest& request, OpenAiApi api, uint64_t seed) const;
  http::Reply AnswerWhole(Begun begun, const http::Caller& caller) const;
  http::Reply AnswerInPieces(Begun begun, const OpenAiRequest& request, const http::Caller& caller) const;

  const Options options_;
  const std::shared_ptr<std::atomic<int32_t>> running_ = std::make_shared<std::atomic<int32_t>>(0);
  std::atomic<uint64_t> requests_ = 0;
};

}  // namespace conclave::orchestrator
