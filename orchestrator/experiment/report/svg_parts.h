// SPDX-License-Identifier: Apache-2.0
// Pieces that the figures share.
#pragma once

#include <array>
#include <string>
#include <string_view>
#include <vector>

namespace conclave::report {

// Series colours, from the stylesheet.
inline constexpr std::array<std::string_view, 8> kPalette = {"var(--c0)", "var(--c1)", "var(--c2)", "var(--c3)",
                                                             "var(--c4)", "var(--c5)", "var(--c6)", "var(--c7)"};

std::string OpenSvg(double width, double height, std::string_view label);
// Ticks at 1, 2 or 5 times a power of ten, about `count` of them. REQUIRES: lo < hi.
std::vector<double> NiceTicks(double lo, double hi, int count);
// At most `limit` bytes, cut between characters with an ellipsis.
std::string Shorten(const std::string& text, size_t limit);
// `svg` as a link that asks for items; as it is where the query is empty.
std::string LinkSvg(std::string_view query, std::string svg);

}  // namespace conclave::report
