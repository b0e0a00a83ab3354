// SPDX-License-Identifier: Apache-2.0
// Gives every variable of a tree its slot, by the scoping rules of jinja2's compiler: which assignments an inner block
// sees, copies or hides is decided here, once, so that rendering only moves values between numbered slots.
#pragma once

#include "absl/status/status.h"
#include "common/jinja/ast.h"

namespace conclave::jinja {

inline constexpr size_t kMaxScopeWork = 1'000'000;  // name records copied while scopes are resolved

absl::Status ResolveScopes(Tree* tree);
// An expression of its own: all its names come from the context.
absl::Status ResolveScopes(Node* expression, Scope* scope, uint32_t* slots);

}  // namespace conclave::jinja
