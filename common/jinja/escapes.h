// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>

namespace conclave::jinja {

// The inside of a string literal, its backslash escapes decoded as Python's unicode-escape codec does. Returns what is
// wrong with it, in Python's words; "" when nothing is.
std::string DecodeEscapes(std::string_view literal, std::string* out);

}  // namespace conclave::jinja
