// SPDX-License-Identifier: Apache-2.0
// Internal to engine/model: tensors that nothing read.
#pragma once

#include <set>
#include <string>

#include "absl/status/status.h"
#include "engine/format/checkpoint.h"
#include "engine/model/model_spec.h"

namespace conclave::engine {

// A layer's tensor that is not among `read` is a term of the mathematics that would be left out: UNIMPLEMENTED names
// it. Tensors of further prediction layers, tables that are computed anew and empty biases are none.
absl::Status RefuseUnread(const Checkpoint& file, const ModelSpec& spec, const std::set<std::string>& read);

}  // namespace conclave::engine
