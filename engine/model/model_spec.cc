// SPDX-License-Identifier: Apache-2.0
#include "engine/model/model_spec.h"

#include <cmath>

#include "common/check.h"
#include "engine/format/gguf.h"
#include "engine/format/hf_checkpoint.h"
#include "engine/model/gguf_spec.h"
#include "engine/model/hf_spec.h"

namespace conclave::engine {

float ModelSpec::attention_scale() const { return 1.0f / std::sqrt(static_cast<float>(head_dim)); }

absl::StatusOr<ModelSpec> ReadModelSpec(const Checkpoint& checkpoint) {
  if (checkpoint.gguf() != nullptr) return ReadGgufSpec(*checkpoint.gguf());
  CONCLAVE_CHECK(checkpoint.hf() != nullptr);
  return ReadHfSpec(*checkpoint.hf());
}

}  // namespace conclave::engine
