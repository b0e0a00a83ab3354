// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace conclave::engine {

inline constexpr char32_t kReplacementCharacter = 0xFFFD;

struct Utf8Char {
  char32_t code_point;  // kReplacementCharacter if malformed
  uint8_t bytes;        // 1 to 4; for malformed input the maximal subpart (Unicode 15, table 3-8), at least 1
  bool valid;
  bool truncated;  // not valid, but the bytes up to the end of the text could begin a valid character
};

// The character at the start of `text`, which must not be empty.
Utf8Char DecodeUtf8(std::string_view text);

// Bytes of Unicode White_Space at the beginning and at the end of a text.
size_t LeadingWhiteSpace(std::string_view text);
size_t TrailingWhiteSpace(std::string_view text);

void AppendUtf8(char32_t code_point, std::string* out);

// Turns bytes that arrive in parts into valid UTF-8: an unfinished character waits for its rest, malformed bytes become
// U+FFFD, one per maximal subpart (what Python's errors="replace" gives).
class Utf8Stream {
 public:
  void Append(std::string_view bytes, std::string* out);
  // The text has ended: an unfinished character becomes U+FFFD.
  void Finish(std::string* out);
  size_t pending_bytes() const { return pending_.size(); }  // at most 3

 private:
  std::string pending_;
};

}  // namespace conclave::engine
