// SPDX-License-Identifier: Apache-2.0
// A session whose runs a serving orchestrator does, in its own store.
#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "cli/session.h"

namespace conclave::cli {

// UNAVAILABLE when nobody answers. Graph files of `flags.requests_needed` are compiled here, and sent with each run.
absl::StatusOr<std::unique_ptr<Session>> OpenRemoteSession(const SessionFlags& flags, const std::string& address);

// 40 hexadecimal digits that nobody has used before: a request id.
std::string FreshRequestId();

}  // namespace conclave::cli
