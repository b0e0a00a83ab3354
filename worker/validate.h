// SPDX-License-Identifier: Apache-2.0
// One Validate per request: everything that can be told from the message and the vocabulary alone.
// A bad request is INVALID_ARGUMENT with one BadRequest entry per violation, all of them (the first kViolationsMax).
// Pure functions; `vocab` is the number of token ids.
#pragma once

#include <cstdint>

#include "absl/status/status.h"
#include "conclave/inference/v1/inference.pb.h"

namespace conclave::worker {

namespace pb = ::conclave::inference::v1;

inline constexpr int32_t kViolationsMax = 64;

absl::Status Validate(const pb::GenerateRequest& request, int32_t vocab);
absl::Status Validate(const pb::ScoreRequest& request, int32_t vocab);
absl::Status Validate(const pb::TokenizeRequest& request, int32_t vocab);
absl::Status Validate(const pb::DetokenizeRequest& request, int32_t vocab);
absl::Status Validate(const pb::CancelRequestsRequest& request);
absl::Status Validate(const pb::DrainRequest& request);
absl::Status Validate(const pb::PinPrefixRequest& request, int32_t vocab);
absl::Status Validate(const pb::RenewPrefixesRequest& request);
absl::Status Validate(const pb::ReleasePrefixesRequest& request);

}  // namespace conclave::worker
