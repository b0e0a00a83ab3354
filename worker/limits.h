// SPDX-License-Identifier: Apache-2.0
// Every limit that the inference service states in its protos, and those of its own memory. Beyond a request's limit:
// INVALID_ARGUMENT with a BadRequest. Each is tested at the limit and one past it.
#pragma once

#include <cstdint>

#include "engine/engine.h"

namespace conclave::worker {

// ---- Requests
inline constexpr int64_t kRequestIdBytesMax = 36;  // a UUID
inline constexpr int64_t kCacheSaltBytesMax = 64;
inline constexpr int32_t kChatMessagesMax = 1024;
inline constexpr int32_t kChatRoleBytesMax = 64;
inline constexpr int32_t kPriorityMax = 100;
inline constexpr float kRepetitionPenaltyMax = 10.0f;
inline constexpr float kPenaltyMax = 2.0f;
inline constexpr float kLogitBiasMagnitudeMax = 1000.0f;
inline constexpr int32_t kCancelIdsMax = 1024;
inline constexpr int64_t kDrainGraceSecondsMax = 86'400;
inline constexpr int64_t kDrainGraceSecondsDefault = 600;
inline constexpr int64_t kPrefixIdBytesMax = 64;
inline constexpr int32_t kPrefixIdsMax = 256;  // of one call
inline constexpr int64_t kPrefixLeaseSecondsMax = 600;
inline constexpr int64_t kPrefixLeaseSecondsDefault = 15;
using engine::kConstraintBytesMax;
using engine::kLogitBiasMax;
using engine::kSampleIndexMax;
using engine::kSamplesMax;  // also the most continuations of one Score
using engine::kStopStringBytesMax;
using engine::kStopStringsMax;
using engine::kStopTokensMax;
using engine::kTemperatureMax;
using engine::kTopLogprobsMax;

// ---- A stream's queue: what a slow reader may leave unread before its request is paused, and for how long.
inline constexpr int64_t kStreamEventsMax = 1024;
inline constexpr int64_t kStreamBytesMax = 1 << 20;
inline constexpr int64_t kDeltaMergeBytesMax = 16 << 10;  // deltas that wait are merged up to this size
// How long after a drain's grace clients may still read what was queued for them.
inline constexpr int64_t kDrainLingerNs = int64_t{5} * 1'000'000'000;
inline constexpr int64_t kStallNsMax = int64_t{30} * 1'000'000'000;

// ---- Prefixes that are pinned or being computed for it, of all clients; beyond: RESOURCE_EXHAUSTED PREFIX_LIMIT. How
// many pages they may take: engine::MemoryPlan::pinned_pages_max.
inline constexpr int32_t kPinnedPrefixesMax = 256;

// ---- Calls that wait for a thread to parse them.
inline constexpr int32_t kWaitingCallsMax = 1024;
inline constexpr int64_t kWaitingCallBytesMax = 64 << 20;
// Parsing can expand a message fifty-fold: larger ones are parsed one at a time.
inline constexpr int64_t kLargeCallBytes = 256 << 10;
// GetModel, GetLoad, CancelRequests and Drain are answered where they arrive: rpc::kSmallCallBytesMax.

}  // namespace conclave::worker
