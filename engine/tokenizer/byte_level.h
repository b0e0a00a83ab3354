// SPDX-License-Identifier: Apache-2.0
// The alphabet in which byte-level vocabularies are written: each byte as one printable character, so that every
// string is text (Radford et al. 2019, encoder.py of GPT-2). Space is U+0120, newline U+010A.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace conclave::engine {

// The bytes that `text` stands for; nullopt if a character is not of the alphabet.
std::optional<std::string> DecodeByteLevel(std::string_view text);

// `bytes` written in the alphabet.
std::string EncodeByteLevel(std::string_view bytes);

}  // namespace conclave::engine
