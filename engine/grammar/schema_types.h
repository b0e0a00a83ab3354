// SPDX-License-Identifier: Apache-2.0
// Internal to engine/grammar: what a schema's keywords are and which types its values may have.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "common/status.h"

namespace conclave::engine::grammar {

using Json = nlohmann::ordered_json;

// Bits: a schema's values may have several types.
enum SchemaType : uint32_t {
  kNull = 1,
  kBoolean = 2,
  kInteger = 4,
  kFractional = 8,  // numbers that are no integers
  kNumber = kInteger | kFractional,
  kString = 16,
  kArray = 32,
  kObject = 64,
  kAnyType = 127,
};

// INVALID_ARGUMENT "at <place>: ..".
template <typename... Args>
absl::Status SchemaError(std::string_view place, fmt::format_string<Args...> format, Args&&... args) {
  return InvalidArgument("at {}: {}", place.empty() ? "the root" : place,
                         fmt::format(format, std::forward<Args>(args)...));
}
std::string Below(std::string_view place, std::string_view key);

uint32_t TypeOf(const Json& value);
// Of `schema`, an object: what "type" says; without it the types that its keywords are about; without those any.
absl::StatusOr<uint32_t> TypesOf(const Json& schema, std::string_view place);

// A keyword that is not known, or that says something about values of `types` that cannot be kept to.
absl::Status CheckKeywords(const Json& schema, uint32_t types, std::string_view place);
// Of keywords that say nothing about values.
bool OnlyDescribes(std::string_view keyword);

// Whether no value can be of both. What cannot be told is "no". `document` is where $ref looks.
bool Exclude(const Json& document, const Json& a, const Json& b);

// What "$ref" points at. `place` is where it stands.
absl::StatusOr<const Json*> Resolve(const Json& document, const Json& reference, std::string_view place);

}  // namespace conclave::engine::grammar
