// SPDX-License-Identifier: Apache-2.0
// The operators of expressions, on any two values, with Python's errors.
#pragma once

#include "absl/status/statusor.h"
#include "common/jinja/error.h"
#include "common/jinja/runtime.h"
#include "common/jinja/value.h"

namespace conclave::jinja {

enum class BinaryOperator : uint8_t { kAdd, kSubtract, kMultiply, kDivide, kFloorDivide, kModulo, kPower };
enum class Comparison : uint8_t { kEqual, kNotEqual, kLess, kLessEqual, kGreater, kGreaterEqual, kIn, kNotIn };

absl::StatusOr<Value> Apply(Runtime& runtime, BinaryOperator op, const Value& a, const Value& b);
absl::StatusOr<Value> Negate(const Value& value);
absl::StatusOr<Value> Plus(const Value& value);
absl::StatusOr<bool> Compare(Runtime& runtime, Comparison op, const Value& a, const Value& b);
// item in container.
absl::StatusOr<bool> Contains(Runtime& runtime, const Value& container, const Value& item);

// Stable, by `<` on the keys; `items` and `keys` are permuted alike.
absl::Status SortByKeys(Runtime& runtime, bool reverse, std::vector<Value>* keys, std::vector<Value>* items);

}  // namespace conclave::jinja
