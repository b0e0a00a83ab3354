// SPDX-License-Identifier: Apache-2.0
// Calls answered by OpenAI-compatible servers (vLLM, SGLang, llama.cpp's server, hosted ones, our own door), streamed.
//
// What is tried again here, unseen by the run: a server that is full (429, or 503 with Retry-After), as long as the
// call may wait; and one that takes no connection, for unreachable_ns. What the run decides: a call whose server
// failed, was lost, cut its reply or sent garbage ends as retryable. A server (host and port) that failed too often is
// left alone for a while (breaker.h): calls wait for it as for one that takes no connection, or end as
// retryable at once where the pause is longer than that.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/clock.h"
#include "conclave/deliberation/v1/fleet.pb.h"
#include "orchestrator/backend/backend.h"
#include "orchestrator/backend/breaker.h"

namespace conclave::orchestrator {

struct OpenAiMember {
  std::string name;
  std::string url;    // base: "/chat/completions" is appended
  std::string model;  // as the server calls it
  std::string api_key = {};
  std::string authorities = {};  // PEM file; "" the system's
  int32_t parallel_calls = 16;   // requests at a time; the others wait
  MemberAbilities abilities = {};
  double weight = 1.0;
  std::optional<deliberation::v1::Card> card = {};  // costs; usage that the server does not tell is estimated from it
};

struct OpenAiOptions {
  int64_t call_timeout_ns = 600'000'000'000;  // of calls that name none, waiting included
  int64_t connect_ns = 5'000'000'000;
  int64_t silence_ns = 60'000'000'000;      // nothing new for so long: the call is lost
  int64_t unreachable_ns = 15'000'000'000;  // how long a call waits for a server that takes no connection
  int64_t backoff_ns = 250'000'000;         // before the first attempt anew, doubled each time
  int64_t backoff_max_ns = 30'000'000'000;
  BreakerOptions breaker = {};
  const Clock* clock = &Clock::System();
};

// INVALID_ARGUMENT for a url. Connects to nobody: a server that is not there yet may come.
absl::StatusOr<std::unique_ptr<Backend>> NewOpenAiBackend(std::vector<OpenAiMember> members,
                                                          const OpenAiOptions& options);

}  // namespace conclave::orchestrator
