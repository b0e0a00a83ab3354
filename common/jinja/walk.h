// SPDX-License-Identifier: Apache-2.0
// Visiting the children of tree nodes, in the order jinja2 visits them.
#pragma once

#include <functional>

#include "common/jinja/ast.h"

namespace conclave::jinja {

using NodeVisitor = std::function<void(Node&)>;
using StatementVisitor = std::function<void(Statement&)>;

// Direct children of an expression.
void ForEachChild(Node& node, const NodeVisitor& visit);
void ForEachArgument(CallArguments& arguments, const NodeVisitor& visit);
// Direct children of a statement: expressions (targets too) and nested statements.
void ForEachChild(Statement& statement, const NodeVisitor& visit, const StatementVisitor& visit_statement);

}  // namespace conclave::jinja
