// SPDX-License-Identifier: Apache-2.0
// Values from and to JSON. Use ordered_json: templates see the order of keys.
#pragma once

#include <nlohmann/json_fwd.hpp>

#include "absl/status/statusor.h"
#include "common/jinja/value.h"

namespace conclave::jinja {

// Who wrote the strings of a document: the program (special tokens in them are meant) or a user or model.
enum class Author { kProgram, kUser };

// Errors: nested more than kMaxDepth deep, an integer outside 64 bits, binary data.
absl::StatusOr<Value> FromJson(const nlohmann::ordered_json& json, Author author);
// Errors: values JSON has no form for (undefined, functions), dict keys that are not strings.
absl::StatusOr<nlohmann::ordered_json> ToJson(const Value& value);

}  // namespace conclave::jinja
