// SPDX-License-Identifier: Apache-2.0
// Tokens into a tree, with the grammar and the error messages of Python jinja2's parser.
#pragma once

#include <string_view>

#include "absl/status/statusor.h"
#include "common/jinja/ast.h"

namespace conclave::jinja {

absl::StatusOr<Tree> ParseTemplate(std::string_view source, const WhitespaceRules& rules, int depth_max);
absl::StatusOr<ExpressionPtr> ParseExpression(std::string_view source, int depth_max);

}  // namespace conclave::jinja
