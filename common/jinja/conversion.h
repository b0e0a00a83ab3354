// SPDX-License-Identifier: Apache-2.0
// What "%-8.3f" and "{:>8.3f}" share: one conversion, and the text it makes of a number or a string.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/status.h"

namespace conclave::jinja {

// One conversion of either notation.
struct Conversion {
  std::string fill = " ";
  char align = 0;  // '<', '>', '^', '='; 0: the type's own
  char sign = '-';
  bool alternate = false;
  bool zero = false;
  char group = 0;  // ',' or '_'
  int64_t width = 0;
  int64_t precision = -1;
  char type = 0;
};

// TEMPLATE_LIMIT for widths and precisions beyond format.h's.
absl::Status CheckSizes(const Conversion& conversion);
// REQUIRES CheckSizes, as do the next two.
std::string FormatInteger(const Conversion& conversion, int64_t value);
std::string FormatFloat(const Conversion& conversion, double value);
// Cuts text to the precision and pads it to the width.
std::string PadText(const Conversion& conversion, std::string text);
// Digits at `at`; -1 when there are none. Values beyond any limit saturate.
int64_t ReadNumber(std::string_view text, size_t* at);

}  // namespace conclave::jinja
