// SPDX-License-Identifier: Apache-2.0
#include "engine/tokenizer/byte_level.h"

#include <array>

#include "engine/tokenizer/utf8.h"

namespace conclave::engine {
namespace {

constexpr size_t kCodePoints = 256 + 68;  // 188 bytes stand for themselves, the other 68 follow U+0100

struct Alphabet {
  std::array<char32_t, 256> of_byte;
  std::array<int16_t, kCodePoints> byte_of;  // -1: none
};

constexpr Alphabet MakeAlphabet() {
  Alphabet a = {};
  a.byte_of.fill(-1);
  char32_t next = 256;
  for (int b = 0; b < 256; ++b) {
    const bool itself = (b >= '!' && b <= '~') || (b >= 0xA1 && b <= 0xAC) || (b >= 0xAE);
    const char32_t c = itself ? static_cast<char32_t>(b) : next++;
    a.of_byte[static_cast<size_t>(b)] = c;
    a.byte_of[c] = static_cast<int16_t>(b);
  }
  return a;
}

constexpr Alphabet kAlphabet = MakeAlphabet();
static_assert(kAlphabet.of_byte[' '] == 0x120 && kAlphabet.of_byte['\n'] == 0x10A);

}  // namespace

std::optional<std::string> DecodeByteLevel(std::string_view text) {
  std::string bytes;
  bytes.reserve(text.size());
  while (!text.empty()) {
    const Utf8Char c = DecodeUtf8(text);
    if (!c.valid || c.code_point >= kCodePoints || kAlphabet.byte_of[c.code_point] < 0) return std::nullopt;
    bytes.push_back(static_cast<char>(kAlphabet.byte_of[c.code_point]));
    text.remove_prefix(c.bytes);
  }
  return bytes;
}

std::string EncodeByteLevel(std::string_view bytes) {
  std::string text;
  for (const char b : bytes) AppendUtf8(kAlphabet.of_byte[static_cast<uint8_t>(b)], &text);
  return text;
}

}  // namespace conclave::engine
