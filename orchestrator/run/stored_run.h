// SPDX-License-Identifier: Apache-2.0
// Runs and events as the store keeps them: bytes of protos, read back as untrusted.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <variant>

#include "absl/status/statusor.h"
#include "conclave/deliberation/v1/deliberation.pb.h"
#include "orchestrator/run/machine.h"
#include "orchestrator/run/replay.h"

namespace conclave::orchestrator {

// The request and the spec as StoredRun's bytes. The graph is left out: it is stored by its revision.
std::string EncodeRun(const deliberation::v1::RunRequest& request, const RunSpec& spec);
struct DecodedRun {
  deliberation::v1::RunRequest request;
  RunSpec spec;
};
// DATA_LOSS, naming the run, for bytes that no version wrote.
absl::StatusOr<DecodedRun> DecodeRun(std::string_view run_id, std::string_view bytes);

// SHA-256 of what a request asks, its id aside: equal for equal payloads, whatever the order of its maps.
std::string RequestHash(const deliberation::v1::RunRequest& request);

std::string EncodeEvent(const deliberation::v1::Event& event);
// DATA_LOSS when the bytes are not the event of that run and number.
absl::StatusOr<deliberation::v1::Event> DecodeEvent(std::string_view run_id, int64_t sequence_number,
                                                    std::string_view bytes);

std::string EncodeInput(const StoredKind& input);
absl::StatusOr<StoredMachineInput> DecodeInput(std::string_view run_id, int64_t after_sequence_number,
                                               std::string_view bytes);

}  // namespace conclave::orchestrator
