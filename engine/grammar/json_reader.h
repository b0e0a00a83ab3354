// SPDX-License-Identifier: Apache-2.0
// Small JSON texts from strangers: their members in order, no key twice, no deep nesting.
#pragma once

#include <nlohmann/json.hpp>
#include <string_view>

#include "absl/status/statusor.h"

namespace conclave::engine::grammar {

inline constexpr size_t kJsonNestingMax = 64;

// INVALID_ARGUMENT "at byte N: ..".
absl::StatusOr<nlohmann::ordered_json> ReadStrictJson(std::string_view text);

}  // namespace conclave::engine::grammar
