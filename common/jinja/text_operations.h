// SPDX-License-Identifier: Apache-2.0
// What string methods and filters do to text, user ranges kept.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "common/jinja/runtime.h"

namespace conclave::jinja {

inline constexpr size_t kNotFound = std::string::npos;

// The first occurrence of `part` at or behind `from`. Linear, so that no pair of strings makes it quadratic.
size_t FindFrom(std::string_view text, std::string_view part, size_t from);
// The last occurrence that ends at or before `end`. Linear as well.
size_t FindLast(std::string_view text, std::string_view part, size_t end);
// Bytes [begin, end) as a new value.
absl::StatusOr<Value> Piece(Runtime& runtime, const Text& text, size_t begin, size_t end);

// `characters` missing or none: white space.
enum class StripSide { kLeft, kRight, kBoth };
absl::StatusOr<Value> Strip(Runtime& runtime, const Value& text, const Value& characters, StripSide side);
absl::StatusOr<Value> Replace(Runtime& runtime, const Text& text, const Text& from, const Text& to, int64_t count);
absl::StatusOr<Value> Join(Runtime& runtime, const Text& separator, const std::vector<Text>& parts);
absl::StatusOr<std::vector<Value>> SplitLines(Runtime& runtime, const Text& text, bool keep_ends);
absl::StatusOr<Value> Center(Runtime& runtime, const Text& text, int64_t width, const Text& fill);

}  // namespace conclave::jinja
