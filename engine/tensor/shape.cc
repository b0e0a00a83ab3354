// SPDX-License-Identifier: Apache-2.0
#include "engine/tensor/shape.h"

namespace conclave::engine {

std::string Shape::ToString() const {
  std::string text = "[";
  for (int i = 0; i < rank_; ++i) text += (i > 0 ? ", " : "") + std::to_string(dims_[i]);
  return text + "]";
}

}  // namespace conclave::engine
