// SPDX-License-Identifier: Apache-2.0
// JSON Schema (2020-12) as a set of texts, every one of which the schema accepts. Not all that it accepts: values are
// written as json_parts.h says, members in the order of "properties", then others.
//
// Read: type (one or several), enum, const, anyOf, oneOf whose alternatives exclude one another visibly, allOf of one,
// $ref within the document (recursive too), properties, required, additionalProperties, items, prefixItems, minItems,
// maxItems, minLength, maxLength, pattern (regex.h), format (date, time, date-time, uuid), minimum, maximum and their
// exclusive forms (whole numbers; the exclusive ones for integers). Where "properties" are given and
// "additionalProperties" is not, there are no others. What only describes (title, default, ..) is passed over; every
// other keyword is an error that names it.
#pragma once

#include <memory>
#include <string_view>

#include "absl/status/statusor.h"
#include "engine/grammar/automaton.h"

namespace conclave::engine::grammar {

inline constexpr size_t kOneOfMax = 64;  // alternatives, which are compared in pairs

// INVALID_ARGUMENT "at byte N: .." where it is not JSON, "at properties.age.type: .." where it is no schema known here.
absl::StatusOr<std::shared_ptr<const Automaton>> CompileJsonSchema(std::string_view source);

}  // namespace conclave::engine::grammar
