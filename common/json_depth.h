// SPDX-License-Identifier: Apache-2.0
// JSON that anybody may have written: nesting is bounded before it is parsed, because parsers, and what copies and
// prints a parsed document, recurse over it.
#pragma once

#include <cstddef>
#include <optional>
#include <string_view>

namespace conclave {

inline constexpr size_t kJsonDepthMax = 64;  // lists and objects in one another

// The place of the first bracket that nests deeper than `depth_max`, brackets inside strings aside; none where there is
// no such bracket. Of text that is no JSON any answer. One pass, no recursion.
std::optional<size_t> PlaceBeyondDepth(std::string_view text, size_t depth_max = kJsonDepthMax);

}  // namespace conclave
