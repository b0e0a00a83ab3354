// SPDX-License-Identifier: Apache-2.0
// Limits of graphs. Each is tested at the limit and one above.
#pragma once

#include <cstdint>

namespace conclave::orchestrator {

inline constexpr int kGraphNodesMax = 256;  // bodies and called graphs included
inline constexpr int kGraphDepthMax = 16;   // a node at the top has depth 1
inline constexpr int kCallDepthMax = 4;     // graphs that call graphs
inline constexpr int kGraphInputsMax = 32;
inline constexpr int kLoopRoundsMax = 64;
inline constexpr int kSamplesMax = 64;                  // per member of a speak, per judge and utterance
inline constexpr int kSeesMax = 32;                     // per node
inline constexpr int kMemoryRoundsMax = 64;             // of one sees
inline constexpr int kWindowMax = 64;                   // utterances compared in one call
inline constexpr int kWaveMax = 64;                     // calls under way at a time of a node that may end early
inline constexpr int kConfidenceWindowMax = 1'000'000;  // tokens
inline constexpr int kKeepMax = 1024;                   // utterances that a pick takes
inline constexpr int kAlsoMax = 16;                     // further nodes of a pick
inline constexpr int64_t kPatienceSecondsMax = 3'600;   // of patience, and before a hedge
inline constexpr int kMemberNamesMax = 256;             // per node
inline constexpr int kExpressionBytesMax = 4096;        // one expression's source
// Output tokens of one call when neither run, node nor role says.
inline constexpr int32_t kDefaultOutputTokens = 1024;
// In the worst case of one run. Together they bound the events of a run well below what the store takes.
inline constexpr int64_t kNodeRunsMax = 10'000;
inline constexpr int64_t kCallsPerRunMax = 10'000;

}  // namespace conclave::orchestrator
