// SPDX-License-Identifier: Apache-2.0
// What the text of a token says about it.
#pragma once

#include <span>
#include <string>
#include <string_view>

namespace conclave::engine {

inline constexpr std::string_view kSpaceMark = "\xe2\x96\x81";  // U+2581, SentencePiece's way to write a space

// What models call the token that ends a turn, a message or a text, where no metadata key says so.
std::span<const std::string_view> EndTokenNames();

// Written as "<..>" or "[UPPER_CASE]" and no tag of text markup: a mark that structures a conversation.
bool IsMarker(std::string_view text);

// `text` with spaces for its space marks.
std::string ReplaceSpaceMarks(std::string_view text);

// The byte of "<0x0A>", exactly two hexadecimal digits as SentencePiece writes them; -1 for anything else.
int ParseByteToken(std::string_view text);

// For messages: short, valid UTF-8 and printable, whatever a file holds.
std::string Shown(std::string_view text);

}  // namespace conclave::engine
