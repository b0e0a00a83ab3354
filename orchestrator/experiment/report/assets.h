// SPDX-License-Identifier: Apache-2.0
// The page's stylesheet and program, embedded from page.css and page.js when the library is built.
#pragma once

#include <string_view>

namespace conclave::report {

std::string_view Stylesheet();
std::string_view Script();

}  // namespace conclave::report
