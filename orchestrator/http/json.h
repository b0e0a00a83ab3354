// SPDX-License-Identifier: Apache-2.0
// JSON from strangers: bounded before it is parsed. And to them: whatever the bytes, what is written is UTF-8.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "common/json_depth.h"

namespace conclave::http {

using Json = nlohmann::ordered_json;

// INVALID_ARGUMENT with the place of the first mistake. `text` is as long as the caller let it become.
absl::StatusOr<Json> ParseJson(std::string_view text, size_t depth_max = kJsonDepthMax);

// On one line. Bytes that are not UTF-8 become U+FFFD.
std::string WriteJson(const Json& json);

}  // namespace conclave::http
