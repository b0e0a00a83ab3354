// SPDX-License-Identifier: Apache-2.0
// Internal to engine/model: what the readers of Hugging Face's config.json have in common.
#pragma once

#include <cstdint>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/status.h"
#include "engine/format/json.h"

namespace conclave::engine {

// UNIMPLEMENTED "<file>: ..", for a value that would change the mathematics and is not computed.
template <typename... Args>
absl::Status Unknown(const JsonObject& config, fmt::format_string<Args...> format, Args&&... args) {
  return Unimplemented("{}: {}", config.self().file(), fmt::format(format, std::forward<Args>(args)...));
}

// A whole number in [1, max]; an error that names the key where it is absent or outside.
inline absl::StatusOr<int32_t> Count(const JsonObject& config, std::string_view key, uint32_t max) {
  ASSIGN_OR_RETURN(const JsonValue value, config.Get(key));
  ASSIGN_OR_RETURN(const int64_t count, value.Integer(1, max));
  return static_cast<int32_t>(count);
}

// The same; `fallback` where the key is absent.
inline absl::StatusOr<int32_t> CountOr(const JsonObject& config, std::string_view key, uint32_t max, int32_t fallback) {
  return config.Has(key) ? Count(config, key, max) : absl::StatusOr<int32_t>(fallback);
}

}  // namespace conclave::engine
