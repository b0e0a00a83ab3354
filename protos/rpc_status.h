// SPDX-License-Identifier: Apache-2.0
// Errors on the wire: absl::Status <-> grpc::Status with google.rpc details.
//
// In the process, an error is an absl::Status whose payloads are the google.rpc details that belong to it; on the wire
// it is a gRPC status with a google.rpc.Status in its trailer. Nothing is lost between the two except beyond the caps
// below, which exist because gRPC 1.51 kills every stream of a connection whose metadata is too large.
//   return rpc::WithReason(NotFound("model \"{}\" is not served here; this worker has \"{}\"", ..), "MODEL_NOT_FOUND");
//
// Libraries that know no proto (engine/, common/) name their reason in front of the message, "PROMPT_TOO_LONG: 9000
// tokens .." or "MODEL_FILE_INVALID a.gguf: ..": Reason() and ToGrpc() read it from there.
#pragma once

#include <grpcpp/support/status.h>

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"

namespace conclave::rpc {

inline constexpr std::string_view kErrorDomain = "conclave.dev";
inline constexpr int64_t kMessageBytesMax = 1024;  // longer messages are cut, at a whole character
inline constexpr int64_t kDetailsBytesMax = 4096;  // of the serialized google.rpc.Status; field violations are dropped

// A field of a request, by its path ("sampling.top_p", "prompt.token_ids.ids[3]"), and what is wrong with it.
struct FieldViolation {
  std::string field;
  std::string description;
  friend bool operator==(const FieldViolation&, const FieldViolation&) = default;
};

// ---- Attach. Each returns `status` with one more detail; an OK status stays OK.

// google.rpc.ErrorInfo: `reason` is UPPER_SNAKE_CASE, at most 63 characters; `metadata` is for programs.
absl::Status WithReason(absl::Status status, std::string_view reason,
                        const std::map<std::string, std::string>& metadata = {});
// google.rpc.BadRequest.
absl::Status WithViolations(absl::Status status, std::span<const FieldViolation> violations);
// google.rpc.RetryInfo: the caller may try again after this time. Nanoseconds.
absl::Status WithRetryDelay(absl::Status status, int64_t delay_ns);

// INVALID_ARGUMENT whose message lists the violations and whose BadRequest holds all of them; OK if there are none.
absl::Status BadRequest(std::string_view message_name, std::span<const FieldViolation> violations,
                        std::string_view reason = "INVALID_REQUEST");

// ---- Read.

// ErrorInfo's reason; else the one in front of the message; else "".
std::string Reason(const absl::Status& status);
// ErrorInfo's metadata.
std::map<std::string, std::string> ReasonMetadata(const absl::Status& status);
std::vector<FieldViolation> Violations(const absl::Status& status);
std::optional<int64_t> RetryDelayNs(const absl::Status& status);

// ---- Wire.

// Never fails: bytes that are not UTF-8 become U+FFFD, long messages are cut, violations beyond the cap are counted in
// a last one. Every error leaves with an ErrorInfo; one without a reason gets its code's name ("INTERNAL").
grpc::Status ToGrpc(const absl::Status& status);
// The status with its details as payloads. Details that do not parse, or from an unknown type, are ignored.
absl::Status FromGrpc(const grpc::Status& status);

// `text` with every byte that is not part of whole UTF-8 replaced by U+FFFD.
std::string ReplaceInvalidUtf8(std::string_view text);
// The longest prefix of at most `bytes_max` bytes that does not cut a character of valid UTF-8.
std::string_view CutUtf8(std::string_view text, int64_t bytes_max);

}  // namespace conclave::rpc
