// SPDX-License-Identifier: Apache-2.0
// Python's two ways of formatting: "%s" % x and "{}".format(x).
#pragma once

#include "absl/status/statusor.h"
#include "common/jinja/runtime.h"

namespace conclave::jinja {

inline constexpr int64_t kMaxFormatWidth = 10'000;  // width and precision
inline constexpr int64_t kMaxFormatPrecision = 300;

// format % value, where value is a tuple, a dict or one value.
absl::StatusOr<Value> FormatPercent(Runtime& runtime, const Text& format, const Value& value);
// format.format(*args, **kwargs), sandboxed as jinja2 does.
absl::StatusOr<Value> FormatBraces(Runtime& runtime, const Text& format, const Arguments& arguments);
// format(value, specification).
absl::StatusOr<std::string> FormatSpecification(Runtime& runtime, const Value& value, std::string_view specification);

}  // namespace conclave::jinja
