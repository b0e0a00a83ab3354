// SPDX-License-Identifier: Apache-2.0
// The documents of an Inspect log in its packed form (.eval): a zip, stored, deflated or in Zstandard, of header.json
// and samples/ID_epoch_N.json. Untrusted input: sizes are bounded by what is read, not by what the archive says.
#pragma once

#include <cstdint>
#include <string>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"

namespace conclave::experiment {

struct EvalLimits {
  int64_t entries = 1'000'000;
  int64_t document_bytes = int64_t{1} << 28;  // unpacked
  int64_t total_bytes = int64_t{1} << 34;     // of all documents read, unpacked
};

// header.json. INVALID_ARGUMENT "path: what" where the file is no zip, is cut or damaged, over a limit, or holds none
// (a run that has not ended); NOT_FOUND where there is no file.
absl::StatusOr<std::string> ReadEvalHeader(const std::string& path, const EvalLimits& limits = {});

// Calls `each` with every sample's document, in the file's order, holding one at a time; stops at its first error.
// Samples in chunks (samples/ID_epoch_N/..) are an error: they have to be converted by Inspect.
absl::Status ForEachEvalSample(const std::string& path, absl::FunctionRef<absl::Status(std::string_view)> each,
                               const EvalLimits& limits = {});

}  // namespace conclave::experiment
