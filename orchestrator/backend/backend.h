// SPDX-License-Identifier: Apache-2.0
// Who answers a call: the seam between a deliberation and the models. A worker over gRPC, a recorded transcript, a
// script in a test; the executor cannot tell them apart.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "conclave/deliberation/v1/deliberation.pb.h"
#include "conclave/deliberation/v1/fleet.pb.h"
#include "conclave/deliberation/v1/role.pb.h"
#include "conclave/inference/v1/inference.pb.h"
#include "orchestrator/pick/confidence.h"

namespace conclave::orchestrator {

// Names a running call in this process; chosen by the caller of Start, never used twice.
using CallId = uint64_t;

// The two continuations whose probabilities are compared: P(True) = p(yes) / (p(yes) + p(no)).
struct PTrueContinuations {
  std::string yes = " yes";
  std::string no = " no";
};

struct CallRequest {
  CallId id = 0;
  std::string member = {};
  std::string item_id = {};  // the question, for recorded members
  int32_t sample = 0;
  std::vector<deliberation::v1::PromptMessage> prompt = {};
  uint64_t seed = 0;
  deliberation::v1::SamplingDefaults sampling = {};  // role, node and run already merged; absent: the member's default
  std::optional<PTrueContinuations> p_true = {};     // set: nothing is generated, the continuations are scored
  bool token_trace = false;                          // CallOutcome::trace is wanted, where the member can tell
  bool stream_tokens = false;                        // OnDelta is wanted
  // Deltas tell log-probabilities, too, with so many of the best at each place, where the member can.
  std::optional<int32_t> logprobs = {};
  int64_t timeout_ns = 0;   // 0: the backend's own limit
  bool plain = false;       // the texts alone, without the model's chat template
  bool ignore_eos = false;  // end-of-sequence tokens do not end the text
  std::shared_ptr<const deliberation::v1::PartialText> partial = {};  // the call goes on from here; nullptr: anew
  // A call of the same member that is late: this one goes to another of its workers, and fails where there is none.
  std::optional<CallId> beside = {};
  std::shared_ptr<const deliberation::v1::OutputConstraint> constraint = {};  // ? of the text, where the member can
  std::optional<int64_t> now_unix_seconds = {};  // what the model's template sees as now, so that a run can be repeated
};

// How a call ended. `status` not OK: nothing but `usage` (what is known of the work done), `retryable` and `partial`
// means anything.
struct CallOutcome {
  absl::Status status = {};
  bool retryable = false;  // another attempt with the same seed may succeed: the member was lost, not wrong
  std::string text = {};   // whole, what the call went on from included
  // Of a retryable loss: all that was said so far, where another attempt can go on from it.
  deliberation::v1::PartialText partial = {};
  std::optional<double> p_true = {};
  std::optional<TokenTrace> trace = {};
  std::optional<std::string> answer = {};  // a recorded answer that came beside its text
  inference::v1::FinishReason finish_reason = inference::v1::FINISH_REASON_UNSPECIFIED;
  inference::v1::Usage usage = {};
  bool estimated = false;  // usage is computed from a card, not measured
  std::string instance_id = {};
  std::string model_revision = {};
};

// New words of a call.
struct CallDelta {
  std::string text = {};  // whole UTF-8
  int32_t token_count = 0;
  std::vector<inference::v1::Logprobs> logprobs = {};  // of CallRequest::logprobs; may run ahead of the text
};

// Told of a call from any thread, even before Start has returned. Implementations never block.
class CallSink {
 public:
  virtual ~CallSink() = default;
  // Only with stream_tokens.
  virtual void OnDelta(CallId id, CallDelta delta) = 0;
  // Exactly once per call, last.
  virtual void OnDone(CallId id, CallOutcome outcome) = 0;
};

// What a member can do beyond answering. What is missing is refused before a run begins (fleet/abilities.h).
struct MemberAbilities {
  bool seed = true;               // the same seed gives the same text
  bool logprobs = true;           // CallOutcome::trace, CallDelta::logprobs
  bool p_true = true;             // CallRequest::p_true
  bool extended_sampling = true;  // top_k, min_p, repetition_penalty
  bool experts = true;            // experts_per_token, where it is a mixture
  bool json_schema = true;        // CallRequest::constraint, where it is a JSON Schema
  bool grammar = true;            // the same, where it is a regular expression or a grammar
};

// What is known of a member, for bindings, ledgers and listings.
struct MemberFacts {
  std::string name = {};
  std::string backend = {};   // "worker", "recorded", "openai", "fake"
  std::string location = {};  // host:port, the recording's path or the server's URL
  bool available = false;
  double weight = 1.0;                              // in weighted votes
  std::optional<inference::v1::Model> model = {};   // measured: from a worker
  std::optional<deliberation::v1::Card> card = {};  // declared: from the fleet file
  MemberAbilities abilities = {};
};

// Thread-safe. Outlives every call it started.
class Backend {
 public:
  virtual ~Backend() = default;
  // Begins a call; never blocks. OnDone follows exactly once, also for a refused or cancelled call. `sink` must live
  // until then.
  virtual void Start(CallRequest request, CallSink* sink) = 0;
  // Asks a call to end soon with CANCELLED and what it has used. Unknown or ended calls: nothing happens.
  virtual void Cancel(CallId id) = 0;
  // Members answered for, in the order of the fleet file. Never blocks: facts are learnt at start and kept fresh.
  virtual std::vector<MemberFacts> Describe() const = 0;
};

}  // namespace conclave::orchestrator
