// SPDX-License-Identifier: Apache-2.0
// What a request must be before anything is done with it. Every violation is found, not only the first.
#pragma once

#include <cstdint>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "conclave/deliberation/v1/deliberation.pb.h"

namespace conclave::orchestrator {

// ---- Limits, tested at the limit and one above.
inline constexpr int64_t kRequestIdCharsMax = 64;
inline constexpr int kInputsMax = 32;
inline constexpr int64_t kInputBytesMax = 1 << 20;  // all inputs together, names included
inline constexpr int kBindingsMax = 256;
inline constexpr int kBindingMembersMax = 256;
inline constexpr int64_t kNameBytesMax = 128;
inline constexpr int kRunStopTextsMax = 16;
inline constexpr int64_t kRunStopTextBytesMax = 256;
inline constexpr int64_t kItemIdBytesMax = 256;
inline constexpr int32_t kResultLogprobsMax = 20;
inline constexpr int64_t kGraphTextBytesMax = 1 << 20;
inline constexpr int32_t kPageSizeMax = 1'000;
inline constexpr int32_t kPageSizeDefault = 50;

// INVALID_ARGUMENT with BadRequest.
absl::Status Validate(const deliberation::v1::RunRequest& request);
absl::Status Validate(const deliberation::v1::WatchRequest& request);
absl::Status Validate(const deliberation::v1::ValidateGraphRequest& request);

struct RunsPage {
  int32_t size = kPageSizeDefault;
  int64_t before_number = 0;
};
absl::StatusOr<RunsPage> Validate(const deliberation::v1::ListRunsRequest& request);
std::string PageToken(int64_t before_number);

}  // namespace conclave::orchestrator
