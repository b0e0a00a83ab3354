// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "common/jinja/ast.h"

namespace conclave::jinja {

// The dotted paths a resolved tree or expression reads from its context, sorted. Attributes and constant string items
// extend a path; a call of a method does not ("votes.items()" reads "votes").
std::vector<std::string> FreePaths(Tree& tree);
std::vector<std::string> FreePaths(Node& expression);

}  // namespace conclave::jinja
