// SPDX-License-Identifier: Apache-2.0
// Errors, the house way. A message says what is wrong, where, the value found, and what to do.
//   return InvalidArgument("{}: tensor \"{}\" has {} dimensions, at most 4 allowed", path, name, n);
// Debian's Abseil has a string_view of its own that std::string_view does not convert to; these helpers do it once.
#pragma once

#include <fmt/format.h>

#include <string>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace conclave {

inline absl::Status MakeStatus(absl::StatusCode code, std::string_view message) {
  return absl::Status(code, absl::string_view(message.data(), message.size()));
}

#define CONCLAVE_DEFINE_ERROR(Name, Code)                                      \
  template <typename... Args>                                                  \
  absl::Status Name(fmt::format_string<Args...> format, Args&&... args) {      \
    return MakeStatus(Code, fmt::format(format, std::forward<Args>(args)...)); \
  }
CONCLAVE_DEFINE_ERROR(InvalidArgument, absl::StatusCode::kInvalidArgument)
CONCLAVE_DEFINE_ERROR(NotFound, absl::StatusCode::kNotFound)
CONCLAVE_DEFINE_ERROR(AlreadyExists, absl::StatusCode::kAlreadyExists)
CONCLAVE_DEFINE_ERROR(FailedPrecondition, absl::StatusCode::kFailedPrecondition)
CONCLAVE_DEFINE_ERROR(OutOfRange, absl::StatusCode::kOutOfRange)
CONCLAVE_DEFINE_ERROR(ResourceExhausted, absl::StatusCode::kResourceExhausted)
CONCLAVE_DEFINE_ERROR(Unimplemented, absl::StatusCode::kUnimplemented)
CONCLAVE_DEFINE_ERROR(Unavailable, absl::StatusCode::kUnavailable)
CONCLAVE_DEFINE_ERROR(DataLoss, absl::StatusCode::kDataLoss)
CONCLAVE_DEFINE_ERROR(Internal, absl::StatusCode::kInternal)
CONCLAVE_DEFINE_ERROR(Cancelled, absl::StatusCode::kCancelled)
CONCLAVE_DEFINE_ERROR(DeadlineExceeded, absl::StatusCode::kDeadlineExceeded)
CONCLAVE_DEFINE_ERROR(Aborted, absl::StatusCode::kAborted)
#undef CONCLAVE_DEFINE_ERROR

// The message as a std::string_view (absl's accessor returns absl's own type).
inline std::string_view Message(const absl::Status& status) {
  return std::string_view(status.message().data(), status.message().size());
}

// The same error with "context: " in front of its message; OK stays OK.
inline absl::Status Annotate(const absl::Status& status, std::string_view context) {
  if (status.ok()) return status;
  return MakeStatus(status.code(), fmt::format("{}: {}", context, Message(status)));
}

}  // namespace conclave

#define CONCLAVE_CONCAT_INNER(a, b) a##b
#define CONCLAVE_CONCAT(a, b) CONCLAVE_CONCAT_INNER(a, b)

// Returns from the enclosing function when `expr` (an absl::Status) is not OK.
#define RETURN_IF_ERROR(expr)                                         \
  do {                                                                \
    if (absl::Status _status = (expr); !_status.ok()) return _status; \
  } while (false)

// ASSIGN_OR_RETURN(auto x, F()): unwraps a StatusOr or returns its error.
#define ASSIGN_OR_RETURN(lhs, expr) CONCLAVE_ASSIGN_OR_RETURN_IMPL(CONCLAVE_CONCAT(_statusor_, __LINE__), lhs, expr)
#define CONCLAVE_ASSIGN_OR_RETURN_IMPL(tmp, lhs, expr) \
  auto tmp = (expr);                                   \
  if (!tmp.ok()) return tmp.status();                  \
  lhs = std::move(tmp).value()
