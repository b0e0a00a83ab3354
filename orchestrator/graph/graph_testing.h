// SPDX-License-Identifier: Apache-2.0
// What tests of graphs share.
#pragma once

#include "common/check.h"
#include "orchestrator/role/role.h"

namespace conclave::orchestrator {

// The roles in graphs/roles, read once.
inline const RoleLibrary& ShippedRoles() {
  static const RoleLibrary* const roles = [] {
    auto* library = new RoleLibrary;
    CONCLAVE_CHECK(library->AddDirectory(CONCLAVE_SOURCE_DIR "/graphs/roles").ok());
    return library;
  }();
  return *roles;
}

}  // namespace conclave::orchestrator
