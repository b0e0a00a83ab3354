// SPDX-License-Identifier: Apache-2.0
#include "common/jinja/budget.h"

#include "common/status.h"

namespace conclave::jinja {

absl::Status Budget::Exceeded() const {
  return InvalidArgument("TEMPLATE_LIMIT: more than {} steps; shorten the loops or the texts they work on",
                         limits_.steps);
}

absl::Status Budget::Allocate(size_t bytes) {
  RETURN_IF_ERROR(Scan(bytes));
  if (bytes > limits_.memory_bytes || memory_bytes_ > limits_.memory_bytes - bytes) {
    return InvalidArgument("TEMPLATE_LIMIT: more than {} bytes of strings and lists; build less, or in smaller parts",
                           limits_.memory_bytes);
  }
  memory_bytes_ += bytes;
  return absl::OkStatus();
}

absl::Status Budget::CheckLength(size_t bytes) const {
  if (bytes <= limits_.output_bytes) return absl::OkStatus();
  return InvalidArgument("TEMPLATE_LIMIT: a text of {} bytes, at most {} allowed", bytes, limits_.output_bytes);
}

absl::Status Budget::AllocateString(size_t bytes) {
  RETURN_IF_ERROR(CheckLength(bytes));
  return Allocate(bytes);
}

absl::Status Budget::CheckDepth(int depth) const {
  if (depth <= limits_.depth) return absl::OkStatus();
  return InvalidArgument("TEMPLATE_LIMIT: values nested {} deep, at most {} allowed", depth, limits_.depth);
}

}  // namespace conclave::jinja
